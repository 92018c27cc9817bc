"""Linear algebra in XLA's own operations: an inverse, and orthogonal initial weights.

A call of LAPACK, as Flax's orthogonal initializer makes it, waits inside XLA's thread
pool for work that only this pool can do. Where there are as many such calls as threads
a program on a CPU stops for ever, so nothing here calls LAPACK.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

BLOCK = 32
"""Rows that are eliminated at once."""


def inverse(matrix: Array) -> Array:
    """The inverse [F, F] of a symmetric positive definite matrix [F, F].

    By the sweep operator (Goodnight 1979) on blocks, which needs no pivoting here.
    """
    width = len(matrix)
    more = -width % BLOCK
    padded = jnp.pad(matrix, (0, more))
    rest = jnp.arange(width, width + more)
    padded = padded.at[rest, rest].set(1)
    return _sweep(padded, BLOCK)[:width, :width]


def _sweep(matrix: Array, block: int) -> Array:
    width = len(matrix)

    def times(a, b):
        # Less than single precision, an accelerator's habit, would not do.
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    def eliminate(i, a):
        at = i * block
        rows = jax.lax.dynamic_slice(a, (at, 0), (block, width))
        columns = jax.lax.dynamic_slice(a, (0, at), (width, block))
        pivot = jax.lax.dynamic_slice(rows, (0, at), (block, block))
        pivot = 1 / pivot if block == 1 else _sweep(pivot, 1)
        solved = times(pivot, rows)
        a = a - times(columns, solved)
        a = jax.lax.dynamic_update_slice(a, solved, (at, 0))
        a = jax.lax.dynamic_update_slice(a, -times(columns, pivot), (0, at))
        return jax.lax.dynamic_update_slice(a, pivot, (at, at))

    return jax.lax.fori_loop(0, width // block, eliminate, matrix)


def orthogonal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """A uniformly drawn orthogonal matrix of a square shape [D, D].

    The same, up to rounding, as `flax.linen.initializers.orthogonal()` draws; see Saxe
    et al. (arXiv 1312.6120). Raises: ValueError if the shape is not square.
    """
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"shape = {shape} is not square")
    drawn = jax.random.normal(key, shape, dtype)

    def next_column(i, basis):
        column = drawn[:, i]
        # Later columns are still zero. Once is not enough in floating point.
        for _ in range(2):
            column = column - basis @ (basis.T @ column)
        return basis.at[:, i].set(column / jnp.sqrt((column**2).sum()))

    return jax.lax.fori_loop(0, shape[1], next_column, jnp.zeros(shape, dtype))
