"""Gumbel noise: the numbers of `jax.random`, several times as fast on a CPU.

There `jax.random` runs the rounds of its generator in a loop over memory, to compile
sooner. Written out they are one pass; of a subset's many draws that is felt.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))


def gumbel(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Standard Gumbel noise of a shape, as `jax.random.gumbel` draws it."""
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
    # Whoever reads the noise would otherwise draw it again.
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
