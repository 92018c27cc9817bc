"""The fields of an experiment as frozen dataclasses, their checks, and settings.

A field made by `number` may differ between the cells of one compiled program; every
other field is structure, and another value of it is another program. To jax a Config is
a pytree whose leaves are its numbers (`jaxattn.training.cell` registers it); this
module imports no jax, so that `--help` answers at once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from jaxattn.system.errors import suggest

Statistic = Literal["mean", "iqm"]
MetricGroup = Literal[
    "agreement",
    "plausibility",
    "faithfulness",
    "attention",
    "robustness",
    "adversary",
    "leak",
]

# The parts of a model that jaxattn comes with, for `--help`. What decides whether a
# name is known is its registry (SELECTORS, ...), which imports jax.
Query = Literal["bag", "gru", "bigru", "bilstm", "cnn", "transformer", "none"]
Selector = Literal["additive", "dot_product", "multi_head", "gated", "tabular"]
Normalizer = Literal[
    "softmax", "gumbel_softmax", "sparsemax", "entmax15", "top_k", "gumbel_top_k",
    "gates", "hard_concrete", "hard_kuma",
]  # fmt: skip
Predictor = Literal["pooling", "positionwise", "cnn", "recurrent", "tabular"]

DEFAULT_METHODS: tuple[str, ...] = (
    "joint",
    "random_pretraining",
    "instance_weighting",
    "mask_swap",
    "random_always",
    "mask_mix",
    "uniform",
)


def number(default: float, low: float, high: float) -> Any:
    """A field that may differ between the cells of one program, within [low, high]."""
    metadata = {"sweep": True, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def count(default: int, low: int, high: int = 10**9) -> Any:
    """A whole-number field of the structure, within [low, high]."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Data:
    length: int = count(32, 1, 4096)
    """Tokens kept of each text; the rest is cut, counted and reported."""
    min_count: int = count(2, 1)
    """Words seen less often in the training split become <unk>."""
    examples: int = count(10_000, 2, 10**8)
    """Training examples of generated tasks; each seed has its own."""
    test_examples: int = count(10_000, 2, 10**8)
    """Test examples of generated tasks, never the training ones."""
    fresh: bool = False
    """Draw new training examples in every epoch (generated tasks)."""
    source: str = ""
    """Data of one's own (task own), as --data gives it."""
    fields: tuple[str, ...] = ()
    """Which field of one's own data is what, as --fields gives it: ROLE=FIELD."""
    tokenizer: str = ""
    """Of one's own texts, as --tokenizer gives it; the package's own if not given."""
    black_box: str = ""
    """A model of one's own to explain (task explain_own), MODULE:FUNCTION: a list of
    texts, or an array [N, T] or [N, T, D], in; probabilities [N, classes] out."""
    asked_about: str = "movie_sentiment"
    """The task whose inputs that model is asked about."""
    asked_again: int = count(1000, 0)
    """Test examples of which it is shown what each seed selected, and as many of what
    chance selects (post_hoc_accuracy)."""


@dataclasses.dataclass(frozen=True)
class Model:
    values: Literal["default_tokens", "inputs", "inputs_and_default_tokens"] = (
        "default_tokens"
    )
    """What the mask selects from: the example's own tokens, features or instances,
    or default tokens, which are the same for every example."""
    default_tokens: int = count(4, 2, 1024)
    """How many contentless tokens there are (unused where values are inputs)."""
    query: Query | str = "bag"
    """Encoder of the whole example into the query."""
    selector: Selector | str = "additive"
    normalizer: Normalizer | str = "gumbel_softmax"
    """Turns scores into the mask; gumbel_softmax adds fresh noise, in tests too."""
    temperature: float = number(1.0, 1e-3, 1e3)
    """Divides the (noisy) scores before the softmax or the sigmoid."""
    budget: float = number(0, 0, 1e6)
    """Positions that top_k and gumbel_top_k select; 0 is the task's own number."""
    penalty: float = number(0.0, 0.0, 1e3)
    """Nats that each selected position costs the selector (gates)."""
    open_at_first: float = number(2.0, -20.0, 20.0)
    """Added to the scores of gates, so that they begin open (log-odds)."""
    predictor: Predictor | str = "pooling"
    features: int = count(32, 1, 65536)
    """Width of every embedding."""
    hidden: int = count(32, 1, 65536)
    """Width of the hidden layers of predictor and selector."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = number(3e-3, 1e-9, 1e3)
    """Of Adam, for selector and predictor."""


@dataclasses.dataclass(frozen=True)
class Weighting:
    """The estimator of P(y given m) behind `instance_weighting`, and its weights."""

    hidden: int = count(32, 1, 65536)
    learning_rate: float = number(1e-2, 1e-9, 1e3)
    updates: int = count(1, 1, 100)
    """Estimator updates in each training step, on that step's masks."""
    truncation: float = number(20.0, 1.0, 1e6)
    """Weights are cut to [1/truncation, truncation]."""


