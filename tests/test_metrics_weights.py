"""Diagnostics of instance weights, against scipy and by hand."""

import numpy as np
import pytest
import scipy.stats

from jaxattn.metrics import weights

RNG = np.random.default_rng(0)


def test_ess_and_truncation_by_hand():
    assert weights.ess_share(np.ones(7)) == 1
    assert weights.ess_share(np.array([1.0, 0, 0, 0])) == 0.25
    w = np.concatenate([np.ones(99), [101.0]])
    np.testing.assert_array_equal(weights.cut_at(w, 0), w)
    assert weights.ess_share(weights.cut_at(w, 5)) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(
        weights.cut_at(np.arange(101.0), 10), np.clip(np.arange(101), 10, 90)
    )
    assert weights.ess_share(w) == pytest.approx(200**2 / (99 + 101**2) / 100)


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


def test_imbalance_is_in_unbiased_deviations_within_classes():
    x, labels = np.array([[0.0], [2.0], [3.0], [5.0]]), np.array([0, 0, 1, 1])
    (gap,) = weights.imbalance(x, labels, np.ones(4))
    assert gap == pytest.approx(3 / np.sqrt(2))
