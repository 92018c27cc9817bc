import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxattn.metrics import ranking

TRUTH = jnp.array([True, True, False, False, True])


def flags(*places):
    return jnp.zeros(5, bool).at[jnp.array(places, int)].set(True)


def test_rates_by_hand():
    some = flags(0, 2, 3)
    assert ranking.tpr(some, TRUTH) == pytest.approx(1 / 3)
    assert ranking.fdr(some, TRUTH) == pytest.approx(2 / 3)
    assert ranking.fdr(jnp.zeros(5, bool), TRUTH) == 0
    assert np.isnan(ranking.tpr(some, jnp.zeros(5, bool)))
    assert ranking.exact_set(TRUTH, TRUTH) == 1
    assert ranking.exact_set(flags(0, 1), TRUTH) == 0
    assert ranking.control_hit(some, 2) == 1 and ranking.control_hit(some, 4) == 0


def test_median_rank_is_that_of_learning_to_explain():
    scores = jnp.array([5.0, 4, 3, 2, 1])
    valid = jnp.ones(5, bool)
    assert ranking.median_rank(scores, TRUTH, valid) == 2  # ranks 1, 2, 5
    best = jnp.where(TRUTH, 1.0, 0.0) + 1e-3 * scores
    assert ranking.median_rank(best, TRUTH, valid) == 2  # (k + 1) / 2
    assert ranking.median_rank(jnp.zeros(5), TRUTH, valid) == 3
    assert np.isnan(ranking.median_rank(scores, jnp.zeros(5, bool), valid))


T = 12

scores_ = st.lists(st.integers(0, 5), min_size=T, max_size=T)

bits = st.lists(st.booleans(), min_size=T, max_size=T)

jitted = {f: jax.jit(getattr(ranking, f)) for f in ("auroc", "average_precision")} | {
    "tau": jax.jit(ranking.kendall_tau_b),
    "ranks": jax.jit(ranking.ranks),
}


@settings(max_examples=50, deadline=None)
@given(scores_, bits, st.integers(3, T))
def test_areas_equal_scikit_learn_with_ties_and_padding(scores, positive, length):
    valid = jnp.arange(T) < length
    s, y = np.array(scores, np.float32), np.array(positive)
    kept = y[:length]
    area = jitted["auroc"](s, y, valid)
    precision = jitted["average_precision"](s, y, valid)
    if not kept.any():
        assert np.isnan(precision)
    else:
        expected = average_precision_score(kept, s[:length])
        assert precision == pytest.approx(expected, abs=1e-6)
    if kept.any() and not kept.all():
        assert area == pytest.approx(roc_auc_score(kept, s[:length]), abs=1e-6)
    else:
        assert np.isnan(area)


@settings(max_examples=50, deadline=None)
@given(scores_, scores_, st.integers(3, T))
def test_tau_and_ranks_equal_scipy(a, b, length):
    valid = jnp.arange(T) < length
    a, b = np.array(a, np.float32), np.array(b, np.float32)
    expected = scipy.stats.kendalltau(a[:length], b[:length]).statistic
    found = jitted["tau"](a, b, valid)
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    ranks = jitted["ranks"](a, valid)[:length]
    np.testing.assert_allclose(ranks, scipy.stats.rankdata(-a[:length]))


def test_pointing_game_shares_ties_and_never_points_at_padding():
    positive, valid = flags(0, 1), flags(0, 1, 2)
    game = ranking.pointing_game
    assert game(jnp.array([3.0, 1, 2, 9, 9]), positive, valid) == 1
    assert game(jnp.array([1.0, 1, 2, 9, 9]), positive, valid) == 0
    assert game(jnp.array([2.0, 1, 2, 9, 9]), positive, valid) == 0.5
    assert np.isnan(game(jnp.ones(5), flags(3), valid))


def test_mass_is_a_share():
    mask = jnp.array([0.5, 0.25, 0.25, 0.0, 0.0])
    assert ranking.mass_on(mask, flags(0, 3)) == 0.5
    assert ranking.mass_on(4 * mask, flags(0, 3)) == 0.5
    assert ranking.mass_on(jnp.zeros(5), flags(0)) == 0


def test_overlap_counts_the_selected_among_the_best():
    scores = jnp.array([0.1, 0.9, 0.5, -jnp.inf, 0.5])
    overlap = ranking.top_k_overlap
    assert overlap(flags(1, 2), scores, 2) == 1
    assert overlap(flags(1, 4), scores, 2) == 0.5
    assert overlap(flags(0, 3), scores, 2) == 0
    assert overlap(jnp.zeros(5, bool), scores, 0) == 0
