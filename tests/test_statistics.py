import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattn.metrics.statistics import (
    difference_interval,
    holm,
    interval,
    mean_interval,
    paired_interval,
)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(3.0, 2.0, (300, 16))
    intervals = [mean_interval(x) for x in draws]
    assert 0.88 < np.mean([i.low <= 3 <= i.high for i in intervals]) < 0.98


def test_interval_is_scipys_bca_interval():
    x = np.random.default_rng(2).exponential(size=16)
    oracle = scipy.stats.bootstrap(
        (x,), np.mean, n_resamples=50_000, rng=np.random.default_rng(7)
    ).confidence_interval
    ours = mean_interval(x)
    assert ours.mean == pytest.approx(x.mean()) and ours.n == 16
    assert ours.low == pytest.approx(oracle.low, abs=0.02)
    assert ours.high == pytest.approx(oracle.high, abs=0.02)
    # BCa leans towards the long tail; the percentile interval does so much less.
    assert ours.high - ours.mean > 1.2 * (ours.mean - ours.low)


def test_interval_is_deterministic():
    x = np.random.default_rng(3).normal(size=16)
    np.random.seed(5)
    first = mean_interval(x)
    np.random.seed(6)
    assert mean_interval(x.tolist()) == first


def test_no_value_one_value_equal_values_and_values_that_are_not_finite():
    nothing = mean_interval([])
    assert nothing.n == 0 and all(map(math.isnan, nothing[:3]))
    one = mean_interval([0.25])
    assert one.mean == 0.25 and one.n == 1
    assert math.isnan(one.low) and math.isnan(one.high)
    assert mean_interval([0.1] * 16) == (0.1, 0.1, 0.1, 16)
    x = [0.1, 0.5, 0.2, 0.4]
    assert mean_interval([*x[:2], math.nan, math.inf, -math.inf, *x[2:]]) == (
        mean_interval(x)
    )


def test_values_apart_by_rounding_fall_back_to_percentiles(monkeypatch):
    low, high = mean_interval([0.5, 0.5, np.nextafter(0.5, 1)])[1:3]
    assert 0.5 <= low <= high <= np.nextafter(0.5, 1)
    x = np.random.default_rng(4).normal(size=16)
    true = scipy.stats.bootstrap

    def degenerate(*args, **kwargs):
        result = true(*args, **{**kwargs, "method": "percentile"})
        degenerate.interval = result.confidence_interval
        result.confidence_interval = type(degenerate.interval)(np.nan, np.nan)
        return result

    monkeypatch.setattr(scipy.stats, "bootstrap", degenerate)
    assert mean_interval(x)[1:3] == pytest.approx(tuple(degenerate.interval))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=12))
def test_interval_lies_within_the_values(values):
    mean, low, high, n = mean_interval(values)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert n == len(values)
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert min(values) - slack <= mean <= max(values) + slack


def test_paired_interval_is_the_interval_of_the_differences():
    a, b = np.random.default_rng(5).normal(size=(2, 16))
    assert paired_interval(a, b)[:4] == mean_interval(a - b)
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert there.mean == -back.mean and there.p == back.p


@pytest.mark.parametrize("n", [2, 5, 11])
def test_sign_flip_p_is_scipys_exact_p(n):
    d = np.random.default_rng(n).normal(0.4, 1, n)
    oracle = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert paired_interval(d, np.zeros(n)).p == pytest.approx(oracle.pvalue)


def test_sign_flip_p_of_many_seeds_is_close_to_scipys():
    d = np.random.default_rng(9).normal(0.25, 1, 40)
    oracle = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=50_000,
        vectorized=True, rng=np.random.default_rng(1), batch=5_000,
    )  # fmt: skip
    assert paired_interval(d, 0 * d).p == pytest.approx(oracle.pvalue, abs=0.02)
    assert paired_interval(d + 9, 0 * d).p == pytest.approx(1e-4)


def test_sign_flip_p_of_ties_and_extremes():
    # Tenths tie like whole numbers, but only up to rounding; a tie must count.
    whole = np.random.default_rng(3).integers(-9, 10, (20, 8))
    for d in whole:
        assert paired_interval(d / 10, 0 * d).p == paired_interval(d, 0 * d).p
    assert paired_interval([1] * 8, [1] * 8).p == 1
    assert paired_interval([1] * 8, [0] * 8).p == 2 / 2**8
    assert math.isnan(paired_interval([], []).p)


def test_pairs_with_a_missing_half_are_left_out():
    paired = paired_interval([1, math.nan, 3, 4], [0, 1, math.inf, 1])
    assert paired.n == 2 and paired.mean == 2


def test_bad_shapes_say_so_in_one_line():
    with pytest.raises(ValueError, match="one axis: got shape \\[2, 2\\]"):
        mean_interval(np.ones((2, 2)))
    with pytest.raises(ValueError, match="got 2 and 3 values"):
        paired_interval([1, 2], [1, 2, 3])


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side():
    x = np.random.default_rng(0).normal(size=16)
    iqm = interval(x, "iqm")
    assert iqm.mean == pytest.approx(np.sort(x)[4:12].mean())
    assert iqm.low < iqm.mean < iqm.high and iqm.n == 16
    assert interval([1.0, 2, 3, 4, 100], "iqm").mean == 3


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert list(adjusted) == ["a", "b", "c", "d"] and holm({}) == {}


def test_an_unpaired_difference_covers_what_is_true():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        apart = difference_interval(rng.normal(1, 1, 16), rng.normal(0, 1, 16))
        hits += apart.low < 1 < apart.high
    assert 50 <= hits <= 60
    assert difference_interval([1.0, 1], [0.5, 0.5])[:3] == (0.5, 0.5, 0.5)
    assert np.isnan(difference_interval([1.0], [0.5]).low)
    assert difference_interval([np.nan], [0.5]).n == 0
