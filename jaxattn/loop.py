"""Training one cell, as pure functions: init, step, chunk (one epoch), train.

Everything here is for one cell; `vmap` makes many. The state holds no key: each use
folds into the cell's key what it is for and the step, so nothing depends on history.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn import methods, phases, weighting
from jaxattn.config import with_numbers
from jaxattn.forward import (
    ESTIMATOR,
    INIT,
    ORDER,
    STEP,
    VALIDATION,
    Arrays,
    Cell,
    Static,
    cross_entropy,
    evaluate,
    own_mask,
    unpack,
)
from jaxattn.nn import model as nn_model


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
    config = with_numbers(static.config, cell.numbers)
    key = jax.random.fold_in(cell.key, INIT)
    params = nn_model.init(static.model, key, static.length)
    adam = optax.adam(config.optimizer.learning_rate)
    estimator = ()
    if static.weighted:
        positions = nn_model.positions(static.model, static.length)
        estimator = weighting.init(
            config.weighting,
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
        average=params["predictor"] if static.averaged else (),
    )


def step(
    static: Static, cell: Cell, state: TrainState, batch: Arrays, fold: Array, prior
) -> tuple[TrainState, dict[str, Array]]:
    """One update on a batch; `fold` [batch] says which estimator judges an example.

    Both losses are added up and differentiated together: each half's gradient comes
    from its own term only, because the other half is held fixed there.
    """
    config = with_numbers(static.config, cell.numbers)
    tokens, valid, labels = unpack(batch)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    key = jax.random.fold_in(jax.random.fold_in(cell.key, STEP), state.step)
    noise_key, scores_key, random_key, seen_key = jax.random.split(key, 4)
    noise_keys = jax.random.split(noise_key, labels.shape[0])
    phase = phases.at(
        cell.method, config.random_masks.pretraining_share, static.steps, state.step
    )

    def loss(params):
        own = jax.vmap(lambda k, t, v: own_mask(static, cell, params, k, t, v))(
            noise_keys, tokens, valid
        )
        fixed = jax.lax.stop_gradient(own)
        if static.weighted:
            # Fitted before it is asked: nobody is judged by a network that saw it, and
            # an estimator one step behind the selector leaves a residue to exploit.
            estimator = weighting.update(
                config.weighting, state.estimator, fixed, labels, fold
            )
            posterior = weighting.log_posterior(estimator, fixed, fold)
            log_p = jnp.take_along_axis(posterior, labels[:, None], 1)[:, 0]
            limit = config.weighting.truncation
            weights = methods.neutral_weights(jnp.log(prior)[labels], log_p, limit)
            nats, hit = cross_entropy(
                static, params["predictor"], tokens, valid, own, labels
            )
            value = (weights * nats).mean()
            more = {
                "weight_sum": weights.sum(),
                "weight_square_sum": (weights**2).sum(),
                **weighting.overlap(posterior),
            }
        else:
            low, high = config.random_masks.low, config.random_masks.high
            random = jax.vmap(
                lambda k, s, v: nn_model.normalise(
                    static.model, k, s, v, config.model.temperature
                )
            )(
                jax.random.split(random_key, labels.shape[0]),
                methods.random_scores(scores_key, own.shape, low, high),
                usable,
            )
            seen = methods.seen_masks(seen_key, cell.method, fixed, random, usable)
            held = jax.lax.stop_gradient(params["predictor"])
            nats, hit = cross_entropy(static, held, tokens, valid, own, labels)
            learnt, _ = cross_entropy(
                static, params["predictor"], tokens, valid, seen, labels
            )
            value, more, estimator = nats.mean() + learnt.mean(), {}, ()
        return value, (estimator, {"nll": nats.mean(), "accuracy": hit.mean(), **more})

    (value, (fitted, measured)), grads = jax.value_and_grad(loss, has_aux=True)(
        state.params
    )
    alive = state.alive & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grads))
    adam = optax.adam(config.optimizer.learning_rate)
    speed = {"selector": phase.selector, "predictor": phase.predictor}
    params, opt_state = {}, {}
    for half in state.params:
        updates, moved = adam.update(
            grads[half], state.opt_state[half], state.params[half]
        )
        moves = alive & (speed[half] > 0)
        # A select, not a product with 0: a frozen half keeps its moments and its
        # count, and not-a-number times zero would still be not-a-number.
        params[half] = jax.tree.map(
            lambda p, u, s=speed[half], go=moves: jnp.where(go, p + s * u, p),
            state.params[half],
            updates,
        )
        opt_state[half] = jax.tree.map(
            lambda new, old, go=moves: jnp.where(go, new, old),
            moved,
            state.opt_state[half],
        )
    average = state.average
    if static.averaged:
        params["predictor"], average = phases.average(
            phase, alive, params["predictor"], average
        )
    estimator = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old), fitted, state.estimator
    )
    new = TrainState(state.step + 1, alive, params, opt_state, estimator, average)
    return new, measured


def chunk(
    static: Static, cell: Cell, state: TrainState, train: Arrays, validation: Arrays
) -> tuple[TrainState, dict[str, Array]]:
    """One epoch over the training split in a new order, then a look at validation."""
    n, size = train.labels.shape[0], static.config.batch_size
    epoch = state.step // static.steps_per_epoch
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
    _, nats, hits = evaluate(static, cell, state.params, key, validation)
    curve = {
        "train_nll": measured["nll"].mean(),
        "train_accuracy": measured["accuracy"].mean(),
        "validation_nll": nats.mean(),
        "validation_accuracy": hits.mean(),
    }
    if static.weighted:
        examples = static.steps_per_epoch * size
        squares = measured["weight_square_sum"].sum()
        curve |= {
            "ess_share": measured["weight_sum"].sum() ** 2 / squares / examples,
            "smallest_probability": measured["smallest_probability"].min(),
            "overlap_share": measured["overlap_share"].mean(),
        }
    return state, curve


def train(
    static: Static, cell: Cell, train: Arrays, validation: Arrays
) -> tuple[TrainState, dict[str, Array]]:
    """A whole run of one cell: its last state and its curves [epochs]."""

    def one(state, _):
        return chunk(static, cell, state, train, validation)

    return jax.lax.scan(one, init(static, cell), None, static.config.epochs)
