"""A run's folder, read back: seeds, means, masks and what they stand for."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_origin

import numpy as np

from jaxattn import config as configs
from jaxattn.config import Config
from jaxattn.reports.results import Result, Row, read_results, read_seeds
from jaxattn.system.files import read_arrays

Masks = dict[str, np.ndarray]
"""What is kept of a method: masks [S, N, P], seeds and alive [S], labels, tokens ..."""
Loaded = TypeVar("Loaded")
PARTS = ("masks", "seeds", "alive")


class Names(NamedTuple):
    """What the numbers in a task's masks stand for; empty where nothing is known."""

    classes: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    ratings: Mapping[int, float] = {}
    """By token id, how people rated the word, -4 to 4."""
    train_shares: np.ndarray | None = None
    validation_majority: float | None = None
    grid: tuple[int, int] | None = None
    """Rows and columns, where positions are places of an image."""
    images: np.ndarray | None = None
    """[N, positions] or [N, positions, pixels], uint8."""


class Folder(NamedTuple):
    """All that a finished run left in its folder."""

    path: Path
    config: Config
    config_text: Mapping[str, Any]
    """config.json as it is: fields of other versions, too."""
    starts: list[Mapping[str, Any]]
    """environment.json: an entry for each start."""
    digest: str
    """Of the data."""
    rows: list[Row]
    results: list[Result]
    curves: Mapping[str, Mapping[str, np.ndarray]]
    """By task and method: validation accuracy [seeds, epochs]."""
    masks: Mapping[str, Mapping[str, Masks]]
    """By task and method."""
    names: Mapping[str, Names]
    """By task."""

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(r.task for r in self.results))

    def prefix(self, task: str) -> str:
        """What a sentence on one of several tasks begins with."""
        return f"{task}: " if len(self.tasks) > 1 else ""


def read(path: str | Path) -> Folder:
    """Reads the folder of a run.

    Raises: ValueError or OSError, one line, for a folder that is missing, holds no
    finished run, or has damaged files.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file, not the folder of a run" if path.exists() else "is missing"
        raise ValueError(f"{path} {what}: name a folder that jaxattn.train wrote")
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} holds no run: there is no config.json in it")
    for name in ("results.csv", "seeds.csv"):
        if not (path / name).is_file():
            raise ValueError(
                f"{path} holds no finished run: there is no {name}; run its command "
                "again, which goes on where it stopped"
            )
    text = _json(path / "config.json", dict)
    asked = text.get("config")
    if not isinstance(asked, dict):
        raise ValueError(f"{path / 'config.json'} is damaged: it has no config")
    try:
        # Fields of other versions are left out.
        config = configs.check(_filled(Config(), asked))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / 'config.json'} is damaged: {error}") from None
    results = read_results(path / "results.csv")
    tasks = list(dict.fromkeys(r.task for r in results))
    if not set(tasks) <= set(config.tasks):
        raise ValueError(
            f"{path / 'results.csv'} has tasks that config.json does not name: "
            f"{', '.join(t for t in tasks if t not in config.tasks)}"
        )
    if not tasks:
        raise ValueError(f"{path / 'results.csv'}: there is no result in it")
    many, starts = len(config.tasks) > 1, path / "environment.json"
    return Folder(
        path=path,
        config=config,
        config_text=asked,
        starts=_json(starts, list) if starts.exists() else [],
        digest=str(text.get("data_digest", "")),
        rows=read_seeds(path / "seeds.csv"),
        results=results,
        curves=_curves(path / "metrics.jsonl", config),
        masks={t: _masks(path / "masks" / (t if many else "")) for t in tasks},
        names={t: _names(path / "data", t) for t in tasks},
    )


def values(run: Folder, task: str, method: str, name: str) -> dict[int, float]:
    """One number of each seed, `metric` or `metric:variant` of the test split."""
    metric, _, variant = name.partition(":")
    return {
        r.seed: r.value
        for r in run.rows
        if (r.task, r.method, r.metric, r.variant, r.split)
        == (task, method, metric, variant, "test")
    }


def _json(path: Path, kind: type) -> Any:
    """What a file holds: an object (dict) or a list of them."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged or cut off: it is no whole JSON") from None
    items = content if kind is list else [content]
    if not isinstance(content, kind) or not all(isinstance(x, dict) for x in items):
        expected = {dict: "an object", list: "a list of objects"}[kind]
        raise ValueError(f"{path} is damaged: expected {expected}")
    return content


def _filled(default: Loaded, asked: Mapping[str, Any]) -> Loaded:
    filled = {}
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        own = getattr(default, field.name)
        value = asked.get(field.name, own)
        if dataclasses.is_dataclass(own):
            value = _filled(own, value)
        elif get_origin(field.type) is tuple and isinstance(value, list):
            value = tuple(value)
        filled[field.name] = value
    return dataclasses.replace(default, **filled)  # type: ignore[type-var]


def _curves(path: Path, config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Validation accuracies of the cells whose every epoch is there."""
    if not path.exists():
        return {}
    tasks = list(config.tasks)
    cells: dict[tuple[str, str, int], dict[int, float]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            if "task" not in record and len(tasks) > 1:
                return {}  # an older run of several tasks did not say which it was
            task = record.get("task", tasks[0])
            seen = record["validation_accuracy"]
            for (method, seed), value in zip(record["cells"], seen, strict=True):
                value = np.nan if value is None else float(value)
                cell = (str(task), str(method), int(seed))
                cells.setdefault(cell, {})[int(record["epoch"])] = value
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise ValueError(f"{path}, line {number}: cut off or damaged") from None
    curves: dict[str, dict[str, list]] = {}
    for (task, method, _), epochs in cells.items():
        curve = [epochs[e] for e in sorted(epochs)]
        curves.setdefault(task, {}).setdefault(method, []).append(curve)

    def longest(many: list[list[float]]) -> np.ndarray:
        most = max(map(len, many))
        return np.array([curve for curve in many if len(curve) == most])

    return {
        task: {method: longest(many) for method, many in methods.items()}
        for task, methods in curves.items()
    }


def _masks(folder: Path) -> dict[str, Masks]:
    masks_of = {}
    for path in sorted(folder.glob("*.npz")):
        arrays = read_arrays(path)
        if not set(PARTS) <= arrays.keys():
            raise ValueError(f"{path} is damaged: it has no {', '.join(PARTS)}")
        seeds, masks = arrays["seeds"], arrays["masks"]
        if masks.ndim != 3 or not len(seeds) == len(arrays["alive"]) == len(masks):
            raise ValueError(f"{path} is damaged: its arrays do not fit together")
        masks_of[path.stem] = arrays
    return masks_of


def _names(folder: Path, task: str) -> Names:
    path = folder / f"{task}.json"
    if not path.exists():
        return Names()
    text = _json(path, dict)
    shares, grid = text.get("train_shares"), text.get("grid")
    majority = text.get("validation_majority")
    images = folder / f"{task}.npz"
    try:
        return Names(
            classes=tuple(map(str, text.get("classes", ()))),
            vocabulary=tuple(map(str, text.get("vocabulary", ()))),
            ratings={int(k): float(v) for k, v in text.get("ratings", {}).items()},
            train_shares=None if shares is None else np.array(shares, float),
            validation_majority=None if majority is None else float(majority),
            grid=None if grid is None else (int(grid[0]), int(grid[1])),
            images=read_arrays(images).get("images") if images.exists() else None,
        )
    except (ValueError, TypeError, IndexError, AttributeError):
        raise ValueError(f"{path} is damaged: expected classes and words") from None
