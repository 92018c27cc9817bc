"""What is measured on the test split once a cell is trained; pure, for one cell.

The probe itself is a choice of values (`model.values`): the query sees the whole text,
but keys and values are default tokens that are the same for every example, so that
whatever the predictor knows of the text came through the mask.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import with_numbers
from jaxattn.methods import table, weighting
from jaxattn.metrics.divergence import entropy
from jaxattn.metrics.leak import leak
from jaxattn.nn import model as nn_model
from jaxattn.nn.masks import foreign_masks, on_valid, others
from jaxattn.nn.normalizers import uniform
from jaxattn.training import cell as cells
from jaxattn.training.cell import (
    TEST,
    Arrays,
    Cell,
    Static,
    evaluate,
    judge,
    simplex,
    splits_of,
    unpack,
)
from jaxattn.training.evaluation import attention, evidence
from jaxattn.training.evaluation import black_box as black_box_metrics
from jaxattn.training.step import TrainState

LEAK_EXAMPLES = 4096
"""Most test examples of a generated task that the leak probe is fitted to."""

KEPT_EXAMPLES = 1000
"""Test examples of a generated task whose masks are kept."""


class Vocabulary(NamedTuple):
    """What is known of each token id [V]; empty where inputs are no tokens."""

    punctuation: Array
    lexicon: Array
    stop_words: Array


class Measured(NamedTuple):
    """Everything kept of one cell: scalars by name and arrays of the test split."""

    scalars: dict[str, Array]
    """Keys are `metric` or `metric:variant`."""
    examples: dict[str, Array]
    """Masks [N, P] and the bits [N] that each gives away; where there are any, weights
    [N] and gradients; labels and truth too where each seed has its own examples."""
    class_means: Array
    """Mean mask of each class on the default tokens [K, classes]."""


def measure(
    static: Static,
    cell: Cell,
    state: TrainState,
    stored: Any,
    vocabulary: Vocabulary,
    black_box: Any,
) -> Measured:
    """All numbers of one trained cell on the test split."""
    train, _, test = splits_of(static, cell, stored)
    key = jax.random.fold_in(cell.key, TEST)
    own_key, mask_key, value_key, leak_key = jax.random.split(key, 4)
    found = evaluate(static, cell, state.params, own_key, test)
    masks = found.masks
    inputs, valid, labels = unpack(test)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    flat = simplex(static)
    foreign = foreign_masks(mask_key, masks, usable, flat)
    n = LEAK_EXAMPLES if static.family else len(labels)
    leaks = leak(leak_key, masks[:n], labels[:n], static.classes)
    scalars = {
        "accuracy": found.hits.mean(),
        "nll": found.nats.mean(),
        "foreign_mask_accuracy": accuracy(static, state, test, foreign),
        "leak_bits": leaks.bits,
        "leak_bits:permuted": leaks.null_bits,
        "leak_share": leaks.share,
        "leak_accuracy": leaks.accuracy,
    }
    if flat:
        scalars |= {
            "mask_entropy": entropy(masks).mean(),
            "mask_entropy:uniform": jnp.log(usable.sum(axis=1)).mean(),
        }
    if static.config.model.values != "default_tokens":
        who = others(value_key, labels.shape[0])
        other = jax.tree.map(lambda x: x[who], test)
        other = other._replace(labels=test.labels, targets=test.targets)
        theirs = on_valid(masks, usable[who], flat)
        scalars["foreign_values_accuracy"] = accuracy(static, state, other, theirs)
        if vocabulary.punctuation.size and flat:
            scalars |= _masses(static, masks, usable, inputs, valid, vocabulary)
    weighted = {}
    gradients = {}
    if attention.applies(static):
        more, gradients = attention.measure(
            static, cell, state, train, test, masks, vocabulary.lexicon
        )
        scalars |= more
    if static.structure.weighted:
        more, weights = _weighting(
            static, cell, state, train, masks[:n], labels[:n], leak_key
        )
        scalars |= more
        weighted = {"instance_weights": weights}
    if static.evaluated:
        scalars |= _evalx(static, state, test, masks, usable, leak_key)
    if test.truth is not None:
        scalars |= evidence.measure(static, cell, state, test, found, leak_key, n)
    if test.attributions is not None:
        words = vocabulary.punctuation | vocabulary.stop_words
        scalars |= black_box_metrics.measure(
            static, cell, state, test, found, words, black_box
        )
    examples = {"masks": masks, "leak_bits": leaks.pointwise} | weighted | gradients
    if "leak" in static.config.metrics and static.config.model.values == "inputs":
        examples["values"] = _through(static, state, inputs, valid, masks)
    if static.family:
        assert test.truth is not None
        shares = jnp.bincount(labels, length=static.classes) / len(labels)
        scalars |= {
            "majority": shares.max(),
            "label_entropy": entropy(shares),
        }
        examples |= {"labels": labels, "truth": test.truth, "inputs": inputs}
        examples = {k: v[:KEPT_EXAMPLES] for k, v in examples.items()}
    return Measured(scalars, examples, _class_means(static, masks, labels))


def accuracy(static: Static, state: TrainState, split: Arrays, masks: Array) -> Array:
    """Accuracy on a split under masks [N, P] that are given from outside."""
    return cells.accuracy(static, state.params["predictor"], split, masks)


def _evalx(static, state, test, masks, usable, key) -> dict[str, Array]:
    """What a predictor trained on random masks makes of these, and of shuffled ones.

    EVAL-X of 'Have We Learned to Explain?' by Jethani et al. (arXiv 2103.01890).
    """
    keys = jax.random.split(key, len(masks))
    shuffled = jax.vmap(evidence.shuffle)(keys, masks, usable)
    found = {}
    for variant, seen in (("", masks), (":shuffled", shuffled)):
        nats, hits = judge(static, state.params["evaluator"], test, seen)
        found["evalx_accuracy" + variant] = hits.mean()
        found["evalx_nll" + variant] = nats.mean()
    return found


def _through(static, state, inputs, valid, masks) -> Array:
    """What masks [N, T] let through: weighted inputs [N, T], or embeddings [N, D]."""
    if static.model.inputs.kind == "scalars":
        return masks * inputs

    def one(args):
        x, v, mask = args
        return mask @ nn_model.embedded(static.model, state.params, x, v)[1]

    return jax.lax.map(one, (inputs, valid, masks), batch_size=256)


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


def _weighting(
    static, cell, state, train, masks, labels, key
) -> tuple[dict[str, Array], Array]:
    """Diagnostics of the weights of the test split, by the training's estimator, and
    the weights [N] before they are cut."""
    config = with_numbers(static.config, cell.numbers)
    n = train.labels.shape[0]
    prior = jnp.bincount(train.labels.astype(jnp.int32), length=static.classes) / n
    both = weighting.both(state.estimator[0], masks)
    posterior = jax.nn.logsumexp(both, axis=0) - jnp.log(2.0)
    log_p = jnp.take_along_axis(posterior, labels[:, None], axis=1)[:, 0]
    weights = table.neutral_weights(
        jnp.log(prior)[labels], log_p, config.weighting.truncation
    )
    left = leak(key, masks, labels, static.classes, weights=weights)
    found = {
        "weighted_leak_bits": left.bits,
        "weighted_leak_bits:permuted": left.null_bits,
        "ess_share": weights.sum() ** 2 / (weights**2).sum() / len(labels),
        **weighting.overlap(posterior),
    }
    return found, jnp.exp(jnp.log(prior)[labels] - log_p)


def _class_means(static: Static, masks: Array, labels: Array) -> Array:
    defaults = 0
    if static.config.model.values != "inputs":
        defaults = static.config.model.default_tokens
    one_hot = jax.nn.one_hot(labels, static.classes)
    totals = masks[:, masks.shape[1] - defaults :].T @ one_hot
    return totals / jnp.maximum(one_hot.sum(axis=0), 1)
