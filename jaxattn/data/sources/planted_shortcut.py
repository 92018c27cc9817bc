"""Masks whose leak is known in bits, to try estimators on."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import xlogy


def flip_probability(bits: float) -> float:
    """How often a bit must be flipped so that `bits` of it are left (0 to 1/2).

    Solves 1 - h2(e) = bits for the binary symmetric channel. Raises: ValueError for
    bits outside [0, 1].
    """
    if not 0 <= bits <= 1:
        raise ValueError(f"bits = {bits}: a binary label has 0 to 1 bits")
    low, high = 0.0, 0.5
    for _ in range(100):
        e = (low + high) / 2
        parts = np.array([e, 1 - e])
        left = 1 + xlogy(parts, parts).sum() / np.log(2)
        low, high = (e, high) if left > bits else (low, e)
    return (low + high) / 2


def planted_shortcut(
    key: Array, n: int, bits: float, positions: int = 8, kind: str = "place"
) -> tuple[Array, Array]:
    """Masks that tell exactly so many bits of a balanced label, to try estimators on.

    A mask tells a copy of the label, flipped with the probability that leaves so many
    bits, and depends on nothing else.

    Args:
        key: a random key.
        n: how many masks.
        bits: I(mask; label), 0 to 1.
        positions: of each mask.
        kind: "place": the copy says in which half of the positions the peak is;
            "shape": it says how high the peak is, anywhere.

    Returns:
        Masks `[n, positions]`, which sum to 1, and labels `[n]`, 0 or 1.

    Raises:
        ValueError: bits outside [0, 1], fewer than 2 positions, or an unknown kind.

    >>> import jax, jaxattn
    >>> masks, labels = jaxattn.planted_shortcut(jax.random.key(0), 100, bits=1.0)
    >>> bool(((masks.argmax(axis=1) >= 4) == (labels == 1)).all())
    True
    """
    if kind not in ("place", "shape"):
        raise ValueError(f"kind = {kind!r}: allowed are place and shape")
    if positions < 2:
        raise ValueError(f"positions = {positions}: two or more are needed")
    order_key, flip_key, place_key, noise_key = jax.random.split(key, 4)
    labels = jax.random.permutation(order_key, jnp.arange(n) % 2)
    flipped = jax.random.bernoulli(flip_key, flip_probability(bits), (n,))
    told = jnp.where(flipped, 1 - labels, labels)
    half = positions // 2
    if kind == "place":
        place = jax.random.randint(place_key, (n,), 0, half) + told * half
        height = jnp.full(n, 0.6)
    else:
        place = jax.random.randint(place_key, (n,), 0, positions)
        height = jnp.where(told == 1, 0.8, 0.4)
    peak = jax.nn.one_hot(place, positions)
    rest = jax.random.uniform(noise_key, (n, positions)) * (1 - peak)
    rest = rest / rest.sum(axis=1, keepdims=True)
    masks = height[:, None] * peak + (1 - height[:, None]) * rest
    return masks, labels.astype(jnp.int32)
