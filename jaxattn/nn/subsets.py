"""Subsets of a fixed size: scores [T] to a k-hot mask [T], `budget` positions of it.

The budget may be traced, so that tasks with different ones share a program.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn import noise

MAX_DRAWS = 32
"""Most draws behind `gumbel_top_k`; for a larger budget there is `top_k`."""


@jax.custom_jvp
def _softmax(logits: Array) -> Array:
    return jax.nn.softmax(logits)


@_softmax.defjvp
def _(primals, tangents):
    (soft,), (moved,) = map(_softmax, primals), tangents
    moved = soft * moved
    # Sums as products with ones, forth and back: XLA's sums over few positions are ten
    # times slower on a CPU.
    ones = jnp.ones((soft.shape[-1], 1), soft.dtype)
    exactly = jax.lax.Precision.HIGHEST
    total = jnp.matmul(moved, ones, precision=exactly)
    return soft, moved - soft * jnp.matmul(total, ones.T, precision=exactly)


def ranks(scores: Array, valid: Array) -> Array:
    """Places [T] of scores [T] from 0, best first; ties by position, padding last."""
    low = jnp.where(valid, scores, -jnp.inf)
    order = jnp.argsort(-low, stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(scores)))


def hard_top_k(scores: Array, valid: Array, budget: Array | float) -> Array:
    """1 at the `budget` highest of the valid scores [T], all of them if fewer; else 0.

    The gradient is zero.
    """
    chosen = (ranks(scores, valid) < budget) & valid
    return chosen.astype(scores.dtype)


def top_k(
    scores: Array,
    valid: Array,
    temperature: Array | float = 1.0,
    budget: Array | float = 1,
) -> Array:
    """Hard top-k mask [T] with the gradient of budget * softmax(scores / temperature).

    The surrogate sums to the budget, too, so that its gradient has the right scale.
    """
    low = jnp.finfo(scores.dtype).min
    soft = _softmax(jnp.where(valid, scores / temperature, low))
    soft = jnp.where(valid, budget * soft, 0)
    return hard_top_k(scores, valid, budget) + soft - jax.lax.stop_gradient(soft)


def gumbel_top_k(
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float = 1.0,
    budget: Array | float = 1,
    draws: int = MAX_DRAWS,
) -> Array:
    """Elementwise maximum [T] of `budget` independent Gumbel-softmax draws.

    A relaxed random subset of at most that size, weights in [0, 1]. At most `draws` are
    made: for a larger budget take `top_k`. See 'Learning to Explain' by Chen et al.
    (arXiv 1802.07814), whose temperature is 0.1.
    """
    draws = min(len(scores), draws)
    drawn = noise.gumbel(key, (draws, len(scores)), scores.dtype)
    low = jnp.finfo(scores.dtype).min
    logits = jnp.where(valid, (scores + drawn) / temperature, low)
    soft = jnp.where(valid, _softmax(logits), 0)
    counts = jnp.arange(draws)[:, None] < budget
    return jnp.where(counts, soft, 0).max(axis=0)
