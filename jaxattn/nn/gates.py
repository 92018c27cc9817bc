"""Gates: each position is open or shut by itself; scores [T] to a mask [T] in [0, 1].

Every gate comes with its rate, the probability that it is not exactly 0, so that a
penalty can act on the expected number of open gates.
"""

import jax
import jax.numpy as jnp
from jax import Array

STRETCH = (-0.1, 1.1)
"""What hard gates are stretched to before they are cut to [0, 1]."""
_TINY = 1e-6


def _relaxed(key: Array, scores: Array, temperature: Array | float) -> Array:
    """A binary concrete draw [T] in (0, 1) of gates with these logits [T]."""
    noise = jax.random.logistic(key, scores.shape, scores.dtype)
    return jax.nn.sigmoid((scores + noise) / temperature)


def _stretched(gates: Array, valid: Array) -> Array:
    """Gates [T] in (0, 1), stretched and cut to [0, 1]; 0 on padding."""
    low, high = STRETCH
    return jnp.where(valid, jnp.clip(low + (high - low) * gates, 0, 1), 0)


def gates(
    key: Array, scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Independent gates: each position is open or shut by itself.

    See 'The Concrete Distribution' by Maddison et al. (arXiv 1611.00712).

    Args:
        key: a random key, another for each draw.
        scores: log-odds `[T]` that a gate is open.
        valid: which positions exist `[T]`, bool.
        temperature: of the relaxed draw whose gradient is taken (straight-through).

    Returns:
        The mask `[T]` of zeros and ones; 0 on padding.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> valid = jnp.array([True, True, False])
    >>> jaxattn.gates(jax.random.key(0), jnp.array([30.0, -30.0, 30.0]), valid).tolist()
    [1.0, 0.0, 0.0]
    """
    soft = _relaxed(key, scores, temperature)
    hard = (soft > 0.5).astype(soft.dtype)
    # Not soft + stop(hard - soft): that is 1 - 6e-8 where it must be 1.
    passed = hard + (soft - jax.lax.stop_gradient(soft))
    return jnp.where(valid, passed, 0)


def open_gates(scores: Array, valid: Array) -> Array:
    """The gates [T] that are open more often than not, as 0/1."""
    return (valid & (scores > 0)).astype(scores.dtype)


def gate_rate(scores: Array, valid: Array, temperature: Array | float = 1.0) -> Array:
    """Probability [T] that each gate is open; 0 on padding."""
    del temperature
    return jnp.where(valid, jax.nn.sigmoid(scores), 0)


def hard_concrete(
    key: Array, scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Binary concrete gates, stretched and cut to [0, 1]: some are exactly 0 or 1.

    See 'Learning Sparse Neural Networks through L0 Regularization' by Louizos et al.
    (arXiv 1712.01312).

    Args:
        key, scores, valid: as in `gates`.
        temperature: of the draw; the lower, the more weights are 0 or 1.

    Returns:
        The mask `[T]` of weights in [0, 1]; 0 on padding.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> key, scores = jax.random.key(0), jnp.array([30.0, -30.0])
    >>> jaxattn.hard_concrete(key, scores, jnp.ones(2, bool)).tolist()
    [1.0, 0.0]
    """
    return _stretched(_relaxed(key, scores, temperature), valid)


def hard_concrete_rate(
    scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Probability [T] that a hard concrete gate is not 0; 0 on padding."""
    low, high = STRETCH
    shift = temperature * jnp.log(-low / high)
    return jnp.where(valid, jax.nn.sigmoid(scores - shift), 0)


def hard_concrete_mean(scores: Array, valid: Array) -> Array:
    """The deterministic hard concrete gate [T] of the paper: without noise."""
    return _stretched(jax.nn.sigmoid(scores), valid)


def _kuma_shape(scores: Array) -> tuple[Array, Array]:
    """Both parameters [T] of a Kumaraswamy gate: score 0 is symmetric, large is open.

    One score for both keeps hard_kuma in line with the other gates. The logarithms are
    cut, for a float32 power has no room beyond.
    """
    half = jnp.clip(scores / 2, -4, 4)
    return jnp.exp(half), jnp.exp(-half)


def hard_kuma(
    key: Array, scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Kumaraswamy gates, stretched and cut to [0, 1]: some are exactly 0 or 1.

    See 'Interpretable Neural Predictions with Differentiable Binary Variables' by
    Bastings et al. (arXiv 1905.08160).

    Args:
        key, scores, valid: as in `gates`.
        temperature: what divides the scores.

    Returns:
        The mask `[T]` of weights in [0, 1]; 0 on padding.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> key, scores = jax.random.key(0), jnp.array([30.0, -30.0])
    >>> jaxattn.hard_kuma(key, scores, jnp.ones(2, bool)).tolist()
    [1.0, 0.0]
    """
    a, b = _kuma_shape(scores / temperature)
    u = jax.random.uniform(key, scores.shape, scores.dtype, _TINY, 1 - _TINY)
    inner = jnp.clip(1 - (1 - u) ** (1 / b), _TINY, 1 - _TINY)
    return _stretched(inner ** (1 / a), valid)


def hard_kuma_rate(
    scores: Array, valid: Array, temperature: Array | float = 1.0
) -> Array:
    """Probability [T] that a HardKuma gate is not 0; 0 on padding."""
    low, high = STRETCH
    a, b = _kuma_shape(scores / temperature)
    zero = 1 - (1 - (-low / (high - low)) ** a) ** b
    return jnp.where(valid, 1 - zero, 0)
