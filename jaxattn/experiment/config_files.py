"""Where a run's settings come from: config files, and grids on the command line."""

import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxattn import config as configs
from jaxattn.config import Config, at_setting, check, check_once, walk
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

    Raises:
        ValueError: for an axis of another form, or a field that two of them vary.

    >>> grid(["epochs=1,2", "model.hidden=8"])
    ['epochs=1 model.hidden=8', 'epochs=2 model.hidden=8']
    """
    choices = []
    for axis in axes:
        path, equals, values = axis.partition("=")
        path, given = path.replace("-", "_"), filter(None, values.split(","))
        choices.append([f"{path}={value}" for value in dict.fromkeys(given)])
        if not (path and equals and choices[-1]):
            raise ValueError(f"sweep {axis!r} is not of the form FIELD=VALUE,VALUE")
    check_once("sweep", [words[0].partition("=")[0] for words in choices])
    return [" ".join(words) for words in itertools.product(*choices)] if axes else []


def placed(config: Config, points: Sequence[str]) -> Config:
    """The config with the points of a sweep as its settings, each of them once.

    The point that equals the config's own values is its main setting; where none does,
    the first point becomes the main one, so that nothing runs but what was asked.

    Raises: ValueError, one line, for a point that the config cannot have.
    """
    if not points:
        return config
    main = dataclasses.replace(config, also=())
    asked = [at_setting(main, point) for point in points]
    main = main if main in asked else asked[0]
    settings = [
        _setting_from(main, at_setting(main, setting))
        for setting in (*config.also, *points)
    ]
    also = tuple(dict.fromkeys(filter(None, settings)))
    return dataclasses.replace(main, also=also)


def _setting_from(main: Config, config: Config) -> str:
    """What makes a config of the main one, as a setting; '' where they are equal."""
    words = []
    for (path, old, _), (_, new, _) in zip(walk(main), walk(config), strict=True):
        if old != new:
            value = f"{new:.12g}" if isinstance(new, float) else str(new)
            words.append(f"{path}={value}")
    return " ".join(words)


def _explain(error: BaseException) -> str:
    pattern = r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'.*"
    match = re.fullmatch(pattern, reason(error))
    node = match and getattr(configs, match[1], None)
    if match and dataclasses.is_dataclass(node):
        names = [field.name for field in dataclasses.fields(node)]
        return f"unknown field {match[2]} in {match[1]}: {suggest(match[2], names)}"
    return reason(error, kind=True)
