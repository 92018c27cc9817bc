"""Methods in two phases: first the predictor alone, then the selector."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.methods import Numbers


class Phase(NamedTuple):
    """Where a step stands; a method of one phase moves both halves all the time."""

    selector: Array
    """How fast the selector moves, 0 or 1."""
    predictor: Array
    """How fast the predictor moves, 0 to 1."""
    first: Array
    """Whether this is a step of phase 1."""
    ends: Array
    """Whether phase 1 is over after this step."""
    averaged_steps: Array
    """How many steps of the second half of phase 1 there are up to this one."""


def at(method: Numbers, share: Array | float, steps: int, step: Array) -> Phase:
    """The phase of a step, where phase 1 takes a `share` of all `steps`."""
    pretraining = method.pretraining > 0.5
    length = jnp.where(pretraining, jnp.round(share * steps), 0)
    first = step < length
    waits = step < jnp.where(method.delayed > 0.5, jnp.round(share * steps), length)
    shrink = 0.5 * (1 + jnp.cos(jnp.pi * step / jnp.maximum(length, 1)))
    speed = jnp.where(method.annealed > 0.5, shrink, 1.0)
    half = length - jnp.floor(length / 2)
    return Phase(
        selector=jnp.where(waits, 0.0, 1.0),
        predictor=jnp.where(pretraining, jnp.where(first, speed, 0.0), 1.0),
        first=first,
        ends=step + 1 >= length,
        averaged_steps=jnp.where(first, step + 1 - half, 0),
    )


def average(phase: Phase, alive: Array, predictor: Any, mean: Any) -> tuple[Any, Any]:
    """Predictor and its mean over the second half of phase 1.

    When phase 1 ends the mean becomes the predictor, for good.
    """
    takes = alive & phase.first & (phase.averaged_steps > 0)
    weight = 1 / jnp.maximum(phase.averaged_steps, 1)
    mean = jax.tree.map(
        lambda m, p: jnp.where(takes, m + weight * (p - m), m), mean, predictor
    )
    swaps = alive & phase.ends
    predictor = jax.tree.map(lambda p, m: jnp.where(swaps, m, p), predictor, mean)
    return predictor, mean
