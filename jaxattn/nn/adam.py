"""Dense Adam, laid out so that a compiler updates parameters and moments in place.

The same numbers as `optax.adam`, whose state it keeps. Left to itself XLA computes the
new moments twice, once to store them and once for the parameters, and copies the old
ones in between; for the tables of words that was most of a training step on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

B1, B2, EPSILON = 0.9, 0.999, 1e-8


def init(params: Any) -> Any:
    """The state of `optax.adam` for a tree of parameters."""
    return optax.adam(1.0, b1=B1, b2=B2, eps=EPSILON).init(params)


def update(
    grads: Any, state: Any, params: Any, rate: Array | float, moves: Array | bool = True
) -> tuple[Any, Any]:
    """Parameters and state after a step of Adam; as they were where nothing `moves`.

    See 'Adam: A Method for Stochastic Optimization' by Kingma and Ba (arXiv 1412.6980).
    """
    moments, *rest = state
    count = jnp.where(moves, moments.count + 1, moments.count)
    steps = jnp.maximum(count, 1)
    scale1, scale2 = 1 - B1**steps, 1 - B2**steps

    # A select, not a product with 0: what is frozen keeps its moments, and
    # not-a-number times zero would still be not-a-number.
    def kept(new, old):
        return jnp.where(moves, new, old)

    def one(p, g, m, v):
        m = kept((1 - B1) * g + B1 * m, m)
        v = kept((1 - B2) * g**2 + B2 * v, v)
        # Compute the update from the stored moments, so that XLA does not compute
        # these again from the gradient.
        m, v = jax.lax.optimization_barrier((m, v))
        direction = (m / scale1) / (jnp.sqrt(v / scale2) + EPSILON)
        return kept(p - rate * direction, p), m, v

    moved = jax.tree.map(one, params, grads, moments.mu, moments.nu)
    outer, inner = jax.tree.structure(params), jax.tree.structure((0, 0, 0))
    new, mu, nu = jax.tree.transpose(outer, inner, moved)
    return new, (moments._replace(count=count, mu=mu, nu=nu), *rest)
