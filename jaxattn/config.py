"""Reading, checking and comparing the configuration of an experiment.

Its fields are in `jaxattn.config`. Neither module imports jax, so that `--help`
answers at once.

The fields of an experiment as frozen dataclasses, and which of them are numbers.

A field made by `number` may differ between the cells of one compiled program; every
other field is structure, and another value of it is another program.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from jaxattn.system.errors import suggest

TaskName = Literal[
    "movie_sentiment",
    "sentiment",
    "sources",
    "planted",
    "bags",
    "digits_pixels",
    "digits_patches",
    "xor",
    "orange_skin",
    "nonlinear_additive",
    "nonlinear_additive_paper",
    "switch",
    "switch_paper",
    "switch_published",
    "syn1",
    "syn2",
    "syn3",
    "syn4",
    "syn5",
    "syn6",
    "syn3_paper",
    "syn5_paper",
    "syn6_paper",
    "syn1_100",
    "syn2_100",
    "syn3_100",
    "syn4_100",
    "syn5_100",
    "syn6_100",
    "explain_linear",
    "explain_cnn",
    "explain_gru",
    "explain_digits_pixels",
    "explain_digits_patches",
    "own",
    "explain_own",
]

MethodName = Literal[
    "joint",
    "random_pretraining",
    "random_pretraining_annealed",
    "random_pretraining_averaged",
    "instance_weighting",
    "mask_swap",
    "random_always",
    "mask_mix",
    "mask_mix_delayed",
    "invase",
    "realx",
    "uniform",
    "random_selection",
    "gradient",
    "leave_one_out",
]

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

DEFAULT_METHODS: tuple[MethodName, ...] = (
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
    asked_about: Literal[
        "movie_sentiment",
        "sentiment",
        "sources",
        "planted",
        "bags",
        "digits_pixels",
        "digits_patches",
        "own",
    ] = "movie_sentiment"
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
    query: Literal["bag", "gru", "bigru", "bilstm", "cnn", "transformer", "none"] = (
        "bag"
    )
    """Encoder of the whole example into the query."""
    selector: Literal["additive", "dot_product", "multi_head", "gated", "tabular"] = (
        "additive"
    )
    normalizer: Literal[
        "softmax",
        "gumbel_softmax",
        "sparsemax",
        "entmax15",
        "top_k",
        "gumbel_top_k",
        "gates",
        "hard_concrete",
        "hard_kuma",
    ] = "gumbel_softmax"
    """Turns scores into the mask; gumbel_softmax adds fresh noise, in tests too."""
    temperature: float = number(1.0, 1e-3, 1e3)
    """Divides the (noisy) scores before the softmax or the sigmoid."""
    budget: float = number(0, 0, 1e6)
    """Positions that top_k and gumbel_top_k select; 0 is the task's own number."""
    penalty: float = number(0.0, 0.0, 1e3)
    """Nats that each selected position costs the selector (gates)."""
    open_at_first: float = number(2.0, -20.0, 20.0)
    """Added to the scores of gates, so that they begin open (log-odds)."""
    predictor: Literal["pooling", "positionwise", "cnn", "recurrent", "tabular"] = (
        "pooling"
    )
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
    tasks: tuple[TaskName, ...] = ("movie_sentiment",)
    methods: tuple[MethodName, ...] = DEFAULT_METHODS
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


__all__ = [
    "Config",
    "Data",
    "Model",
    "Optimizer",
    "RandomMasks",
    "Weighting",
    "at_setting",
    "check",
    "differences",
    "fingerprint",
    "numbers",
    "to_dict",
    "with_numbers",
]


def _walk(node: Any, prefix: str = ""):
    for field in dataclasses.fields(node):
        value, path = getattr(node, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from _walk(value, path + ".")
        else:
            yield path, value, field


def numbers(config: Config) -> dict[str, float]:
    """The fields that may vary inside one program, by dotted path."""
    return {p: float(v) for p, v, f in _walk(config) if f.metadata.get("sweep")}


def with_numbers(config: Config, values: Mapping[str, Any]) -> Config:
    """The same config with numbers (or traced arrays) put in by dotted path."""
    for path, value in values.items():
        *parents, name = path.split(".")
        nodes = [config]
        for parent in parents:
            nodes.append(getattr(nodes[-1], parent))
        for node, attribute in zip(
            reversed(nodes), reversed([*parents, name]), strict=True
        ):
            value = dataclasses.replace(node, **{attribute: value})
        config = value
    return config


def check(config: Config) -> Config:
    """The same config if every field makes sense.

    Raises: ValueError, one line naming the field, its value and what is allowed.
    """
    _check_types(config)
    for path, value, field in _walk(config):
        if "low" not in field.metadata:
            continue
        low, high = field.metadata["low"], field.metadata["high"]
        kind = float if field.metadata.get("sweep") else int
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise ValueError(f"{path} = {value!r}: expected {kind.__name__}")
        if not low <= value <= high:
            hint = ""
            if path == "model.default_tokens" and value == 1:
                hint = " (a mask over one token is always 1 and can carry nothing)"
            raise ValueError(f"{path} = {value}: allowed is {low:g} to {high:g}{hint}")
    for path, value, names in _choices(config):
        if value not in names:
            raise ValueError(f"{path} = {value!r}: {suggest(value, names)}")
    for field in ("methods", "tasks", "metrics"):
        names = getattr(config, field)
        if not names and field != "metrics":
            allowed = ", ".join(_allowed(field))
            raise ValueError(f"{field} is empty: name some of {allowed}")
        twice = {m for m in names if names.count(m) > 1}
        if twice:
            raise ValueError(f"{field} names {', '.join(sorted(twice))} more than once")
    for setting in config.also:
        at_setting(config, setting)
    _check_source(config)
    if config.name in ("", ".", "..") or Path(config.name).name != config.name:
        raise ValueError(f"name = {config.name!r}: expected a plain folder name")
    _check_black_box(config)
    if config.random_masks.low > config.random_masks.high:
        raise ValueError("random_masks.low is above random_masks.high")
    return config


def _check_types(config: Config) -> None:
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), getattr(Config(), field.name)
        if dataclasses.is_dataclass(default) and type(value) is not type(default):
            wanted = type(default).__name__
            raise ValueError(f"{field.name} = {value!r}: expected {wanted}(...)")
    if not isinstance(config.name, str):
        raise ValueError(f"name = {config.name!r}: expected a text")
    for field in ("methods", "tasks", "metrics"):
        names = getattr(config, field)
        if not isinstance(names, tuple | list):
            allowed = ", ".join(_allowed(field))
            raise ValueError(f"{field} = {names!r}: expected a tuple of {allowed}")
    if not isinstance(config.also, tuple | list) or any(
        not isinstance(setting, str) for setting in config.also
    ):
        raise ValueError(
            f"also = {config.also!r}: expected a tuple of texts as 'model.penalty=0.1'"
        )