@dataclasses.dataclass(frozen=True)
class RandomMasks:
    """How random masks are drawn, and how long a predictor learns from them alone."""

    pretraining_share: float = number(0.5, 0.05, 0.95)
    """Share of the steps in which only the predictor learns (methods that begin so)."""
    low: float = number(0.5, 1e-6, 1e3)
    """Smallest standard deviation of the random scores behind a random mask."""
    high: float = number(8.0, 1e-6, 1e3)
    """Largest one; each mask draws its own, log-uniformly."""


@dataclasses.dataclass(frozen=True)
class Config:
    """All that decides what a run computes, with the defaults of the shortcut probe.

    >>> import jaxattn
    >>> config = jaxattn.Config(
    ...     methods=("instance_weighting", "random_always"),
    ...     weighting=jaxattn.Weighting(updates=8),
    ...     random_masks=jaxattn.RandomMasks(low=1.0),
    ... )
    >>> config.model.selector, config.seeds, config.random_masks.high
    ('additive', 16, 8.0)
    """

    name: str = "probe"
    """The run's name; outputs go to runs/NAME."""
    tasks: tuple[str, ...] = ("movie_sentiment",)
    methods: tuple[str, ...] = DEFAULT_METHODS
    also: tuple[str, ...] = ()
    """More settings, run beside the main one: NUMBER=VALUE, as model.penalty=0.1."""
    metrics: tuple[MetricGroup, ...] = ("agreement", "plausibility")
    """What more is measured of attention over words or instances: agreement with
    gradients and leave-one-out, plausibility by rated words, and, for a price that is
    said, faithfulness by removal, tests of attention itself, robustness to small
    changes, an adversary (another model, trained to answer alike and attend
    elsewhere), and where masks leak the label, by the audit of each seed."""
    statistic: Statistic = "mean"
    """What is reported over seeds: the mean, or the interquartile mean (iqm)."""
    seeds: int = count(16, 1, 100_000)
    """Replications of each method; the unit of every interval."""
    first_seed: int = count(0, 0, 2**31 - 1)
    epochs: int = count(8, 1, 100_000)
    full_text_epochs: int = count(2, 1, 100_000)
    """Of the full-text reference, which overfits sooner than the probe."""
    batch_size: int = count(128, 2, 1_000_000)
    lane: int = count(0, 0, 100_000)
    """Cells that run side by side on one device; 0 chooses by a short measurement."""
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    weighting: Weighting = Weighting()
    random_masks: RandomMasks = RandomMasks()


Name = tuple[str, int]
"""Of a cell: (method, seed). `full_text` is `joint` over the inputs, and a method may
carry a setting of its own: `joint@model.penalty=0.1`."""


def label_of(method: str, setting: str) -> str:
    """What the cells of a method at a setting are called."""
    return f"{method}@{setting}" if setting else method


def labels_of(methods: Iterable[str], also: Sequence[str]) -> list[str]:
    """What cells of these methods are called, the config's own setting first."""
    return [label_of(m, setting) for setting in ("", *also) for m in methods]


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Dotted path, value and field of everything that a config holds."""
    for field in dataclasses.fields(node):
        value, path = getattr(node, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from walk(value, path + ".")
        else:
            yield path, value, field


def is_number(field: dataclasses.Field) -> bool:
    """Whether a field may differ between the cells of one program."""
    return bool(field.metadata.get("sweep"))


def numbers(config: Config) -> dict[str, float]:
    """The fields that may vary inside one program, by dotted path."""
    return {path: float(v) for path, v, field in walk(config) if is_number(field)}


def replaced(config: Any, path: str, value: Any) -> Any:
    """The same config with another value at a dotted path."""
    name, _, rest = path.partition(".")
    if rest:
        value = replaced(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def check_name(path: str, name: object, names: Collection[str]) -> None:
    """Raises ValueError, with the name that was probably meant, for an unknown one."""
    if name not in names:
        raise ValueError(f"{path} = {name!r}: {suggest(name, names)}")


def check_once(what: str, names: Sequence[str]) -> None:
    """Raises ValueError where one of the names stands twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} names {', '.join(twice)} more than once")


_EXAMPLES = {"also": "model.penalty=0.1", "data.fields": "label=stars"}


