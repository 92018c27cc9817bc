"""Encode, select, predict: the whole model for one example, in two halves.

The halves share no parameter, so that each can be trained on masks of its own. The
mask can always be given from outside (an intervention): `logits` takes any mask.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.encoders import ENCODERS
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.predictors import PREDICTORS
from jaxattn.nn.selectors import SELECTORS

Params = Any


class Candidates(nn.Module):
    """The vectors [P, D] that a mask weighs: words, default tokens, or both.

    Default tokens are parameters and the same for every example, so that a mask over
    them alone holds everything the predictor learns of the text.
    """

    values: str
    default_tokens: int
    features: int

    @nn.compact
    def __call__(self, words: Array | None) -> Array:
        parts = []
        if words is not None and self.values != "default_tokens":
            parts.append(words)
        if self.values != "words":
            init = nn.initializers.normal(1.0)
            shape = (self.default_tokens, self.features)
            parts.append(self.param("default_tokens", init, shape))
        return jnp.concatenate(parts)


class Selector(nn.Module):
    """One score for each candidate [P], from a query that has read the whole text."""

    vocabulary: int
    values: str
    default_tokens: int
    query: str
    selector: str
    features: int
    hidden: int

    @nn.compact
    def __call__(self, tokens: Array, valid: Array) -> tuple[Array, dict[str, Array]]:
        words = nn.Embed(self.vocabulary, self.features, name="words")(tokens)
        query, _ = ENCODERS[self.query](self.features, name="encoder")(words, valid)
        keys = Candidates(self.values, self.default_tokens, self.features)(words)
        scores, aux = SELECTORS[self.selector](self.hidden, name="scorer")(query, keys)
        return scores, aux | {"query": query}


class Predictor(nn.Module):
    """Logits [classes] from mask [P] * candidate values [P, D]."""

    vocabulary: int
    values: str
    default_tokens: int
    predictor: str
    features: int
    hidden: int
    classes: int

    @nn.compact
    def __call__(
        self, tokens: Array, valid: Array, mask: Array
    ) -> tuple[Array, dict[str, Array]]:
        words = None
        if self.values != "default_tokens":
            words = nn.Embed(self.vocabulary, self.features, name="words")(tokens)
        values = Candidates(self.values, self.default_tokens, self.features)(words)
        head = PREDICTORS[self.predictor](self.hidden, self.classes, name="head")
        return head(values, mask, valid)


class Model(NamedTuple):
    """The two halves and how scores become a mask; static, it holds no parameter."""

    selector: Selector
    predictor: Predictor
    normalizer: str


def build(
    vocabulary: int,
    classes: int,
    *,
    values: str = "words",
    default_tokens: int = 4,
    query: str = "bag",
    selector: str = "additive",
    normalizer: str = "gumbel_softmax",
    predictor: str = "pooling",
    features: int = 32,
    hidden: int = 32,
) -> Model:
    """A model over `vocabulary` token ids for `classes` labels."""
    return Model(
        Selector(vocabulary, values, default_tokens, query, selector, features, hidden),
        Predictor(
            vocabulary, values, default_tokens, predictor, features, hidden, classes
        ),
        normalizer,
    )


def candidates(model: Model, valid: Array) -> Array:
    """Which positions [P] a mask may use, for a text whose words are valid [T]."""
    selector = model.selector
    parts = []
    if selector.values != "default_tokens":
        parts.append(valid)
    if selector.values != "words":
        parts.append(jnp.ones(selector.default_tokens, bool))
    return jnp.concatenate(parts)


def positions(model: Model, length: int) -> int:
    """How many positions P the masks of texts of `length` tokens have."""
    valid = jax.ShapeDtypeStruct((length,), bool)
    return jax.eval_shape(lambda v: candidates(model, v), valid).shape[0]


def init(model: Model, key: Array, length: int) -> dict[str, Params]:
    """Parameters of both halves, for texts of `length` tokens."""
    tokens = jnp.zeros(length, jnp.int32)
    valid = jnp.ones(length, bool)
    mask = jnp.zeros(positions(model, length))
    a, b = jax.random.split(key)
    return {
        "selector": model.selector.init(a, tokens, valid)["params"],
        "predictor": model.predictor.init(b, tokens, candidates(model, valid), mask)[
            "params"
        ],
    }


def scores(model: Model, params: Params, tokens: Array, valid: Array) -> Array:
    """The selector's scores [P] for tokens [T]; `params` are the selector's."""
    return model.selector.apply({"params": params}, tokens, valid)[0]


def normalise(
    model: Model, key: Array, scores: Array, valid: Array, temperature: Array | float
) -> Array:
    """The mask [P] of scores [P] over the candidates valid [P]."""
    return NORMALIZERS[model.normalizer](key, scores, valid, temperature)


def logits(
    model: Model, params: Params, tokens: Array, valid: Array, mask: Array
) -> Array:
    """Logits [classes] for tokens [T] under any mask [P]; `params`: the predictor's."""
    usable = candidates(model, valid)
    mask = jnp.where(usable, mask, 0)
    # The head reads positions, so it must be told which of the candidates exist.
    return model.predictor.apply({"params": params}, tokens, usable, mask)[0]
