"""Selectors: a query [D] and keys [T, D] to one score for each key [T]."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Additive(nn.Module):
    """Scores v . tanh(W q + U k) [T] of keys [T, D] for a query [D].

    See 'Neural Machine Translation by Jointly Learning to Align and Translate' by
    Bahdanau et al. (arXiv 1409.0473).
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array) -> tuple[Array, dict[str, Array]]:
        q = nn.Dense(self.hidden, name="query")(query)
        k = nn.Dense(self.hidden, use_bias=False, name="key")(keys)
        features = jnp.tanh(q[None, :] + k)
        scores = nn.Dense(1, use_bias=False, name="score")(features)[:, 0]
        return scores, {"features": features}


class DotProduct(nn.Module):
    """Scores (W q) . (U k) / sqrt(hidden) [T] of keys [T, D] for a query [D].

    See 'Attention Is All You Need' by Vaswani et al. (arXiv 1706.03762).
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array) -> tuple[Array, dict[str, Array]]:
        q = nn.Dense(self.hidden, name="query")(query)
        k = nn.Dense(self.hidden, use_bias=False, name="key")(keys)
        return k @ q / jnp.sqrt(jnp.float32(self.hidden)), {"query": q, "keys": k}


SELECTORS = {"additive": Additive, "dot_product": DotProduct}
