"""Training one cell, as pure functions: init, step, chunk (one epoch), train.

Everything here is for one cell; `vmap` makes many. The state holds no key: each use
folds into the cell's key what it is for and the step, so nothing depends on history.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn.config import with_numbers
from jaxattn.methods import phases, weighting
from jaxattn.nn import model as nn_model
from jaxattn.training import adam
from jaxattn.training.cell import (
    ESTIMATOR,
    EVALUATOR,
    INIT,
    ORDER,
    STEP,
    VALIDATION,
    Arrays,
    Cell,
    Static,
    evaluate,
    splits_of,
)
from jaxattn.training.loss import batch_loss


class TrainState(NamedTuple):
    step: Array
    alive: Array
    """False once the loss or a gradient was not finite; nothing moves after that."""
    params: dict[str, Any]
    opt_state: dict[str, Any]
    estimator: Any
    """Of P(y given m), where the method weighs examples; else empty."""
    average: Any
    """Mean predictor of the second half of pretraining, where asked; else empty."""


def init(static: Static, cell: Cell) -> TrainState:
    """The state before the first step."""
    key = jax.random.fold_in(cell.key, INIT)
    params = nn_model.init(static.model, key)
    more = jax.random.split(jax.random.fold_in(cell.key, EVALUATOR))
    if static.evaluated:
        params["evaluator"] = nn_model.init_predictor(static.model, more[0])
    if static.structure.gradient == "reinforce":
        params["baseline"] = nn_model.init_predictor(static.model, more[1])
    estimator = ()
    if static.structure.weighted:
        positions = nn_model.positions(static.model, static.model.inputs.length)
        estimator = weighting.init(
            static.config.weighting,
            jax.random.fold_in(cell.key, ESTIMATOR),
            positions,
            static.classes,
        )
    return TrainState(
        step=jnp.int32(0),
        alive=jnp.bool_(True),
        params=params,
        opt_state={half: adam.init(p) for half, p in params.items()},
        estimator=estimator,
        average=params["predictor"] if static.structure.averaged else (),
    )


def step(
    static: Static, cell: Cell, state: TrainState, batch: Arrays, fold: Array, prior
) -> tuple[TrainState, dict[str, Array]]:
    """One update on a batch; `fold` [batch] says which estimator judges an example."""
    config = with_numbers(static.config, cell.numbers)
    key = jax.random.fold_in(jax.random.fold_in(cell.key, STEP), state.step)
    phase = phases.at(
        cell.method, config.random_masks.pretraining_share, static.steps, state.step
    )

    def loss(params):
        return batch_loss(
            static, cell, key, params, state.estimator, batch, fold, prior
        )

    (value, (fitted, measured)), grads = jax.value_and_grad(loss, has_aux=True)(
        state.params
    )
    alive = state.alive & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grads))
    speeds = {"selector": phase.selector, "predictor": phase.predictor}
    # Whatever else there is (evaluator, baseline) is never frozen.
    speed = {half: jnp.float32(1) for half in state.params} | speeds
    params, opt_state = {}, {}
    for half in state.params:
        params[half], opt_state[half] = adam.update(
            grads[half],
            state.opt_state[half],
            state.params[half],
            config.optimizer.learning_rate * speed[half],
            alive & (speed[half] > 0),
        )
    average = state.average
    if static.structure.averaged:
        params["predictor"], average = phases.average(
            phase, alive, params["predictor"], average
        )
    estimator = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old), fitted, state.estimator
    )
    new = TrainState(state.step + 1, alive, params, opt_state, estimator, average)
    return new, measured


def chunk(
    static: Static, cell: Cell, state: TrainState, stored: Any
) -> tuple[TrainState, dict[str, Array]]:
    """One epoch over the training split in a new order, then a look at validation.

    `stored` is (train, validation, test), or empty where examples are generated.
    """
    size = static.config.batch_size
    epoch = state.step // static.steps_per_epoch
    train, validation, _ = splits_of(static, cell, stored, epoch)
    n = train.labels.shape[0]
    order_key = jax.random.fold_in(jax.random.fold_in(cell.key, ORDER), epoch)
    order = jax.random.permutation(order_key, n)[: static.steps_per_epoch * size]
    prior = jnp.bincount(train.labels.astype(jnp.int32), length=static.classes) / n

    def one(state, index):
        batch = jax.tree.map(lambda x: x[index], train)
        return step(static, cell, state, batch, index % 2, prior)

    state, measured = jax.lax.scan(
        one, state, order.reshape(static.steps_per_epoch, size)
    )
    key = jax.random.fold_in(jax.random.fold_in(cell.key, VALIDATION), epoch)
    found = evaluate(static, cell, state.params, key, validation)
    curve = {
        "train_nll": measured["nll"].mean(),
        "train_accuracy": measured["accuracy"].mean(),
        "validation_nll": found.nats.mean(),
        "validation_accuracy": found.hits.mean(),
    }
    if static.structure.weighted:
        examples = static.steps_per_epoch * size
        squares = measured["weight_square_sum"].sum()
        curve |= {
            "ess_share": measured["weight_sum"].sum() ** 2 / squares / examples,
            "smallest_probability": measured["smallest_probability"].min(),
            "overlap_share": measured["overlap_share"].mean(),
        }
    return state, curve


def train(
    static: Static, cell: Cell, stored: Any
) -> tuple[TrainState, dict[str, Array]]:
    """A whole run of one cell: its last state and its curves [epochs]."""

    def one(state, _):
        return chunk(static, cell, state, stored)

    return jax.lax.scan(one, init(static, cell), None, static.config.epochs)
