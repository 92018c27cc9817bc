"""Do two explanations of one example agree? Each function for one example."""

import jax.numpy as jnp
from jax import Array


def kendall_tau_b(a: Array, b: Array, valid: Array) -> Array:
    """Kendall's tau-b of scores a [P] and b [P] over the valid [P] positions.

    Ties are accounted for; NaN where one of them is constant. All pairs are compared,
    P^2 in memory: for more than some 100 positions rather use `top_k_overlap`. See 'The
    Treatment of Ties in Ranking Problems' by Kendall (1945).
    """
    pairs = (valid[:, None] & valid[None, :]) & ~jnp.eye(len(a), dtype=bool)
    # A difference of two infinite scores would be NaN.
    x, y = (
        jnp.where(pairs, jnp.where(s[:, None] > s[None, :], 1.0, -1.0), 0.0)
        * (s[:, None] != s[None, :])
        for s in (a, b)
    )
    return (x * y).sum() / jnp.sqrt((x**2).sum() * (y**2).sum())


def top_k_overlap(selected: Array, scores: Array, k: Array) -> Array:
    """Share of the `selected` [P] that are among the k highest scores [P].

    Ties go by position; 0 where nothing is selected.
    """
    order = jnp.argsort(-scores, stable=True)
    ranks = jnp.zeros_like(order).at[order].set(jnp.arange(len(scores)))
    hits = (selected & (ranks < k)).sum()
    return hits / jnp.maximum(selected.sum(), 1)
