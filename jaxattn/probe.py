"""What is measured on the test split once a cell is trained; pure, for one cell.

The probe itself is a choice of values (`model.values`): the query sees the whole text,
but keys and values are default tokens that are the same for every example, so that
whatever the predictor knows of the text came through the mask.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn import forward, methods, weighting
from jaxattn.config import with_numbers
from jaxattn.forward import Arrays, Cell, Static
from jaxattn.loop import TrainState
from jaxattn.metrics.leak import leak
from jaxattn.nn import model as nn_model
from jaxattn.nn.normalizers import renormalise, uniform


class Vocabulary(NamedTuple):
    """What is known of each token id: punctuation [V], has a human rating [V]."""

    punctuation: Array
    lexicon: Array


class Measured(NamedTuple):
    """Everything kept of one cell: scalars by name and arrays of the test split."""

    scalars: dict[str, Array]
    """Keys are `metric` or `metric:variant`."""
    masks: Array
    """The masks [N, P] themselves."""
    class_means: Array
    """Mean mask of each class on the default tokens [K, classes]."""


def measure(
    static: Static,
    cell: Cell,
    state: TrainState,
    train: Arrays,
    test: Arrays,
    vocabulary: Vocabulary,
) -> Measured:
    """All numbers of one trained cell on the test split."""
    key = jax.random.fold_in(cell.key, forward.TEST)
    own_key, mask_key, value_key, leak_key = jax.random.split(key, 4)
    masks, nats, hits = forward.evaluate(static, cell, state.params, own_key, test)
    tokens, valid, labels = forward.unpack(test)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    foreign = methods.foreign_masks(mask_key, masks, usable)
    found = leak(leak_key, masks, labels, static.classes)
    scalars = {
        "accuracy": hits.mean(),
        "nll": nats.mean(),
        "foreign_mask_accuracy": _accuracy(static, state, test, foreign),
        "leak_bits": found.bits,
        "leak_bits:permuted": found.null_bits,
        "leak_share": found.share,
        "leak_accuracy": found.accuracy,
        "mask_entropy": -jax.scipy.special.xlogy(masks, masks).sum(axis=1).mean(),
        "mask_entropy:uniform": jnp.log(usable.sum(axis=1)).mean(),
    }
    if static.config.model.values != "default_tokens":
        who = methods.others(value_key, labels.shape[0])
        other = jax.tree.map(lambda x: x[who], test)._replace(labels=test.labels)
        theirs = jax.vmap(renormalise)(masks, usable[who])
        scalars["foreign_values_accuracy"] = _accuracy(static, state, other, theirs)
        scalars |= _masses(static, masks, usable, tokens, valid, vocabulary)
    if static.weighted:
        scalars |= _weighting(static, cell, state, train, masks, labels, leak_key)
    return Measured(scalars, masks, _class_means(static, masks, labels))


def _accuracy(static: Static, state: TrainState, split: Arrays, masks: Array) -> Array:
    """Accuracy on a split under masks [N, P] that are given from outside."""

    def one(args):
        example, mask = args
        tokens, valid, label = forward.unpack(example)
        params = state.params["predictor"]
        logits = nn_model.logits(static.model, params, tokens, valid, mask)
        return logits.argmax() == label

    return jax.lax.map(one, (split, masks), batch_size=256).mean()


def _masses(static, masks, usable, tokens, valid, vocabulary) -> dict[str, Array]:
    """Mean mass on default tokens, punctuation and rated words, and if uniform."""
    defaults = masks.shape[1] - tokens.shape[1]
    kinds = {
        "punctuation_mass": vocabulary.punctuation[tokens] & valid,
        "lexicon_mass": vocabulary.lexicon[tokens] & valid,
    }
    pad = ((0, 0), (0, defaults))
    kinds = {name: jnp.pad(where, pad) for name, where in kinds.items()}
    if defaults:
        place = jnp.arange(masks.shape[1]) >= tokens.shape[1]
        kinds["default_token_mass"] = jnp.broadcast_to(place, masks.shape)
    flat = jax.vmap(uniform)(usable)
    found = {}
    for name, where in kinds.items():
        found[name] = jnp.where(where, masks, 0).sum(axis=1).mean()
        found[f"{name}:uniform"] = jnp.where(where, flat, 0).sum(axis=1).mean()
    return found


def _weighting(static, cell, state, train, masks, labels, key) -> dict[str, Array]:
    """Diagnostics of the weights of the test split, by the training's estimator."""
    config = with_numbers(static.config, cell.numbers)
    n = train.labels.shape[0]
    prior = jnp.bincount(train.labels.astype(jnp.int32), length=static.classes) / n
    both = jnp.stack(
        [
            weighting.log_posterior(state.estimator, masks, jnp.full(len(labels), f))
            for f in (0, 1)
        ]
    )
    posterior = jax.nn.logsumexp(both, axis=0) - jnp.log(2.0)
    log_p = jnp.take_along_axis(posterior, labels[:, None], axis=1)[:, 0]
    weights = methods.neutral_weights(
        jnp.log(prior)[labels], log_p, config.weighting.truncation
    )
    left = leak(key, masks, labels, static.classes, weights=weights)
    return {
        "weighted_leak_bits": left.bits,
        "weighted_leak_bits:permuted": left.null_bits,
        "ess_share": weights.sum() ** 2 / (weights**2).sum() / len(labels),
        **weighting.overlap(posterior),
    }


def _class_means(static: Static, masks: Array, labels: Array) -> Array:
    defaults = 0
    if static.config.model.values != "words":
        defaults = static.config.model.default_tokens
    one_hot = jax.nn.one_hot(labels, static.classes)
    totals = masks[:, masks.shape[1] - defaults :].T @ one_hot
    return totals / jnp.maximum(one_hot.sum(axis=0), 1)
