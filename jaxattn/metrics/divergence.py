"""Entropy of distributions, and how far two of them are apart.

Each function takes arrays of numpy or of JAX, with the outcomes as the last axis.
"""

from typing import Any

import jax
import jax.numpy as jnp
import scipy.special
from jax import Array


def entropy(p: Any) -> Any:
    """Shannon entropy of distributions.

    Args:
      p: probabilities `[..., K]`.

    Returns:
      Entropies `[...]` in nats.

    >>> import numpy as np
    >>> round(float(entropy(np.array([0.5, 0.5]))), 3)
    0.693
    """
    return -_special(p).xlogy(p, p).sum(axis=-1)


def tvd(p: Array, q: Array) -> Array:
    """Total variation distance: half the sum of absolute differences.

    Args:
      p: probabilities `[..., K]`.
      q: probabilities `[..., K]`.

    Returns:
      Distances `[...]` from 0 to 1.
    """
    return 0.5 * jnp.abs(p - q).sum(axis=-1)


def jsd(p: Any, q: Any) -> Any:
    """Jensen-Shannon divergence: mean divergence of two distributions from their mean.

    See 'Divergence Measures Based on the Shannon Entropy' by Lin (1991).

    Args:
      p: probabilities `[..., K]`.
      q: probabilities `[..., K]`.

    Returns:
      Divergences `[...]` in nats, from 0 to ln 2.

    >>> import numpy as np
    >>> round(float(jsd(np.array([1.0, 0.0]), np.array([0.0, 1.0]))), 3)
    0.693
    """
    rel_entr, middle = _special(p).rel_entr, (p + q) / 2
    return (rel_entr(p, middle).sum(axis=-1) + rel_entr(q, middle).sum(axis=-1)) / 2


def _special(x: Any) -> Any:
    """The special functions for an array: those of JAX, or of scipy for numpy."""
    return jax.scipy.special if isinstance(x, jax.Array) else scipy.special
