"""Pure functions of masks."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.normalizers import renormalise


def others(key: Array, n: int) -> Array:
    """Another example for each of n examples [n]: one random cycle through all.

    In data sorted by label, an example at a fixed distance mostly has the same label.
    """
    order = jax.random.permutation(key, n)
    return jnp.zeros(n, order.dtype).at[order].set(jnp.roll(order, 1))


def foreign_masks(
    key: Array, masks: Array, valid: Array, simplex: bool = True
) -> Array:
    """The mask of another example for each example of a batch.

    Args:
        key: a random key; it decides whose mask each example gets.
        masks: weights `[batch, P]` or `[batch, heads, P]`.
        valid: which positions exist `[batch, P]`, bool.
        simplex: whether masks sum to 1, so that these must do so again.

    Returns:
        Masks of the same shape, 0 on each example's own padding. No example keeps its
        own mask, and all heads come from the same other example.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> masks, valid = jnp.eye(3), jnp.ones((3, 3), bool)
    >>> foreign = jaxattn.foreign_masks(jax.random.key(0), masks, valid)
    >>> float((foreign * masks).sum()), foreign.sum(axis=0).tolist()
    (0.0, [1.0, 1.0, 1.0])
    """
    theirs = masks[others(key, len(masks))]
    return on_valid(theirs, valid, simplex)


def on_valid(masks: Array, valid: Array, simplex: bool) -> Array:
    """Masks [batch, P] or [batch, heads, P] of others, cut to one's valid positions."""
    if masks.ndim > valid.ndim:
        return jax.vmap(lambda m: on_valid(m, valid, simplex), 1, 1)(masks)
    return jax.vmap(renormalise)(masks, valid) if simplex else masks * valid


def random_scores(
    key: Array, shape: tuple[int, ...], low: Array | float, high: Array | float
) -> Array:
    """Normal scores [batch, P], independent of everything.

    Each row draws its own standard deviation log-uniformly from [low, high], so that
    the masks range from nearly flat to one that looks at a single position.
    """
    a, b = jax.random.split(key)
    low, high = jnp.log(low), jnp.log(high)
    scale = jnp.exp(low + (high - low) * jax.random.uniform(a, (shape[0], 1)))
    return scale * jax.random.normal(b, shape)


def random_rates(key: Array, shape: tuple[int, ...]) -> Array:
    """Scores [batch, P] of gates that open with one rate per row, uniform in (0, 1).

    An evaluator must have met subsets of every size; Jethani et al. (arXiv 2103.01890)
    fix the rate at one half.
    """
    rate = jax.random.uniform(key, (shape[0], 1), minval=0.01, maxval=0.99)
    return jnp.broadcast_to(jax.scipy.special.logit(rate), shape)
