"""Edits of attention weights [batch, heads, queries, keys], for `jaxattn.intervene`.

An edit is a function of the weights that a layer computed. It moves weight only to
positions at which the layer may look: those where its own weight is above 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn import masks, normalizers

Edit = Callable[[Array], Array]


def uniform(weights: Array) -> Array:
    """The same weight for every position that may be looked at."""
    return _by_row(normalizers.uniform, weights > 0).astype(weights.dtype)


def random(key: Array, low: float = 0.5, high: float = 8.0) -> Edit:
    """Weights that depend on nothing but the key: as `masks.random_scores` draws."""

    def edit(weights: Array) -> Array:
        rows = weights.size // weights.shape[-1], weights.shape[-1]
        scores = masks.random_scores(key, rows, low, high).reshape(weights.shape)
        return _by_row(normalizers.softmax, scores, weights > 0).astype(weights.dtype)

    return edit


def foreign(key: Array) -> Edit:
    """Another example's weights, the same other one for all heads and queries.

    Weight on positions at which the example itself may not look is cut, and the rest
    sums to 1 again.
    """

    def edit(weights: Array) -> Array:
        theirs = weights[masks.others(key, len(weights))]
        return _by_row(normalizers.renormalise, theirs, weights > 0)

    return edit


def only(
    edit: Edit | Array, *, head: int | None = None, query: int | None = None
) -> Edit:
    """An edit, or given weights, for one head or one query (0: CLS) and not the rest.

    Raises: ValueError, when it is used, for a head or query that is not there.
    """

    def edited(weights: Array) -> Array:
        check_places(weights, head, query)
        where = jnp.zeros(weights.shape[-3:-1], bool)
        heads = slice(None) if head is None else head
        where = where.at[heads, slice(None) if query is None else query].set(True)
        return jnp.where(where[..., None], apply(edit, weights, "only"), weights)

    return edited


def check_places(weights: Array, head: int | None, query: int | None) -> None:
    """Raises ValueError for a head or query that is not there."""
    for axis, name, chosen in ((-3, "head", head), (-2, "query", query)):
        n = weights.shape[axis]
        if chosen is not None and not -n <= chosen < n:
            raise ValueError(f"{name} = {chosen}: there are {n}, counted from 0")


def apply(edit: Edit | Array, weights: Array, where: str) -> Array:
    """The weights after an edit, or the given ones; raises ValueError if none fit."""
    edited = edit(weights) if callable(edit) else jnp.asarray(edit)
    try:
        return jnp.broadcast_to(edited, weights.shape).astype(weights.dtype)
    except ValueError:
        raise ValueError(
            f"{where}: weights of shape {list(edited.shape)} do not fit "
            f"{list(weights.shape)} (batch, heads, queries, keys)"
        ) from None


def _by_row(function: Callable[..., Array], *arrays: Array) -> Array:
    for _ in range(arrays[0].ndim - 1):
        function = jax.vmap(function)
    return function(*arrays)
