"""Methods in two phases: first the predictor alone learns, then the selector.

`at` says where a step stands, for the training loop; `in_phases` is the same as a
wrapper of an optax optimizer, which freezes selector or predictor outside their phase.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn.methods.table import Method, Numbers


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


class HalvesState(NamedTuple):
    """Steps taken, the optimizer's state of each half, and the mean predictor."""

    step: Array
    selector: Any
    predictor: Any
    mean: Any
    """Of the second half of pretraining, where the method asks for it; else empty."""


def selector_leaves(params: Any, names: Sequence[str]) -> Any:
    """Which leaves have one of the names in their path: a tree of booleans.

    A name is one part of a path or more: "query", "layer_1/query". Raises: ValueError
    where a name is in no path, or all leaves are chosen.
    """
    keystr = partial(jax.tree_util.keystr, simple=True, separator="/")
    texts = [f"/{keystr(path)}/" for path, _ in jax.tree.leaves_with_path(params)]
    for name in names:
        if not any(f"/{name}/" in text for text in texts):
            met = list(dict.fromkeys(text.rpartition("/")[0] for text in texts))
            some = ", ".join(text.strip("/") for text in met[:8])
            more = ", ..." if len(met) > 8 else ""
            raise ValueError(
                f"selector = {name!r} names no parameter; there are {some}{more}"
            )
    chosen = [any(f"/{name}/" in text for name in names) for text in texts]
    if all(chosen):
        raise ValueError("selector names all parameters: none is left for predict")
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def in_phases(
    tx: optax.GradientTransformation,
    method: Method,
    steps: int,
    share: float,
    names: Sequence[str],
) -> optax.GradientTransformationExtraArgs:
    """The optimizer that moves selector and predictor each in its phase of `steps`.

    A half that waits keeps its parameters and its moments. Phase 1 takes a `share` of
    all steps. `names` tell the selector's parameters, see `selector_leaves`.
    """
    inner = optax.with_extra_args_support(tx)
    averaged = method.structure.averaged

    def halves(tree: Any) -> tuple[Any, Any, Any]:
        mine = selector_leaves(tree, names)
        theirs = jax.tree.map(lambda leaf: not leaf, mine)
        return mine, optax.masked(inner, mine), optax.masked(inner, theirs)

    def init(params: Any) -> HalvesState:
        _, selector, predictor = halves(params)
        mean = params if averaged else ()
        first = jnp.zeros((), jnp.int32)
        return HalvesState(first, selector.init(params), predictor.init(params), mean)

    def update(updates: Any, state: Any, params: Any = None, **more: Any):
        mine, *both = halves(updates)
        phase = at(method.numbers, share, steps, state.step)
        (a, first), (b, second) = (
            _moved(partial(half.update, updates, own, params, **more), speed, own)
            for half, speed, own in zip(
                both, phase[:2], (state.selector, state.predictor), strict=True
            )
        )
        moved = jax.tree.map(lambda own, x, y: x if own else y, mine, a, b)
        mean = state.mean
        if averaged:
            if params is None:
                raise ValueError("this method's optimizer averages: give update params")
            applied = optax.apply_updates(params, moved)
            new, mean = average(phase, jnp.bool_(True), applied, mean)
            moved = jax.tree.map(
                lambda own, u, n, p: u if own else n - p, mine, moved, new, params
            )
        return moved, HalvesState(state.step + 1, first, second, mean)

    return optax.GradientTransformationExtraArgs(init, update)


def _moved(update: Callable[[], Any], speed: Array, state: Any) -> tuple[Any, Any]:
    """Updates of one half at this speed, and its state; at speed 0 it keeps still."""
    moves, new = update()
    # A select, not a product with 0: nobody's moments may move on while they wait.
    kept = jax.tree.map(lambda n, o: jnp.where(speed > 0, n, o), new, state)
    scale = lambda u: jnp.where(speed > 0, speed.astype(u.dtype) * u, 0)  # noqa: E731
    return jax.tree.map(scale, moves), kept
