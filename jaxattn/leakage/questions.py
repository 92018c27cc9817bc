"""The questions of an audit: each has features, which a probe reads, and a null."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import special

from jaxattn.leakage import folds, significance, verdict
from jaxattn.leakage.masks import Masks
from jaxattn.leakage.significance import Finding, Trial

MOST_COLUMNS = 1024
"""Wider masks (bags of patches) are summed over neighbours into this many bins."""
MOST_SORTED, FEW_SORTED = 64, 8
"""How many of the largest weights describe the shape of a mask."""

MOST_PLACES = 64
MOST_TYPES = 200
FLOOR = 1e-3
"""Added to weights before their logarithm is taken."""

MOST_SWAPS = 49
"""How often masks are exchanged at most: each exchange needs a fit of its own."""
MOST_DIMENSIONS = 128
CHANNELS = ("length", "shape", "place", "types")
"""Questions that look at one side of a mask only."""


class Data(NamedTuple):
    """What is known of the examples of an audit."""

    masks: Masks
    labels: np.ndarray
    """Classes from 0, [N]."""
    groups: np.ndarray | None = None
    """Examples that belong together, [N]."""
    words: np.ndarray | None = None
    """Tokens as text, [N, T]."""
    predicted: np.ndarray | None = None
    """Classes that the model answered, [N]."""
    values: Any = None
    """What the mask lets through, [N, T, D] or pooled [N, D]."""


class Settings(NamedTuple):
    """How an audit is made."""

    n_folds: int = 5
    permutations: int = 199
    seed: int = 0


class Question(NamedTuple):
    """One question; `answer` tells its argument how many fits are done."""

    fits: int
    answer: Callable[[Callable[[int], None]], Finding]


def ask(data: Data, settings: Settings) -> tuple[dict[str, Question], list[str]]:
    """The questions that these data allow, and warnings."""
    masks, labels, groups = data.masks, data.labels, data.groups
    rng = np.random.default_rng(settings.seed)
    warned: list[str] = []
    times = settings.permutations
    fold = folds.assign(rng, labels, groups, settings.n_folds)
    exchanged = folds.exchanged(rng, labels, times, fold, groups=groups)
    if groups is not None and (said := verdict.stuck(labels, exchanged)):
        warned.append(said)
    fits = times * len(significance.FAMILIES)
    trial = Trial(labels, fold, exchanged, groups)

    def question(features, trial=trial):
        return Question(fits, partial(significance.assess, features, trial))

    whole = all_features(masks)
    asked = {"masks": question(whole)}
    strata = np.zeros(len(labels), int)
    if np.ptp(masks.lengths):
        strata = folds.length_strata(masks.lengths)
        alike = folds.exchanged(rng, labels, times, fold, strata, groups)
        asked["beyond length"] = question(whole, trial._replace(exchanged=alike))
        asked["length"] = question(length_features(masks.lengths))
    asked["shape"] = question(shape_features(masks.mean, masks.lengths))
    asked["place"] = question(place_features(masks.mean, masks.lengths))
    if data.words is not None:
        asked["types"] = question(type_features(masks.mean, data.words))
    if data.predicted is not None:
        of = folds.assign(rng, data.predicted, groups, settings.n_folds)
        null = folds.exchanged(rng, data.predicted, times, of, groups=groups)
        asked["prediction"] = question(whole, Trial(data.predicted, of, null, groups))
    if data.values is not None:
        through = pooled(data.values, masks.mean)
        swaps = min(times, MOST_SWAPS)
        orders = folds.orders_within(rng, strata, swaps)
        # Encoding as in 'Explanations that reveal all through the definition of
        # encoding' by Puli et al. (arXiv 2411.02664): the label depends on which parts
        # were selected, even given what they hold.
        answer = partial(significance.assess_pair, through, whole, trial, orders)
        asked["beyond values"] = Question(swaps + 1, answer)
    return asked, warned


def weights_and_logs(masks: np.ndarray) -> np.ndarray:
    """Weights [N, P] and their logarithms: [N, 2 P]."""
    if masks.shape[1] > MOST_COLUMNS:
        edges = np.linspace(0, masks.shape[1], MOST_COLUMNS + 1).astype(int)[:-1]
        masks = np.add.reduceat(masks, edges, axis=1)
    width = masks.shape[1]
    features = np.empty((len(masks), 2 * width), np.float32)
    features[:, :width] = masks
    # In place: with many masks each copy counts.
    logs = np.maximum(masks, 0, out=features[:, width:])
    np.log(np.add(logs, FLOOR, out=logs), out=logs)
    np.subtract(1, np.divide(logs, np.log(FLOOR), out=logs), out=logs)
    return features


def all_features(masks: Masks) -> np.ndarray:
    """All weights and, as a probe would hardly learn it, how peaked they are."""
    peaks = shape_features(masks.mean, masks.lengths, most=FEW_SORTED)
    return np.concatenate([weights_and_logs(masks.every), peaks], axis=1)


def length_features(lengths: np.ndarray) -> np.ndarray:
    """How long the input is, [N, 3]."""
    x = lengths.astype(np.float32)[:, None]
    return np.concatenate([x, np.log(x), np.sqrt(x)], axis=1)


def shape_features(
    masks: np.ndarray, lengths: np.ndarray, most: int = MOST_SORTED
) -> np.ndarray:
    """How peaked masks [N, T] are, wherever: the largest weights in order, entropy."""
    ordered = -np.sort(-masks, axis=1)[:, :most]
    total = np.maximum(masks.sum(axis=1, keepdims=True), 1e-12)
    entropy = special.entr(masks / total).sum(axis=1)
    spread = np.stack([entropy, np.exp(entropy), entropy - np.log(lengths)], axis=1)
    columns = [weights_and_logs(ordered), total, spread]
    return np.concatenate(columns, axis=1).astype(np.float32)


def place_features(masks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where the largest weight of masks [N, T] lies: position, and share of the way."""
    top = masks.argmax(axis=1)
    width = masks.shape[1]
    bins = min(width, MOST_PLACES)
    along = top / np.maximum(lengths - 1, 1)
    tenth = np.minimum((along * 10).astype(int), 9)
    columns = [np.eye(bins)[top * bins // width], np.eye(10)[tenth]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def type_features(masks: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """How much weight [N, T] falls on each of the most frequent tokens [N, T]."""
    names, inverse = np.unique(tokens, return_inverse=True)
    inverse = inverse.reshape(tokens.shape)
    counts = np.bincount(inverse.ravel(), minlength=len(names))
    counts[names == ""] = 0
    kept = np.argsort(-counts, kind="stable")[:MOST_TYPES]
    column = np.full(len(names), len(kept))
    column[kept] = np.arange(len(kept))
    weight = np.zeros((len(masks), len(kept) + 1), np.float32)
    rows = np.broadcast_to(np.arange(len(masks))[:, None], masks.shape)
    np.add.at(weight, (rows, column[inverse]), masks)
    return weight[:, :-1]


def pooled(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What a mask [N, T] lets through of values [N, T, D]; [N, D] are taken as that.

    Raises: ValueError where the shapes do not belong together.
    """
    n, width = mask.shape
    if values.ndim == 3 and values.shape[:2] == (n, width):
        values = np.einsum("nt,ntd->nd", mask, values)
    if values.ndim != 2 or len(values) != n:
        raise ValueError(
            f"values have shape {list(values.shape)}: allowed are [{n}, {width}, D] "
            f"and, already pooled, [{n}, D]"
        )
    if not np.isfinite(values).all():
        raise ValueError("values are not all finite")
    if values.shape[1] > MOST_DIMENSIONS:
        # Random directions keep what is linear in them (Johnson & Lindenstrauss).
        key = jax.random.key(0)
        shape = (values.shape[1], MOST_DIMENSIONS)
        directions = np.asarray(jax.random.normal(key, shape))
        values = values @ directions / np.sqrt(MOST_DIMENSIONS)
    return values.astype(np.float32)
