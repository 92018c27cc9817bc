"""Subsets of a fixed size: scores [T] to a k-hot mask [T], `budget` positions of it.

The budget may be traced, so that tasks with different ones share a program.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

MAX_DRAWS = 32
"""Most draws behind `gumbel_top_k`; for a larger budget there is `top_k`."""
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Rotations of the rounds of threefry."""


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
    """1 at the `budget` highest of the valid scores [T], or at all; no gradient."""
    return ((ranks(scores, valid) < budget) & valid).astype(scores.dtype)


def top_k(
    scores: Array,
    valid: Array,
    temperature: Array | float = 1.0,
    budget: Array | float = 1,
) -> Array:
    """The `budget` positions with the highest scores, and a gradient to learn them by.

    Args:
        scores, valid: as in `jaxattn.softmax`.
        temperature: of the softmax whose gradient is taken.
        budget: how many positions; it may be traced.

    Returns:
        The mask `[T]` of zeros and ones. Its gradient is that of
        budget * softmax(scores / temperature), which sums to the budget as well.

    >>> import jax.numpy as jnp, jaxattn
    >>> mask = jaxattn.top_k(jnp.array([3.0, 1.0, 2.0]), jnp.ones(3, bool), budget=2)
    >>> mask.round().tolist()
    [1.0, 0.0, 1.0]
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
    """A relaxed random subset: the elementwise maximum of Gumbel-softmax draws.

    See 'Learning to Explain' by Chen et al. (arXiv 1802.07814), whose temperature is
    0.1.

    Args:
        key: a random key, another for each subset.
        scores, valid: as in `jaxattn.softmax`.
        temperature: what divides the noisy scores.
        budget: how many independent draws count, so that the subset has at most this
            size; it may be traced.
        draws: the largest budget, static. For a larger one there is `top_k`.

    Returns:
        The mask `[T]` of weights in [0, 1].

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> key, scores, valid = jax.random.key(0), jnp.zeros(10), jnp.ones(10, bool)
    >>> mask = jaxattn.gumbel_top_k(key, scores, valid, temperature=0.01, budget=3)
    >>> int(mask.round().sum()) in (1, 2, 3)
    True
    """
    draws = min(len(scores), draws)
    drawn = gumbel(key, (draws, len(scores)), scores.dtype)
    low = jnp.finfo(scores.dtype).min
    logits = jnp.where(valid, (scores + drawn) / temperature, low)
    soft = jnp.where(valid, _softmax(logits), 0)
    counts = jnp.arange(draws)[:, None] < budget
    return jnp.where(counts, soft, 0).max(axis=0)


def gumbel(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Standard Gumbel noise of a shape: the numbers of `jax.random.gumbel`.

    Several times as fast on a CPU, where `jax.random` runs the rounds of its generator
    in a loop over memory in order to compile sooner; written out they are one pass.
    """
    usual = (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and str(jax.random.key_impl(key)) == "threefry2x32"
        and jax.config.jax_threefry_partitionable  # pyright: ignore
        and dtype == jnp.float32
    )
    if not usual:
        return jax.random.gumbel(key, shape, dtype)
    counts = jax.lax.iota(jnp.uint32, math.prod(shape))
    both = _threefry(jax.random.key_data(key), jnp.zeros_like(counts), counts)
    # The bits of a number in [1, 2), and from it one in (0, 1).
    bits = ((both[0] ^ both[1]) >> 9) | jnp.uint32(0x3F800000)
    least = jnp.finfo(jnp.float32).tiny
    u = jax.lax.bitcast_convert_type(bits, jnp.float32) - 1
    u = jnp.maximum(least, u * (1 - least) + least)
    # Without the barrier every reader of the noise would draw it again.
    u = jax.lax.optimization_barrier(u)
    return -jnp.log(-jnp.log(u)).reshape(shape)


def _threefry(key: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """The block cipher of Salmon et al. (2011), 20 rounds, of counters a and b."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = a + keys[0], b + keys[1]
    for group in range(1, 6):
        for turn in _TURNS[(group - 1) % 2]:
            a = a + b
            b = a ^ ((b << turn) | (b >> (32 - turn)))
        a, b = a + keys[group % 3], b + keys[(group + 1) % 3] + jnp.uint32(group)
    return a, b
