"""What one batch costs: the losses of all parts, added up to be differentiated once.

Each part's gradient comes from its own term only, because whatever else stands in that
term is held fixed there.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import with_numbers
from jaxattn.methods import losses, table
from jaxattn.nn import model as nn_model
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.training.cell import (
    Arrays,
    Cell,
    Static,
    cross_entropy,
    logits_one,
    nats_of,
    own_mask,
    own_scores,
    random_masks,
    simplex,
    unpack,
)


def batch_loss(
    static: Static,
    cell: Cell,
    key: Array,
    params: dict[str, Any],
    estimator: Any,
    batch: Arrays,
    fold: Array,
    prior: Array,
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """Nats of one batch, the fitted estimator, and what is told of the batch.

    `fold` [batch] says which estimator judges an example; `prior` is P(y) [classes].
    """
    config = with_numbers(static.config, cell.numbers)
    _, valid, _ = unpack(batch)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    noise_key, scores_key, random_key, seen_key = jax.random.split(key, 4)
    keys = jax.random.split(noise_key, len(valid))
    scores = jax.vmap(lambda k, e: own_scores(static, cell, params["selector"], k, e))(
        keys, batch
    )
    own = jax.vmap(lambda k, s, v: own_mask(static, cell, k, s, v, training=True))(
        keys, scores, valid
    )
    random_keys = scores_key, random_key
    lose = partial(_lose, static, batch)
    more = {}
    if static.structure.weighted:
        # The drawn label, also where soft ones are known: a weight belongs to one.
        lose = partial(_lose, static, batch._replace(targets=None))
        labels = batch.labels.astype(jnp.int32)
        found, estimator, more = losses.weighted(
            config.weighting, lose, params, estimator, own, labels, fold, prior
        )
    else:
        found = _selector(
            static, config, lose, params, keys, scores, own, usable, batch
        )
    value = found.value
    if static.structure.mixed:
        random = random_masks(static, cell, *random_keys, usable)
        fixed = jax.lax.stop_gradient(found.masks)
        seen = table.seen_masks(
            seen_key, cell.method, fixed, random, usable, simplex(static)
        )
        value += losses.predictor(lose, params, seen)
    rate = NORMALIZERS[static.model.normalizer].rate
    if rate is not None:
        t = config.model.temperature
        expected = jax.vmap(lambda s, v: rate(s, v, t).sum())(scores, usable)
        value += config.model.penalty * expected.mean()
    if static.evaluated:
        random = random_masks(static, cell, *random_keys, usable, hard=True)
        judged, _ = cross_entropy(static, params["evaluator"], batch, random)
        value += judged.mean()
    told = {"nll": found.nats.mean(), "accuracy": found.hits.mean()}
    return value, (estimator, told | more)


def _lose(static: Static, batch: Arrays, params: dict[str, Any], masks: Array):
    return cross_entropy(static, params["predictor"], batch, masks)


def _selector(
    static, config, lose, params, keys, scores, own, usable, batch
) -> losses.Lesson:
    judge = losses.judge_of(static.structure, params)
    if static.structure.gradient == "reinforce":
        all_ = usable.astype(own.dtype)
        baseline, _ = cross_entropy(static, params["baseline"], batch, all_)
        return losses.reinforced(lose, judge, scores, own, usable, baseline)
    if static.structure.gradient == "rebar":

        def lose_one(params, example, mask):
            logits = logits_one(static, params["predictor"], example, mask)
            label = example.labels.astype(jnp.int32)
            return nats_of(logits, label, example.targets)

        temperature = config.model.temperature
        return losses.rebarred(
            lose, lose_one, judge, keys, scores, usable, batch, temperature
        )
    return losses.relaxed(lose, judge, own)
