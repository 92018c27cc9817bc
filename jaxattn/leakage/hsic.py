"""Does anything at all tie features to labels? A test by kernels, without a probe."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Hsic(NamedTuple):
    """The statistic and how often exchanged labels reach it."""

    value: Array
    """tr(K H L H) / n^2, for a Gaussian kernel K and the label kernel L."""
    null: Array
    """The same under exchanged labels, [B]."""
    p: Array
    """(1 + k) / (B + 1)."""


def hsic(x: Array, labels: Array, exchanged: Array, classes: int) -> Hsic:
    """Hilbert-Schmidt independence criterion of x [N, F] and labels [N].

    Biased estimate; Gaussian kernel with the median distance as its width, label kernel
    1 for equal labels; the null is `exchanged` [B, N]. Memory N^2. See 'Measuring
    Statistical Dependence with Hilbert-Schmidt Norms' by Gretton et al. (2005).
    """
    n = len(x)
    square = (x**2).sum(axis=1)
    distance = jnp.maximum(square[:, None] + square[None, :] - 2 * x @ x.T, 0)
    off = jnp.where(jnp.eye(n, dtype=bool), jnp.nan, distance)
    width = jnp.nanmedian(off)
    # Where most masks are the same, the median distance is 0.
    width = jnp.where(width > 0, width, jnp.maximum(jnp.nanmean(off), 1e-12))
    kernel = jnp.exp(-distance / width)
    row = kernel.mean(axis=1)
    centred = kernel - row[:, None] - row[None, :] + row.mean()

    def statistic(y):
        one_hot = jax.nn.one_hot(y, classes)
        return (one_hot * (centred @ one_hot)).sum() / n**2

    value = statistic(labels)
    null = jax.lax.map(statistic, exchanged)
    # Sums in another order differ by rounding; such a tie counts against dependence.
    reached = (null >= value - 1e-6 * jnp.abs(value)).sum()
    return Hsic(value, null, (1 + reached) / (len(exchanged) + 1))
