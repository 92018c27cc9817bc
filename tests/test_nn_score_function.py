import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxattn.methods.score_function import log_probability, rebar, reinforce

P = 4
SCORES = np.array([0.7, -1.2, 0.3, 2.0], np.float32)
VALID = np.array([True, True, True, False])
ALL = np.ones(P, bool)
WEIGHTS = np.array([1.0, -2.0, 0.5, 1.5], np.float32)
N = 40_000


def smooth(mask):
    """Nonlinear, with interactions, and smooth between the corners."""
    return jnp.exp(mask @ WEIGHTS / 2) + jnp.sin(3 * mask[0] * mask[2]) + mask[1]


def rough(mask):
    """An exclusive or at the corners, of a steep and misleading slope between them."""
    return jnp.abs(mask[0] - mask[1]) + jnp.cos(9 * mask[2]) * mask[0] - mask[3] ** 3


def exact_gradient(scores, valid, f):
    """Of E[f(b)] over all 2^P masks, by the derivative of each mask's probability."""
    p = scipy.special.expit(np.float64(scores))
    total = np.zeros(len(scores))
    for bits in itertools.product([0, 1], repeat=int(valid.sum())):
        b = np.zeros(len(scores))
        b[valid] = bits
        chance = np.prod(np.where(b == 1, p, 1 - p)[valid])
        total += chance * float(f(jnp.float32(b))) * np.where(valid, b - p, 0)
    return total


def draw(key, scores, valid):
    return (valid & jax.random.bernoulli(key, jax.nn.sigmoid(scores))).astype("f4")


def of_reinforce(f, temperature):
    def one(scores, key, valid):
        mask = draw(key, scores, valid)
        return reinforce(scores, valid, mask, f(mask) - 1.3)

    return one


def of_rebar(f, temperature):
    return lambda scores, key, valid: rebar(key, scores, valid, temperature, f)[1]


def samples(kind, f, scores, valid, temperature=0.5, seed=0):
    keys = jax.random.split(jax.random.key(seed), N)
    one = jax.grad(kind(f, temperature))
    return np.asarray(jax.jit(jax.vmap(one, (None, 0, None)))(scores, keys, valid))


def assert_mean(found, expected):
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (abs(found.mean(axis=0) - expected) <= 4 * error + 1e-6).all()


@pytest.mark.parametrize("valid", [ALL, VALID], ids=["all", "padded"])
@pytest.mark.parametrize("f", [smooth, rough])
@pytest.mark.parametrize("kind", [of_reinforce, of_rebar])
def test_the_gradient_is_unbiased(kind, f, valid):
    expected = exact_gradient(SCORES, valid, f)
    found = samples(kind, f, SCORES, valid)
    assert (found.std(axis=0)[valid] > 0).all()
    # The test has the power to see a wrong gradient: the signal is far above its error.
    assert abs(expected).max() > 10 * found.std() / np.sqrt(N)
    assert_mean(found, expected)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_rebar_is_unbiased_at_every_temperature(temperature):
    found = samples(of_rebar, smooth, SCORES, ALL, temperature)
    assert_mean(found, exact_gradient(SCORES, ALL, smooth))


def test_rebar_equals_its_definition_with_the_second_point_drawn_given_the_gate():
    """Against z-tilde written as in the paper, differentiated at a fixed quantile v."""
    t, key = 0.7, jax.random.key(3)
    mask, _ = rebar(key, SCORES, ALL, t, smooth)
    p = scipy.special.expit(np.float64(SCORES))
    noise = np.float64(jax.random.logistic(key, SCORES.shape, "f4"))
    u, b = scipy.special.expit(noise), np.asarray(mask)
    v = np.where(b == 1, (u - (1 - p)) / p, u / (1 - p))
    assert ((v > 0) & (v < 1)).all()

    def relaxed_difference(scores):
        p = jax.nn.sigmoid(scores)
        uniform = jnp.where(b == 1, (1 - p) + v * p, v * (1 - p))
        again = scores + jax.scipy.special.logit(uniform)
        z = scores + noise
        f_z, f_again = smooth(jax.nn.sigmoid(z / t)), smooth(jax.nn.sigmoid(again / t))
        return f_z - f_again, f_again

    at = jnp.array(SCORES)
    difference, _ = jax.jacfwd(relaxed_difference)(at)
    _, f_again = relaxed_difference(at)
    expected = (smooth(mask) - f_again) * (b - p) + difference
    found = jax.grad(of_rebar(smooth, t))(SCORES, key, ALL)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_rebar_varies_less_than_reinforce_where_f_is_smooth():
    plain = samples(of_reinforce, smooth, SCORES, ALL).var(axis=0).sum()
    with_control = samples(of_rebar, smooth, SCORES, ALL).var(axis=0).sum()
    assert with_control < plain / 2


