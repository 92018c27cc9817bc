"""What an example looks like, and the vectors that a mask can weigh."""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Inputs(NamedTuple):
    """What an example looks like: token ids [T], vectors [T, size] or scalars [T]."""

    kind: Literal["tokens", "vectors", "scalars"]
    size: int
    """Of the vocabulary, or of each vector; 1 for scalars."""
    length: int
    """Positions T."""
    fixed: bool = False
    """Whether every example has all T positions."""


def example(inputs: Inputs) -> tuple[Array, Array]:
    """Zeros of the shape of one example, and which positions [T] are valid: all."""
    shape = (inputs.length, inputs.size)[: 2 if inputs.kind == "vectors" else 1]
    kind = jnp.int32 if inputs.kind == "tokens" else jnp.float32
    return jnp.zeros(shape, kind), jnp.ones(inputs.length, bool)


def embed(inputs: Inputs, features: int, x: Array) -> Array:
    """One example's inputs [T] or [T, size] as vectors [T, D], in a Linen module.

    D is `features`, but 1 for scalars, which need no parameters.
    """
    if inputs.kind == "tokens":
        return nn.Embed(inputs.size, features, name="words")(x)
    if inputs.kind == "vectors":
        return nn.relu(nn.Dense(features, name="instances")(x))
    return x[:, None]


class Candidates(nn.Module):
    """The vectors [P, D] that a mask weighs: inputs, default tokens, or both.

    Default tokens are parameters and the same for every example, so that a mask over
    them alone holds everything the predictor learns of the input.
    """

    values: str
    default_tokens: int
    features: int

    @nn.compact
    def __call__(self, embedded: Array | None) -> Array:
        parts: list[Any] = [embedded] if self.values != "default_tokens" else []
        if self.values != "inputs":
            shape = (self.default_tokens, self.features)
            init = nn.initializers.normal(1.0)
            parts.append(self.param("default_tokens", init, shape))
        return jnp.concatenate(parts)
