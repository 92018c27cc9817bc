"""Reading, checking and comparing the configuration of an experiment.

Its fields are in `jaxattn.schema`. Neither module imports jax, so that `--help`
answers at once.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from jaxattn.schema import (
    Config,
    Data,
    MethodName,
    MetricGroup,
    Model,
    Optimizer,
    RandomMasks,
    Statistic,
    TaskName,
    Weighting,
)

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
    "suggest",
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
