"""Orthogonal initial weights, in XLA's own operations.

Flax's initializer calls LAPACK, which can stop a program on a CPU for ever: see
`jaxattn.metrics.inverse`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def orthogonal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """A uniformly drawn orthogonal matrix of a square shape [D, D].

    The same, up to rounding, as `flax.linen.initializers.orthogonal()` draws. See
    'Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks' by Saxe et al. (arXiv 1312.6120).

    Raises ValueError if the shape is not square.
    """
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"shape = {shape} is not square")
    drawn = jax.random.normal(key, shape, dtype)

    def next_column(i, found):
        column = drawn[:, i]
        # Columns that are not found yet are zero. Once is not enough in floating point.
        for _ in range(2):
            column = column - found @ (found.T @ column)
        return found.at[:, i].set(column / jnp.sqrt((column**2).sum()))

    return jax.lax.fori_loop(0, shape[1], next_column, jnp.zeros(shape, dtype))
