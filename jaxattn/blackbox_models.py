"""Models to be explained: networks for one example that can blank positions.

`keep` [T] says which positions the model may see, as truth values or as factors, so
that a position can be faded out. A blanked token is the zero vector in its place
(padding inside the text, the length stays), a blanked pixel or patch is 0.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.encoders import Cnn, Gru


class Linear(nn.Module):
    """Bag of words: the sum over tokens of a weight [classes] each, plus a bias.

    Every weight carries its token's inverse document frequency `idf` [V], and texts are
    scaled by the root of their length: near TF-IDF, and each token's part is known.
    """

    vocabulary: int
    classes: int

    @nn.compact
    def __call__(self, tokens: Array, length: Array, keep: Array, idf: Array) -> Array:
        zeros = nn.initializers.zeros
        table = self.param("weights", zeros, (self.vocabulary, self.classes))
        bias = self.param("bias", zeros, (self.classes,))
        parts = table[tokens] * idf[tokens][:, None]
        scale = jnp.sqrt(jnp.maximum(length, 1).astype(parts.dtype))
        seen = keep * (jnp.arange(len(tokens)) < length)
        return (seen[:, None] * parts).sum(axis=0) / scale + bias


class Text(nn.Module):
    """A CNN or GRU over word embeddings, to logits [classes]."""

    vocabulary: int
    classes: int
    encoder: str
    features: int = 64

    @nn.compact
    def __call__(self, tokens: Array, length: Array, keep: Array, idf: Array) -> Array:
        words = nn.Embed(self.vocabulary, self.features // 2, name="words")(tokens)
        valid = jnp.arange(len(tokens)) < length
        kind = {"cnn": Cnn, "gru": Gru}[self.encoder]
        read, _ = kind(self.features, name="encoder")(keep[:, None] * words, valid)
        return nn.Dense(self.classes, name="logits")(read)


class Image(nn.Module):
    """A small CNN on 28 x 28 images, given as pixels [784] or as patches [49, 16]."""

    classes: int

    @nn.compact
    def __call__(self, inputs: Array, length: Array, keep: Array, idf: Array) -> Array:
        if inputs.ndim == 2:
            image = (
                (keep[:, None] * inputs)
                .reshape(7, 7, 4, 4)
                .transpose(0, 2, 1, 3)
                .reshape(28, 28)
            )
        else:
            image = (keep * inputs).reshape(28, 28)
        x = nn.relu(nn.Conv(16, (3, 3), name="first")(image[..., None]))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(32, (3, 3), name="second")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64, name="hidden")(x.reshape(-1)))
        return nn.Dense(self.classes, name="logits")(x)
