"""Where a leak may live: features of a mask that show one side of it only.

Does the mask tell more of the label than the values that it lets through?

What is asked of a set of masks: each question with its features and its null.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import special

from jaxattn.leakage import folds, significance, verdict
from jaxattn.leakage.masks import Masks
from jaxattn.leakage.significance import Finding, assess_pair

MOST_COLUMNS = 1024
"""Wider masks (bags of patches) are summed over neighbours into this many bins."""

MOST_SORTED, FEW_SORTED = 64, 8

MOST_PLACES = 64

MOST_TYPES = 200

FLOOR = 1e-3


def whole(masks: np.ndarray) -> np.ndarray:
    """Weights [N, P] and their logarithms: [N, 2 P]."""
    if masks.shape[1] > MOST_COLUMNS:
        edges = np.linspace(0, masks.shape[1], MOST_COLUMNS + 1).astype(int)[:-1]
        masks = np.add.reduceat(masks, edges, axis=1)
    width = masks.shape[1]
    made = np.empty((len(masks), 2 * width), np.float32)
    made[:, :width] = masks
    # In place: with many masks each copy counts.
    logs = np.maximum(masks, 0, out=made[:, width:])
    np.log(np.add(logs, FLOOR, out=logs), out=logs)
    np.subtract(1, np.divide(logs, np.log(FLOOR), out=logs), out=logs)
    return made


def everything(every: np.ndarray, mean: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All weights [N, P] and, as a probe would hardly find it, how peaked they are."""
    peaks = shape(mean, lengths, most=FEW_SORTED)
    return np.concatenate([whole(every), peaks], axis=1)


def length(lengths: np.ndarray) -> np.ndarray:
    """How long the input is, [N, 3]."""
    x = lengths.astype(np.float32)[:, None]
    return np.concatenate([x, np.log(x), np.sqrt(x)], axis=1)


def shape(
    masks: np.ndarray, lengths: np.ndarray, most: int = MOST_SORTED
) -> np.ndarray:
    """How peaked masks [N, T] are, wherever: the largest weights in order, entropy."""
    ordered = -np.sort(-masks, axis=1)[:, :most]
    total = np.maximum(masks.sum(axis=1, keepdims=True), 1e-12)
    entropy = special.entr(masks / total).sum(axis=1)
    relative = entropy - np.log(lengths)
    more = np.stack([entropy, np.exp(entropy), relative], axis=1)
    return np.concatenate([whole(ordered), total, more], axis=1).astype(np.float32)


def place(masks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where its largest weight [N, T] lies: which position, and how far along."""
    top = masks.argmax(axis=1)
    width = masks.shape[1]
    bins = min(width, MOST_PLACES)
    along = top / np.maximum(lengths - 1, 1)
    return np.concatenate(
        [
            np.eye(bins)[top * bins // width],
            np.eye(10)[np.minimum((along * 10).astype(int), 9)],
        ],
        axis=1,
    ).astype(np.float32)


def types(masks: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """How much weight [N, T] falls on each of the most frequent tokens [N, T]."""
    names, inverse = np.unique(tokens, return_inverse=True)
    inverse = inverse.reshape(tokens.shape)
    counts = np.bincount(inverse.ravel(), minlength=len(names))
    counts[names == ""] = 0
    kept = np.argsort(-counts, kind="stable")[:MOST_TYPES]
    column = np.full(len(names), len(kept))
    column[kept] = np.arange(len(kept))
    found = np.zeros((len(masks), len(kept) + 1), np.float32)
    rows = np.broadcast_to(np.arange(len(masks))[:, None], masks.shape)
    np.add.at(found, (rows, column[inverse]), masks)
    return found[:, :-1]


MOST_SWAPS = 49
"""How often masks are exchanged at most: each needs a fit of its own."""

MOST_DIMENSIONS = 128


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


def encoding(
    rng: np.random.Generator,
    through: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
    strata: np.ndarray,
    groups: np.ndarray | None,
    swaps: int,
    advance: Callable[[int], None],
) -> Finding:
    """Bits of labels [N] in mask features [N, F] beyond the values [N, D] let through.

    Encoding as in 'Explanations that reveal all through the definition of encoding' by
    Puli et al. (arXiv 2411.02664): the label depends on which parts were selected, even
    given what they hold. Estimated as I_V(values, mask -> label) minus the same with
    the masks of other examples of like length, which keeps the probe as large.
    """
    orders = np.empty((swaps, len(labels)), int)
    for row in orders:
        by_stratum = np.argsort(strata, kind="stable")
        row[by_stratum] = np.lexsort((rng.random(len(labels)), strata))
    return assess_pair(through, features, labels, orders, fold, groups, advance)


CHANNELS = ("length", "shape", "place", "types")
"""Questions that look at one side of a mask only."""


class Question(NamedTuple):
    """One question; `answer` is told whom to tell how many fits are done."""

    fits: int
    answer: Callable[[Callable[[int], None]], Finding]


def ask(
    masks: Masks,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None,
    words: np.ndarray | None,
    predicted: np.ndarray | None,
    values: Any,
    n_folds: int,
    permutations: int,
    seed: int,
) -> tuple[dict[str, Question], list[str]]:
    """The questions that these data allow, and warnings; labels [N] count from 0."""
    rng = np.random.default_rng(seed)
    warned: list[str] = []
    fold = folds.assign(rng, labels, groups, n_folds)
    exchanged = folds.exchanged(rng, labels, permutations, fold, groups=groups)
    if groups is not None and (said := verdict.stuck(labels, exchanged)):
        warned.append(said)
    fits = permutations * len(significance.FAMILIES)

    def question(x, null=exchanged, about=labels, of=fold):
        answer = partial(significance.assess, x, about, null, of, groups)
        return Question(fits, answer)

    whole = everything(masks.every, masks.mean, masks.lengths)
    asked = {"masks": question(whole)}
    strata = np.zeros(len(labels), int)
    if np.ptp(masks.lengths):
        strata = folds.length_strata(masks.lengths)
        alike = folds.exchanged(rng, labels, permutations, fold, strata, groups)
        asked["beyond length"] = question(whole, alike)
        asked["length"] = question(length(masks.lengths))
    asked["shape"] = question(shape(masks.mean, masks.lengths))
    asked["place"] = question(place(masks.mean, masks.lengths))
    if words is not None:
        asked["types"] = question(types(masks.mean, words))
    if predicted is not None:
        of = folds.assign(rng, predicted, groups, n_folds)
        null = folds.exchanged(rng, predicted, permutations, of, groups=groups)
        asked["prediction"] = question(whole, null, predicted, of)
    if values is not None:
        through = pooled(values, masks.mean)
        swaps = min(permutations, MOST_SWAPS)
        given = (rng, through, whole, labels, fold, strata, groups, swaps)
        answer = partial(encoding, *given)
        asked["beyond values"] = Question(swaps + 1, answer)
    return asked, warned
