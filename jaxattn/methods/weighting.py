"""Mask-neutral learning by weights P(y) / P(y given m), and their estimator.

Two small networks estimate P(y given m), each trained on one half of the training
examples. An example is judged by the network that never sees it, so that memorising
cannot pass for overlap.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import Weighting
from jaxattn.nn import adam
from jaxattn.nn.mask_classifier import estimate, init_estimator

NO_OVERLAP = 0.02
"""A P(y given m) below this counts as no overlap (share)."""


def neutral_weights(
    log_prior: Array, log_posterior: Array, truncation: Array | float
) -> Array:
    """Weights P(y) / P(y given m) under which a mask tells nothing of the label.

    See section 'mask-neutral learning' of 'Why Attentions May Not Be Interpretable?'
    (arXiv 2006.05656).

    Args:
        log_prior: log P(y) of each example's own label `[batch]`, in nats.
        log_posterior: log P(y given m) of the same `[batch]`, in nats.
        truncation: weights are cut to [1 / truncation, truncation].

    Returns:
        Weights `[batch]` with mean 1; a label that its mask gives away counts less.

    >>> import jax.numpy as jnp, jaxattn
    >>> prior, posterior = jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])
    >>> weights = jaxattn.neutral_weights(jnp.log(prior), jnp.log(posterior), 20.0)
    >>> [round(float(w), 3) for w in weights]
    [0.5, 1.5]
    """
    limit = jnp.log(truncation)
    weights = jnp.exp(jnp.clip(log_prior - log_posterior, -limit, limit))
    return weights / weights.mean()


def init(config: Weighting, key: Array, positions: int, classes: int) -> Any:
    """Parameters and optimizer state of both networks, for masks [positions]."""
    net = jax.vmap(lambda k: init_estimator(k, positions, config.hidden, classes))(
        jax.random.split(key, 2)
    )
    return net, adam.init(net)


def both(net: Any, masks: Array) -> Array:
    """log P(y given m) [2, batch, classes] in nats, by both networks."""
    return jax.vmap(lambda p: jax.vmap(lambda m: estimate(p, m))(masks))(net)


def log_posterior(state: Any, masks: Array, fold: Array) -> Array:
    """log P(y given m) [batch, classes] in nats, each by the network it did not train.

    `masks` [batch, P]; `fold` [batch] is 0 or 1.
    """
    first, second = both(state[0], masks)
    return jnp.where((fold == 0)[:, None], first, second)


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

    net, moments = state
    for _ in range(config.updates):
        slope = jax.grad(loss)(net)
        net, moments = adam.update(slope, moments, net, config.learning_rate)
    return net, moments


def weigh(
    config: Weighting,
    state: Any,
    masks: Array,
    labels: Array,
    fold: Array,
    prior: Array,
) -> tuple[Array, Any, dict[str, Array]]:
    """Weights P(y) / P(y given m) [batch], the fitted estimator, and diagnostics.

    An example is judged by the network that did not see it, so that the fit may come
    first; one step behind the selector would leave a residue to exploit. `masks`
    [batch, ...] are the model's own and receive no gradient; `fold` [batch] says which
    network judges, 0 or 1; `prior` [classes] is P(y).
    """
    masks = jax.lax.stop_gradient(masks).reshape(len(masks), -1)
    state = update(config, state, masks, labels, fold)
    posterior = log_posterior(state, masks, fold)
    log_p = jnp.take_along_axis(posterior, labels[:, None], 1)[:, 0]
    log_prior = jnp.log(prior)[labels]
    weights = neutral_weights(log_prior, log_p, config.truncation)
    cut = jnp.abs(log_prior - log_p) >= jnp.log(config.truncation)
    diagnostics = {
        "truncated_share": cut.mean(),
        "weight_sum": weights.sum(),
        "weight_square_sum": (weights**2).sum(),
        **overlap(posterior),
    }
    return weights, state, diagnostics
