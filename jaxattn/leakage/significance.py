"""Bits of the label in features, with their null distribution, interval and p value."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.metrics.divergence import entropy
from jaxattn.metrics.leak import LN2, bent_features, factorise, held_out

FAMILIES = {"linear": (0, 0.05), "nonlinear": (64, 0.5)}
"""Nested probe families: how many non-linear features, and the ridge.

The small ridge lets a label that is all in the mask be read to its last hundredth of a
bit; the large one keeps many features from drowning a small leak in noise.
"""
_TOLERANCE = 1e-3
"""Exchanged labels are fitted in a few steps, real ones in some dozens."""
_ELEMENTS = 24_000_000
"""Most logits of one chunk of labellings (times folds and classes): bounds memory."""


class Finding(NamedTuple):
    """What a set of features tells of the labels; bits may come out below zero."""

    bits: float
    """Held-out bits beyond what the same probes read under exchanged labels."""
    low: float
    high: float
    """95 % interval: from the bits as read to those corrected for what fitting costs,
    widened by how the examples vary."""
    p: float
    """(1 + k) / (B + 1), where k of B exchanges did as well (Phipson & Smyth 2010)."""
    family: str
    """The probe family that reads most."""
    raw_bits: float
    """Held-out bits, the null not subtracted."""
    accuracy: float
    """Share of labels that the probe gets right on held-out examples."""
    detectable: float
    """The leak in bits that would be found with a power of 80 % at p < .05."""
    pointwise: np.ndarray
    """Raw bits [N] of each example."""


class Trial(NamedTuple):
    """Labels, which examples judge which, and the labels exchanged."""

    labels: np.ndarray
    """Classes from 0, [N]."""
    fold: np.ndarray
    """The fold that each example is held out in, [N]."""
    exchanged: np.ndarray
    """Labels in random orders, [B, N]."""
    groups: np.ndarray | None = None
    """Examples that belong together, [N]."""


@functools.partial(jax.jit, static_argnames=("family", "folds", "units"))
def _prepare(features, fold, family, folds, units):
    hidden, ridge = FAMILIES[family]
    x = bent_features(features, hidden)
    # Examples of one group are no more than one when it comes to overfitting.
    ridge = ridge * len(x) / units
    return x, factorise(x, jnp.ones(len(x)), fold, folds, ridge)


@functools.partial(jax.jit, static_argnames="classes")
def _fit(x, many, shared, classes):
    targets = jax.nn.one_hot(many, classes)
    log_p = held_out(x, targets, shared, steps=60, tolerance=_TOLERANCE)
    own = jnp.take_along_axis(log_p, many[..., None], axis=2)[..., 0]
    return own.mean(axis=1), own[0], (log_p[0].argmax(axis=-1) == many[0]).mean()


def assess(
    features: np.ndarray,
    trial: Trial,
    advance: Callable[[int], None] = lambda done: None,
) -> Finding:
    """What features tell of labels, measured against the same labels exchanged.

    V-information by cross-fitting (Xu et al., arXiv 2002.10689), the best of nested
    families of probes. The exchanged labels may choose their family too, so that
    choosing costs nothing.

    Args:
      features: One row for each example, `[N, F]`.
      trial: Labels, folds and exchanges.
      advance: Told how many labellings have been fitted since it was last called.

    Returns:
      Bits, interval and p value; the interval allows for examples of one group being
      alike.
    """
    labels, fold, groups = trial.labels, trial.fold, trial.groups
    classes, folds = int(labels.max()) + 1, int(fold.max()) + 1
    n, times = len(labels), len(trial.exchanged)
    units, prior = _units(trial), _log_prior(labels)
    label_nats = -prior.mean()
    exchanged = trial.exchanged.astype(np.int32)
    size = max(1, min(_ELEMENTS // (n * folds * classes), times))
    size = -(-times // -(-times // size))
    bits_of, own, right = {}, {}, {}
    for family in FAMILIES:
        x, shared = _prepare(features, fold, family, folds, units)
        # The labels themselves take many more steps than the exchanged ones.
        mean, own[family], right[family] = _fit(x, labels[None], shared, classes)
        means = [np.asarray(mean)]
        for start in range(0, times, size):
            part = exchanged[start : start + size]
            # Always the same shape, so that it is compiled once.
            filled = np.concatenate([part, part[:1].repeat(size - len(part), axis=0)])
            means.append(np.asarray(_fit(x, filled, shared, classes)[0])[: len(part)])
            advance(len(part))
        bits_of[family] = (np.concatenate(means) + label_nats) / LN2
    # The infimum over the families, for exchanged labels as for one's own.
    best = np.stack(list(bits_of.values())).max(axis=0)
    family = max(bits_of, key=lambda name: bits_of[name][0])
    null = best[1:]
    most = float(label_nats) / LN2
    # No mask can tell more than the whole label.
    bits = min(float(best[0] - null.mean()), most)
    as_read = float(best[0])
    pointwise = (np.asarray(own[family]) - prior) / LN2
    # The examples vary, and so does the fit: the null's spread stands for the latter.
    variance = _variance_of_mean(pointwise, groups) + null.var()
    half = 1.96 * float(np.sqrt(variance))
    # Sums in another order differ by rounding; such a tie counts against a leak.
    k = int((null >= best[0] - 1e-7).sum())
    spread = float(null.std())
    critical = float(np.quantile(null, 0.95) - null.mean())
    return Finding(
        bits=bits,
        low=min(bits, as_read) - half,
        high=min(max(bits, as_read) + half, most),
        p=(1 + k) / (times + 1),
        family=family,
        raw_bits=as_read,
        accuracy=float(right[family]),
        detectable=critical + 0.84 * spread,
        pointwise=pointwise,
    )


def assess_pair(
    first: np.ndarray,
    second: np.ndarray,
    trial: Trial,
    orders: np.ndarray,
    advance: Callable[[int], None] = lambda done: None,
) -> Finding:
    """What one set of features tells of labels beyond another.

    The bits of both together, minus those of `first` with rows of other examples in
    `second`: the probe stays as large.

    Args:
      first: What is known already, `[N, D]`.
      second: What may add to it, `[N, F]`.
      trial: Labels and folds; its exchanged labels are not used.
      orders: Orders of the rows of `second`, `[B, N]`.
      advance: Told how many fits are done since it was last called.

    Returns:
      Bits beyond `first`, with interval and p value.
    """
    labels, fold, groups = trial.labels, trial.fold, trial.groups
    classes, folds = int(labels.max()) + 1, int(fold.max()) + 1
    n, times = len(labels), len(orders)
    units, prior = _units(trial), _log_prior(labels)
    many = labels[None].astype(np.int32)
    own, right = [], 0.0
    for order in np.concatenate([np.arange(n)[None], orders]):
        both = np.concatenate([first, second[order]], axis=1)
        x, shared = _prepare(both, fold, "nonlinear", folds, units)
        _, each, hits = _fit(x, many, shared, classes)
        own.append((np.asarray(each) - prior) / LN2)
        right = right if len(own) > 1 else float(hits)
        advance(1)
    pointwise = own[0] - np.mean(own[1:], axis=0)
    raw = np.mean(own, axis=1)
    null = raw[1:] - raw[1:].mean()
    bits = float(pointwise.mean())
    half = 1.96 * float(np.sqrt(_variance_of_mean(pointwise, groups) + null.var()))
    return Finding(
        bits=bits,
        low=bits - half,
        high=bits + half,
        p=(1 + int((raw[1:] >= raw[0] - 1e-7).sum())) / (times + 1),
        family="nonlinear",
        raw_bits=float(raw[0]),
        accuracy=right,
        detectable=float(np.quantile(null, 0.95) + 0.84 * null.std()),
        pointwise=pointwise,
    )


def _units(trial: Trial) -> int:
    """How many examples, or groups of examples that may be alike, there are."""
    if trial.groups is None:
        return len(trial.labels)
    return len(np.unique(trial.groups))


def _log_prior(labels: np.ndarray) -> np.ndarray:
    """Logarithm of how frequent each example's label is, [N]."""
    share = np.bincount(labels) / len(labels)
    return np.log(np.maximum(share, 1e-12))[labels]


def _variance_of_mean(values: np.ndarray, groups: np.ndarray | None) -> float:
    n = len(values)
    if groups is None:
        return float(values.var() / n)
    inverse = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(inverse, values - values.mean())
    return float((sums**2).sum() / n**2)


def fano_bits(accuracy: float, shares: np.ndarray) -> float:
    """The least bits that a guess this often right must have had, by Fano's inequality.

    H(Y) - h2(e) - e log2(K - 1) for an error e and classes of these shares [K]; below
    zero it says nothing.
    """
    others = max((shares > 0).sum() - 1, 1)
    nats = entropy(shares) - entropy(np.array([accuracy, 1 - accuracy]))
    return float((nats - (1 - accuracy) * np.log(others)) / LN2)
