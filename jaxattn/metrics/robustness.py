"""Do scores explain small changes, and stay put under them? For one example each."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def infidelity(
    changes: Array, falls: Array, scores: Array, rescaled: bool = False
) -> Array:
    """Mean of (I . scores - fall)^2 over changes I [S, P] and falls [S] of the answer.

    A fall is f(x) - f(x - I), for changes in whatever the scores [P] (or [P, D], then
    changes [S, P, D]) are of: in text, embeddings. With `rescaled` the scores are first
    multiplied by the best factor. See 'On the (In)fidelity and Sensitivity of
    Explanations' by Yeh et al. (arXiv 1901.09392).
    """
    told = changes.reshape(len(changes), -1) @ scores.reshape(-1)
    if rescaled:
        square = (told**2).mean()
        told = told * (told * falls).mean() / jnp.where(square > 0, square, 1)
    return ((told - falls) ** 2).mean()


def max_sensitivity(
    key: Array,
    explain: Callable[[Array], Array],
    x: Array,
    radius: float = 0.02,
    samples: int = 10,
) -> Array:
    """Largest change of scores `explain(x)` within a ball around x, divided by them.

    The ball is of the largest absolute entry (Captum's choices: radius 0.02, 10
    samples, divided by the length of the scores); a lower bound, for it is sampled.
    """
    scores = explain(x)

    def one(k):
        noise = jax.random.uniform(k, x.shape, minval=-radius, maxval=radius)
        return jnp.linalg.norm(explain(x + noise) - scores)

    size = jnp.linalg.norm(scores)
    found = jax.lax.map(one, jax.random.split(key, samples)).max()
    return found / jnp.where(size > 0, size, 1)
