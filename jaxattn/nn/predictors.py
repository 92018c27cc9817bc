"""Predictors: values * mask to logits; they see nothing else of the mask."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Pooling(nn.Module):
    """An MLP on the sum over positions of mask [T] * values [T, D], to logits [C]."""

    hidden: int
    classes: int

    @nn.compact
    def __call__(
        self, values: Array, mask: Array, valid: Array
    ) -> tuple[Array, dict[str, Array]]:
        del valid
        pooled = mask @ values
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(pooled))
        return nn.Dense(self.classes, name="logits")(hidden), {"pooled": pooled}


class Positionwise(nn.Module):
    """A layer on each position's mask * value by itself, then their mean, to logits.

    It is no pool: the bias inside the rectifier makes the read of the weight
    non-linear, so that it can answer to one large weight and to two halves
    differently. The weight is scaled by the number of valid positions (the uniform
    mask becomes 1 everywhere), so that length does not change the scale.
    """

    hidden: int
    classes: int

    @nn.compact
    def __call__(
        self, values: Array, mask: Array, valid: Array
    ) -> tuple[Array, dict[str, Array]]:
        n = jnp.maximum(valid.sum(), 1).astype(values.dtype)
        read = nn.relu(nn.Dense(self.hidden, name="read")(n * mask[:, None] * values))
        mean = jnp.where(valid[:, None], read, 0).sum(axis=0) / n
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(mean))
        return nn.Dense(self.classes, name="logits")(hidden), {"read": read}


PREDICTORS = {"pooling": Pooling, "positionwise": Positionwise}
