"""One cell: its data, what is static and what is traced of it, and its forward pass."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn import methods
from jaxattn.config import Config, with_numbers
from jaxattn.methods import Method
from jaxattn.nn import model as nn_model
from jaxattn.nn.model import Model

INIT, STEP, ORDER, VALIDATION, TEST, ESTIMATOR = range(6)
"""What a key is folded with before each use of it."""


class Arrays(NamedTuple):
    """One split on the device: tokens [N, T], lengths [N], labels [N]."""

    tokens: Array
    lengths: Array
    labels: Array


class Cell(NamedTuple):
    """What tells one cell of a program from another; all of it may be traced."""

    key: Array
    numbers: Mapping[str, Any]
    method: methods.Numbers


class Static(NamedTuple):
    """What decides the program: configuration, model, structure of the method."""

    config: Config
    model: Model
    weighted: bool
    averaged: bool
    length: int
    classes: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs


def make_static(
    config: Config, method: Method, train: Arrays, vocabulary: int, classes: int
) -> Static:
    """The static half of a program that learns `train`, token ids below `vocabulary`.

    Raises: ValueError where the training split is smaller than one batch.
    """
    n, length = train.tokens.shape
    if n < config.batch_size:
        raise ValueError(
            f"batch_size = {config.batch_size}: the training split has only {n} "
            "examples; choose a smaller batch"
        )
    m = config.model
    model = nn_model.build(
        vocabulary,
        classes,
        values=m.values,
        default_tokens=m.default_tokens,
        query=m.query,
        selector=m.selector,
        normalizer=m.normalizer,
        predictor=m.predictor,
        features=m.features,
        hidden=m.hidden,
    )
    steps = n // config.batch_size
    return Static(config, model, *method.structure, length, classes, steps)


def unpack(arrays: Arrays) -> tuple[Array, Array, Array]:
    """Tokens [..., T] as int32, valid [..., T], labels [...] of a split or a batch."""
    valid = jnp.arange(arrays.tokens.shape[-1]) < arrays.lengths[..., None]
    return arrays.tokens.astype(jnp.int32), valid, arrays.labels.astype(jnp.int32)


def own_mask(
    static: Static, cell: Cell, params: Any, key: Array, tokens: Array, valid: Array
) -> Array:
    """The mask [P] that the model itself uses on one example; noise comes from key."""
    config = with_numbers(static.config, cell.numbers)
    usable = nn_model.candidates(static.model, valid)
    scores = nn_model.scores(static.model, params["selector"], tokens, valid)
    temperature = config.model.temperature
    mask = nn_model.normalise(static.model, key, scores, usable, temperature)
    return methods.own_mask(cell.method, mask, usable)


def cross_entropy(static: Static, params, tokens, valid, masks, labels):
    """Nats [batch] lost on each label, and whether it was predicted [batch]."""
    logits = jax.vmap(lambda t, v, m: nn_model.logits(static.model, params, t, v, m))(
        tokens, valid, masks
    )
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return nats, logits.argmax(axis=-1) == labels


def evaluate(
    static: Static, cell: Cell, params: Any, key: Array, split: Arrays
) -> tuple[Array, Array, Array]:
    """Masks [N, P], nats [N] and hits [N] of the model on a split, under own masks."""
    keys = jax.random.split(key, split.labels.shape[0])

    def one(args):
        k, example = args
        tokens, valid, label = unpack(example)
        mask = own_mask(static, cell, params, k, tokens, valid)
        logits = nn_model.logits(static.model, params["predictor"], tokens, valid, mask)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return mask, nats, logits.argmax() == label

    return jax.lax.map(one, (keys, split), batch_size=256)
