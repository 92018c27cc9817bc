"""Mask-neutral learning for any model and any training loop.

A model comes in as two functions, `select(params, batch, key) -> masks` and
`predict(params, batch, masks) -> logits`. They may share parameters: the predictor's
lesson never reaches through a mask, and the selector's reaches through nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxattn.config import RandomMasks, Weighting, check_name
from jaxattn.methods import losses, phases, weighting
from jaxattn.methods.table import METHODS, Method
from jaxattn.nn import gates
from jaxattn.nn.masks import random_rates, random_scores
from jaxattn.nn.normalizers import softmax, uniform

WEIGHTS, SPREAD = Weighting(), RandomMasks()
"""What is used where nothing else is asked for."""


class NeutralState(NamedTuple):
    """What a method carries from batch to batch."""

    counts: Array
    """Labels met so far [classes], as the moving estimate of P(y)."""
    estimator: Any
    """Of P(y given m) with its optimizer, for `instance_weighting`; else empty."""


class MaskNeutral(NamedTuple):
    """One method for one model; every field is a pure function."""

    init: Callable[..., NeutralState]
    """(key, params, batch) -> state; raises ValueError where the parts do not fit."""
    loss: Callable[..., tuple[Array, tuple[NeutralState, dict[str, Array]]]]
    """(params, state, batch, labels [batch], key, valid [batch, P] = all, index
    [batch] = None) -> nats, (state, diagnostics)."""
    masks: Callable[..., Array]
    """(params, batch, key, valid = all) -> the model's own masks."""
    predict: Callable[..., Array]
    """(params, batch, key, valid = all) -> logits [batch, classes] under these."""
    optimizer: Callable[
        [optax.GradientTransformation], optax.GradientTransformationExtraArgs
    ]
    """(tx) -> tx that moves each half in its phase; without phases, tx as it is."""


def mask_neutral(
    method: str | Method,
    select: Callable[[Any, Any, Array], Array],
    predict: Callable[[Any, Any, Array], Array],
    *,
    steps: int | None = None,
    selector: str | Sequence[str] = (),
    simplex: bool = True,
    random: Callable[[Array, Array], Array] | None = None,
    baseline: Callable[[Any, Any], Array] | None = None,
    prior: Sequence[float] | Array | None = None,
    temperature: float = 1.0,
    weights: Weighting = WEIGHTS,
    random_masks: RandomMasks = SPREAD,
) -> MaskNeutral:
    """A method of `METHODS`, or a row of your own, for a model and loop of your own.

    Args:
        method: its name, or a `Method`.
        select: (params, batch, key) to masks `[batch, P]` or `[batch, heads, P]` that
            sum to 1, or with `simplex=False` weights in [0, 1], each by itself. For
            `invase` and `realx` it gives the scores `[batch, P]` of gates.
        predict: (params, batch, masks) to logits `[batch, classes]`.
        steps: of the whole training, for methods in phases.
        selector: names in the paths of the selector's parameters, for the same.
        simplex: whether masks sum to 1.
        random: (key, valid `[batch, P]`) to random masks of the model's kind; softmaxes
            of normal scores, or subsets of every size, if not given.
        baseline: (params, batch) to logits, for `invase`: a network of its own that
            sees all of the input.
        prior: P(y) `[classes]`; the mean of the labels met so far, if not given.
        temperature: at which gates are drawn (`invase`, `realx`).
        weights: the estimator behind `instance_weighting`. It is cross-fitted: `loss`
            needs the `index` of each example in the training set.
        random_masks: their spread, and the share of the steps that phase 1 takes.

    Returns:
        A `MaskNeutral` of pure functions: `init`, `loss`, `predict`, and `optimizer`,
        which wraps an Optax optimizer for methods in phases.

    Raises:
        ValueError: unknown method, or one that lacks what it needs.

    >>> import jax, jax.numpy as jnp, jaxattn
    >>> select = lambda params, x, key: jax.nn.softmax(params["query"] * x)
    >>> predict = lambda params, x, mask: mask @ params["values"]
    >>> params = {"query": jnp.ones(4), "values": jnp.zeros((4, 2))}
    >>> key, x, y = jax.random.key(0), jnp.eye(4), jnp.array([0, 1, 0, 1])
    >>> made = jaxattn.mask_neutral("mask_swap", select, predict)
    >>> loss, (state, told) = made.loss(params, made.init(key, params, x), x, y, key)
    >>> round(float(told["nll"]), 3), float(told["accuracy"])
    (0.693, 0.5)
    """
    row = _row(method, steps, selector, baseline)
    names = (selector,) if isinstance(selector, str) else tuple(selector)
    gated = row.structure.gradient != "relaxed"
    request = _Request(
        row, select, predict, baseline, random, names, prior, temperature, weights,
        random_masks, simplex and not gated, gated,
    )  # fmt: skip

    masks = partial(_masks, request)

    def answer(params: Any, batch: Any, key: Array, valid: Array | None = None):
        return predict(params, batch, masks(params, batch, key, valid))

    def optimizer(tx: optax.GradientTransformation):
        if not has_phases(row):
            return optax.with_extra_args_support(tx)
        share = random_masks.pretraining_share
        return phases.in_phases(tx, row, int(steps or 0), share, names)

    init, loss = partial(_init, request), partial(_loss, request)
    return MaskNeutral(init, loss, masks, answer, optimizer)


