"""A run and what it left in its folder, for Python and notebooks."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.config import Name
from jaxattn.reports import findings, page, tables, verdict
from jaxattn.reports.folder import Folder, Masks, read, values
from jaxattn.reports.results import Result, Row, interval_text
from jaxattn.system import console, pages
from jaxattn.system.files import plain, write_text


class Run(NamedTuple):
    """What `jaxattn.load_run` gives; in a notebook it shows verdict and main table.

    Numbers, masks and the page are there once something of it is finished.
    """

    folder: Path
    contents: Folder | None
    """All that stands in the folder; None where nothing is finished."""
    findings: list[str]
    diverged: list[Name]
    """Cells (method, seed) that were frozen because they were not finite."""
    signal: int | None = None
    """The signal that ended it early, if any."""

    def __repr__(self) -> str:
        ended = "" if self.signal is None else f", ended by signal {self.signal}"
        if self.contents is None:
            return f"Run({str(self.folder)!r}: 0 results{ended})"
        seeds = len({row.seed for row in self.contents.rows})
        return (
            f"Run({str(self.folder)!r}: {', '.join(self.contents.tasks)}; "
            f"{len(self.contents.config.methods)} methods, {seeds} seeds{ended})"
        )

    def _repr_html_(self) -> str:
        run = self.contents
        return pages.render(
            "reports/summary.html",
            name=self.folder.name,
            state=repr(self),
            text=interval_text,
            cell=tables.cell_text,
            parts=[
                (task, verdict.judge(run, task), tables.tables(run, task))
                for task in (run.tasks if run else ())
                if run
            ],
        )

    @property
    def masks(self) -> dict[str, dict[str, Masks]]:
        """By task and method: masks [S, N, P], seeds [S], alive [S], labels ..."""
        return {task: dict(of) for task, of in self._finished().masks.items()}

    @property
    def seeds(self) -> np.ndarray:
        """seeds.csv as a structured array: task, method, seed, metric, ..., value."""
        return _structured(self.contents.rows if self.contents else [], Row)

    @property
    def results(self) -> np.ndarray:
        """results.csv as a structured array: ..., mean, ci_low, ci_high, null, ..."""
        return _structured(self._results(), Result)

    def values(self, metric: str, method: str, task: str | None = None) -> np.ndarray:
        """One number of every seed, of the test split.

        Args:
          metric: `metric` or `metric:variant`.
          method: one of the run's.
          task: by default the first.

        Returns:
          Values `[seeds]` in the order of the seeds.

        Raises:
          ValueError: there is no such number.
        """
        run = self._finished()
        name = run.tasks[0] if task is None else task
        by_seed = values(run, name, method, metric)
        if not by_seed:
            raise ValueError(f"{self.folder} has no {metric} of {method} on {name}")
        return np.array([by_seed[seed] for seed in sorted(by_seed)])

    def to_dict(self) -> dict[str, Any]:
        """Config, versions, results and findings as plain JSON values."""
        run = self.contents
        return plain(
            {
                "folder": str(self.folder),
                "signal": self.signal,
                "config": run.config_text if run else {},
                "environment": run.starts if run else [],
                "data_digest": run.digest if run else "",
                "findings": self.findings,
                "diverged": self.diverged,
                "results": [r._asdict() for r in self._results()],
            }
        )

    def table(self, *metrics: str) -> str:
        """A table of methods by metrics as text of 80 columns, nulls below the heads.

        Args:
          *metrics: `metric` or `metric:variant`; by default the main three.
        """
        results = self._results()
        return console.text_table(
            *tables.compact(results, metrics or tables.headline(results))
        )

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report of the run, the page that `report.html` is.

        Raises:
          ValueError: nothing is finished.
          OSError: the file cannot be written.
        """
        write_text(path, page.render([self._finished()]))

    def _results(self) -> list[Result]:
        return self.contents.results if self.contents else []

    def _finished(self) -> Folder:
        return self.contents or read(self.folder)


def load_run(path: str | os.PathLike[str]) -> Run:
    """The finished run in a folder that `jaxattn.train` wrote.

    Args:
      path: of the folder.

    Returns:
      The run with all that stands in the folder.

    Raises:
      ValueError or OSError: the folder is missing, holds no finished run, or has
        damaged files.

    >>> import jaxattn
    >>> run = jaxattn.load_run("runs/probe")
    >>> masks = run.masks["movie_sentiment"]["joint"]["masks"]
    >>> masks.shape == (16, 1020, 4)  # seeds, texts, default tokens
    True
    >>> accuracies = run.values("accuracy", "joint")  # of each seed
    >>> len(accuracies) == len(masks)
    True
    """
    contents = read(Path(path))
    said, diverged = [], []
    for task in contents.tasks:
        prefix = contents.prefix(task)
        said += [prefix + sentence for sentence in findings.of_task(contents, task)]
        diverged += findings.diverged(contents, task)
    return Run(contents.path, contents, said, diverged)


def _structured(rows: list, kind: type) -> np.ndarray:
    kinds = {str: "U", int: np.int64, float: np.float64}
    columns = {
        name: np.array([row[i] for row in rows], kinds[of])
        for i, (name, of) in enumerate(kind.__annotations__.items())
    }
    table = np.empty(len(rows), [(name, x.dtype) for name, x in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table
