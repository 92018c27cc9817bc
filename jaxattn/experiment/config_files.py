"""Where a run's settings come from: config files, and grids on the command line."""

import dataclasses
import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxattn import config as configs
from jaxattn.config import Config, at_setting, check, to_dict
from jaxattn.system.errors import reason, suggest


def load(path: str | Path) -> Config:
    """The Config of a file's `get_config()`, with the settings its `sweep(add)` adds.

    `add` takes what a setting changes, as `add({"optimizer.learning_rate": 1e-3})`.

    Raises: OSError or ValueError, one line, for a file that is missing, does not run,
    has no get_config, or returns or adds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise OSError(f"config file {path} does not exist")
    spec = importlib.util.spec_from_file_location("jaxattn_config", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"config file {path} is no Python file: its name must end .py")
    module = importlib.util.module_from_spec(spec)
    points: list[str] = []
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise AttributeError("it has no function get_config()")
        config = module.get_config()
        if hasattr(module, "sweep"):
            module.sweep(lambda changes: points.append(_setting(changes)))
    except (Exception, SystemExit) as error:
        raise ValueError(f"config file {path}: {_explain(error)}") from error
    if not isinstance(config, Config):
        raise ValueError(
            f"config file {path}: get_config() returned {type(config).__name__}, "
            "expected jaxattn.config.Config"
        )
    return placed(check(config), points)


def _setting(changes: Any) -> str:
    if not isinstance(changes, Mapping) or not changes:
        raise TypeError(
            f"sweep: add({changes!r}): expected a mapping of fields to values, as "
            '{"optimizer.learning_rate": 1e-3}'
        )
    return " ".join(f"{path}={value}" for path, value in changes.items())


def grid(axes: Sequence[str]) -> list[str]:
    """Every combination of axes such as 'optimizer.learning-rate=1e-3,3e-3'.

    Raises: ValueError for an axis of another form, or a field that two of them vary.
    """
    choices = []
    for axis in axes:
        path, equals, values = axis.partition("=")
        path, found = path.replace("-", "_"), [v for v in values.split(",") if v]
        if not (path and equals and found):
            raise ValueError(f"sweep {axis!r} is not of the form FIELD=VALUE,VALUE")
        choices.append([f"{path}={value}" for value in dict.fromkeys(found)])
    paths = [words[0].partition("=")[0] for words in choices]
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise ValueError(f"sweep names {', '.join(sorted(twice))} more than once")
    return [" ".join(words) for words in itertools.product(*choices)] if axes else []


def placed(config: Config, points: Sequence[str]) -> Config:
    """The config with the points of a sweep as its settings, each of them once.

    The point that equals the config's own values is its main setting; where none does,
    the first point becomes the main one, so that nothing runs but what was asked.

    Raises: ValueError, one line, for a point that the config cannot have.
    """
    if not points:
        return config
    own = [_plain(at_setting(config, point)) for point in points]
    if _plain(config) not in own:
        also = config.also
        config = dataclasses.replace(at_setting(config, points[0]), also=also)
    kept: dict[str, str] = {}
    for setting in (*config.also, *points):
        config_there = at_setting(config, setting)
        if _plain(config_there) != _plain(config):
            kept.setdefault(str(_plain(config_there)), _named(config, config_there))
    return dataclasses.replace(config, also=tuple(kept.values()))


def _plain(config: Config) -> dict[str, Any]:
    return {k: v for k, v in to_dict(config).items() if k != "also"}


def _named(main: Config, config: Config) -> str:
    """What tells a config from the main one, as a setting."""
    words = []

    def walk(a: Any, b: Any, prefix: str) -> None:
        for name, value in b.items():
            if isinstance(value, dict):
                walk(a[name], value, f"{prefix}{name}.")
            elif a[name] != value:
                text = f"{value:.12g}" if isinstance(value, float) else str(value)
                words.append(f"{prefix}{name}={text}")

    walk(_plain(main), _plain(config), "")
    return " ".join(words)


def _explain(error: BaseException) -> str:
    text = reason(error)
    if isinstance(error, TypeError) and "unexpected keyword argument '" in text:
        wrong = text.rsplit("argument '", 1)[1].split("'")[0]
        owner = text.split(".__init__")[0]
        node = getattr(configs, owner, None)
        if dataclasses.is_dataclass(node):
            names = [f.name for f in dataclasses.fields(node)]
            return f"unknown field {wrong} in {owner}: {suggest(wrong, names)}"
    return reason(error, kind=True)
