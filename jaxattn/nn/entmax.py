"""Sparse relatives of the softmax: scores [T] and valid [T] to a mask on the simplex.

alpha-entmax maximises p . s + H_alpha(p), the Tsallis entropy: alpha = 1 is the
softmax, 2 is sparsemax, and above 1 weights become exactly 0. See 'Sparse
Sequence-to-Sequence Models' by Peters et al. (arXiv 1905.05702) and 'From Softmax to
Sparsemax' by Martins and Astudillo (arXiv 1602.02068).
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

STEPS = 60
"""Halvings of the bracket of the threshold: more than float32 can tell apart."""


def _shifted(scores: Array, valid: Array, temperature: Array | float) -> Array:
    scaled = jnp.where(valid, scores / temperature, 0)
    top = jnp.where(valid, scaled, -jnp.inf).max(initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    # Far below the rest is as good as absent, and stays finite.
    return jnp.where(valid, scaled - top, -1e9)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _entmax(scores: Array, valid: Array, alpha: float) -> Array:
    """The threshold at which ((alpha - 1) s - tau)_+ ^ (1 / (alpha - 1)) sums to 1."""
    x = (alpha - 1) * scores
    power = 1 / (alpha - 1)

    def weights(tau: Array) -> Array:
        return jnp.where(valid, jnp.maximum(x - tau, 0), 0) ** power

    def halve(_, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        heavy = weights(middle).sum() >= 1
        return jnp.where(heavy, middle, low), jnp.where(heavy, high, middle)

    # The best score is 0, so one position alone reaches 1 at -1, and none does at 0.
    low, _ = jax.lax.fori_loop(0, STEPS, halve, (jnp.float32(-1), jnp.float32(0)))
    mask = weights(low)
    total = mask.sum()
    return mask / jnp.where(total > 0, total, 1)


@_entmax.defjvp
def _entmax_jvp(alpha, primals, tangents):
    scores, valid = primals
    moved, _ = tangents
    mask = _entmax(scores, valid, alpha)
    # The implicit function theorem: only positions with weight move.
    slope = jnp.where(mask > 0, jnp.where(mask > 0, mask, 1) ** (2 - alpha), 0)
    total = slope.sum()
    mean = (slope * moved).sum() / jnp.where(total > 0, total, 1)
    return mask, slope * (moved - mean)


def alpha_entmax(
    scores: Array, valid: Array, alpha: float = 1.5, temperature: Array | float = 1.0
) -> Array:
    """alpha-entmax: a softmax whose small weights are exactly 0, found by bisection.

    See 'Sparse Sequence-to-Sequence Models' by Peters et al. (arXiv 1905.05702).

    Args:
        scores, valid, temperature: as in `jaxattn.softmax`.
        alpha: how sparse, static: near 1 it is the softmax, 2 is `sparsemax`.

    Returns:
        The mask `[T]`, which sums to 1 over the valid positions.

    Raises:
        ValueError: alpha is 1 or less.

    >>> import jax.numpy as jnp, jaxattn
    >>> mask = jaxattn.alpha_entmax(jnp.array([2.0, 1.0, 0.0]), jnp.ones(3, bool), 1.8)
    >>> (mask > 0).tolist()
    [True, True, False]
    """
    if not alpha > 1:
        raise ValueError(f"alpha = {alpha}: must be above 1; 1 is jaxattn.softmax")
    return _entmax(_shifted(scores, valid, temperature), valid, float(alpha))


def sparsemax(scores: Array, valid: Array, temperature: Array | float = 1.0) -> Array:
    """The point of the simplex nearest to scores / temperature; many weights are 0.

    See 'From Softmax to Sparsemax' by Martins and Astudillo (arXiv 1602.02068).

    Args:
        scores, valid, temperature: as in `jaxattn.softmax`.

    Returns:
        The mask `[T]`, which sums to 1 over the valid positions.

    >>> import jax.numpy as jnp, jaxattn
    >>> jaxattn.sparsemax(jnp.array([1.0, 0.5, 0.0]), jnp.ones(3, bool)).tolist()
    [0.75, 0.25, 0.0]
    """
    return alpha_entmax(scores, valid, 2.0, temperature)


def entmax15(scores: Array, valid: Array, temperature: Array | float = 1.0) -> Array:
    """1.5-entmax, half-way between softmax and sparsemax.

    See 'Sparse Sequence-to-Sequence Models' by Peters et al. (arXiv 1905.05702).

    Args:
        scores, valid, temperature: as in `jaxattn.softmax`.

    Returns:
        The mask `[T]`, which sums to 1 over the valid positions.

    >>> import jax.numpy as jnp, jaxattn
    >>> mask = jaxattn.entmax15(jnp.array([2.0, 1.0, -1.0]), jnp.ones(3, bool))
    >>> [round(float(weight), 2) for weight in mask]
    [0.83, 0.17, 0.0]
    """
    return alpha_entmax(scores, valid, 1.5, temperature)
