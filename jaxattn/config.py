"""One experiment as frozen dataclasses: what it is, what may vary inside a program.

A field made by `number` may differ between the cells of one compiled program; every
other field is structure, and another value of it is another program. This module
imports no jax, so that `--help` answers at once.
"""

import dataclasses
import difflib
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

TaskName = Literal["movie_sentiment", "sentiment", "sources"]
MethodName = Literal[
    "joint",
    "random_pretraining",
    "random_pretraining_annealed",
    "random_pretraining_averaged",
    "instance_weighting",
    "mask_swap",
    "random_always",
    "mask_mix",
    "uniform",
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


@dataclasses.dataclass(frozen=True)
class Model:
    values: Literal["default_tokens", "words", "words_and_default_tokens"] = (
        "default_tokens"
    )
    """What the mask selects from; default tokens are the same for every example."""
    default_tokens: int = count(4, 2, 1024)
    """How many contentless tokens there are (unused where values are words)."""
    query: Literal["bag", "gru"] = "bag"
    """Encoder of the whole text into the query."""
    selector: Literal["additive", "dot_product"] = "additive"
    normalizer: Literal["softmax", "gumbel_softmax"] = "gumbel_softmax"
    """Turns scores into the mask; gumbel_softmax adds fresh noise, in tests too."""
    temperature: float = number(1.0, 1e-3, 1e3)
    """Divides the (noisy) scores before the softmax."""
    predictor: Literal["pooling", "positionwise"] = "pooling"
    features: int = count(32, 1, 65536)
    """Width of every embedding."""
    hidden: int = count(32, 1, 65536)
    """Width of the predictor's hidden layer and of the selector's score."""


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
    pretraining_share: float = number(0.5, 0.05, 0.95)
    """Share of the steps in which only the predictor learns (random_pretraining)."""
    low: float = number(0.5, 1e-6, 1e3)
    """Smallest standard deviation of the random scores behind a random mask."""
    high: float = number(8.0, 1e-6, 1e3)
    """Largest one; each mask draws its own, log-uniformly."""


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "probe"
    """The run's name; outputs go to runs/NAME."""
    task: TaskName = "movie_sentiment"
    methods: tuple[MethodName, ...] = DEFAULT_METHODS
    seeds: int = count(16, 1, 100_000)
    """Replications of each method; the unit of every interval."""
    first_seed: int = count(0, 0, 2**31 - 1)
    epochs: int = count(8, 1, 100_000)
    full_text_epochs: int = count(2, 1, 100_000)
    """Of the full-text reference, which overfits sooner than the probe."""
    batch_size: int = count(128, 2, 1_000_000)
    lane: int = count(4, 1, 100_000)
    """Cells that run side by side on one device."""
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    weighting: Weighting = Weighting()
    random_masks: RandomMasks = RandomMasks()


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
    if not config.methods:
        raise ValueError(f"methods is empty: name some of {', '.join(_methods())}")
    twice = {m for m in config.methods if config.methods.count(m) > 1}
    if twice:
        raise ValueError(f"methods names {', '.join(sorted(twice))} more than once")
    if config.name in ("", ".", "..") or Path(config.name).name != config.name:
        raise ValueError(f"name = {config.name!r}: expected a plain folder name")
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
    if not isinstance(config.methods, tuple | list):
        raise ValueError(
            f"methods = {config.methods!r}: expected a tuple of {', '.join(_methods())}"
        )


def _methods() -> tuple[str, ...]:
    return get_args(MethodName)


def _choices(config: Config):
    yield "task", config.task, get_args(TaskName)
    for i, method in enumerate(config.methods):
        yield f"methods[{i}]", method, _methods()
    for path, value, field in _walk(config.model, "model."):
        if get_args(field.type):
            yield path, value, get_args(field.type)


def suggest(name: object, names) -> str:
    """'perhaps you meant X; allowed: ...' for an unknown name."""
    near = difflib.get_close_matches(str(name), list(names), n=1)
    meant = f"perhaps you meant {near[0]}; " if near else ""
    return f"{meant}allowed: {', '.join(names)}"


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


def load(path: str | Path) -> Config:
    """The Config that a config file's `get_config()` returns.

    Raises: OSError or ValueError, one line, for a file that is missing, does not run,
    has no get_config, or returns something else.
    """
    path = Path(path)
    if not path.is_file():
        raise OSError(f"config file {path} does not exist")
    spec = importlib.util.spec_from_file_location("jaxattn_config", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"config file {path} is no Python file: its name must end .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise AttributeError("it has no function get_config()")
        config = module.get_config()
    except (Exception, SystemExit) as error:
        raise ValueError(f"config file {path}: {_explain(error)}") from error
    if not isinstance(config, Config):
        raise ValueError(
            f"config file {path}: get_config() returned {type(config).__name__}, "
            "expected jaxattn.config.Config"
        )
    return config


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, TypeError) and "unexpected keyword argument '" in text:
        wrong = text.rsplit("argument '", 1)[1].split("'")[0]
        owner = text.split(".__init__")[0]
        node = globals().get(owner)
        if dataclasses.is_dataclass(node):
            names = [f.name for f in dataclasses.fields(node)]
            return f"unknown field {wrong} in {owner}: {suggest(wrong, names)}"
    return f"{type(error).__name__}: {text}"