def _check_source(config: Config) -> None:
    """Whether data of one's own are named where they are used, and only there."""
    data = config.data
    for field in ("source", "tokenizer"):
        if not isinstance(getattr(data, field), str):
            raise ValueError(f"data.{field} = {getattr(data, field)!r}: a text")
    if not isinstance(data.fields, tuple | list) or not all(
        isinstance(word, str) for word in data.fields
    ):
        raise ValueError(
            f"data.fields = {data.fields!r}: expected a tuple of texts as 'label=stars'"
        )
    about = "explain_own" in config.tasks and data.asked_about == "own"
    if "own" in config.tasks or about:
        if not data.source:
            raise ValueError("task own needs data of one's own: give --data FILE")
        return
    for field in ("source", "fields", "tokenizer"):
        if getattr(data, field):
            given = "--data FILE and " if field != "source" else ""
            raise ValueError(
                f"data.{field} is for data of one's own: give {given}task own"
            )


def _check_black_box(config: Config) -> None:
    """Whether a model of one's own is named where it is explained, and only there."""
    given, task = config.data.black_box, "explain_own" in config.tasks
    if not isinstance(given, str):
        raise ValueError(f"data.black_box = {given!r}: expected MODULE:FUNCTION")
    if task and not given:
        raise ValueError(
            "task explain_own needs a model: give --data.black-box MODULE:FUNCTION"
        )
    if given and not task:
        raise ValueError(
            f"data.black_box = {given!r} is for task explain_own: add it to tasks"
        )


def at_setting(config: Config, setting: str) -> Config:
    """The config with fields changed, as 'model.penalty=0.1 model.hidden=64' asks.

    '' changes none. Raises: ValueError for a field that no setting may change, or a
    value that it cannot have.
    """
    for word in setting.split():
        path, equals, text = word.partition("=")
        path = path.replace("-", "_")
        if not equals:
            raise ValueError(f"setting {word!r} is not of the form FIELD=VALUE")
        fields = _swept(config)
        if path not in fields:
            raise ValueError(f"setting {word!r}: {suggest(path, fields)}")
        config = with_numbers(config, {path: _parsed(path, text, fields[path])})
    return check(dataclasses.replace(config, also=())) if setting else config


def _swept(config: Config) -> dict[str, dataclasses.Field]:
    """The fields that may differ between the settings of one run, by dotted path.

    Not the data, which all settings share, nor what a run consists of.
    """
    parts = ("model", "optimizer", "weighting", "random_masks")
    whole = ("epochs", "full_text_epochs", "batch_size")
    return {
        path: field
        for path, _, field in _walk(config)
        if path.partition(".")[0] in parts or path in whole
    }


def _parsed(path: str, text: str, field: dataclasses.Field) -> Any:
    if get_args(field.type):
        return text
    kind = float if field.metadata.get("sweep") else int
    try:
        return kind(text)
    except ValueError:
        what = "a number" if kind is float else "a whole number"
        raise ValueError(f"setting '{path}={text}': {text!r} is not {what}") from None


def _allowed(field: str) -> tuple[str, ...]:
    types = {"methods": MethodName, "tasks": TaskName, "metrics": MetricGroup}
    return get_args(types[field])


def _choices(config: Config):
    for field in ("methods", "tasks", "metrics"):
        for i, name in enumerate(getattr(config, field)):
            yield f"{field}[{i}]", name, _allowed(field)
    yield "statistic", config.statistic, get_args(Statistic)
    for part in ("model", "data"):
        for path, value, field in _walk(getattr(config, part), f"{part}."):
            if get_origin(field.type) is Literal:
                yield path, value, get_args(field.type)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def fingerprint(config: Config) -> str:
    """Sixteen hexadecimal digits that name this config."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """'path: old -> new' for every field in which two config dictionaries differ."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += [f"{key}.{line}" for line in differences(a, b)]
        elif a != b:
            found.append(f"{key}: {a} -> {b}")
    return found


Name = tuple[str, int]
"""Of a cell: (method, seed). `full_text` is `joint` over the inputs, and a method may
carry a setting of its own: `joint@model.penalty=0.1`."""


def _label(method: str, setting: str) -> str:
    return f"{method}@{setting}" if setting else method


def labels_of(methods: Iterable[str], also: Sequence[str]) -> list[str]:
    """What cells of these methods are called, the config's own setting first."""
    return [_label(m, setting) for setting in ("", *also) for m in methods]