def test_rebar_draws_each_gate_with_the_probability_of_its_score():
    keys = jax.random.split(jax.random.key(9), N)
    masks = jax.jit(jax.vmap(lambda k: rebar(k, SCORES, VALID, 0.5, smooth)[0]))(keys)
    masks = np.asarray(masks)
    assert set(np.unique(masks)) == {0, 1}
    assert (masks[:, ~VALID] == 0).all()
    for place in np.flatnonzero(VALID):
        p = scipy.special.expit(float(SCORES[place]))
        hits = int(masks[:, place].sum())
        assert scipy.stats.binomtest(hits, N, p).pvalue > 1e-4


def test_log_probability_is_that_of_independent_gates():
    p = scipy.special.expit(np.float64(SCORES))
    for bits in itertools.product([0, 1], repeat=P):
        b = np.array(bits, np.float32)
        expected = np.log(np.where(b == 1, p, 1 - p))[VALID].sum()
        assert log_probability(SCORES, VALID, b) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("on_padding", [1e4, -1e4, np.inf, np.nan])
@pytest.mark.parametrize("kind", [of_reinforce, of_rebar])
def test_padding_gets_no_gradient_and_changes_nothing(kind, on_padding):
    one, key = jax.jit(jax.value_and_grad(kind(smooth, 0.5))), jax.random.key(1)
    value, gradient = one(SCORES, key, VALID)
    other = np.where(VALID, SCORES, on_padding).astype("f4")
    value_, gradient_ = one(other, key, VALID)
    assert (gradient[~VALID] == 0).all() and (np.abs(gradient[VALID]) > 0).all()
    np.testing.assert_array_equal(gradient, gradient_)
    # The noise on padding is no part of the surrogate either.
    assert value == value_


@pytest.mark.parametrize("kind", [of_reinforce, of_rebar])
def test_a_row_of_padding_only_has_a_zero_gradient(kind):
    none = np.zeros(P, bool)
    gradient = jax.jit(jax.grad(kind(smooth, 0.5)))(SCORES, jax.random.key(0), none)
    np.testing.assert_array_equal(gradient, np.zeros(P))
    mask, surrogate = rebar(jax.random.key(0), SCORES, none, 0.5, smooth)
    np.testing.assert_array_equal(mask, np.zeros(P))
    assert surrogate == 0


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", [of_reinforce, of_rebar])
def test_extreme_scores_are_finite_forwards_and_backwards(kind, temperature):
    scores = np.array([1e4, -1e4, 0.0, 1e4], np.float32)
    keys = jax.random.split(jax.random.key(2), 50)
    one = jax.value_and_grad(kind(smooth, temperature))
    values, slopes = jax.jit(jax.vmap(one, (None, 0, None)))(scores, keys, ALL)
    assert np.isfinite(values).all() and np.isfinite(slopes).all()
    # A gate that is certain has nothing to learn.
    np.testing.assert_allclose(slopes[:, [0, 1, 3]], 0, atol=1e-6)


def test_extreme_scores_with_the_mask_they_exclude_stay_finite():
    scores = np.array([1e4, -1e4, 1e4, -1e4], np.float32)
    mask = (scores < 0).astype("f4")
    value, slopes = jax.value_and_grad(reinforce)(scores, ALL, mask, 2.0)
    assert value == pytest.approx(-8e4)
    np.testing.assert_allclose(slopes, [-2, 2, -2, 2])


def test_the_loss_is_held_fixed():
    """Nothing flows to what the advantage, the mask or f was computed from."""

    def through_rebar(scale):
        key = jax.random.key(0)
        return rebar(key, SCORES, ALL, 0.5, lambda m: scale * smooth(m))[1]

    assert jax.grad(through_rebar)(2.0) == 0
    mask = np.array([1.0, 0, 1, 0], np.float32)
    for place in (2, 3):
        gradient = jax.grad(reinforce, argnums=place)(SCORES, ALL, mask, 0.7)
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
