"""A finished run as arrays, for Python and notebooks.

What a run left behind, for Python and notebooks.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.config import Name
from jaxattn.reports import page, tables, verdict
from jaxattn.reports.folder import Folder, Masks, read, values
from jaxattn.reports.results import Result, Row
from jaxattn.reports.tables import compact, headline
from jaxattn.system import console, pages
from jaxattn.system.files import plain, write_text


class LoadedRun(NamedTuple):
    """What `load_run` gives; in a notebook it shows its verdict and its main table."""

    folder: Folder
    masks: dict[str, dict[str, Masks]]
    """By task and method: masks [S, N, P], seeds [S], alive [S], labels, tokens ..."""
    seeds: np.ndarray
    """seeds.csv as a structured array: task, method, seed, metric, ..., value."""
    results: np.ndarray
    """results.csv as a structured array: ..., mean, ci_low, ci_high, null, ..."""

    def __repr__(self) -> str:
        run = self.folder
        seeds = len(np.unique(self.seeds["seed"]))
        return (
            f"LoadedRun({str(run.path)!r}: {', '.join(run.tasks)}; "
            f"{len(run.config.methods)} methods, {seeds} seeds)"
        )

    def _repr_html_(self) -> str:
        return pages.render(
            "reports/summary.html",
            name=self.folder.path.name,
            text=verdict.text,
            parts=[
                (
                    task,
                    verdict.judge(self.folder, task),
                    tables.tables(self.folder, task),
                )
                for task in self.folder.tasks
            ],
        )

    def values(self, metric: str, method: str, task: str | None = None) -> np.ndarray:
        """`metric` or `metric:variant` of each seed [S] of the test split, in order.

        Raises ValueError where there is no such number.
        """
        name = self.folder.tasks[0] if task is None else task
        found = values(self.folder, name, method, metric)
        if not found:
            raise ValueError(
                f"{self.folder.path} has no {metric} of {method} on {name}"
            )
        return np.array([found[seed] for seed in sorted(found)])

    def to_dict(self) -> dict[str, Any]:
        """Config, versions and results as plain JSON values."""
        return plain(
            {
                "folder": str(self.folder.path),
                "config": self.folder.config_text,
                "environment": self.folder.starts,
                "data_digest": self.folder.digest,
                "results": [r._asdict() for r in self.folder.results],
            }
        )

    def table(self, *metrics: str) -> str:
        """A table of 80 columns as text: methods by metrics, by default the main three.

        metrics: `metric` or `metric:variant`; nulls stand in the second line.
        """
        return text_of(self.folder.results, metrics)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report of the run, the page that `report.html` is."""
        write_text(path, page.render([self.folder]))


def text_of(results: Sequence[Result], metrics: Sequence[str]) -> str:
    """Results as a table of text, by default of the three metrics of the terminal."""
    return console.text_table(*compact(results, metrics or headline(results)))


def load_run(path: str | os.PathLike[str]) -> LoadedRun:
    """Reads the finished run in a folder that `jaxattn.train` wrote.

    Args:
        path: the folder.

    Returns:
        Masks, and the numbers of all seeds, as arrays.

    Raises:
        ValueError: one line, for a folder that holds no finished run, or damaged files.
        OSError: the folder is missing or cannot be read.

    >>> import jaxattn
    >>> run = jaxattn.load_run("runs/probe")
    >>> masks = run.masks["movie_sentiment"]["joint"]["masks"]
    >>> masks.shape == (16, 1020, 4)  # seeds, texts, default tokens
    True
    >>> accuracies = run.values("accuracy", "joint")  # of each seed
    >>> len(accuracies) == len(masks)
    True
    """
    folder = read(Path(path))
    return LoadedRun(
        folder=folder,
        masks={task: dict(methods) for task, methods in folder.masks.items()},
        seeds=_structured(folder.rows, Row),
        results=_structured(folder.results, Result),
    )


def _structured(rows: list, kind: type) -> np.ndarray:
    kinds = {str: "U", int: np.int64, float: np.float64}
    columns = []
    for i, (name, of) in enumerate(kind.__annotations__.items()):
        column = np.array([row[i] for row in rows], kinds[of])
        columns.append((name, column))
    found = np.empty(len(rows), [(name, c.dtype) for name, c in columns])
    for name, column in columns:
        found[name] = column
    return found


class Run(NamedTuple):
    """What `jaxattn.run` left behind; in a notebook it shows verdict and main table."""

    folder: Path
    results: list[Result]
    findings: list[str]
    diverged: list[Name]
    signal: int | None
    """The signal that ended it early, if any."""

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self._state()})"

    def load(self) -> LoadedRun:
        """The run as arrays; raises ValueError where nothing is finished."""
        return load_run(self.folder)

    def _repr_html_(self) -> str:
        if self.results:
            return self.load()._repr_html_()
        return pages.render(
            "reports/unfinished.html", folder=self.folder, state=self._state()
        )

    def _state(self) -> str:
        ended = "" if self.signal is None else f", ended by signal {self.signal}"
        return f"{len(self.results):,} results{ended}"

    def to_dict(self) -> dict[str, Any]:
        """Folder, results and findings as plain JSON values."""
        return plain(
            {
                "folder": str(self.folder),
                "signal": self.signal,
                "findings": self.findings,
                "diverged": self.diverged,
                "results": [r._asdict() for r in self.results],
            }
        )

    def table(self, *metrics: str) -> str:
        """A table of 80 columns as text: methods by metrics, by default the main three.

        metrics: `metric` or `metric:variant`; nulls stand in the second line.
        """
        return text_of(self.results, metrics)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report of the run; raises ValueError where nothing is finished."""
        self.load().save_html(path)
