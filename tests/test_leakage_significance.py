import functools

import jax
import numpy as np
import pytest
import scipy.stats

from jaxattn.data.sources.planted_shortcut import planted_shortcut
from jaxattn.leakage import folds, questions
from jaxattn.leakage.hsic import hsic
from jaxattn.leakage.masks import masks_of
from jaxattn.leakage.significance import Trial, assess, assess_pair, fano_bits


@functools.cache
def planted(bits, n, seed, exchanges, kind="place"):
    masks, labels = map(
        np.asarray, planted_shortcut(jax.random.key(seed), n, bits, 6, kind)
    )
    rng = np.random.default_rng(seed)
    fold = folds.assign(rng, labels, None, 5)
    exchanged = folds.exchanged(rng, labels, exchanges, fold)
    x = questions.all_features(masks_of(masks, kind="weights"))
    return assess(x, Trial(labels, fold, exchanged))


@pytest.mark.parametrize("kind", ["place", "shape"])
@pytest.mark.parametrize("bits", [0, 0.1, 0.5, 1])
def test_planted_bits_are_recovered(bits, kind):
    findings = [planted(bits, 5000, seed, 19, kind) for seed in range(3)]
    assert np.mean([f.bits for f in findings]) == pytest.approx(bits, abs=0.03)
    assert all(f.bits < 1 + 1e-6 and f.low <= f.bits <= f.high for f in findings)
    assert all((f.p == 0.05) == (bits > 0) or f.p > 0.05 for f in findings)


def test_intervals_cover_what_was_planted():
    """In 9 of 10 repetitions at least, for every size of leak."""
    for bits in (0, 0.1, 0.5, 1):
        findings = [planted(bits, 5000, seed, 19) for seed in range(12)]
        covered = sum(f.low <= bits <= f.high for f in findings)
        # 12 at 95 %: 9 or fewer would come up once in 500.
        assert covered >= 10, (bits, covered)


def test_p_values_are_uniform_where_nothing_leaks():
    times = 150
    p = np.array([planted(0, 200, seed, 39).p for seed in range(times)])
    # p has 40 values: a uniform step function, jittered to be comparable.
    jitter = np.random.default_rng(0).uniform(0, 1 / 40, times)
    assert scipy.stats.kstest(p - jitter, "uniform").pvalue > 0.01
    alarms = int((p <= 0.05).sum())
    assert scipy.stats.binomtest(alarms, times, 0.05).pvalue > 0.01


def test_more_examples_detect_smaller_leaks():
    small, large = (planted(0, n, 1, 39).detectable for n in (200, 5000))
    assert large < small / 5
    assert large < 0.01


def test_an_added_column_tells_beyond_the_first_only_what_is_new():
    rng = np.random.default_rng(0)
    n = 2000
    labels = rng.integers(0, 2, n)
    known = (labels + rng.normal(size=n))[:, None].astype("f4")
    fresh = (labels + rng.normal(size=n))[:, None].astype("f4")
    fold = folds.assign(rng, labels, None, 5)
    orders = np.stack([rng.permutation(n) for _ in range(19)])
    trial = Trial(labels, fold, labels[orders])
    again = assess_pair(known, known, trial, orders)
    more = assess_pair(known, fresh, trial, orders)
    assert again.p > 0.05 and abs(again.bits) < 0.01
    assert more.p == 0.05 and more.low > 0.03


def test_fano_is_met_with_equality_by_a_symmetric_channel():
    e = 0.11
    h2 = scipy.stats.entropy([e, 1 - e], base=2)
    assert fano_bits(1 - e, np.array([0.5, 0.5])) == pytest.approx(1 - h2)
    # Three classes, errors spread evenly over the other two.
    parts = [0.7, 0.15, 0.15]
    told = np.log2(3) - scipy.stats.entropy(parts, base=2)
    assert fano_bits(0.7, np.full(3, 1 / 3)) == pytest.approx(told)
    assert fano_bits(1.0, np.array([0.25, 0.75])) == pytest.approx(
        scipy.stats.entropy([0.25, 0.75], base=2)
    )


def test_hsic_is_the_trace_that_defines_it():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).astype("f4"), rng.integers(0, 3, 30)
    square = ((x[:, None] - x[None]) ** 2).sum(-1)
    kernel = np.exp(-square / np.median(square[~np.eye(30, dtype=bool)]))
    centre = np.eye(30) - 1 / 30
    same = (y[:, None] == y[None]).astype(float)
    expected = np.trace(kernel @ centre @ same @ centre) / 30**2
    orders = np.stack([rng.permutation(y) for _ in range(9)])
    test = hsic(x, y, orders, 3)
    assert test.value == pytest.approx(expected, rel=1e-4)
    k = sum(
        np.trace(kernel @ centre @ (o[:, None] == o[None]) @ centre) / 900 >= expected
        for o in orders
    )
    assert test.p == pytest.approx((1 + k) / 10)


def test_hsic_sees_what_is_not_linear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)).astype("f4")
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    orders = np.stack([rng.permutation(y) for _ in range(99)])
    assert hsic(x, y, orders, 2).p == 0.01
    nothing = hsic(np.ones((300, 2), "f4"), y, orders, 2)
    assert nothing.p == 1
