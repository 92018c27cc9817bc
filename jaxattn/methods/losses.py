"""What one batch teaches, whoever's model it is: the losses of selector and predictor.

A model comes in as `lose(params, masks [batch, ..., P])`, which gives the nats [batch]
lost under these masks and whether the label was hit [batch]. Each lesson gives a value
to differentiate once; whatever else stands in a term is held fixed there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxattn.config import Weighting
from jaxattn.methods import weighting
from jaxattn.methods.score_function import rebar, reinforce
from jaxattn.methods.table import Structure

Lose = Callable[[Any, Array], tuple[Array, Array]]


class Lesson(NamedTuple):
    """What a batch taught; `value` is to be differentiated, the rest is told."""

    value: Array
    masks: Array
    """The model's own masks, as they were drawn [batch, ..., P]."""
    nats: Array
    hits: Array


def judge_of(structure: Structure, params: Any) -> Any:
    """The parameters under which the selector's masks are judged.

    Where the predictor sees its own masks only, one pass serves both halves.
    """
    return jax.lax.stop_gradient(params) if structure.mixed else params


def relaxed(lose: Lose, judge: Any, own: Array) -> Lesson:
    """The selector learns through its own masks, by their gradient."""
    nats, hits = lose(judge, own)
    return Lesson(nats.mean(), own, nats, hits)


def reinforced(
    lose: Lose, judge: Any, scores: Array, own: Array, usable: Array, baseline: Array
) -> Lesson:
    """INVASE (Yoon, Jordon and van der Schaar, ICLR 2019): gates of scores [batch, P].

    `baseline` [batch] is the loss in nats on all of the input, by a network of its own.
    """
    own = jax.lax.stop_gradient(own)
    nats, hits = lose(judge, own)
    advantage = jax.lax.stop_gradient(nats - baseline)
    surrogate = jax.vmap(reinforce)(scores, usable, own, advantage)
    value = surrogate.mean() + baseline.mean() + nats.mean()
    return Lesson(value, own, nats, hits)


def rebarred(
    lose: Lose,
    lose_one: Callable[[Any, Any, Array], Array],
    judge: Any,
    keys: Array,
    scores: Array,
    usable: Array,
    examples: Any,
    temperature: Array | float,
) -> Lesson:
    """REAL-X (Jethani et al., arXiv 2103.01890): REBAR on a predictor that learns
    from random masks.

    `lose_one(params, example, mask [P])` gives the nats of one of the `examples`.
    """

    def one(key, scores, usable, example):
        def lost(mask):
            return lose_one(judge, example, mask)

        return rebar(key, scores, usable, temperature, lost)

    own, surrogate = jax.vmap(one)(keys, scores, usable, examples)
    own = jax.lax.stop_gradient(own)
    nats, hits = lose(judge, own)
    return Lesson(surrogate.mean(), own, nats, hits)


def weighted(
    config: Weighting,
    lose: Lose,
    params: Any,
    estimator: Any,
    own: Array,
    labels: Array,
    fold: Array,
    prior: Array,
) -> tuple[Lesson, Any, dict[str, Array]]:
    """The weighted loss of both halves, the fitted estimator, and its diagnostics."""
    fixed = jax.lax.stop_gradient(own).reshape(len(own), -1)
    weights, estimator, more = weighting.weigh(
        config, estimator, fixed, labels, fold, prior
    )
    nats, hits = lose(params, own)
    return Lesson((weights * nats).mean(), own, nats, hits), estimator, more


def predictor(lose: Lose, params: Any, seen: Array) -> Array:
    """What the predictor learns from masks seen [batch, ..., P] beside its own."""
    learnt, _ = lose(params, seen)
    return learnt.mean()
