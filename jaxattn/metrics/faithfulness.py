"""Faithfulness by removal: what a model answers without, and with only, the top words.

Every function is for one example. `predict` takes which positions are kept, [P] bool,
and gives probabilities [C]; it also decides how a position is removed: padded, zeroed
or deleted.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.subsets import ranks


class Variant(NamedTuple):
    """The choices in which published implementations differ."""

    fractions: tuple[float, ...]
    """Of the valid positions that are removed."""
    round_up: bool
    """Whether a part of a position counts as one."""
    distinct: bool = False
    """Whether fractions that give the same set count once."""
    only_positive: bool = False
    """Whether positions with a score of 0 or less are never removed."""


VARIANTS = {
    # The mean over the thresholds, as the released script has it.
    "eraser": Variant((0.01, 0.05, 0.1, 0.2, 0.5), round_up=True),
    "ferret": Variant(
        tuple(k / 10 for k in range(1, 11)),
        round_up=False,
        distinct=True,
        only_positive=True,
    ),
}
"""ERASER: DeYoung et al. (arXiv 1911.03429). ferret: Attanasio et al. (2208.01575)."""


class Removal(NamedTuple):
    """Answers to one example, whole and in parts, over the fractions of a variant."""

    whole: Array
    """Probabilities [C] for all positions."""
    nothing: Array
    """Probabilities [C] for no position."""
    without: Array
    """Probabilities [F, C] without the top positions."""
    only: Array
    """Probabilities [F, C] with these alone."""
    counts: Array
    """How many positions are the top ones, [F]."""
    counted: Array
    """Which fractions enter an average, [F]."""
    target: Array
    """The explained class: the one predicted for the whole."""


def top_counts(scores: Array, valid: Array, variant: Variant) -> Array:
    """How many of the valid [P] positions each fraction removes, [F]."""
    exact = jnp.asarray(variant.fractions) * valid.sum()
    # 0.1 * 10 may come out a little above 1.
    whole = jnp.ceil(exact - 1e-5) if variant.round_up else jnp.floor(exact + 1e-5)
    counts = whole.astype(int)
    if variant.only_positive:
        counts = jnp.minimum(counts, (valid & (scores > 0)).sum())
    return counts


def top_set(scores: Array, valid: Array, count: Array) -> Array:
    """The `count` highest of scores [P] among the valid [P]; ties go by position."""
    return valid & (ranks(scores, valid) < count)


def remove(
    predict: Callable[[Array], Array], scores: Array, valid: Array, variant: Variant
) -> Removal:
    """The answers of `predict` for each fraction of scores [P], over the valid [P]."""
    counts = top_counts(scores, valid, variant)
    sets = jax.vmap(lambda k: top_set(scores, valid, k))(counts)
    keep = jnp.concatenate([valid[None], (valid & False)[None], valid & ~sets, sets])
    answers = jax.lax.map(predict, keep)
    n = len(counts)
    counted = jnp.ones(n, bool)
    if variant.distinct:
        first = jnp.concatenate([jnp.zeros(1, counts.dtype), counts[:-1]])
        counted = counts > first
    return Removal(
        whole=answers[0],
        nothing=answers[1],
        without=answers[2 : 2 + n],
        only=answers[2 + n :],
        counts=counts,
        counted=counted,
        target=answers[0].argmax(),
    )


def comprehensiveness(removal: Removal) -> Array:
    """p(x) - p(x without the rationale) for each fraction [F]; higher is better."""
    return removal.whole[removal.target] - removal.without[:, removal.target]


def sufficiency(removal: Removal) -> Array:
    """p(x) - p(rationale) for each fraction [F]; lower is better, may be negative."""
    return removal.whole[removal.target] - removal.only[:, removal.target]


def aopc(values: Array, removal: Removal, undefined: float = 0.0) -> Array:
    """Area over the perturbation curve: the mean of `values` [F] that count.

    `undefined` where no fraction counts: ferret says 0 for comprehensiveness and 1 for
    sufficiency.
    """
    total = jnp.where(removal.counted, values, 0).sum()
    n = removal.counted.sum()
    return jnp.where(n > 0, total / jnp.maximum(n, 1), undefined)


def tokens_to_flip(
    predict: Callable[[Array], Array], scores: Array, valid: Array
) -> Array:
    """Share of positions that go, best first, until another class wins; 1 if none does.

    ERASER's decision flip; `attention_tests.decision_flip` renormalises attention
    instead. See 'Is Attention Interpretable?' by Serrano & Smith (arXiv 1906.03731).
    """
    answers = _in_order(predict, scores, valid, insert=False).argmax(axis=1)
    n = valid.sum()
    steps = jnp.arange(len(answers))
    other = (answers != answers[0]) & (steps <= n)
    first = jnp.where(other.any(), other.argmax(), n)
    return first / jnp.maximum(n, 1)


def deletion(predict: Callable[[Array], Array], scores: Array, valid: Array) -> Array:
    """Area under p(class) while positions go, best first; lower is better.

    See 'RISE' by Petsiuk et al. (arXiv 1806.07421). Worst first (negative scores) it is
    the other half of patch flipping.
    """
    return _area(_in_order(predict, scores, valid, insert=False), valid, 0)


def insertion(predict: Callable[[Array], Array], scores: Array, valid: Array) -> Array:
    """Area under p(class) while positions come, best first; higher is better."""
    return _area(_in_order(predict, scores, valid, insert=True), valid, -1)


def _in_order(predict, scores, valid, insert: bool) -> Array:
    """Answers [P + 1, C] with 0, 1, ... of the best positions put in or taken out."""
    counts = jnp.arange(len(scores) + 1)
    sets = jax.vmap(lambda k: top_set(scores, valid, k))(counts)
    return jax.lax.map(predict, sets if insert else valid & ~sets)


def _area(answers: Array, valid: Array, whole: int) -> Array:
    """Trapezoid area over the share of positions, from 0 to 1."""
    n = valid.sum()
    steps = jnp.arange(len(answers))
    height = answers[:, answers[0 if whole == 0 else n].argmax()]
    inside = steps <= n
    ends = (steps == 0) | (steps == n)
    return (height * inside * jnp.where(ends, 0.5, 1)).sum() / jnp.maximum(n, 1)
