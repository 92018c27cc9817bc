import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxattn.nn.normalizers import (
    NORMALIZERS,
    gumbel_softmax,
    renormalise,
    softmax,
    uniform,
)

softmax_, gumbel_, renormalise_ = map(jax.jit, (softmax, gumbel_softmax, renormalise))
jacobian_ = jax.jit(jax.jacrev(softmax))
T = 5
SCORES = np.array([0.5, -1.0, 2.0, 0.0, 1.0], np.float32)
VALID = np.array([True, True, True, False, False])
ALL, NONE = np.ones(T, bool), np.zeros(T, bool)
a_score = st.floats(-1e4, 1e4, width=32)
a_row = st.lists(a_score, min_size=T, max_size=T).map(lambda x: np.array(x, "f4"))
a_validity = st.lists(st.booleans(), min_size=T, max_size=T).map(np.array)


def oracle(scores, valid, temperature=1.0):
    x = np.float64(scores) / temperature
    weights = np.where(valid, np.exp(x - x[valid].max(initial=-np.inf)), 0)
    return weights / weights.sum()


SOFT = ["softmax", "gumbel_softmax"]


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 7.0])
def test_softmax_is_softmax_over_the_valid_positions(temperature):
    expected = oracle(SCORES, VALID, temperature)
    found = softmax_(SCORES, VALID, temperature)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(a_row, a_validity, st.sampled_from(SOFT), st.integers(0, 99))
@settings(max_examples=60)
def test_masks_are_on_the_simplex_and_exactly_zero_on_padding(
    scores, valid, name, seed
):
    masks = softmax_ if name == "softmax" else lambda *a: gumbel_(key, *a)
    key = jax.random.key(seed)
    mask = np.asarray(masks(scores, valid))
    assert np.isfinite(mask).all() and (mask >= 0).all()
    assert (mask[~valid] == 0).all()
    assert mask.sum() == pytest.approx(1.0 if valid.any() else 0.0, abs=1e-5)


@pytest.mark.parametrize("name", SOFT)
def test_the_table_of_normalizers_takes_key_scores_valid_temperature(name):
    given = jax.random.key(0), SCORES, VALID, 2.0
    direct = softmax(*given[1:]) if name == "softmax" else gumbel_softmax(*given)
    np.testing.assert_array_equal(NORMALIZERS[name].draw(*given), direct)


def test_a_row_of_padding_only_gives_the_zero_mask_and_no_gradient():
    np.testing.assert_array_equal(softmax_(SCORES, NONE), np.zeros(T))
    np.testing.assert_array_equal(gumbel_(jax.random.key(0), SCORES, NONE), 0)
    np.testing.assert_array_equal(uniform(NONE), 0)
    np.testing.assert_array_equal(renormalise_(SCORES, NONE), 0)
    np.testing.assert_array_equal(jacobian_(SCORES, NONE), np.zeros((T, T)))


@pytest.mark.parametrize("valid", [ALL, VALID, NONE], ids=["all", "some", "none"])
def test_extreme_scores_are_finite_forwards_and_backwards(valid):
    scores = np.array([1e4, -1e4, 1e4, -1e4, 1e4], np.float32)
    for temperature in (1e-3, 1.0, 1e3):
        mask = np.asarray(softmax_(scores, valid, temperature))
        slopes = np.asarray(jacobian_(scores, valid, temperature))
        assert np.isfinite(mask).all() and np.isfinite(slopes).all()
    if valid.any():
        np.testing.assert_allclose(
            softmax_(scores, valid), oracle(scores, valid), atol=1e-6
        )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_jacobian_is_the_closed_form(temperature):
    m = oracle(SCORES, VALID, temperature)
    expected = (np.diag(m) - np.outer(m, m)) / temperature
    found = np.asarray(jacobian_(SCORES, VALID, temperature))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found[:, ~VALID] == 0).all() and (found[~VALID] == 0).all()


def test_gradients_agree_with_finite_differences():
    readout = jnp.array([1.0, -2.0, 0.5, 3.0, -1.0])

    @jax.jit
    def read(scores):
        perturbed = gumbel_softmax(jax.random.key(3), scores, VALID, 0.7)
        return readout @ (softmax(scores, VALID, 0.7) + perturbed)

    check_grads(read, (jnp.array(SCORES),), order=1, atol=1e-2, rtol=1e-2, eps=1e-2)


def test_gumbel_softmax_at_low_temperature_draws_from_softmax_of_the_scores():
    n, scores = 4000, SCORES
    keys = jax.random.split(jax.random.key(20), n)
    masks = jax.jit(jax.vmap(lambda k: gumbel_softmax(k, scores, VALID, 1e-3)))(keys)
    assert np.mean(np.max(masks, axis=1) > 0.99) > 0.98
    counts = np.bincount(np.argmax(masks, axis=1), minlength=T)
    assert (counts[~VALID] == 0).all()
    expected = n * oracle(scores, VALID)[VALID]
    assert scipy.stats.chisquare(counts[VALID], expected).pvalue > 1e-3


def test_gumbel_noise_is_fresh_with_each_key_and_the_same_with_the_same():
    a, b = (gumbel_(jax.random.key(s), SCORES, ALL) for s in (0, 1))
    assert np.abs(a - b).max() > 1e-3
    np.testing.assert_array_equal(a, gumbel_(jax.random.key(0), SCORES, ALL))


@given(a_row, a_validity, st.lists(a_score, min_size=3, max_size=3))
@settings(max_examples=60)
def test_appending_padding_never_changes_the_valid_part(scores, valid, garbage):
    longer = np.concatenate([scores, np.array(garbage, "f4")])
    padded = np.concatenate([valid, np.zeros(3, bool)])
    for short, long in [
        (softmax_(scores, valid), softmax_(longer, padded)),
        (uniform(valid), uniform(padded)),
        (renormalise_(abs(scores), valid), renormalise_(abs(longer), padded)),
    ]:
        np.testing.assert_allclose(long[:T], short, atol=1e-6)
        np.testing.assert_array_equal(long[T:], 0)


def test_uniform_shares_equally_among_the_valid():
    np.testing.assert_allclose(uniform(VALID), [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-7)


def test_renormalise_keeps_ratios_and_sums_to_one():
    mask = np.array([0.1, 0.3, 0.1, 0.4, 0.1], np.float32)
    np.testing.assert_allclose(renormalise_(mask, ALL), mask, atol=1e-7)
    np.testing.assert_allclose(
        renormalise_(mask, VALID), [0.2, 0.6, 0.2, 0, 0], atol=1e-6
    )


def test_renormalise_falls_back_to_uniform_where_no_mass_is_left():
    mask = np.array([0, 0, 0, 0.5, 0.5], np.float32)
    np.testing.assert_allclose(renormalise_(mask, VALID), uniform(VALID), atol=1e-7)
    tiny = np.array([1e-30, 0, 0, 1, 0], np.float32)
    np.testing.assert_allclose(renormalise_(tiny, VALID), [1, 0, 0, 0, 0], atol=1e-6)