class _Request(NamedTuple):
    """The validated arguments of `mask_neutral`."""

    row: Method
    select: Callable[[Any, Any, Array], Array]
    predict: Callable[[Any, Any, Array], Array]
    baseline: Callable[[Any, Any], Array] | None
    random: Callable[[Array, Array], Array] | None
    names: tuple[str, ...]
    prior: Any
    temperature: float
    weights: Weighting
    spread: RandomMasks
    simplex: bool
    gated: bool
    """Whether select returns scores of gates, not masks."""


def has_phases(row: Method) -> bool:
    """Whether a method moves one half before the other."""
    return bool(row.numbers.pretraining or row.numbers.delayed)


def _row(
    method: str | Method, steps: int | None, selector: Any, baseline: Any
) -> Method:
    """A method's row; raises ValueError where it is unknown or lacks what it needs."""
    if isinstance(method, str):
        check_name("method", method, METHODS)
    row = METHODS[method] if isinstance(method, str) else method
    if row.structure.scores != "selector":
        raise ValueError(
            f"method = {method!r} learns no masks: let select return the masks that it "
            "means, and choose joint"
        )
    if row.structure.mixed != (row.numbers.foreign + row.numbers.random > 0):
        raise ValueError(
            f"method = {method!r}: mixed, in its structure, belongs to methods with a "
            "share of foreign or random masks, and to them only"
        )
    if has_phases(row) and (not selector or steps is None or steps < 1):
        raise ValueError(
            f"method = {method!r} has two phases: give steps, of the whole training, "
            "and selector, the names of its parameters"
        )
    if row.structure.gradient == "reinforce" and baseline is None:
        raise ValueError(
            f"method = {method!r} needs baseline(params, batch) -> logits, a network "
            "of its own that sees all of the input"
        )
    return row


def _init(request: _Request, key: Array, params: Any, batch: Any) -> NeutralState:
    masks = jax.eval_shape(request.select, params, batch, key)
    if masks.ndim not in ((2,) if request.gated else (2, 3)):
        allowed = "[batch, P]" + ("" if request.gated else " and [batch, heads, P]")
        raise ValueError(
            f"select returned shape {list(masks.shape)}: allowed are {allowed}"
        )
    logits = jax.eval_shape(request.predict, params, batch, masks)
    if logits.ndim != 2 or len(logits) != len(masks):
        raise ValueError(
            f"predict returned shape {list(logits.shape)}: logits [batch, classes] of "
            f"{len(masks)} examples were expected"
        )
    classes = logits.shape[1]
    if request.prior is not None and np.shape(request.prior) != (classes,):
        raise ValueError(f"prior must be one share for each of {classes} classes")
    if request.names:
        phases.selector_leaves(params, request.names)
    estimator = ()
    if request.row.structure.weighted:
        positions = masks.size // len(masks)
        estimator = weighting.init(request.weights, key, positions, classes)
    return NeutralState(jnp.zeros(classes), estimator)


