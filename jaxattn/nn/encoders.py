"""Encoders: embedded tokens [T, D] and valid [T] to one vector [D]."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Bag(nn.Module):
    """The mean [D] of the valid embeddings [T, D]; zero where none is valid."""

    features: int

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> tuple[Array, dict[str, Array]]:
        total = jnp.where(valid[:, None], embedded, 0).sum(axis=0)
        return total / jnp.maximum(valid.sum(), 1).astype(embedded.dtype), {}


class Gru(nn.Module):
    """The last state [features] of a GRU over the valid embeddings [T, D].

    Padding must come after the valid positions. See 'Learning Phrase Representations
    using RNN Encoder-Decoder' by Cho et al. (arXiv 1406.1078).
    """

    features: int

    @nn.compact
    def __call__(self, embedded: Array, valid: Array) -> tuple[Array, dict[str, Array]]:
        rnn = nn.RNN(nn.GRUCell(self.features), return_carry=True)
        length = valid.sum().astype(jnp.int32)
        last, states = rnn(embedded, seq_lengths=length)
        return jnp.where(length > 0, last, 0), {"states": states}


ENCODERS = {"bag": Bag, "gru": Gru}