def check(config: Config) -> Config:
    """The same config if every field makes sense.

    Names of tasks, methods and parts of the model are checked where their registries
    are, by `jaxattn.experiment.plan.check_names`.

    Raises:
        ValueError: one line naming the field, its value and what is allowed.
    """
    for field in dataclasses.fields(config):
        part, wanted = getattr(config, field.name), type(field.default)
        if dataclasses.is_dataclass(wanted) and type(part) is not wanted:
            raise ValueError(
                f"{field.name} = {part!r}: expected {wanted.__name__}(...)"
            )
    for path, value, field in walk(config):
        _check_value(path, value, field)
    for path in ("methods", "tasks", "metrics"):
        names = getattr(config, path)
        if not names and path != "metrics":
            raise ValueError(f"{path} is empty: name one at least")
        check_once(path, names)
    for i, group in enumerate(config.metrics):
        check_name(f"metrics[{i}]", group, get_args(MetricGroup))
    for setting in config.also:
        at_setting(config, setting)
    _check_user_data(config)
    if config.name in ("", ".", "..") or Path(config.name).name != config.name:
        raise ValueError(f"name = {config.name!r}: expected a plain folder name")
    if config.random_masks.low > config.random_masks.high:
        raise ValueError("random_masks.low is above random_masks.high")
    return config


def _check_value(path: str, value: Any, field: dataclasses.Field) -> None:
    """Whether one field has a value of its type and within its range."""
    if get_origin(field.type) is Literal:
        check_name(path, value, get_args(field.type))
    elif isinstance(field.default, tuple):
        given = value if isinstance(value, tuple | list) else (None,)
        if not all(isinstance(text, str) for text in given):
            example = f" as {_EXAMPLES[path]!r}" if path in _EXAMPLES else ""
            raise ValueError(f"{path} = {value!r}: expected a tuple of texts{example}")
    elif isinstance(field.default, str) and not isinstance(value, str):
        raise ValueError(f"{path} = {value!r}: expected a text")
    elif "low" in field.metadata:
        low, high = field.metadata["low"], field.metadata["high"]
        kind = float if is_number(field) else int
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise ValueError(f"{path} = {value!r}: expected {kind.__name__}")
        if not low <= value <= high:
            one_token = path == "model.default_tokens" and value == 1
            hint = " (a mask over one token is always 1 and can carry nothing)"
            allowed = f"allowed is {low:g} to {high:g}{hint * one_token}"
            raise ValueError(f"{path} = {value}: {allowed}")


def _check_user_data(config: Config) -> None:
    """Whether the user's data and black box are named where they are used, only there.

    Raises: ValueError, one line.
    """
    data, explains = config.data, "explain_own" in config.tasks
    if "own" in config.tasks or (explains and data.asked_about == "own"):
        if not data.source:
            raise ValueError("task own needs data of one's own: give --data FILE")
    else:
        for field in ("source", "fields", "tokenizer"):
            if getattr(data, field):
                given = "--data FILE and " if field != "source" else ""
                raise ValueError(
                    f"data.{field} is for data of one's own: give {given}task own"
                )
    if explains and not data.black_box:
        raise ValueError(
            "task explain_own needs a model: give --data.black-box MODULE:FUNCTION"
        )
    if data.black_box and not explains:
        raise ValueError(
            f"data.black_box = {data.black_box!r} is for task explain_own: add it to "
            "tasks"
        )


SWEPT = (
    "model optimizer weighting random_masks epochs full_text_epochs batch_size".split()
)
"""What may differ between the settings of one run: not the data, which all share."""


def at_setting(config: Config, setting: str) -> Config:
    """The config with fields changed, as 'model.penalty=0.1 model.hidden=64' asks.

    Args:
        config: the config to begin with.
        setting: words of the form FIELD=VALUE; '' changes nothing.

    Returns: the changed config, without settings of its own.

    Raises:
        ValueError: for a field that no setting may change, or a value that it cannot
            have.

    >>> at_setting(Config(), "model.hidden=64").model.hidden
    64
    """
    for word in setting.split():
        path, equals, text = word.partition("=")
        path = path.replace("-", "_")
        if not equals:
            raise ValueError(f"setting {word!r} is not of the form FIELD=VALUE")
        fields = {p: f for p, _, f in walk(config) if p.partition(".")[0] in SWEPT}
        if path not in fields:
            raise ValueError(f"setting {word!r}: {suggest(path, fields)}")
        kind = str if isinstance(fields[path].default, str) else int
        kind = float if is_number(fields[path]) else kind
        try:
            config = replaced(config, path, kind(text))
        except ValueError:
            what = "a number" if kind is float else "a whole number"
            told = f"setting '{path}={text}': {text!r} is not {what}"
            raise ValueError(told) from None
    return check(dataclasses.replace(config, also=())) if setting else config


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def fingerprint(config: Config) -> str:
    """Sixteen hexadecimal digits that name this config."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """'path: old -> new' for every field in which two config dictionaries differ."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += [f"{key}.{line}" for line in differences(a, b)]
        elif a != b:
            lines.append(f"{key}: {a} -> {b}")
    return lines
