"""An estimator of P(y given m): a small network that sees a mask and nothing else."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

FLOOR = 1e-3


def mask_features(mask: Array) -> Array:
    """A mask [P] as features [2 P]: the weights and their logarithms, all about 0 to 1.

    The logarithm tells small weights apart; the floor keeps exact zeros finite.
    """
    return jnp.concatenate([mask, 1 - jnp.log(mask + FLOOR) / jnp.log(FLOOR)])


class Estimator(nn.Module):
    """Logits [classes] of the label given only the mask [P]."""

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, mask: Array) -> Array:
        hidden = nn.gelu(nn.Dense(self.hidden, name="first")(mask_features(mask)))
        hidden = nn.gelu(nn.Dense(self.hidden, name="second")(hidden))
        # Before it has learnt anything it answers 1 / classes: first weights are flat.
        zeros = nn.initializers.zeros
        return nn.Dense(self.classes, kernel_init=zeros, name="logits")(hidden)


def init_estimator(key: Array, positions: int, hidden: int, classes: int) -> Any:
    """Parameters of an estimator for masks [positions]."""
    return Estimator(hidden, classes).init(key, jnp.zeros(positions))["params"]


def estimate(params: Any, mask: Array) -> Array:
    """log P(y given m) [classes] in nats for one mask [P]."""
    hidden, classes = (params[name]["bias"].size for name in ("first", "logits"))
    logits: Any = Estimator(hidden, classes).apply({"params": params}, mask)
    return jax.nn.log_softmax(logits)
