"""One cell: its config, its examples, and what its model makes of them.

A cell is one method of one configuration with one seed. It is a pytree: what may differ
between the cells of one compiled program are its leaves, among them the numbers of its
config; all else decides the program, so that cells of one tree structure share one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxattn import config as configs
from jaxattn.config import Config, check_name
from jaxattn.data.sources.synthetic import SYNTHETIC, generate
from jaxattn.methods import losses, table
from jaxattn.methods.table import Method, Structure
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.nn.model import REGISTRIES, Model, Parts
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.subsets import MAX_DRAWS

INIT, STEP, ORDER, VALIDATION, TEST, ESTIMATOR, DATA, EVALUATOR, ADVERSARY = range(9)
"""Constants for `fold_in`, one for each use of a cell's key."""


# The config and its parts are pytrees: numbers are leaves, the rest is static.
_nested = [f for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.default)]
_parts: list[Any] = [Config, *(type(field.default) for field in _nested)]
for _part in _parts:
    _fields = dataclasses.fields(_part)
    _leaves = [f.name for f in _fields if f in _nested or configs.is_number(f)]
    _static = [f.name for f in _fields if f.name not in _leaves]
    jax.tree_util.register_dataclass(_part, _leaves, _static)


@struct.dataclass
class Cell:
    """One cell; its static fields, and those of its config, decide the program."""

    key: Array
    config: Config
    method: table.Numbers
    model: Model = struct.field(pytree_node=False)
    structure: Structure = struct.field(pytree_node=False)
    classes: int = struct.field(pytree_node=False)
    steps_per_epoch: int = struct.field(pytree_node=False)
    which: Array | int = 0
    """The task's place in its family."""
    control: Array | int = -1
    """The position that decides which others matter; -1 where there is none."""
    family: str = struct.field(pytree_node=False, default="")
    """Of tasks whose examples are generated; stored data have none."""
    evaluated: bool = struct.field(pytree_node=False, default=False)
    """Whether a predictor on random masks is trained beside, to judge the others."""
    black_box: Callable | None = struct.field(pytree_node=False, default=None)
    """The model that is explained: (params, inputs, length, keep) -> logits."""

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs

    @property
    def simplex(self) -> bool:
        """Whether masks sum to 1; otherwise each weight is in [0, 1] by itself."""
        return NORMALIZERS[self.model.normalizer].simplex

    @property
    def gated(self) -> bool:
        """Whether each position is selected by itself, with a rate of its own."""
        return NORMALIZERS[self.model.normalizer].rate is not None


class Task(NamedTuple):
    """What a cell must know of its task; the last fields mean what those of Cell do."""

    inputs: Inputs
    classes: int
    examples: int
    """In the training split."""
    draws: int = MAX_DRAWS
    """The largest budget that a subset may be asked for."""
    which: int = 0
    control: int = -1
    family: str = ""
    evaluated: bool = False
    black_box: Callable | None = None


def check_parts(config: Config) -> None:
    """Raises ValueError, one line, for a part of the model that is in no registry."""
    for part, registry in REGISTRIES.items():
        check_name(f"model.{part}", getattr(config.model, part), registry)


def make_model(
    config: Config, inputs: Inputs, classes: int, draws: int = MAX_DRAWS
) -> Model:
    """The model of a config; raises ValueError where its parts do not fit together."""
    check_parts(config)
    parts = Parts(*(getattr(config.model, name) for name in Parts._fields))
    return nn_model.build(inputs, classes, parts, draws)


def make_cell(config: Config, method: Method, task: Task, key: Any = 0) -> Cell:
    """The cell of a config and a method on a task.

    Numbers of the config may be traced. All that is random comes from the key.

    Raises:
        ValueError: where the examples are fewer than one batch, or where the parts of
            the model do not fit together.
    """
    size = config.batch_size
    if task.examples < size:
        raise ValueError(
            f"batch_size = {size}: the training split has only {task.examples} "
            "examples; choose a smaller batch"
        )
    model = make_model(config, task.inputs, task.classes, task.draws)
    if method.structure.gradient != "relaxed" and model.normalizer != "gates":
        raise ValueError(
            "methods invase and realx select each position by itself: they need "
            "--model.normalizer gates"
        )
    numbers, structure = method
    steps = task.examples // size
    return Cell(key, config, numbers, model, structure, task.classes, steps, *task[4:])


class Arrays(NamedTuple):
    """One split on the device: inputs [N, T] or [N, T, D], lengths [N], labels [N].

    Where they are known: evidence `truth` [N, T], soft labels `targets` [N, classes],
    scores [N, T] of other explanations by name, and `evidence` [N, T] as people marked
    it, NaN where they did not. In the smallest types that hold them.
    """

    inputs: Array
    lengths: Array
    labels: Array
    truth: Array | None = None
    targets: Array | None = None
    attributions: Mapping[str, Array] | None = None
    evidence: Array | None = None


class Examples(NamedTuple):
    """A split, a batch or one example, ready to use; else as in `Arrays`."""

    inputs: Array
    """Token ids or numbers [..., T] or [..., T, D], as int32 or float32."""
    valid: Array
    """The example's real positions [..., T]."""
    labels: Array
    truth: Array | None = None
    targets: Array | None = None
    attributions: Mapping[str, Array] | None = None
    evidence: Array | None = None


