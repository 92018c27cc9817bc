"""One cell: its data, what is static and what is traced of it, and its forward pass."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import Config, with_numbers
from jaxattn.data.sources.synthetic import SYNTHETIC, generate
from jaxattn.methods import table
from jaxattn.methods.table import Structure
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.nn.masks import random_rates, random_scores
from jaxattn.nn.model import Model
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.subsets import MAX_DRAWS

INIT, STEP, ORDER, VALIDATION, TEST, ESTIMATOR, DATA, EVALUATOR, ADVERSARY = range(9)
"""What a key is folded with before each use of it."""


class Arrays(NamedTuple):
    """One split on the device: inputs [N, T] or [N, T, D], lengths [N], labels [N].

    Where they are known: evidence `truth` [N, T], soft labels `targets` [N, classes],
    scores [N, T] of other explanations by name, and `evidence` [N, T] as people marked
    it, NaN where they did not.
    """

    inputs: Array
    lengths: Array
    labels: Array
    truth: Array | None = None
    targets: Array | None = None
    attributions: Mapping[str, Array] | None = None
    evidence: Array | None = None


class Cell(NamedTuple):
    """What tells one cell of a program from another; all of it may be traced."""

    key: Array
    numbers: Mapping[str, Any]
    method: table.Numbers
    which: Array | int = 0
    """The task's place in its family."""
    control: Array | int = -1
    """The position that decides which others matter; -1 where there is none."""


class Static(NamedTuple):
    """What decides the program: configuration, model, structure of the method."""

    config: Config
    model: Model
    structure: Structure
    classes: int
    steps_per_epoch: int
    family: str = ""
    """Of tasks whose examples are generated; stored data have none."""
    evaluated: bool = False
    """Whether a predictor on random masks is trained beside, to judge the others."""
    black_box: Callable | None = None
    """The model that is explained: (params, inputs, length, keep) -> logits."""

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs


def model_of(
    config: Config, inputs: Inputs, classes: int, draws: int = MAX_DRAWS
) -> Model:
    """The model of a config; raises ValueError where its parts do not fit together."""
    fields = config.model
    return nn_model.build(
        inputs,
        classes,
        values=fields.values,
        default_tokens=fields.default_tokens,
        query=fields.query,
        selector=fields.selector,
        normalizer=fields.normalizer,
        predictor=fields.predictor,
        features=fields.features,
        hidden=fields.hidden,
        draws=draws,
    )


def make_static(
    config: Config,
    structure: Structure,
    inputs: Inputs,
    classes: int,
    examples: int,
    *,
    family: str = "",
    evaluated: bool = False,
    black_box: Callable | None = None,
    draws: int = MAX_DRAWS,
) -> Static:
    """The static half of a program that learns from `examples` examples.

    Raises: ValueError where they are fewer than one batch, or where the parts of the
    model do not fit together.
    """
    if examples < config.batch_size:
        raise ValueError(
            f"batch_size = {config.batch_size}: the training split has only {examples} "
            "examples; choose a smaller batch"
        )
    model = model_of(config, inputs, classes, draws)
    if structure.gradient != "relaxed" and config.model.normalizer != "gates":
        raise ValueError(
            "methods invase and realx select each position by itself: they need "
            "--model.normalizer gates"
        )
    steps = examples // config.batch_size
    return Static(
        config, model, structure, classes, steps, family, evaluated, black_box
    )


def unpack(arrays: Arrays) -> tuple[Array, Array, Array]:
    """Inputs, valid [..., T] and labels [...] of a split or a batch, ready to use."""
    inputs = arrays.inputs
    whole = jnp.issubdtype(inputs.dtype, jnp.integer)
    inputs = inputs.astype(jnp.int32 if whole else jnp.float32)
    # Bags and patches have a last axis of their own; the labels tell where T is.
    length = inputs.shape[arrays.labels.ndim]
    valid = jnp.arange(length) < arrays.lengths[..., None]
    return inputs, valid, arrays.labels.astype(jnp.int32)


