"""Normalizers: scores [T] and valid [T] to a mask [T].

Padding is exactly 0, and a row that is all padding gives the zero mask.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn import entmax, gates, subsets


def softmax(scores: Array, valid: Array, temperature: Array | float = 1.0) -> Array:
    """Softmax over the valid positions.

    Args:
        scores: real numbers `[T]`.
        valid: which positions exist `[T]`, bool.
        temperature: what divides the scores.

    Returns:
        The mask `[T]`. It sums to 1 and is exactly 0 on padding; where no position is
        valid it is the zero mask.

    >>> import jax.numpy as jnp, jaxattn
    >>> jaxattn.softmax(jnp.zeros(4), jnp.array([True, True, False, False])).tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    low = jnp.finfo(scores.dtype).min
    scaled = jnp.where(valid, scores / temperature, low)
    shifted = scaled - jax.lax.stop_gradient(scaled.max(initial=low))
    weights = jnp.where(valid, jnp.exp(shifted), 0)
    total = weights.sum()
    return weights / jnp.where(total > 0, total, 1)


def gumbel_softmax(
    key: Array, scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Softmax of scores to which fresh Gumbel noise is added.

    At a low temperature it draws one position with probability softmax(scores). See
    'Categorical Reparameterization with Gumbel-Softmax' by Jang et al. (arXiv
    1611.01144) and 'The Concrete Distribution' by Maddison et al. (arXiv 1611.00712).

    Args:
        key: a random key, another for each draw.
        scores, valid: as in `softmax`.
        temperature: what divides the noisy scores.

    Returns:
        The mask `[T]`, which sums to 1 over the valid positions.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> scores, valid = jnp.log(jnp.array([0.5, 0.3, 0.2])), jnp.ones(3, bool)
    >>> draw = jax.vmap(lambda key: jaxattn.gumbel_softmax(key, scores, valid, 0.01))
    >>> mean = draw(jax.random.split(jax.random.key(0), 4000)).mean(axis=0)
    >>> [round(float(share), 1) for share in mean]
    [0.5, 0.3, 0.2]
    """
    noise = jax.random.gumbel(key, scores.shape, scores.dtype)
    return softmax(scores + noise, valid, temperature)


def uniform(valid: Array) -> Array:
    """The mask [T] that gives every valid position the same weight."""
    return softmax(jnp.zeros(valid.shape, jnp.float32), valid)


def renormalise(mask: Array, valid: Array) -> Array:
    """A mask [T] cut to valid [T], summing to 1 again; uniform if nothing is left."""
    kept = jnp.where(valid, mask, 0)
    total = kept.sum()
    safe = jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, kept / safe, uniform(valid))


class Normalizer(NamedTuple):
    """How scores become a mask; the functions are for one example."""

    draw: Callable
    """(key, scores [T], valid [T], temperature, budget, draws) -> mask [T], in
    training; `draws` is the largest budget that may be asked for."""
    keep: Callable
    """The same in tests: subsets and gates without noise, softmaxes as in training;
    without `draws`."""
    simplex: bool
    """Whether a mask sums to 1; otherwise each weight is in [0, 1] by itself."""
    rate: Callable | None = None
    """(scores [T], valid [T], temperature) -> probability [T] of not being 0, where
    each position is selected by itself."""
    noisy: bool = False
    """Whether `keep` draws noise, too."""


def _drawn(function: Callable) -> Callable:
    """(key, scores, valid, temperature) -> mask, with the arguments of `draw`."""

    def draw(key, scores, valid, temperature=1.0, budget=1, draws=1):
        return function(key, scores, valid, temperature)

    return draw


def _top_k(key, scores, valid, temperature=1.0, budget=1, draws=1):
    return subsets.top_k(scores, valid, temperature, budget)


def _hard_top_k(key, scores, valid, temperature=1.0, budget=1):
    return subsets.hard_top_k(scores, valid, budget)


def _on_simplex(function: Callable) -> Normalizer:
    draw = _drawn(lambda key, *args: function(*args))
    return Normalizer(draw, draw, simplex=True)


def _gates(draw: Callable, keep: Callable, rate: Callable) -> Normalizer:
    kept = _drawn(lambda key, scores, valid, temperature: keep(scores, valid))
    return Normalizer(_drawn(draw), kept, simplex=False, rate=rate)


NORMALIZERS: dict[str, Normalizer] = {
    "softmax": _on_simplex(softmax),
    "gumbel_softmax": Normalizer(
        _drawn(gumbel_softmax), _drawn(gumbel_softmax), simplex=True, noisy=True
    ),
    "sparsemax": _on_simplex(entmax.sparsemax),
    "entmax15": _on_simplex(entmax.entmax15),
    "top_k": Normalizer(_top_k, _hard_top_k, simplex=False),
    "gumbel_top_k": Normalizer(subsets.gumbel_top_k, _hard_top_k, simplex=False),
    "gates": _gates(gates.gates, gates.open_gates, gates.gate_rate),
    "hard_concrete": _gates(
        gates.hard_concrete, gates.hard_concrete_mean, gates.hard_concrete_rate
    ),
    "hard_kuma": _gates(gates.hard_kuma, gates.open_gates, gates.hard_kuma_rate),
}
"""Normalizers by the name that `--model.normalizer` takes."""
