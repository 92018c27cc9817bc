"""Losses of selector and predictor on one batch, for any model.

A model comes in as `lose(params, masks [batch, ..., P])`, which gives the nats [batch]
lost under these masks and whether the label was hit [batch]. Each way to learn gives a
`Lesson`, whose value is differentiated once: whatever else stands in it is held fixed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.methods.score_function import rebar, reinforce
from jaxattn.methods.table import Numbers, Structure
from jaxattn.nn.masks import foreign_masks
from jaxattn.nn.normalizers import uniform

Lose = Callable[[Any, Array], tuple[Array, Array]]


class Lesson(NamedTuple):
    """What a batch teaches; `value` is to be differentiated, the rest is reported."""

    value: Array
    masks: Array
    """The model's own masks, as they were drawn [batch, ..., P]."""
    nats: Array
    hits: Array


class Gates(NamedTuple):
    """Gates of a batch that are drawn to be 0 or 1, by keys [batch]."""

    keys: Array
    scores: Array
    """Log-odds [batch, P] of being open."""
    candidates: Array
    """Positions [batch, P] that have a gate."""
    temperature: Array | float


def own_mask(
    numbers: Numbers, mask: Array, candidates: Array, simplex: bool = True
) -> Array:
    """The mask [P] that the model itself uses, given the one that it computed [P]."""
    flat = uniform(candidates) if simplex else candidates.astype(mask.dtype)
    return jnp.where(numbers.uniform > 0.5, flat, mask)


def seen_masks(
    key: Array,
    numbers: Numbers,
    own: Array,
    random: Array,
    candidates: Array,
    simplex: bool = True,
) -> Array:
    """The masks that the predictor learns from: own, foreign and random ones.

    `own` and `random` are [batch, P] or [batch, heads, P], `candidates` [batch, P]; the
    key decides whose mask an example sees. No gradient runs through any of them.
    """
    own = jax.lax.stop_gradient(own)
    a, b = jax.random.split(key)
    draw = jax.random.uniform(a, (own.shape[0], *[1] * (own.ndim - 1)))
    foreign = foreign_masks(b, own, candidates, simplex)
    seen = jnp.where(draw < numbers.foreign + numbers.random, random, own)
    return jnp.where(draw < numbers.foreign, foreign, seen)


def judge_of(structure: Structure, params: Any) -> Any:
    """The parameters under which the selector's masks are judged.

    Where the predictor sees its own masks only, one pass serves both halves.
    """
    return jax.lax.stop_gradient(params) if structure.mixed else params


def relaxed(lose: Lose, judge: Any, own: Array, weights: Array | None = None) -> Lesson:
    """The selector learns through its own masks, by their gradient.

    Where there are example weights [batch], both halves learn under these.
    """
    nats, hits = lose(judge, own)
    value = nats if weights is None else weights * nats
    return Lesson(value.mean(), own, nats, hits)


def reinforced(
    lose: Lose, judge: Any, gates: Gates, own: Array, baseline: Array
) -> Lesson:
    """The selector learns by the score function of gates drawn as `own` [batch, P].

    `baseline` [batch] is the loss in nats on all of the input, by a network of its own.
    See INVASE (Yoon, Jordon and van der Schaar, ICLR 2019).
    """
    own = jax.lax.stop_gradient(own)
    nats, hits = lose(judge, own)
    advantage = jax.lax.stop_gradient(nats - baseline)
    surrogate = jax.vmap(reinforce)(gates.scores, gates.candidates, own, advantage)
    value = surrogate.mean() + baseline.mean() + nats.mean()
    return Lesson(value, own, nats, hits)


def rebarred(
    lose: Lose,
    lose_one: Callable[[Any, Any, Array], Array],
    judge: Any,
    gates: Gates,
    examples: Any,
) -> Lesson:
    """The selector learns by REBAR; the predictor, from random masks, judges it.

    `lose_one(params, example, mask [P])` gives the nats of one of the `examples`. See
    REAL-X (Jethani et al., arXiv 2103.01890).
    """

    def one(key, scores, candidates, example):
        def lost(mask):
            return lose_one(judge, example, mask)

        return rebar(key, scores, candidates, gates.temperature, lost)

    own, surrogate = jax.vmap(one)(gates.keys, gates.scores, gates.candidates, examples)
    own = jax.lax.stop_gradient(own)
    nats, hits = lose(judge, own)
    return Lesson(surrogate.mean(), own, nats, hits)
