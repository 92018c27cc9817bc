"""Can instance weights be trusted? Diagnostics of inverse probability weighting."""

import numpy as np


def ess_share(weights: np.ndarray) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2, as a share of all [N]."""
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def cut_at(weights: np.ndarray, percentile: float) -> np.ndarray:
    """Weights [N] cut at a percentile of their own, and at 100 minus it.

    See 'Constructing Inverse Probability Weights for Marginal Structural Models' by
    Cole & Hernan (2008): show several cuts, never one in silence.
    """
    return np.clip(weights, *np.percentile(weights, [percentile, 100 - percentile]))


def overlap_histogram(
    own: np.ndarray, labels: np.ndarray, classes: int, bins: int = 20
) -> np.ndarray:
    """Shares [classes, bins] of the examples of each class, by P(own class given m).

    `own` [N], which rounding may leave a little above 1; labels [N].
    """
    own = np.minimum(own, 1)
    counts = [
        np.histogram(own[labels == c], bins=bins, range=(0, 1))[0]
        for c in range(classes)
    ]
    total = np.maximum(np.sum(counts, axis=1, keepdims=True), 1)
    return np.asarray(counts) / total


def pareto_k(weights: np.ndarray) -> float:
    """Shape k of a generalised Pareto distribution fitted to the largest weights [N].

    The tail is the largest min(N / 5, 3 sqrt(N)); the fit is that of Zhang & Stephens
    (2009) with the prior of 'Pareto Smoothed Importance Sampling' by Vehtari et al.
    (arXiv 1507.02646). NaN where the tail has fewer than 5 different weights.
    """
    n = len(weights)
    size = int(min(n / 5, 3 * np.sqrt(n)))
    ordered = np.sort(weights)
    tail = ordered[n - size :] - ordered[n - size - 1] if 5 <= size < n else ordered[:0]
    if len(np.unique(tail)) < 5:
        return float("nan")
    m = 30 + int(np.sqrt(size))
    quarter = tail[int(size / 4 + 0.5) - 1]
    grid = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    theta = 1 / tail[-1] + grid / (3 * max(quarter, 1e-300))
    shape = np.log1p(-theta[:, None] * tail).mean(axis=1)
    fit = size * (np.log(-theta / shape) - shape - 1)
    trust = np.exp(fit - fit.max())
    best = (theta * trust).sum() / trust.sum()
    k = np.log1p(-best * tail).mean()
    # Short tails alone say little: drawn a little towards one half.
    return float((k * size + 5) / (size + 10))


def imbalance(x: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Largest standardised mean difference of each column of x [N, F] between classes.

    Weighted means, divided by the unweighted standard deviation within classes.
    """
    groups = [labels == c for c in np.unique(labels)]
    means = np.stack([np.average(x[g], axis=0, weights=weights[g]) for g in groups])
    spread = np.sqrt(np.mean([x[g].var(axis=0, ddof=1) for g in groups], axis=0))
    gap = means.max(axis=0) - means.min(axis=0)
    return np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0)
