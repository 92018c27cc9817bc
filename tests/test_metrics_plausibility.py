import gzip
import json
import pathlib

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.metrics import precision_recall_fscore_support as prf

from jaxattn.metrics import plausibility, ranking, weights
from jaxattn.metrics.statistics import (
    holm,
    interquartile_mean,
    iqm_interval,
    probability_of_improvement,
)

RNG = np.random.default_rng(0)

N, T = 40, 12

VALID = np.arange(T) < RNG.integers(3, T + 1, N)[:, None]

HUMAN = (RNG.random((N, T)) < 0.4) & VALID

SCORES = np.round(RNG.random((N, T)) + 0.5 * HUMAN, 1)  # rounded: with ties

SELECTED = plausibility.top_share(SCORES, VALID, 0.3)


def test_token_overlap_against_scikit_learn():
    micro = plausibility.token_micro(SELECTED, HUMAN)
    expected = prf(HUMAN.ravel(), SELECTED.ravel(), average="binary")[:3]
    assert tuple(micro) == pytest.approx(expected)
    macro = plausibility.token_macro(SELECTED, HUMAN)
    each = [
        prf(h, s, average="binary", zero_division=0)[:3]
        for h, s in zip(HUMAN, SELECTED, strict=True)
    ]
    assert tuple(macro) == pytest.approx(tuple(np.mean(each, axis=0)))


def test_empty_rationales_count_as_nothing_found():
    none = np.zeros((1, 4), bool)
    some = np.array([[True, False, False, False]])
    for a, b in ((none, some), (some, none), (none, none)):
        assert tuple(plausibility.token_micro(a, b)) == (0, 0, 0)
        assert tuple(plausibility.token_macro(a, b)) == (0, 0, 0)
        assert tuple(plausibility.iou_f1(a, b)) == (0, 0, 0)


def test_spans_are_runs():
    row = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    assert plausibility.spans(row) == [(0, 2), (3, 4), (6, 7)]
    assert plausibility.spans(np.zeros(3, bool)) == []


def test_iou_f1_by_hand():
    """Two predicted halves of one human span are both right; macro F1 is of means."""
    human = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]], bool)
    mine = np.array([[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], bool)
    # First: spans 0-2 (IOU 2/4) right, 3-4 (1/4) wrong: P 1/2, R 1/1.
    # Second: 5-6 with 4-6: IOU 1/2, right.
    found = plausibility.iou_f1(mine, human)
    assert found.precision == 0.75 and found.recall == 1
    assert found.f1 == pytest.approx(2 * 0.75 / 1.75)


def test_auprc_against_scikit_learn():
    found = plausibility.auprc(SCORES, HUMAN, VALID)
    areas, steps, chances = [], [], []
    for s, h, v in zip(SCORES, HUMAN, VALID, strict=True):
        s, h = s[v], h[v]
        if h.any() and not h.all():
            precision, recall, _ = precision_recall_curve(h, s)
            areas.append(auc(recall, precision))
            steps.append(average_precision_score(h, s))
            chances.append(h.mean())
    assert found.n == len(areas) < N
    assert found.trapezoid == pytest.approx(np.mean(areas))
    assert found.average_precision == pytest.approx(np.mean(steps))
    assert found.lift == pytest.approx(np.mean(steps) / np.mean(chances))
    nothing = plausibility.auprc(SCORES, np.zeros_like(HUMAN), VALID)
    assert nothing.n == 0 and np.isnan(nothing.trapezoid)


def test_the_best_share_is_of_valid_tokens():
    best = plausibility.top_share(SCORES, VALID, 0.5)
    assert not (best & ~VALID).any()
    count = np.maximum(np.rint(0.5 * VALID.sum(axis=1)), 1)
    assert (best.sum(axis=1) == count).all()


def test_ess_and_truncation_by_hand():
    assert weights.ess_share(np.ones(7)) == 1
    assert weights.ess_share(np.array([1.0, 0, 0, 0])) == 0.25
    w = np.concatenate([np.ones(99), [101.0]])
    rows = weights.truncations(w)
    assert rows[0].mean == 2 and rows[0].largest_share == pytest.approx(101 / 200)
    assert [r.low for r in rows] == [0, 1, 5, 10]
    assert rows[2].ess_share == pytest.approx(1, abs=1e-3)
    assert rows[0].ess_share == pytest.approx(200**2 / (99 + 101**2) / 100)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_recovers_the_shape(k):
    draws = scipy.stats.genpareto.rvs(k, size=20_000, random_state=0)
    assert weights.pareto_k(draws) == pytest.approx(k, abs=0.1)
    tail = np.sort(draws)[-425:]
    scale = tail[1:] - tail[0]
    fitted = scipy.stats.genpareto.fit(scale, floc=0)[0]
    assert weights.pareto_k(draws) == pytest.approx(fitted, abs=0.1)


def test_pareto_k_of_weights_without_a_tail():
    assert np.isnan(weights.pareto_k(np.ones(1000)))
    assert np.isnan(weights.pareto_k(np.arange(5.0)))
    assert weights.pareto_k(RNG.random(5000) + 1) < 0.3


def test_overlap_histogram_has_every_example():
    posterior = RNG.dirichlet(np.ones(3), 200)
    labels = RNG.integers(0, 3, 200)
    own = posterior[np.arange(200), labels]
    shares = weights.overlap_histogram(own, labels, 4)
    assert shares.shape == (4, 20)
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 1, 0])
    first = (own[labels == 0] < 0.05).mean()
    assert shares[0, 0] == pytest.approx(first)


