"""Intervals and tests over seeds, the statistical unit."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

RESAMPLES = 9_999
LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2)
# All 2^n sign patterns are summed up to here (65,536 at the usual 16 seeds).
EXACT_SEEDS = 18


class Interval(NamedTuple):
    """A mean over seeds with its 95 % interval; n counts the values used."""

    mean: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """A mean paired difference, its 95 % interval and the sign-flip p value."""

    mean: float
    low: float
    high: float
    n: int
    p: float


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean over seeds with its 95 % bootstrap interval.

    The interval is bias-corrected and accelerated; see 'Better Bootstrap Confidence
    Intervals' by Efron (1987). Its resamples come from a fixed key, so that the same
    values always give the same interval.

    Args:
        values: one number of each seed `[seeds]`. Those that are not finite are left
            out; the caller counts them.

    Returns:
        (mean, low, high, n), where n counts the values used. The interval of a single
        value is NaN, that of equal values has length 0.

    Raises:
        ValueError: `values` has not exactly one axis.

    >>> import jaxattn
    >>> mean, low, high, n = jaxattn.mean_interval([0.78, 0.75, 0.77, 0.76, 0.79])
    >>> f"{mean:.3f} [{low:.3f}, {high:.3f}] over {n} seeds"
    '0.770 [0.756, 0.780] over 5 seeds'
    """
    return interval(values)


def interval(values: Sequence[float] | np.ndarray, statistic: str = "mean") -> Interval:
    """Mean or interquartile mean of values over seeds with a 95 % interval.

    The interquartile mean is that of the middle half. See 'Deep Reinforcement Learning
    at the Edge of the Statistical Precipice' by Agarwal et al. (arXiv 2108.13264).

    Args:
      values: `[seeds]`; those that are not finite are left out.
      statistic: `mean` or `iqm`.

    Returns:
      The interval, as `mean_interval` gives it.
    """
    x = _one_dimensional(values)
    x = x[np.isfinite(x)]
    if x.size == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    if x.size == 1:
        return Interval(float(x[0]), np.nan, np.nan, 1)
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), float(x[0]), x.size)
    middle = functools.partial(scipy.stats.trim_mean, proportiontocut=0.25)
    of = {"mean": np.mean, "iqm": middle}[statistic]
    # Values that differ in their last digits only make BCa's acceleration 0 / 0:
    # scipy warns and answers NaN, and the percentile interval below takes over.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = scipy.stats.bootstrap(
            (x,), of, n_resamples=RESAMPLES, confidence_level=LEVEL, method="BCa",
            vectorized=True, rng=np.random.default_rng(0),
        )  # fmt: skip
        low, high = result.confidence_interval
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = np.quantile(result.bootstrap_distribution, TAILS)
    return Interval(float(of(x)), float(low), float(high), x.size)


def paired_interval(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray
) -> Paired:
    """Mean difference over the same seeds, with interval and p value.

    p is that of the sign-flip permutation test of a mean of 0, two-sided: exact up to
    18 pairs, otherwise from 9,999 random patterns of signs.

    Args:
        a, b: one number of each seed `[seeds]`, in the same order. Pairs with a number
            that is not finite are left out.

    Returns:
        (mean, low, high, n, p) of a - b, as in `mean_interval`.

    Raises:
        ValueError: the shapes differ, or have not exactly one axis.

    >>> import jaxattn
    >>> a, b = [0.78, 0.75, 0.77, 0.76, 0.79], [0.74, 0.73, 0.76, 0.73, 0.74]
    >>> apart = jaxattn.paired_interval(a, b)
    >>> round(apart.mean, 3), apart.p
    (0.03, 0.0625)
    """
    a, b = _one_dimensional(a), _one_dimensional(b)
    if a.shape != b.shape:
        raise ValueError(
            f"paired values must be of the same seeds: got {a.size} and {b.size} values"
        )
    used = np.isfinite(a) & np.isfinite(b)
    difference = a[used] - b[used]
    return Paired(*interval(difference), p=_sign_flip(difference))


def _one_dimensional(values: Sequence[float] | np.ndarray) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(
            f"values over seeds must have one axis: got shape {list(x.shape)}"
        )
    return x


def _sign_flip(difference: np.ndarray) -> float:
    if difference.size == 0:
        return np.nan
    observed = abs(np.sum(difference))
    # Sums of the same numbers in another order differ by rounding; such a tie counts.
    observed -= 1e-9 * np.sum(np.abs(difference))
    if difference.size > EXACT_SEEDS:
        shape = (RESAMPLES, difference.size)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], shape)
        sums = signs @ difference
        # What was observed is one of the patterns, so p is never 0 (Phipson & Smyth).
        return float((1 + np.sum(np.abs(sums) >= observed)) / (RESAMPLES + 1))
    sums = np.zeros(1)
    for d in difference:
        sums = np.concatenate([sums + d, sums - d])
    return float(np.mean(np.abs(sums) >= observed))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values of a family, each adjusted for the others by Holm's method (1979)."""
    adjusted, worst = {}, 0.0
    for i, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, value * (len(p) - i)))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p}


def difference_interval(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray
) -> Interval:
    """Mean of a [seeds] minus mean of b [seeds], which are not paired, with interval.

    Values that are not finite are left out; n is the smaller number of values used. One
    value on a side has no interval (NaN).
    """
    x, y = _one_dimensional(a), _one_dimensional(b)
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    n = min(x.size, y.size)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    apart = float(x.mean() - y.mean())
    if n == 1:
        return Interval(apart, np.nan, np.nan, 1)
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return Interval(apart, apart, apart, n)
    rng = np.random.default_rng(0)
    drawn = rng.choice(x, (RESAMPLES, x.size)).mean(axis=1)
    drawn -= rng.choice(y, (RESAMPLES, y.size)).mean(axis=1)
    low, high = np.quantile(drawn, TAILS)
    return Interval(apart, float(low), float(high), n)
