"""What is asked of a set of masks: each question with its features and its null."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxattn.leakage import channels, encoding, folds, significance, verdict
from jaxattn.leakage.intake import Masks
from jaxattn.leakage.significance import Finding

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

    whole = channels.everything(masks.every, masks.mean, masks.lengths)
    asked = {"masks": question(whole)}
    strata = np.zeros(len(labels), int)
    if np.ptp(masks.lengths):
        strata = folds.length_strata(masks.lengths)
        alike = folds.exchanged(rng, labels, permutations, fold, strata, groups)
        asked["beyond length"] = question(whole, alike)
        asked["length"] = question(channels.length(masks.lengths))
    asked["shape"] = question(channels.shape(masks.mean, masks.lengths))
    asked["place"] = question(channels.place(masks.mean, masks.lengths))
    if words is not None:
        asked["types"] = question(channels.types(masks.mean, words))
    if predicted is not None:
        of = folds.assign(rng, predicted, groups, n_folds)
        null = folds.exchanged(rng, predicted, permutations, of, groups=groups)
        asked["prediction"] = question(whole, null, predicted, of)
    if values is not None:
        through = encoding.pooled(values, masks.mean)
        swaps = min(permutations, encoding.MOST_SWAPS)
        given = (rng, through, whole, labels, fold, strata, groups, swaps)
        answer = partial(encoding.encoding, *given)
        asked["beyond values"] = Question(swaps + 1, answer)
    return asked, warned
