"""What is measured on the test split once a cell is trained; pure, for one cell.

The probe itself is a choice of values (`model.values`): the query sees the whole text,
but keys and values are default tokens that are the same for every example, so that
whatever the predictor knows of the text came through the mask.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.methods import weighting
from jaxattn.metrics.definitions import METRICS
from jaxattn.metrics.divergence import entropy
from jaxattn.metrics.leak import leak
from jaxattn.nn import model as nn_model
from jaxattn.nn.masks import foreign_masks, on_valid, others
from jaxattn.nn.normalizers import uniform
from jaxattn.training.cell import (
    TEST,
    Arrays,
    Cell,
    Evaluation,
    Examples,
    accuracy,
    candidates_of,
    evaluate,
    judge,
    splits_of,
    unpack,
)
from jaxattn.training.evaluation import attention, evidence, post_hoc
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


def measure(
    cell: Cell, state: TrainState, stored: Any, vocabulary: Vocabulary, black_box: Any
) -> Measured:
    """All numbers of one trained cell on the test split, from its last state.

    `stored` is (train, validation, test), or empty where examples are generated;
    `black_box` are parameters of the model that is explained, or empty.
    """
    train, _, packed = splits_of(cell, stored)
    test, params, values = unpack(packed), state.params, cell.config.model.values
    key = jax.random.fold_in(cell.key, TEST)
    own_key, mask_key, value_key, leak_key = jax.random.split(key, 4)
    own = evaluate(cell, params, own_key, test)
    masks, labels, candidates = own.masks, test.labels, candidates_of(cell, test.valid)
    n = LEAK_EXAMPLES if cell.family else len(labels)
    leaks = leak(leak_key, masks[:n], labels[:n], cell.classes)
    foreign = foreign_masks(mask_key, masks, candidates, cell.simplex)
    scalars = {
        "accuracy": own.hits.mean(),
        "nll": own.nats.mean(),
        "foreign_mask_accuracy": accuracy(cell, params["predictor"], test, foreign),
        "leak_bits": leaks.bits,
        "leak_bits:permuted": leaks.null_bits,
        "leak_share": leaks.share,
        "leak_accuracy": leaks.accuracy,
        **_added(own._replace(examples=test)),
    }
    examples = {"masks": masks, "leak_bits": leaks.pointwise}
    if cell.simplex:
        scalars |= {
            "mask_entropy": entropy(masks).mean(),
            "mask_entropy:uniform": jnp.log(candidates.sum(axis=1)).mean(),
        }
    if values != "default_tokens":
        who = others(value_key, labels.shape[0])
        other = jax.tree.map(lambda x: x[who], test)
        other = other._replace(labels=labels, targets=test.targets)
        theirs = on_valid(masks, candidates[who], cell.simplex)
        scalars["foreign_values_accuracy"] = accuracy(
            cell, params["predictor"], other, theirs
        )
        if vocabulary.punctuation.size and cell.simplex:
            scalars |= _masses(masks, candidates, test, vocabulary)
    if attention.applies(cell):
        asked = (unpack(train), test), masks, vocabulary.lexicon
        more, gradients = attention.measure(cell, params, *asked)
        scalars |= more
        examples |= gradients
    if cell.structure.weighted:
        probed = masks[:n], labels[:n]
        more, weights = _weighting(cell, state.estimator[0], train, probed, leak_key)
        scalars |= more
        examples["instance_weights"] = weights
    if cell.evaluated:
        scalars |= _evalx(cell, params["evaluator"], test, masks, leak_key)
    if test.truth is not None:
        scalars |= evidence.measure(cell, params, test, own, leak_key, n)
    if test.attributions is not None:
        contentless = vocabulary.punctuation | vocabulary.stop_words
        scalars |= post_hoc.measure(cell, test, own, contentless, black_box)
    if "leak" in cell.config.metrics and values == "inputs":
        examples["values"] = _weighted_values(cell, params, test, masks)
    if cell.family:
        assert test.truth is not None
        shares = jnp.bincount(labels, length=cell.classes) / len(labels)
        scalars["majority"] = shares.max()
        scalars["label_entropy"] = entropy(shares)
        examples |= {"labels": labels, "truth": test.truth, "inputs": test.inputs}
        examples = {k: v[:KEPT_EXAMPLES] for k, v in examples.items()}
    return Measured(scalars, examples)


def _added(evaluated: Evaluation) -> dict[str, Array]:
    """The numbers of metrics with a `compute` of their own: one, or some by variant."""
    scalars = {}
    for name, row in METRICS.items():
        if row.compute is not None:
            values = row.compute(evaluated)
            values = values if isinstance(values, dict) else {"": values}
            scalars |= {f"{name}:{k}".rstrip(":"): v for k, v in values.items()}
    return scalars


def _evalx(
    cell: Cell, evaluator: Any, test: Examples, masks: Array, key: Array
) -> dict[str, Array]:
    """What a predictor trained on random masks makes of these, and of shuffled ones.

    EVAL-X of 'Have We Learned to Explain?' by Jethani et al. (arXiv 2103.01890).
    """
    shuffled = evidence.shuffled(key, masks, candidates_of(cell, test.valid))
    scalars = {}
    for variant, seen in (("", masks), (":shuffled", shuffled)):
        nats, hits = judge(cell, evaluator, test, seen)
        scalars["evalx_accuracy" + variant] = hits.mean()
        scalars["evalx_nll" + variant] = nats.mean()
    return scalars


def _weighted_values(cell: Cell, params: Any, test: Examples, masks: Array) -> Array:
    """What masks [N, T] let through: weighted inputs [N, T], or embeddings [N, D]."""
    if cell.model.inputs.kind == "scalars":
        return masks * test.inputs

    def one(args):
        x, v, mask = args
        return mask @ nn_model.embedded(cell.model, params, x, v)[1]

    return jax.lax.map(one, (test.inputs, test.valid, masks), batch_size=256)


def _masses(
    masks: Array, candidates: Array, test: Examples, vocabulary: Vocabulary
) -> dict[str, Array]:
    """Mean mass on default tokens, punctuation and rated words, and if uniform."""
    tokens = test.inputs
    defaults = masks.shape[1] - tokens.shape[1]
    kinds = {
        "punctuation_mass": vocabulary.punctuation[tokens] & test.valid,
        "lexicon_mass": vocabulary.lexicon[tokens] & test.valid,
    }
    pad = ((0, 0), (0, defaults))
    kinds = {name: jnp.pad(where, pad) for name, where in kinds.items()}
    if defaults:
        place = jnp.arange(masks.shape[1]) >= tokens.shape[1]
        kinds["default_token_mass"] = jnp.broadcast_to(place, masks.shape)
    flat = jax.vmap(uniform)(candidates)
    return {
        name + variant: jnp.where(where, weights, 0).sum(axis=1).mean()
        for name, where in kinds.items()
        for variant, weights in (("", masks), (":uniform", flat))
    }


def _weighting(
    cell: Cell, net: Any, train: Arrays, probed: tuple[Array, Array], key: Array
) -> tuple[dict[str, Array], Array]:
    """Diagnostics of the weights of masks and labels, by the training's estimator, and
    the weights [N] before they are cut."""
    masks, labels = probed
    n = train.labels.shape[0]
    prior = jnp.bincount(train.labels.astype(jnp.int32), length=cell.classes) / n
    posterior = jax.nn.logsumexp(weighting.both(net, masks), axis=0) - jnp.log(2.0)
    log_p = jnp.take_along_axis(posterior, labels[:, None], axis=1)[:, 0]
    log_prior = jnp.log(prior)[labels]
    limit = cell.config.weighting.truncation
    weights = weighting.neutral_weights(log_prior, log_p, limit)
    left = leak(key, masks, labels, cell.classes, weights=weights)
    scalars = {
        "weighted_leak_bits": left.bits,
        "weighted_leak_bits:permuted": left.null_bits,
        "ess_share": weights.sum() ** 2 / (weights**2).sum() / len(labels),
        **weighting.overlap(posterior),
    }
    return scalars, jnp.exp(log_prior - log_p)
