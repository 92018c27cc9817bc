"""Selectors: a query [D] and keys [T, D] to one score for each key [T]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Scored = tuple[Array, dict[str, Array]]


class Additive(nn.Module):
    """Scores v . tanh(W q + U k) [T] of keys [T, D] for a query [D].

    See 'Neural Machine Translation by Jointly Learning to Align and Translate' by
    Bahdanau et al. (arXiv 1409.0473).
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
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
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
        q = nn.Dense(self.hidden, name="query")(query)
        k = nn.Dense(self.hidden, use_bias=False, name="key")(keys)
        return k @ q / jnp.sqrt(jnp.float32(self.hidden)), {"query": q, "keys": k}


class MultiHead(nn.Module):
    """Scores [T] whose softmax is the mean of the heads' softmaxes over valid keys.

    Each head is a scaled dot product of its own; aux["heads"] are their masks
    [heads, T]. See 'Attention Is All You Need' by Vaswani et al. (arXiv 1706.03762).
    """

    hidden: int
    heads: int = 4

    @nn.compact
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
        shape = (self.heads, self.hidden)
        q = nn.DenseGeneral(shape, name="query")(query)
        k = nn.DenseGeneral(shape, use_bias=False, name="key")(keys)
        heads = jnp.einsum("thd,hd->ht", k, q) / jnp.sqrt(jnp.float32(self.hidden))
        valid = jnp.ones(keys.shape[0], bool) if valid is None else valid
        low = jnp.finfo(heads.dtype).min
        shares = jax.nn.log_softmax(jnp.where(valid, heads, low))
        scores = jax.nn.logsumexp(shares, axis=0) - jnp.log(self.heads)
        masks = jnp.where(valid, jnp.exp(shares), 0)
        return jnp.where(valid, scores, 0), {"heads": masks}


class Gated(nn.Module):
    """Scores w . (tanh(V k) * sigmoid(U k)) [T] of keys [T, D]; the query is not used.

    See 'Attention-based Deep Multiple Instance Learning' by Ilse et al. (arXiv
    1802.04712).
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
        content = jnp.tanh(nn.Dense(self.hidden, name="content")(keys))
        gate = nn.sigmoid(nn.Dense(self.hidden, name="gate")(keys))
        scores = nn.Dense(1, use_bias=False, name="score")(content * gate)[:, 0]
        return scores, {"content": content, "gate": gate}


class Tabular(nn.Module):
    """Scores [T] by an MLP with two hidden layers on all keys [T, D] at once.

    For inputs with a fixed number of positions, as 'Learning to Explain' (Chen et al.,
    arXiv 1802.07814) and INVASE (Yoon et al., ICLR 2019) select; the query is not used.
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
        hidden = nn.relu(nn.Dense(self.hidden, name="first")(keys.reshape(-1)))
        hidden = nn.relu(nn.Dense(self.hidden, name="second")(hidden))
        return nn.Dense(keys.shape[0], name="score")(hidden), {"hidden": hidden}


SELECTORS = {
    "additive": Additive,
    "dot_product": DotProduct,
    "multi_head": MultiHead,
    "gated": Gated,
    "tabular": Tabular,
}
