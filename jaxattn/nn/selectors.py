"""Selectors: a query [D] and keys [T, D] to one score for each key [T]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Scored = tuple[Array, dict[str, Array]]


class Additive(nn.Module):
    """Additive attention: scores v . tanh(W q + U k).

    See 'Neural Machine Translation by Jointly Learning to Align and Translate' by
    Bahdanau et al. (arXiv 1409.0473).

    Args:
        hidden: width of the layer.

    Returns:
        Called with a query `[D]` and keys `[T, K]`: scores `[T]` and the layer,
        `aux["features"]` `[T, hidden]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> selector, query, keys = jaxattn.Additive(hidden=16), jnp.ones(8), jnp.eye(5, 8)
    >>> variables = selector.init(jax.random.key(0), query, keys)
    >>> scores, aux = selector.apply(variables, query, keys)
    >>> scores.shape, aux["features"].shape
    ((5,), (5, 16))
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
    """Scaled dot-product attention: scores (W q) . (U k) / sqrt(hidden).

    See 'Attention Is All You Need' by Vaswani et al. (arXiv 1706.03762).

    Args:
        hidden: dimensions in which query and keys are compared.

    Returns:
        Called with a query `[D]` and keys `[T, K]`: scores `[T]` and the projections,
        `aux["query"]` `[hidden]` and `aux["keys"]` `[T, hidden]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> selector, query, keys = jaxattn.DotProduct(16), jnp.ones(8), jnp.eye(5, 8)
    >>> (scores, aux), _ = selector.init_with_output(jax.random.key(0), query, keys)
    >>> scores.shape, aux["query"].shape
    ((5,), (16,))
    """

    hidden: int

    @nn.compact
    def __call__(self, query: Array, keys: Array, valid: Array | None = None) -> Scored:
        q = nn.Dense(self.hidden, name="query")(query)
        k = nn.Dense(self.hidden, use_bias=False, name="key")(keys)
        return k @ q / jnp.sqrt(jnp.float32(self.hidden)), {"query": q, "keys": k}


class MultiHead(nn.Module):
    """Scores whose softmax is the mean of the softmaxes of several heads.

    Each head is a scaled dot product of its own. See 'Attention Is All You Need' by
    Vaswani et al. (arXiv 1706.03762).

    Args:
        hidden: dimensions of each head.
        heads: how many heads.

    Returns:
        Called with a query `[D]`, keys `[T, K]` and valid `[T]`: scores `[T]` and the
        masks of the heads, `aux["heads"]` `[heads, T]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> selector, query, keys = jaxattn.MultiHead(16), jnp.ones(8), jnp.eye(5, 8)
    >>> (scores, aux), _ = selector.init_with_output(jax.random.key(0), query, keys)
    >>> mask = jaxattn.softmax(scores, jnp.ones(5, bool))
    >>> bool(jnp.allclose(mask, aux["heads"].mean(axis=0)))
    True
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
    """Gated attention: scores w . (tanh(V k) * sigmoid(U k)), without a query.

    See 'Attention-based Deep Multiple Instance Learning' by Ilse et al. (arXiv
    1802.04712).

    Args:
        hidden: width of content and gate.

    Returns:
        Called with a query, which is not used, and keys `[T, K]`: scores `[T]`, and
        `aux["content"]` and `aux["gate"]` `[T, hidden]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> selector, query, keys = jaxattn.Gated(16), jnp.ones(8), jnp.eye(5, 8)
    >>> (scores, aux), _ = selector.init_with_output(jax.random.key(0), query, keys)
    >>> scores.shape, aux["gate"].shape
    ((5,), (5, 16))
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
"""Selectors by the name that `--model.selector` takes."""
