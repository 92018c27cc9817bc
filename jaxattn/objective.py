"""What one batch costs: the losses of all parts, added up to be differentiated once.

Each part's gradient comes from its own term only, because whatever else stands in that
term is held fixed there.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn import forward, methods, weighting
from jaxattn.config import Config, with_numbers
from jaxattn.forward import Arrays, Cell, Static, cross_entropy
from jaxattn.nn import model as nn_model
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.score_function import rebar, reinforce


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
    _, valid, _ = forward.unpack(batch)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    noise_key, scores_key, random_key, seen_key = jax.random.split(key, 4)
    keys = jax.random.split(noise_key, len(valid))
    scores = jax.vmap(
        lambda k, e: forward.own_scores(static, cell, params["selector"], k, e)
    )(keys, batch)
    own = jax.vmap(
        lambda k, s, v: forward.own_mask(static, cell, k, s, v, training=True)
    )(keys, scores, valid)
    random_keys = scores_key, random_key
    if static.structure.weighted:
        value, nats, hit, estimator, more = _weighted(
            static, config, params, estimator, batch, own, fold, prior
        )
    else:
        # Where the predictor sees its own masks only, one pass serves both halves.
        mixed = static.structure.mixed
        judge = jax.lax.stop_gradient(params["predictor"])
        judge = judge if mixed else params["predictor"]
        learns = _RELAXED_OR[static.structure.gradient]
        value, own, nats, hit = learns(
            static, config, params, judge, keys, scores, own, usable, batch
        )
        more = {}
        if mixed:
            random = forward.random_masks(static, cell, *random_keys, usable)
            flat = forward.simplex(static)
            fixed = jax.lax.stop_gradient(own)
            seen = methods.seen_masks(
                seen_key, cell.method, fixed, random, usable, flat
            )
            learnt, _ = cross_entropy(static, params["predictor"], batch, seen)
            value += learnt.mean()
    rate = NORMALIZERS[static.model.normalizer].rate
    if rate is not None:
        t = config.model.temperature
        expected = jax.vmap(lambda s, v: rate(s, v, t).sum())(scores, usable)
        value += config.model.penalty * expected.mean()
    if static.evaluated:
        random = forward.random_masks(static, cell, *random_keys, usable, hard=True)
        judged, _ = cross_entropy(static, params["evaluator"], batch, random)
        value += judged.mean()
    return value, (estimator, {"nll": nats.mean(), "accuracy": hit.mean(), **more})


def _relaxed(static, config, params, judge, keys, scores, own, usable, batch):
    nats, hit = cross_entropy(static, judge, batch, own)
    return nats.mean(), own, nats, hit


def _reinforce(static, config, params, judge, keys, scores, own, usable, batch):
    """INVASE (Yoon, Jordon and van der Schaar, ICLR 2019): the loss on all of the
    input, by a network of its own, is the baseline."""
    own = jax.lax.stop_gradient(own)
    nats, hit = cross_entropy(static, judge, batch, own)
    all_ = usable.astype(own.dtype)
    baseline, _ = cross_entropy(static, params["baseline"], batch, all_)
    advantage = jax.lax.stop_gradient(nats - baseline)
    surrogate = jax.vmap(reinforce)(scores, usable, own, advantage)
    return surrogate.mean() + baseline.mean() + nats.mean(), own, nats, hit


def _rebar(static, config, params, judge, keys, scores, own, usable, batch):
    """REAL-X (Jethani et al., arXiv 2103.01890): REBAR on a predictor that learns
    from random masks."""

    def one(key, scores, usable, example):
        def lost(mask):
            logits = forward.logits_one(static, judge, example, mask)
            label = example.labels.astype(jnp.int32)
            return forward.nats_of(logits, label, example.targets)

        return rebar(key, scores, usable, config.model.temperature, lost)

    own, surrogate = jax.vmap(one)(keys, scores, usable, batch)
    own = jax.lax.stop_gradient(own)
    nats, hit = cross_entropy(static, judge, batch, own)
    return surrogate.mean(), own, nats, hit


_RELAXED_OR = {"relaxed": _relaxed, "reinforce": _reinforce, "rebar": _rebar}


def _weighted(
    static: Static,
    config: Config,
    params: dict[str, Any],
    estimator: Any,
    batch: Arrays,
    own: Array,
    fold: Array,
    prior: Array,
):
    """The weighted loss; the estimator is fitted before it is asked.

    Nobody is judged by a network that saw it, and an estimator one step behind the
    selector leaves a residue to exploit.
    """
    fixed = jax.lax.stop_gradient(own)
    labels = batch.labels.astype(jnp.int32)
    estimator = weighting.update(config.weighting, estimator, fixed, labels, fold)
    posterior = weighting.log_posterior(estimator, fixed, fold)
    log_p = jnp.take_along_axis(posterior, labels[:, None], 1)[:, 0]
    limit = config.weighting.truncation
    weights = methods.neutral_weights(jnp.log(prior)[labels], log_p, limit)
    # The drawn label, also where soft ones are known: a weight belongs to one label.
    batch = batch._replace(targets=None)
    nats, hit = cross_entropy(static, params["predictor"], batch, own)
    more = {
        "weight_sum": weights.sum(),
        "weight_square_sum": (weights**2).sum(),
        **weighting.overlap(posterior),
    }
    return (weights * nats).mean(), nats, hit, estimator, more
