"""Rankings and selections of one example, against scikit-learn, scipy and by hand."""

import gzip
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
)

from jaxattn.metrics import ranking
from jaxattn.nn.subsets import ranks

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
NAMES = ("auroc", "average_precision", "auprc", "kendall_tau_b", "median_rank")
jitted = {name: jax.jit(getattr(ranking, name)) for name in NAMES}


@settings(max_examples=50, deadline=None)
@given(scores_, bits, st.integers(3, T))
def test_areas_equal_scikit_learn_with_ties_and_padding(scores, positive, length):
    valid = jnp.arange(T) < length
    s, y = np.array(scores, np.float32), np.array(positive)
    kept = y[:length]
    area = jitted["auroc"](s, y, valid)
    precision = jitted["average_precision"](s, y, valid)
    trapezoid = jitted["auprc"](s, y, valid)
    if not kept.any():
        assert np.isnan(precision) and np.isnan(trapezoid)
    else:
        expected = average_precision_score(kept, s[:length])
        assert precision == pytest.approx(expected, abs=1e-6)
        heights, recall, _ = precision_recall_curve(kept, s[:length])
        assert trapezoid == pytest.approx(auc(recall, heights), abs=1e-6)
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
    tau = jitted["kendall_tau_b"](a, b, valid)
    assert tau == pytest.approx(expected, abs=1e-6, nan_ok=True)
    ordinal = scipy.stats.rankdata(-a[:length], method="ordinal") - 1
    np.testing.assert_array_equal(ranks(a, valid)[:length], ordinal)
    shared = scipy.stats.rankdata(-a[:length])
    every_other = jnp.arange(T) % 2 == 0
    median = jitted["median_rank"](a, every_other, valid)
    assert median == pytest.approx(np.median(shared[::2]))


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


def test_document_frequency_counts_texts_not_words():
    tokens = np.array([[3, 3, 1, 0], [1, 2, 0, 0]])
    valid = np.array([[True] * 4, [True, True, False, False]])
    found = ranking.document_frequency(tokens, valid, 5)
    np.testing.assert_array_equal(found, [1, 2, 1, 1, 0])


REVIEWS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "cad_imdb.jsonl.gz"


@pytest.mark.skipif(not REVIEWS.exists(), reason="needs reviews with human evidence")
def test_rankings_without_a_model_find_what_was_published_of_them():
    """On the words that people changed to turn a review (Kaushik et al. 2020)."""
    with gzip.open(REVIEWS, "rt") as file:
        rows = [json.loads(line) for line in file]
    words = {w.lower() for row in rows for w in row["tokens"]}
    number = {word: i for i, word in enumerate(sorted(words))}
    width = max(len(row["tokens"]) for row in rows)

    def padded(split, what):
        kept = [what(row) for row in rows if row["split"] == split]
        rows_of = np.array([each + [0] * (width - len(each)) for each in kept])
        return rows_of, np.arange(width) < np.array([len(x) for x in kept])[:, None]

    def ids(row):
        return [number[w.lower()] for w in row["tokens"]]

    texts, there = padded("train", ids)
    counts = np.asarray(ranking.document_frequency(texts, there, len(number)))
    tokens, valid = padded("test", ids)
    human = padded("test", lambda row: row["rationale"])[0] == 1
    some = human.any(axis=1) & (valid & ~human).any(axis=1)

    def area(scores):
        of_rows = jax.lax.map(
            lambda row: ranking.auroc(*row),
            (scores.astype(np.float32)[some], human[some], valid[some]),
            batch_size=32,
        )
        return float(of_rows.mean())

    assert some.sum() > 900
    assert area(-counts[tokens]) == pytest.approx(0.625, abs=0.002)
    from_end = valid.sum(axis=1)[:, None] - np.arange(width)
    assert area(from_end) == pytest.approx(0.447, abs=0.002)
