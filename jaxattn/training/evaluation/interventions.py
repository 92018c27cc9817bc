"""What a trained cell answers for one example once something is changed by hand.

Removing a word means that neither selector nor predictor sees it: attention is computed
anew. Fading a word scales its embeddings, in both of them, or with attention held fixed
in the predictor alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn import model as nn_model
from jaxattn.training.cell import Cell, own_mask

PATH_POINTS = 16
"""Midpoints of the path from no embedding to the whole one."""


class One(NamedTuple):
    """One example under a trained cell, and what its answer rests on."""

    inputs: Array
    valid: Array
    mask: Array
    noise: Array
    """Random scores [T], the null of every ranking."""
    key: Array


def under(
    cell: Cell,
    params: Any,
    one: One,
    valid: Array,
    mask: Array,
    shift: Array | None = None,
) -> Array:
    """Probabilities [C] under any mask [T] over the words valid [T]."""
    predictor = params["predictor"]
    logits = nn_model.logits(cell.model, predictor, one.inputs, valid, mask, shift)
    return jax.nn.softmax(logits)


def attend(
    cell: Cell, params: Any, one: One, valid: Array, shift: Array | None = None
) -> Array:
    """The mask [T] that the cell makes of the words valid [T], with its own noise."""
    selector = params["selector"]
    scores = nn_model.scores(cell.model, selector, one.inputs, valid, shift)
    return own_mask(cell, one.key, scores, valid, training=False)


def removal(cell: Cell, params: Any, one: One) -> Callable[[Array], Array]:
    """(keep [T]) -> probabilities [C], attention computed anew over what is kept."""

    def answer(keep: Array) -> Array:
        valid = one.valid & keep
        return under(cell, params, one, valid, attend(cell, params, one, valid))

    return answer


def fading(
    cell: Cell, params: Any, one: One, held: bool = False
) -> Callable[[Array], Array]:
    """(share [T]) -> probabilities [C] with so much of each word's embeddings left.

    With `held`, attention stays as it is and the predictor alone sees words fade.
    """
    selectors, predictors = nn_model.embedded(cell.model, params, one.inputs, one.valid)

    def answer(share: Array) -> Array:
        less, mask = (share - 1)[:, None], one.mask
        if not held:
            mask = attend(cell, params, one, one.valid, less * selectors)
        return under(cell, params, one, one.valid, mask, less * predictors)

    return answer


class Attributions(NamedTuple):
    """Scores [T] of each word for the predicted class, by its gradient; may be < 0."""

    held: Array
    """Gradient times input, attention held fixed, as Jain & Wallace take it."""
    through: Array
    """The same, through attention."""
    norm: Array
    """Length of the gradient by the embeddings, through attention."""
    integrated: Array
    """Integrated gradients (arXiv 1703.01365) from no embedding, through attention."""


def attributions(cell: Cell, params: Any, one: One) -> Attributions:
    """What gradients say of one example."""
    chosen = under(cell, params, one, one.valid, one.mask).argmax()
    ones = jnp.ones_like(one.mask)
    faded = fading(cell, params, one)
    slope = jax.grad(lambda share: faded(share)[chosen])
    held = fading(cell, params, one, held=True)
    embeddings = nn_model.embedded(cell.model, params, one.inputs, one.valid)

    def moved(shifts):
        mask = attend(cell, params, one, one.valid, shifts[0])
        return under(cell, params, one, one.valid, mask, shifts[1])[chosen]

    by_embedding = jax.grad(moved)(jax.tree.map(jnp.zeros_like, embeddings))
    squares = sum((g**2).sum(axis=1) for g in by_embedding)
    path = (jnp.arange(PATH_POINTS) + 0.5) / PATH_POINTS
    return Attributions(
        held=jax.grad(lambda share: held(share)[chosen])(ones),
        through=slope(ones),
        norm=jnp.sqrt(squares),
        integrated=jax.lax.map(lambda a: slope(a * ones), path).mean(axis=0),
    )
