"""Training one cell, from top to bottom: init, loss, step, chunk (one epoch), train.

Everything here is a pure function for one cell; `vmap` makes many. The state holds no
key: each use folds into the cell's key what it is for and the step, so nothing depends
on history.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn.methods import losses, phases, weighting
from jaxattn.nn import adam
from jaxattn.nn import model as nn_model
from jaxattn.nn.masks import random_rates, random_scores
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.training.cell import (
    ESTIMATOR,
    EVALUATOR,
    INIT,
    ORDER,
    STEP,
    VALIDATION,
    Cell,
    Examples,
    candidates_of,
    evaluate,
    logits_of,
    nats_of,
    own_mask,
    own_scores,
    splits_of,
    unpack,
)


class TrainState(NamedTuple):
    step: Array
    alive: Array
    """False once the loss or a gradient was not finite; nothing moves after that."""
    params: dict[str, Any]
    """Of selector and predictor, and of evaluator and baseline where there are."""
    opt_state: dict[str, Any]
    estimator: Any
    """Of P(y given m), where the method weighs examples; else empty."""
    average: Any
    """Mean predictor of the second half of pretraining, where asked; else empty."""


Learned = tuple[TrainState, dict[str, Array]]


class Batch(NamedTuple):
    """What one step learns from."""

    examples: Examples
    fold: Array
    """Which estimator judges an example [batch], 0 or 1."""
    prior: Array
    """P(y) [classes] in the training split."""


def init(cell: Cell) -> TrainState:
    """The state before the first step."""
    params = nn_model.init(cell.model, jax.random.fold_in(cell.key, INIT))
    more = jax.random.split(jax.random.fold_in(cell.key, EVALUATOR))
    if cell.evaluated:
        params["evaluator"] = nn_model.init_predictor(cell.model, more[0])
    if cell.structure.gradient == "reinforce":
        params["baseline"] = nn_model.init_predictor(cell.model, more[1])
    estimator = ()
    if cell.structure.weighted:
        positions = nn_model.positions(cell.model, cell.model.inputs.length)
        key = jax.random.fold_in(cell.key, ESTIMATOR)
        estimator = weighting.init(cell.config.weighting, key, positions, cell.classes)
    moments = {half: adam.init(p) for half, p in params.items()}
    average = params["predictor"] if cell.structure.averaged else ()
    start = jnp.int32(0), jnp.bool_(True)
    return TrainState(*start, params, moments, estimator, average)


def loss(
    cell: Cell, params: dict[str, Any], estimator: Any, batch: Batch, key: Array
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """What one batch costs: the losses of all parts, to be differentiated once.

    Each part's gradient comes from its own term only, because whatever else stands in
    that term is held fixed there.

    Returns: nats, the fitted estimator, and diagnostics of the batch.
    """
    examples = batch.examples
    candidates = candidates_of(cell, examples.valid)
    noise_key, scores_key, random_key, seen_key = jax.random.split(key, 4)
    keys = jax.random.split(noise_key, len(candidates))

    def select(key, example):
        scores = own_scores(cell, params["selector"], key, example)
        return scores, own_mask(cell, key, scores, example.valid, training=True)

    scores, own = jax.vmap(select)(keys, examples)
    lose, diagnostics = _lose(cell, examples), {}

    # The selector, and the predictor under the selector's own masks.
    if cell.structure.weighted:
        given = own, examples.labels, batch.fold, batch.prior
        weights, estimator, diagnostics = weighting.weigh(
            cell.config.weighting, estimator, *given
        )
        # The drawn label, also where soft ones are known: a weight belongs to one.
        lose = _lose(cell, examples._replace(targets=None))
        lesson = losses.relaxed(lose, params, own, weights)
    else:
        gates = losses.Gates(keys, scores, candidates, cell.config.model.temperature)
        lesson = _lesson(cell, params, examples, gates, own)
    value = lesson.value

    # The predictor under masks that are foreign or random.
    if cell.structure.mixed:
        random = random_masks(cell, scores_key, random_key, candidates)
        given = cell.method, lesson.masks, random, candidates, cell.simplex
        value += lose(params, losses.seen_masks(seen_key, *given))[0].mean()

    # What open gates cost the selector.
    rate = NORMALIZERS[cell.model.normalizer].rate
    if rate is not None:
        t = cell.config.model.temperature
        expected = jax.vmap(lambda s, v: rate(s, v, t).sum())(scores, candidates)
        value += cell.config.model.penalty * expected.mean()

    # The evaluator, which sees random masks only.
    if cell.evaluated:
        random = random_masks(cell, scores_key, random_key, candidates, hard=True)
        nats, _ = cross_entropy(cell, params["evaluator"], examples, random)
        value += nats.mean()
    told = {"nll": lesson.nats.mean(), "accuracy": lesson.hits.mean()}
    return value, (estimator, told | diagnostics)


def _lesson(
    cell: Cell, params: dict[str, Any], examples: Examples, gates: losses.Gates, own
) -> losses.Lesson:
    """What the selector learns: through its mask, or by a score function."""
    lose = _lose(cell, examples)
    judge = losses.judge_of(cell.structure, params)
    if cell.structure.gradient == "reinforce":
        everything = gates.candidates.astype(own.dtype)
        baseline, _ = cross_entropy(cell, params["baseline"], examples, everything)
        return losses.reinforced(lose, judge, gates, own, baseline)
    if cell.structure.gradient == "rebar":

        def lose_one(params, example, mask):
            return nats_of(logits_of(cell, params["predictor"], example, mask), example)

        return losses.rebarred(lose, lose_one, judge, gates, examples)
    return losses.relaxed(lose, judge, own)


def _lose(cell: Cell, examples: Examples) -> losses.Lose:
    return lambda params, masks: cross_entropy(
        cell, params["predictor"], examples, masks
    )


def cross_entropy(cell: Cell, predictor: Any, examples: Examples, masks: Array):
    """Nats [batch] lost under given masks, and whether the label was hit [batch]."""
    logits = jax.vmap(lambda e, m: logits_of(cell, predictor, e, m))(examples, masks)
    return nats_of(logits, examples), logits.argmax(axis=-1) == examples.labels


def random_masks(
    cell: Cell, scores_key: Array, key: Array, candidates: Array, hard: bool = False
) -> Array:
    """Masks [batch, P] of the model's kind that depend on nothing but the keys.

    With `hard`, subsets of a fixed size are whole and not relaxed.
    """
    m, spread = cell.config.model, cell.config.random_masks
    if cell.gated:
        scores = random_rates(scores_key, candidates.shape)
    else:
        scores = random_scores(scores_key, candidates.shape, spread.low, spread.high)
    make = nn_model.normalizer(cell.model, training=cell.gated or not hard)
    return jax.vmap(lambda k, s, v: make(k, s, v, m.temperature, m.budget))(
        jax.random.split(key, len(candidates)), scores, candidates
    )


def step(cell: Cell, state: TrainState, batch: Batch) -> Learned:
    """One update on a batch, and diagnostics of the batch."""
    config = cell.config
    key = jax.random.fold_in(jax.random.fold_in(cell.key, STEP), state.step)
    share = config.random_masks.pretraining_share
    phase = phases.at(cell.method, share, cell.steps, state.step)
    slopes = jax.value_and_grad(
        lambda params: loss(cell, params, state.estimator, batch, key), has_aux=True
    )
    (value, (fitted, told)), grads = slopes(state.params)
    alive = state.alive & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grads))
    # Evaluator and baseline are never frozen.
    speeds = {half: jnp.float32(1) for half in state.params}
    speeds |= {"selector": phase.selector, "predictor": phase.predictor}
    params, opt_state = {}, {}
    for half, speed in speeds.items():
        given = grads[half], state.opt_state[half], state.params[half]
        rate, moves = config.optimizer.learning_rate * speed, alive & (speed > 0)
        params[half], opt_state[half] = adam.update(*given, rate, moves)
    average = state.average
    if cell.structure.averaged:
        params["predictor"], average = phases.average(
            phase, alive, params["predictor"], average
        )
    kept = lambda new, old: jnp.where(alive, new, old)  # noqa: E731
    estimator = jax.tree.map(kept, fitted, state.estimator)
    at = state.step + 1
    return TrainState(at, alive, params, opt_state, estimator, average), told


def chunk(cell: Cell, state: TrainState, stored: Any) -> Learned:
    """One epoch over the training split in a new order, then a look at validation.

    `stored` is (train, validation, test), or empty where examples are generated.
    """
    steps, size = cell.steps_per_epoch, cell.config.batch_size
    epoch = state.step // steps
    train, validation, _ = splits_of(cell, stored, epoch)
    n = train.labels.shape[0]
    order_key = jax.random.fold_in(jax.random.fold_in(cell.key, ORDER), epoch)
    order = jax.random.permutation(order_key, n)[: steps * size]
    prior = jnp.bincount(train.labels.astype(jnp.int32), length=cell.classes) / n

    def one(state, index):
        examples = unpack(jax.tree.map(lambda x: x[index], train))
        return step(cell, state, Batch(examples, index % 2, prior))

    state, told = jax.lax.scan(one, state, order.reshape(steps, size))
    key = jax.random.fold_in(jax.random.fold_in(cell.key, VALIDATION), epoch)
    own = evaluate(cell, state.params, key, unpack(validation))
    curve = {
        "train_nll": told["nll"].mean(),
        "train_accuracy": told["accuracy"].mean(),
        "validation_nll": own.nats.mean(),
        "validation_accuracy": own.hits.mean(),
    }
    if cell.structure.weighted:
        squares = told["weight_square_sum"].sum()
        curve |= {
            "ess_share": told["weight_sum"].sum() ** 2 / squares / (steps * size),
            "smallest_probability": told["smallest_probability"].min(),
            "overlap_share": told["overlap_share"].mean(),
        }
    return state, curve


def train(cell: Cell, stored: Any) -> Learned:
    """A whole run of one cell: its last state and its curves [epochs]."""
    epochs = cell.config.epochs
    return jax.lax.scan(lambda s, _: chunk(cell, s, stored), init(cell), None, epochs)