def test_weights_balance_what_they_are_made_for():
    labels = np.repeat([0, 1], 500)
    x = RNG.normal(size=(1000, 2))
    x[:, 0] += labels
    before = weights.imbalance(x, labels, np.ones(1000))
    assert before[0] == pytest.approx(1, abs=0.15) and before[1] < 0.2
    odds = np.exp(x[:, 0] - 0.5)
    after = weights.imbalance(x, labels, np.where(labels, 1 + 1 / odds, 1 + odds))
    assert after[0] < 0.3 * before[0]
    same = weights.imbalance(np.ones((1000, 1)), labels, np.ones(1000))
    assert same[0] == 0


def test_iqm_is_the_trimmed_mean():
    x = RNG.normal(size=16)
    found = iqm_interval(x)
    assert found.mean == pytest.approx(np.sort(x)[4:12].mean())
    assert found.low < found.mean < found.high and found.n == 16
    assert interquartile_mean(np.array([1.0, 2, 3, 4, 100])) == 3


def test_probability_of_improvement_is_mann_whitney():
    a, b = np.round(RNG.normal(size=12), 1), np.round(RNG.normal(size=9), 1)
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert probability_of_improvement(a, b) == pytest.approx(u / (12 * 9))
    assert probability_of_improvement(a, a) == 0.5


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({}) == {}


def test_auroc_against_scikit_learn():
    found = plausibility.auroc(SCORES, HUMAN, VALID)
    each = [
        roc_auc_score(h[v], s[v])
        for s, h, v in zip(SCORES, HUMAN, VALID, strict=True)
        if h[v].any() and not h[v].all()
    ]
    assert found.area == pytest.approx(np.mean(each)) and found.n == len(each)
    flat = plausibility.auroc(np.ones_like(SCORES), HUMAN, VALID)
    assert flat.area == 0.5
    assert plausibility.auroc(SCORES, HUMAN & False, VALID).n == 0


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
        found = np.array([each + [0] * (width - len(each)) for each in kept])
        return found, np.arange(width) < np.array([len(x) for x in kept])[:, None]

    def ids(row):
        return [number[w.lower()] for w in row["tokens"]]

    texts, there = padded("train", ids)
    counts = np.asarray(ranking.document_frequency(texts, there, len(number)))
    tokens, valid = padded("test", ids)
    human = padded("test", lambda row: row["rationale"])[0] == 1
    idf = plausibility.auroc(-counts[tokens], human, valid)
    assert idf.area == pytest.approx(0.625, abs=0.002) and idf.n > 900
    from_end = valid.sum(axis=1)[:, None] - np.arange(width)
    assert plausibility.auroc(from_end, human, valid).area == pytest.approx(
        0.447, abs=0.002
    )
