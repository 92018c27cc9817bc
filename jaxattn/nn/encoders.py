"""Encoders: embedded positions [T, D] and valid [T] to one vector [features].

Padding must come after the valid positions.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.linalg import orthogonal

Encoded = tuple[Array, dict[str, Array]]


def _cell(cell, features: int, **kwargs):
    return cell(features, recurrent_kernel_init=orthogonal, **kwargs)


class Nothing(nn.Module):
    """The zero vector [features], for selectors that read the keys themselves."""

    features: int

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        return jnp.zeros(self.features, embedded.dtype), {}


class Bag(nn.Module):
    """The mean [D] of the valid embeddings [T, D]; zero where none is valid."""

    features: int

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        total = jnp.where(valid[:, None], embedded, 0).sum(axis=0)
        return total / jnp.maximum(valid.sum(), 1).astype(embedded.dtype), {}


class Gru(nn.Module):
    """The last state [features] of a GRU over the valid embeddings [T, D].

    See 'Learning Phrase Representations using RNN Encoder-Decoder' by Cho et al.
    (arXiv 1406.1078).
    """

    features: int

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        rnn = nn.RNN(_cell(nn.GRUCell, self.features), return_carry=True)
        length = valid.sum().astype(jnp.int32)
        last, states = rnn(embedded, seq_lengths=length)
        return jnp.where(length > 0, last, 0), {"states": states}


class BiGru(nn.Module):
    """A vector [features] of the last states of two GRUs, one in each direction."""

    features: int
    kind = nn.GRUCell

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        length = valid.sum().astype(jnp.int32)
        ends, states = [], []
        # The cells carry the names, for the parameters are theirs.
        for name, back in (("forth", False), ("back", True)):
            cell = _cell(self.kind, self.features, name=name)
            rnn = nn.RNN(cell, return_carry=True, reverse=back, keep_order=back)
            carry, outputs = rnn(embedded, seq_lengths=length)
            # An LSTM carries (cell, output), a GRU its output alone.
            ends.append(carry[1] if isinstance(carry, tuple) else carry)
            states.append(outputs)
        last = nn.Dense(self.features, name="join")(jnp.concatenate(ends))
        states = jnp.concatenate(states, axis=-1)
        return jnp.where(length > 0, last, 0), {"states": states}


class BiLstm(BiGru):
    """A vector [features] of the last states of two LSTMs, one in each direction."""

    kind = nn.OptimizedLSTMCell


class Cnn(nn.Module):
    """The largest response [features] of filters over windows of the embeddings.

    See 'Convolutional Neural Networks for Sentence Classification' by Kim (arXiv
    1408.5882).
    """

    features: int
    window: int = 3

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        # What stands on padding must not reach the windows beside it.
        kept = jnp.where(valid[:, None], embedded, 0)
        states = nn.relu(nn.Conv(self.features, (self.window,), name="filters")(kept))
        # Responses are not negative, so that 0 is the least.
        return jnp.where(valid[:, None], states, 0).max(axis=0), {"states": states}


class Transformer(nn.Module):
    """The mean [features] of one self-attention block over the valid embeddings.

    Positions are told apart by sines. See 'Attention Is All You Need' by Vaswani et
    al. (arXiv 1706.03762). Raises: ValueError where `heads` does not divide `features`.
    """

    features: int
    heads: int = 4

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> Encoded:
        if self.features % self.heads:
            raise ValueError(
                f"Transformer: features = {self.features} must be a multiple of "
                f"heads = {self.heads}"
            )
        x = nn.Dense(self.features, name="project")(embedded)
        x = x + _sines(x.shape[0], self.features)
        attention = nn.MultiHeadDotProductAttention(self.heads, name="attention")
        pairs = (valid[None, :] & valid[:, None])[None]
        x = x + attention(nn.LayerNorm(name="norm_1")(x), mask=pairs)
        wide = nn.Dense(2 * self.features, name="wide")
        hidden = nn.gelu(wide(nn.LayerNorm(name="norm_2")(x)))
        x = x + nn.Dense(self.features, name="narrow")(hidden)
        mean = jnp.where(valid[:, None], x, 0).sum(axis=0) / jnp.maximum(valid.sum(), 1)
        return mean, {"states": x}


def _sines(length: int, features: int) -> Array:
    places = jnp.arange(length)[:, None]
    rates = 10_000 ** (-2 * (jnp.arange(features) // 2) / features)
    phase = jnp.where(jnp.arange(features) % 2 == 0, 0.0, jnp.pi / 2)
    return jnp.sin(places * rates + phase)


ENCODERS = {
    "none": Nothing,
    "bag": Bag,
    "gru": Gru,
    "bigru": BiGru,
    "bilstm": BiLstm,
    "cnn": Cnn,
    "transformer": Transformer,
}
"""Encoders of the query by the name that `--model.query` takes."""