def _loss(
    request: _Request,
    params: Any,
    state: NeutralState,
    batch: Any,
    labels: Array,
    key: Array,
    valid: Array | None = None,
    index: Array | None = None,
) -> tuple[Array, tuple[NeutralState, dict[str, Array]]]:
    structure, labels = request.row.structure, jnp.asarray(labels)
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are {labels.dtype}{list(labels.shape)}: whole numbers [batch] are "
            "needed"
        )
    labels = labels.astype(jnp.int32)
    # As the engine splits it, so that the two can be held against each other.
    own_key, scores_key, random_key, seen_key = jax.random.split(key, 4)
    selected = request.select(params, batch, own_key)
    candidates = _candidates(valid, selected)
    if len(labels) != len(selected):
        raise ValueError(f"{len(labels)} labels for {len(selected)} masks")

    def lose(params, masks):
        return _nats(request.predict(params, batch, masks), labels)

    counts = state.counts + jnp.bincount(labels, length=len(state.counts))
    estimator, more = state.estimator, {}
    if structure.weighted:
        if index is None:
            raise ValueError(
                "instance_weighting is cross-fitted: give loss the index of each "
                "example in the training set"
            )
        prior = counts / counts.sum() if request.prior is None else request.prior
        own, fold = _own(request, selected, candidates), jnp.asarray(index) % 2
        given = own, labels, fold, jnp.asarray(prior)
        weights, estimator, more = weighting.weigh(request.weights, estimator, *given)
        lesson = losses.relaxed(lose, params, own, weights)
    elif request.gated:
        keys = jax.random.split(own_key, len(selected))
        drawn = losses.Gates(keys, selected, candidates, request.temperature)
        lesson = _gate_lesson(request, params, drawn, (batch, labels), lose)
    else:
        judge = losses.judge_of(structure, params)
        lesson = losses.relaxed(lose, judge, _own(request, selected, candidates))
    value = lesson.value
    if structure.mixed:
        own, numbers = lesson.masks, request.row.numbers
        draw = request.random or partial(_random, request, scores_key, own)
        random = draw(random_key, candidates)
        seen = losses.seen_masks(
            seen_key, numbers, own, random, candidates, request.simplex
        )
        value += lose(params, seen)[0].mean()
    told = _diagnostics(lesson, request.simplex, more)
    return value, (NeutralState(counts, estimator), told)


def _gate_lesson(request, params, drawn: losses.Gates, examples, lose):
    judge = losses.judge_of(request.row.structure, params)
    batch, labels = examples
    if request.row.structure.gradient == "rebar":

        def lose_one(params, example, mask):
            inputs, label = jax.tree.map(lambda x: x[None], example)
            return _nats(request.predict(params, inputs, mask[None]), label)[0][0]

        return losses.rebarred(lose, lose_one, judge, drawn, examples)
    baseline, _ = _nats(request.baseline(params, batch), labels)
    own = jax.vmap(lambda k, s, v: gates.gates(k, s, v, request.temperature))(
        drawn.keys, drawn.scores, drawn.candidates
    )
    return losses.reinforced(lose, judge, drawn, own, baseline)


def _masks(request: _Request, params: Any, batch: Any, key: Array, valid=None) -> Array:
    selected = request.select(params, batch, key)
    candidates = _candidates(valid, selected)
    if request.gated:
        return gates.open_gates(selected, candidates)
    return _own(request, selected, candidates)


def _own(request: _Request, masks: Array, valid: Array) -> Array:
    if not request.row.numbers.uniform:
        return masks
    flat = jax.vmap(uniform)(valid) if request.simplex else valid.astype(masks.dtype)
    return jnp.broadcast_to(flat[:, None] if masks.ndim == 3 else flat, masks.shape)


def _nats(logits: Array, labels: Array) -> tuple[Array, Array]:
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return nats, logits.argmax(axis=-1) == labels


def _random(request: _Request, scores_key, like: Array, key, valid: Array) -> Array:
    """Random masks shaped as `like`, heads independent of one another."""
    rows = like.size // like.shape[-1], like.shape[-1]
    where = valid[:, None] if like.ndim == 3 else valid
    where = jnp.broadcast_to(where, like.shape).reshape(rows)
    spread = request.spread
    if request.simplex:
        scores = random_scores(scores_key, rows, spread.low, spread.high)
        masks = jax.vmap(softmax)(scores, where)
    else:
        scores = random_rates(scores_key, rows)
        masks = jax.vmap(gates.gates)(jax.random.split(key, rows[0]), scores, where)
    return masks.reshape(like.shape)


def _diagnostics(lesson: losses.Lesson, simplex: bool, more: dict) -> dict[str, Array]:
    """Diagnostics of a batch: nats, shares and, of masks, entropy or size."""
    masks, nats = lesson.masks, lesson.nats
    told = {"nll": nats.mean(), "accuracy": lesson.hits.mean()}
    sizes = -jax.scipy.special.xlogy(masks, masks) if simplex else masks
    told["mask_entropy" if simplex else "mask_size"] = sizes.sum(axis=-1).mean()
    if not more:
        return told | {"ess_share": jnp.ones(()), "truncated_share": jnp.zeros(())}
    square = more.pop("weight_sum") ** 2
    share = square / more.pop("weight_square_sum") / len(nats)
    return told | more | {"ess_share": share}


def _candidates(valid: Array | None, masks: Array) -> Array:
    """Positions [batch, P] that masks [batch, ..., P] may choose: all, or the valid."""
    shape = masks.shape[0], masks.shape[-1]
    if valid is None:
        return jnp.ones(shape, bool)
    if valid.shape != shape:
        raise ValueError(
            f"valid has shape {list(valid.shape)}; masks {list(masks.shape)} need "
            f"{list(shape)}"
        )
    return jnp.asarray(valid, bool)
