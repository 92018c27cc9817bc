"""The cross-fitted estimator of P(y given m) that `instance_weighting` trains along.

Two small networks, each trained on one half of the training examples; an example is
judged by the network that never sees it, so that memorising cannot pass for overlap.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn.config import Weighting
from jaxattn.methods.table import neutral_weights
from jaxattn.nn.mask_classifier import estimate, init_estimator

NO_OVERLAP = 0.02
"""A P(y given m) below this counts as no overlap (share)."""


def init(config: Weighting, key: Array, positions: int, classes: int) -> Any:
    """Parameters and optimizer state of both networks, for masks [positions]."""
    net = jax.vmap(lambda k: init_estimator(k, positions, config.hidden, classes))(
        jax.random.split(key, 2)
    )
    return net, optax.adam(config.learning_rate).init(net)


def both(net: Any, masks: Array) -> Array:
    """log P(y given m) [2, batch, classes] in nats, by both networks."""
    return jax.vmap(lambda p: jax.vmap(lambda m: estimate(p, m))(masks))(net)


def log_posterior(state: Any, masks: Array, fold: Array) -> Array:
    """log P(y given m) [batch, classes] in nats, each by the network it did not train.

    `masks` [batch, P]; `fold` [batch] is 0 or 1.
    """
    each = both(state[0], masks)
    return jnp.where((fold == 0)[:, None], each[0], each[1])


def overlap(log_posterior: Array) -> dict[str, Array]:
    """Smallest P(y given m) and share of examples with overlap, from logs [N, classes].

    Overlap means that *every* label is possible: a mask that betrays its label gives
    the other labels no chance, and then no weight can make them equal.
    """
    least = log_posterior.min(axis=-1)
    return {
        "smallest_probability": jnp.exp(least.min()),
        "overlap_share": (least >= jnp.log(NO_OVERLAP)).mean(),
    }


def update(
    config: Weighting, state: Any, masks: Array, labels: Array, fold: Array
) -> Any:
    """The state after some Adam updates on one batch of masks [batch, P]."""
    learns = fold[None, :] != jnp.arange(2)[:, None]

    def loss(net):
        each = both(net, masks)
        own = jnp.take_along_axis(each, labels[None, :, None], axis=2)[..., 0]
        return -jnp.where(learns, own, 0).sum() / labels.shape[0]

    adam = optax.adam(config.learning_rate)
    net, opt_state = state
    for _ in range(config.updates):
        updates, opt_state = adam.update(jax.grad(loss)(net), opt_state)
        net = optax.apply_updates(net, updates)
    return net, opt_state


def weigh(
    config: Weighting,
    state: Any,
    masks: Array,
    labels: Array,
    fold: Array,
    prior: Array,
) -> tuple[Array, Any, dict[str, Array]]:
    """Weights P(y) / P(y given m) [batch], the fitted estimator, and diagnostics.

    `masks` [batch, P], `prior` [classes]. The estimator is fitted before it is asked:
    nobody is judged by a network that saw it, and one step behind the selector would
    leave a residue to exploit.
    """
    state = update(config, state, masks, labels, fold)
    posterior = log_posterior(state, masks, fold)
    log_p = jnp.take_along_axis(posterior, labels[:, None], 1)[:, 0]
    log_prior = jnp.log(prior)[labels]
    weights = neutral_weights(log_prior, log_p, config.truncation)
    cut = jnp.abs(log_prior - log_p) >= jnp.log(config.truncation)
    told = {
        "truncated_share": cut.mean(),
        "weight_sum": weights.sum(),
        "weight_square_sum": (weights**2).sum(),
        **overlap(posterior),
    }
    return weights, state, told