def unpack(arrays: Arrays) -> Examples:
    """The examples of a split or a batch, ready to use."""
    inputs = arrays.inputs
    whole = jnp.issubdtype(inputs.dtype, jnp.integer)
    inputs = inputs.astype(jnp.int32 if whole else jnp.float32)
    # Bags and patches have a last axis of their own; the labels tell where T is.
    length = inputs.shape[arrays.labels.ndim]
    valid = jnp.arange(length) < arrays.lengths[..., None]
    return Examples(inputs, valid, arrays.labels.astype(jnp.int32), *arrays[3:])


def splits_of(cell: Cell, stored: Any, epoch: Array | int = 0) -> Any:
    """(train, validation, test) of a cell: the stored ones, or its own generated ones.

    Every method of one seed gets the same examples, and the three splits come from
    different keys.
    """
    if not cell.family:
        return stored
    data = cell.config.data
    key = jax.random.fold_in(cell.key, DATA)
    keys = [jax.random.fold_in(key, place) for place in range(3)]
    if data.fresh:
        keys[0] = jax.random.fold_in(keys[0], epoch)
    sizes = (data.examples, max(data.test_examples // 4, 1), data.test_examples)
    return tuple(_drawn(cell, key, n) for key, n in zip(keys, sizes, strict=True))


def _drawn(cell: Cell, key: Array, n: int) -> Arrays:
    sample = generate(cell.family, key, cell.which, n)
    soft = any(t.soft for t in SYNTHETIC.values() if t.family == cell.family)
    return Arrays(
        inputs=sample.inputs,
        lengths=jnp.full(n, sample.inputs.shape[1], jnp.int32),
        labels=sample.labels,
        truth=sample.truth,
        targets=sample.probabilities if soft else None,
    )


def candidates_of(cell: Cell, valid: Array) -> Array:
    """Which positions [N, P] masks may choose, for examples valid at [N, T]."""
    return jax.vmap(lambda v: nn_model.candidates_of(cell.model, v))(valid)


def own_scores(cell: Cell, selector: Any, key: Array, example: Examples) -> Array:
    """The scores [P] behind one example's own mask, by a selector's parameters."""
    source = cell.structure.scores
    if source == "selector":
        scores = nn_model.scores(cell.model, selector, example.inputs, example.valid)
        if not cell.gated:
            return scores
        # Gates that are half open at first shut for good before the predictor has
        # learnt what a feature is worth beside the others it needs.
        return scores + cell.config.model.open_at_first
    if source == "random":
        # Of a key of their own: what the noise of the mask is must not choose.
        return jax.random.normal(jax.random.fold_in(key, 1), example.valid.shape)
    assert example.attributions is not None
    return example.attributions[source]


def own_mask(
    cell: Cell, key: Array, scores: Array, valid: Array, training: bool
) -> Array:
    """The mask [P] that the model itself makes of scores [P] over the words valid [T].

    Noise comes from the key; outside training a subset is the deterministic one.
    """
    candidates, m = nn_model.candidates_of(cell.model, valid), cell.config.model
    normalise = nn_model.normalizer(cell.model, training)
    mask = normalise(key, scores, candidates, m.temperature, m.budget)
    return losses.own_mask(cell.method, mask, candidates, cell.simplex)


def logits_of(cell: Cell, predictor: Any, example: Examples, mask: Array) -> Array:
    """Logits [classes] of one example under a mask [P], by a predictor's parameters."""
    return nn_model.logits(cell.model, predictor, example.inputs, example.valid, mask)


def nats_of(logits: Array, examples: Examples) -> Array:
    """Nats [...] lost on the labels [...], or on the soft labels where there are."""
    # Here, since no one needs it to apply a trained model.
    import optax

    if examples.targets is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels)
    return optax.softmax_cross_entropy(logits, examples.targets)


class Answer(NamedTuple):
    """What a model makes of one example under its own mask."""

    logits: Array
    mask: Array
    scores: Array


def answer(
    cell: Cell, params: Any, key: Array, example: Examples, training: bool = False
) -> Answer:
    """The whole model on one example: scores [P], mask [P], logits [classes]."""
    scores = own_scores(cell, params["selector"], key, example)
    mask = own_mask(cell, key, scores, example.valid, training)
    return Answer(logits_of(cell, params["predictor"], example, mask), mask, scores)


class Evaluation(NamedTuple):
    """What a model makes of a split under its own masks."""

    masks: Array
    """[N, P]"""
    scores: Array
    """Those [N, P] behind the masks."""
    nats: Array
    """Lost on each label [N]."""
    hits: Array
    """Whether each label was predicted [N]."""
    examples: Examples | None = None
    """The split itself, for metrics that are added."""


def evaluate(cell: Cell, params: Any, key: Array, split: Examples) -> Evaluation:
    """Own masks [N, P], their scores [N, P], nats [N] and hits [N] on a split."""
    keys = jax.random.split(key, split.labels.shape[0])

    def one(args):
        k, example = args
        logits, mask, scores = answer(cell, params, k, example)
        nats = nats_of(logits, example)
        return Evaluation(mask, scores, nats, logits.argmax() == example.labels)

    return jax.lax.map(one, (keys, split), batch_size=256)


def judge(
    cell: Cell, predictor: Any, split: Examples, masks: Array
) -> tuple[Array, Array]:
    """Nats [N] and hits [N] of a predictor on a split under given masks [N, P]."""

    def one(args):
        example, mask = args
        logits = logits_of(cell, predictor, example, mask)
        return nats_of(logits, example), logits.argmax() == example.labels

    return jax.lax.map(one, (split, masks), batch_size=256)


def accuracy(cell: Cell, predictor: Any, split: Examples, masks: Array) -> Array:
    """Share of a split that a predictor gets right under given masks [N, P]."""
    return judge(cell, predictor, split, masks)[1].mean()
