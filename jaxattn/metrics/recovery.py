"""How well a selection shows the known evidence; each function for one example."""

import jax.numpy as jnp
from jax import Array


def tpr(selected: Array, truth: Array) -> Array:
    """Share of the evidence `truth` [P] that is `selected` [P]; NaN without any."""
    return (selected & truth).sum() / truth.sum()


def fdr(selected: Array, truth: Array) -> Array:
    """Share of the `selected` [P] that is no evidence `truth` [P]; 0 if none is."""
    return (selected & ~truth).sum() / jnp.maximum(selected.sum(), 1)


def exact_set(selected: Array, truth: Array) -> Array:
    """1 where the `selected` [P] are exactly the evidence `truth` [P], else 0."""
    return (selected == truth).all().astype(jnp.float32)


def control_hit(selected: Array, control: Array | int) -> Array:
    """1 where the position `control` is `selected` [P], else 0."""
    return selected[control].astype(jnp.float32)


def ranks(scores: Array, valid: Array) -> Array:
    """Ranks [P] of scores [P] among the valid [P], best 1, ties averaged."""
    low = jnp.where(valid, scores, -jnp.inf)
    better = (low[None, :] > low[:, None]).sum(axis=1)
    equal = (low[None, :] == low[:, None]).sum(axis=1)
    return better + (equal + 1) / 2


def median_rank(scores: Array, truth: Array, valid: Array) -> Array:
    """Median rank of the evidence `truth` [P] by scores [P], best 1, ties averaged.

    The metric of 'Learning to Explain' by Chen et al. (arXiv 1802.07814); the best
    possible is (k + 1) / 2 for k relevant positions. NaN without evidence.
    """
    return jnp.nanmedian(jnp.where(truth & valid, ranks(scores, valid), jnp.nan))
