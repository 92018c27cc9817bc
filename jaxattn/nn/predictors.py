"""Predictors: values * mask to logits; they see nothing else of the mask."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.encoders import Cnn, Gru

Predicted = tuple[Array, dict[str, Array]]


class Pooling(nn.Module):
    """An MLP on the sum of mask * values over positions: what attention usually feeds.

    Args:
        hidden: width of the hidden layer.
        classes: how many there are, C.

    Returns:
        Called with values `[T, D]`, a mask `[T]` and valid `[T]`: logits `[C]` and the
        sum, `aux["pooled"]` `[D]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> predictor = jaxattn.Pooling(hidden=16, classes=2)
    >>> given = jnp.ones((5, 8)), jnp.full(5, 0.2), jnp.ones(5, bool)
    >>> (logits, aux), _ = predictor.init_with_output(jax.random.key(0), *given)
    >>> logits.shape, aux["pooled"].shape
    ((2,), (8,))
    """

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, values: Array, mask: Array, valid: Array) -> Predicted:
        del valid
        pooled = mask @ values
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(pooled))
        return nn.Dense(self.classes, name="logits")(hidden), {"pooled": pooled}


class Positionwise(nn.Module):
    """A layer on the mask * value of each position alone, then the mean of the layer.

    A bias stands inside the rectifier, so that the weight is read non-linearly: one
    large weight and two halves can get different answers, as in no pool. Weights are
    multiplied by the number of valid positions, so that length changes no scale.

    Args:
        hidden: width of the layers.
        classes: how many there are, C.

    Returns:
        Called with values `[T, D]`, a mask `[T]` and valid `[T]`: logits `[C]` and the
        layer, `aux["read"]` `[T, hidden]`.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> predictor = jaxattn.Positionwise(hidden=16, classes=2)
    >>> given = jnp.ones((5, 8)), jnp.full(5, 0.2), jnp.ones(5, bool)
    >>> (logits, aux), _ = predictor.init_with_output(jax.random.key(0), *given)
    >>> logits.shape, aux["read"].shape
    ((2,), (5, 16))
    """

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, values: Array, mask: Array, valid: Array) -> Predicted:
        n = jnp.maximum(valid.sum(), 1).astype(values.dtype)
        read = nn.relu(nn.Dense(self.hidden, name="read")(n * mask[:, None] * values))
        mean = jnp.where(valid[:, None], read, 0).sum(axis=0) / n
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(mean))
        return nn.Dense(self.classes, name="logits")(hidden), {"read": read}


class Convolutional(nn.Module):
    """A CNN over mask [T] * values [T, D], the largest responses, to logits [C].

    See 'Convolutional Neural Networks for Sentence Classification' by Kim (arXiv
    1408.5882).
    """

    hidden: int
    classes: int
    kind, part = Cnn, "cnn"

    @nn.compact
    def __call__(self, values: Array, mask: Array, valid: Array) -> Predicted:
        # Default tokens come after the padding of the text: a head that reads
        # neighbours would see how much of it there is. So valid positions go first.
        order = jnp.argsort(~valid, stable=True)
        seen, encoder = mask[:, None] * values, self.kind(self.hidden, name=self.part)
        read, aux = encoder(seen[order], valid[order])
        return nn.Dense(self.classes, name="logits")(read), aux


class Recurrent(Convolutional):
    """A GRU over mask [T] * values [T, D], its last state to logits [C]."""

    kind, part = Gru, "gru"


class TabularPredictor(nn.Module):
    """An MLP with two hidden layers on all of mask [T] * values [T, D], to logits [C].

    For a fixed number of positions, as 'Learning to Explain' (Chen et al., arXiv
    1802.07814) and INVASE (Yoon et al., ICLR 2019) predict.
    """

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, values: Array, mask: Array, valid: Array) -> Predicted:
        del valid
        flat = (mask[:, None] * values).reshape(-1)
        hidden = nn.relu(nn.Dense(self.hidden, name="first")(flat))
        hidden = nn.relu(nn.Dense(self.hidden, name="second")(hidden))
        return nn.Dense(self.classes, name="logits")(hidden), {"hidden": hidden}


PREDICTORS = {
    "pooling": Pooling,
    "positionwise": Positionwise,
    "cnn": Convolutional,
    "recurrent": Recurrent,
    "tabular": TabularPredictor,
}
"""Predictors by the name that `--model.predictor` takes."""
