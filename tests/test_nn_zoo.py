"""The normalizers beyond the softmax: sparse ones, subsets and gates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from jaxattn.nn import entmax, gates, subsets
from jaxattn.nn.normalizers import NORMALIZERS, softmax

T = 6
SCORES = jnp.array([0.3, -1.2, 2.0, 0.9, 0.1, 5.0])
VALID = jnp.array([True, True, True, True, True, False])
KEY = jax.random.key(0)


@functools.cache
def jitted(name, which="draw"):
    return jax.jit(getattr(NORMALIZERS[name], which))


def slope(name, scores, valid):
    weights = jnp.linspace(-1, 2, len(scores))

    def total(scores):
        return (weights * NORMALIZERS[name].draw(KEY, scores, valid, 0.7, 2)).sum()

    return jax.jit(jax.grad(total))(scores)


@pytest.mark.parametrize("which", ["draw", "keep"])
@pytest.mark.parametrize("name", NORMALIZERS)
def test_padding_is_zero_and_weights_are_in_their_range(name, which):
    mask = np.asarray(jitted(name, which)(KEY, SCORES, VALID, 0.7, 2))
    assert mask[5] == 0 and (mask >= 0).all() and (mask <= 1 + 1e-6).all()
    if NORMALIZERS[name].simplex:
        assert mask.sum() == pytest.approx(1, abs=1e-5)
    moved = mask - jitted(name, which)(KEY, SCORES.at[5].set(-3), VALID, 0.7, 2)
    np.testing.assert_array_equal(moved, 0)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_extremes_are_finite_forwards_and_backwards(name):
    none, all_ = jnp.zeros(T, bool), jnp.ones(T, bool)
    extreme = jnp.array([1e4, -1e4, 1e4, 0, -1e4, 1e4])
    flat = jnp.zeros(T), all_
    for scores, valid in ((extreme, all_), flat, (SCORES, none), (-extreme, VALID)):
        for which in ("draw", "keep"):
            mask = jitted(name, which)(KEY, scores, valid, 0.7, 2)
            assert np.isfinite(mask).all()
            assert valid.any() or not np.asarray(mask).any()
        moved = slope(name, scores, valid)
        assert np.isfinite(moved).all() and not np.asarray(moved)[~valid].any()
    for which in ("draw", "keep"):
        one = jitted(name, which)(KEY, jnp.array([3.0]), jnp.ones(1, bool), 1.0, 1)
        assert NORMALIZERS[name].rate is not None or one[0] == pytest.approx(1)


def oracle(scores, alpha):
    """alpha-entmax with its threshold from a root finder."""
    power = 1 / (alpha - 1)

    def weights(tau):
        return np.maximum((alpha - 1) * scores - tau, 0) ** power

    top = (alpha - 1) * scores.max()
    # At top - 1 one score alone has all the weight, or by rounding a little less.
    low = top - 1.01
    return weights(brentq(lambda tau: weights(tau).sum() - 1, low, top, xtol=1e-14))


rows = st.lists(st.floats(-4, 4, width=32), min_size=T, max_size=T)
alphas = (1.2, 1.5, 2.0, 3.0)
sparse = {a: jax.jit(functools.partial(entmax.alpha_entmax, alpha=a)) for a in alphas}


@settings(max_examples=30, deadline=None)
@given(rows, st.sampled_from(sorted(sparse)), st.integers(1, T))
def test_entmax_is_what_a_root_finder_gives(scores, alpha, length):
    scores = np.array(scores, np.float32)
    mask = np.asarray(sparse[alpha](scores, jnp.arange(T) < length))
    expected = oracle(scores[:length].astype(float), alpha)
    np.testing.assert_allclose(mask[:length], expected, atol=2e-5)
    assert not mask[length:].any()


def test_entmax_goes_from_softmax_to_sparsemax():
    near = entmax.alpha_entmax(SCORES, VALID, 1.01)
    np.testing.assert_allclose(near, softmax(SCORES, VALID), atol=0.02)
    two = entmax.alpha_entmax(SCORES, VALID, 2.0)
    np.testing.assert_array_equal(two, entmax.sparsemax(SCORES, VALID))
    half = entmax.alpha_entmax(SCORES, VALID, 1.5)
    np.testing.assert_array_equal(half, entmax.entmax15(SCORES, VALID))
    assert (np.asarray(two) == 0).sum() > (np.asarray(half) == 0).sum() > 1
    with pytest.raises(ValueError, match="above 1"):
        entmax.alpha_entmax(SCORES, VALID, 1.0)


def test_sparse_jacobians_are_the_closed_forms():
    two = np.asarray(entmax.sparsemax(SCORES, VALID))
    support = (two > 0).astype(float)
    expected = np.diag(support) - np.outer(support, support) / support.sum()
    found = jax.jacrev(lambda s: entmax.sparsemax(s, VALID))(SCORES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    half = np.asarray(entmax.entmax15(SCORES, VALID))
    s = np.sqrt(half)
    expected = np.diag(s) - np.outer(s, s) / s.sum()
    found = jax.jacfwd(lambda s: entmax.entmax15(s, VALID))(SCORES)
    np.testing.assert_allclose(found, expected, atol=1e-4)


ties = st.lists(st.integers(0, 3), min_size=T, max_size=T)


@settings(max_examples=30, deadline=None)
@given(ties, st.integers(0, 8), st.integers(0, T))
def test_top_k_selects_just_so_many_whatever_the_ties(scores, budget, length):
    scores, valid = jnp.array(scores, jnp.float32), jnp.arange(T) < length
    mask = np.asarray(hard(scores, valid, budget))
    assert set(np.unique(mask)) <= {0.0, 1.0} and mask.sum() == min(budget, length)
    chosen, left = scores[mask > 0], scores[(mask == 0) & np.asarray(valid)]
    assert not len(chosen) or not len(left) or chosen.min() >= left.max()


hard = jax.jit(subsets.hard_top_k)


def test_top_k_has_the_gradient_of_its_surrogate():
    def surrogate(scores):
        soft = jax.nn.softmax(jnp.where(VALID, scores / 0.7, -1e30))
        return (jnp.arange(T) * 2 * soft).sum()

    def made(scores):
        return (jnp.arange(T) * subsets.top_k(scores, VALID, 0.7, 2)).sum()

    np.testing.assert_allclose(
        jax.grad(made)(SCORES), jax.grad(surrogate)(SCORES), atol=1e-5
    )


def test_gumbel_top_k_draws_at_most_so_many_and_prefers_high_scores():
    keys = jax.random.split(KEY, 2000)
    some = lambda k, b: subsets.gumbel_top_k(k, SCORES, VALID, 0.05, b)  # noqa: E731
    draw = jax.jit(jax.vmap(some, (0, None)))
    one, three = (np.asarray(draw(keys, b)) for b in (1, 3))
    assert one.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert three.sum(axis=1).max() <= 3 + 1e-4 and three.sum() > one.sum()
    # One draw at low temperature is a draw from the softmax of the scores.
    frequency = (one > 0.5).mean(axis=0)
    np.testing.assert_allclose(frequency, softmax(SCORES, VALID), atol=0.05)


@pytest.mark.parametrize("budget", [1, 3])
def test_a_subset_does_not_depend_on_how_many_draws_others_need(budget):
    few, many = (
        NORMALIZERS["gumbel_top_k"].draw(KEY, SCORES, VALID, 0.7, budget, draws)
        for draws in (budget, 6)
    )
    np.testing.assert_array_equal(few, many)


RATES = [name for name, row in NORMALIZERS.items() if row.rate is not None]


@pytest.mark.parametrize("name", RATES)
def test_rates_are_how_often_gates_are_not_zero(name):
    row = NORMALIZERS[name]
    keys = jax.random.split(KEY, 4000)
    draws = jax.jit(jax.vmap(lambda k: row.draw(k, SCORES, VALID, 0.7, 1)))(keys)
    assert row.rate is not None
    rate = row.rate(SCORES, VALID, 0.7)
    np.testing.assert_allclose((np.asarray(draws) > 0).mean(axis=0), rate, atol=0.035)
    assert rate[5] == 0
    more = row.rate(SCORES + 1, VALID, 0.7)
    assert (np.asarray(more)[:5] > np.asarray(rate)[:5]).all()


def test_gates_are_whole_and_keep_is_the_likelier_state():
    drawn = np.asarray(jitted("gates")(KEY, SCORES, VALID, 0.7, 1))
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    kept = jitted("gates", "keep")(KEY, SCORES, VALID, 0.7, 1)
    np.testing.assert_array_equal(kept, (SCORES > 0) & VALID)


def test_gates_pass_the_gradient_of_the_relaxed_draw():
    noise = jax.random.logistic(KEY, SCORES.shape)
    soft = jax.nn.sigmoid((SCORES + noise) / 0.7)
    expected = jnp.where(VALID, soft * (1 - soft) / 0.7, 0)
    found = jax.grad(lambda s: gates.gates(KEY, s, VALID, 0.7).sum())(SCORES)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["hard_concrete", "hard_kuma"])
def test_stretched_gates_reach_both_ends(name):
    keys = jax.random.split(KEY, 500)
    draws = jax.vmap(lambda k: NORMALIZERS[name].draw(k, SCORES, VALID, 0.7, 1))(keys)
    inner = np.asarray(draws)[:, 0]
    assert (inner == 0).any() and (inner == 1).any()
    assert ((inner > 0) & (inner < 1)).any()
