"""Normalizers: scores [T] and valid [T] to a mask [T] on the simplex.

Padding is exactly 0, and a row that is all padding gives the zero mask.
"""

import jax
import jax.numpy as jnp
from jax import Array


def softmax(scores: Array, valid: Array, temperature: Array | float = 1.0) -> Array:
    """Softmax of scores / temperature [T] over the valid [T] positions."""
    low = jnp.finfo(scores.dtype).min
    scaled = jnp.where(valid, scores / temperature, low)
    shifted = scaled - jax.lax.stop_gradient(scaled.max(initial=low))
    weights = jnp.where(valid, jnp.exp(shifted), 0)
    total = weights.sum()
    return weights / jnp.where(total > 0, total, 1)


def gumbel_softmax(
    key: Array, scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Softmax of scores [T] perturbed by fresh Gumbel noise.

    At low temperature this draws one position with probability softmax(scores).
    See 'Categorical Reparameterization with Gumbel-Softmax' by Jang et al.
    (arXiv 1611.01144) and 'The Concrete Distribution' by Maddison et al.
    (arXiv 1611.00712).
    """
    noise = jax.random.gumbel(key, scores.shape, scores.dtype)
    return softmax(scores + noise, valid, temperature)


def _softmax_with_key(key, scores, valid, temperature=1.0):
    del key
    return softmax(scores, valid, temperature)


NORMALIZERS = {"softmax": _softmax_with_key, "gumbel_softmax": gumbel_softmax}
"""Name to `(key, scores [T], valid [T], temperature) -> mask [T]`."""


def uniform(valid: Array) -> Array:
    """The mask [T] that gives every valid position the same weight."""
    return softmax(jnp.zeros(valid.shape, jnp.float32), valid)


def renormalise(mask: Array, valid: Array) -> Array:
    """A mask [T] restricted to the valid [T] positions, summing to 1 again.

    Where none of its mass lies on a valid position the uniform mask is returned.
    """
    kept = jnp.where(valid, mask, 0)
    total = kept.sum()
    safe = jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, kept / safe, uniform(valid))
