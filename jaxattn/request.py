"""A model and a method as they were asked for, and what of them does not fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxattn.config import RandomMasks, Weighting, suggest
from jaxattn.methods import METHODS, Method


class Asked(NamedTuple):
    """A model and a method for it, as they were asked for."""

    row: Method
    select: Callable[[Any, Any, Array], Array]
    predict: Callable[[Any, Any, Array], Array]
    baseline: Callable[[Any, Any], Array] | None
    random: Callable[[Array, Array], Array] | None
    names: tuple[str, ...]
    prior: Any
    temperature: float
    weights: Weighting
    spread: RandomMasks
    flat: bool
    """Whether masks sum to 1."""
    gated: bool
    """Whether select returns scores of gates, not masks."""


def phased(row: Method) -> bool:
    """Whether a method moves one half before the other."""
    return bool(row.numbers.pretraining or row.numbers.delayed)


def row_of(
    method: str | Method, steps: int | None, selector: Any, baseline: Any
) -> Method:
    """A method's row; raises ValueError where it is unknown or lacks what it needs."""
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"method = {method!r}: {suggest(method, METHODS)}")
    row = METHODS[method] if isinstance(method, str) else method
    if row.structure.scores != "selector":
        raise ValueError(
            f"method = {method!r} learns no masks: let select return the masks that it "
            "means, and choose joint"
        )
    if row.structure.mixed != (row.numbers.foreign + row.numbers.random > 0):
        raise ValueError(
            f"method = {method!r}: mixed, in its structure, belongs to methods with a "
            "share of foreign or random masks, and to them only"
        )
    if phased(row) and (not selector or steps is None or steps < 1):
        raise ValueError(
            f"method = {method!r} has two phases: give steps, of the whole training, "
            "and selector, the names of its parameters"
        )
    if row.structure.gradient == "reinforce" and baseline is None:
        raise ValueError(
            f"method = {method!r} needs baseline(params, batch) -> logits, a network "
            "of its own that sees all of the input"
        )
    return row


def check_masks(asked: Asked, masks: Any) -> None:
    """Raises ValueError where what select returns is no masks, nor scores of gates."""
    if masks.ndim not in ((2,) if asked.gated else (2, 3)):
        allowed = "[batch, P]" + ("" if asked.gated else " and [batch, heads, P]")
        raise ValueError(
            f"select returned shape {list(masks.shape)}: allowed are {allowed}"
        )


def check_logits(asked: Asked, logits: Any, n: int) -> None:
    """Raises ValueError where what predict returns is no logits of n examples."""
    if logits.ndim != 2 or len(logits) != n:
        raise ValueError(
            f"predict returned shape {list(logits.shape)}: logits [batch, classes] of "
            f"{n} examples were expected"
        )
    classes = logits.shape[1]
    if asked.prior is not None and np.shape(asked.prior) != (classes,):
        raise ValueError(f"prior must be one share for each of {classes} classes")


def labels_of(labels: Any) -> Array:
    """Labels [batch] as int32; raises ValueError for anything else."""
    found = jnp.asarray(labels)
    if found.ndim != 1 or not jnp.issubdtype(found.dtype, jnp.integer):
        raise ValueError(
            f"labels are {found.dtype}{list(found.shape)}: whole numbers [batch] are "
            "needed"
        )
    return found.astype(jnp.int32)


def usable(valid: Array | None, masks: Array) -> Array:
    """Valid [batch, P] of masks [batch, ..., P], all where none is given."""
    shape = masks.shape[0], masks.shape[-1]
    if valid is None:
        return jnp.ones(shape, bool)
    if valid.shape != shape:
        raise ValueError(
            f"valid has shape {list(valid.shape)}; masks {list(masks.shape)} need "
            f"{list(shape)}"
        )
    return jnp.asarray(valid, bool)