def splits_of(static: Static, cell: Cell, stored: Any, epoch: Array | int = 0) -> Any:
    """(train, validation, test) of a cell: the stored ones, or its own generated ones.

    Every method of one seed gets the same examples, and the three splits come from
    different keys.
    """
    if not static.family:
        return stored
    data = static.config.data
    key = jax.random.fold_in(cell.key, DATA)
    sizes = (data.examples, max(data.test_examples // 4, 1), data.test_examples)
    found = []
    for place, n in enumerate(sizes):
        own = jax.random.fold_in(key, place)
        if place == 0 and data.fresh:
            own = jax.random.fold_in(own, epoch)
        found.append(_drawn(static, cell, own, n))
    return tuple(found)


def _drawn(static: Static, cell: Cell, key: Array, n: int) -> Arrays:
    sample = generate(static.family, key, cell.which, n)
    soft = any(t.soft for t in SYNTHETIC.values() if t.family == static.family)
    return Arrays(
        inputs=sample.inputs,
        lengths=jnp.full(n, sample.inputs.shape[1], jnp.int32),
        labels=sample.labels,
        truth=sample.truth,
        targets=sample.probabilities if soft else None,
    )


def simplex(static: Static) -> bool:
    """Whether masks sum to 1; otherwise each weight is in [0, 1] by itself."""
    return NORMALIZERS[static.model.normalizer].simplex


def own_scores(
    static: Static, cell: Cell, params: Any, key: Array, example: Arrays
) -> Array:
    """The scores [P] behind one example's own mask; `params` are the selector's."""
    inputs, valid, _ = unpack(example)
    source = static.structure.scores
    if source == "selector":
        scores = nn_model.scores(static.model, params, inputs, valid)
        if NORMALIZERS[static.model.normalizer].rate is None:
            return scores
        # Gates that are half open at first shut for good before the predictor has
        # learnt what a feature is worth beside the others it needs.
        return scores + with_numbers(static.config, cell.numbers).model.open_at_first
    if source == "random":
        # Of a key of their own: what the noise of the mask is must not choose.
        return jax.random.normal(jax.random.fold_in(key, 1), valid.shape)
    assert example.attributions is not None
    return example.attributions[source]


def own_mask(
    static: Static, cell: Cell, key: Array, scores: Array, valid: Array, training: bool
) -> Array:
    """The mask [P] that the model itself makes of scores [P] over the words valid [T].

    Noise comes from the key; outside training a subset is the deterministic one.
    """
    config = with_numbers(static.config, cell.numbers)
    usable = nn_model.candidates(static.model, valid)
    make = nn_model.normalise if training else nn_model.keep
    m = config.model
    mask = make(static.model, key, scores, usable, m.temperature, m.budget)
    return table.own_mask(cell.method, mask, usable, simplex(static))


def random_masks(
    static: Static, cell: Cell, scores_key, key, usable: Array, hard: bool = False
) -> Array:
    """Masks [batch, P] of the model's kind that depend on nothing but the keys.

    With `hard`, subsets of a fixed size are whole and not relaxed.
    """
    config = with_numbers(static.config, cell.numbers)
    m, spread = config.model, config.random_masks
    make = nn_model.normalise
    if NORMALIZERS[static.model.normalizer].rate is None:
        scores = random_scores(scores_key, usable.shape, spread.low, spread.high)
        make = nn_model.keep if hard else make
    else:
        scores = random_rates(scores_key, usable.shape)
    return jax.vmap(
        lambda k, s, v: make(static.model, k, s, v, m.temperature, m.budget)
    )(jax.random.split(key, len(usable)), scores, usable)


def nats_of(logits: Array, label: Array, targets: Array | None) -> Array:
    """Nats [...] lost on a label, or on the soft labels `targets` where there are."""
    # Here: to apply a model that is trained nobody needs it.
    import optax

    if targets is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return optax.softmax_cross_entropy(logits, targets)


def logits_one(static: Static, params: Any, example: Arrays, mask: Array) -> Array:
    """Logits [classes] of one example under a mask [P]; `params`: a predictor's."""
    inputs, valid, _ = unpack(example)
    return nn_model.logits(static.model, params, inputs, valid, mask)


def cross_entropy(static: Static, params: Any, batch: Arrays, masks: Array):
    """Nats [batch] lost under given masks, and whether the label was hit [batch]."""
    logits = jax.vmap(lambda e, m: logits_one(static, params, e, m))(batch, masks)
    labels = batch.labels.astype(jnp.int32)
    return nats_of(logits, labels, batch.targets), logits.argmax(axis=-1) == labels


def judge(
    static: Static, params: Any, split: Arrays, masks: Array
) -> tuple[Array, Array]:
    """Nats [N] and hits [N] of a predictor on a split under given masks [N, P]."""

    def one(args):
        example, mask = args
        logits = logits_one(static, params, example, mask)
        label = example.labels.astype(jnp.int32)
        return nats_of(logits, label, example.targets), logits.argmax() == label

    return jax.lax.map(one, (split, masks), batch_size=256)


def accuracy(static: Static, params: Any, split: Arrays, masks: Array) -> Array:
    """Share of a split that a predictor gets right under given masks [N, P]."""
    return judge(static, params, split, masks)[1].mean()


class Evaluation(NamedTuple):
    """What the model makes of a split under its own masks; all of it [N, ...]."""

    masks: Array
    scores: Array
    nats: Array
    hits: Array


def evaluate(
    static: Static, cell: Cell, params: Any, key: Array, split: Arrays
) -> Evaluation:
    """Own masks [N, P], their scores [N, P], nats [N] and hits [N] on a split."""
    keys = jax.random.split(key, split.labels.shape[0])

    def one(args):
        k, example = args
        inputs, valid, label = unpack(example)
        scores = own_scores(static, cell, params["selector"], k, example)
        mask = own_mask(static, cell, k, scores, valid, training=False)
        logits = nn_model.logits(static.model, params["predictor"], inputs, valid, mask)
        nats = nats_of(logits, label, example.targets)
        return Evaluation(mask, scores, nats, logits.argmax() == label)

    return jax.lax.map(one, (keys, split), batch_size=256)
