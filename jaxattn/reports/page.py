"""The report of one or more runs as one HTML page that needs no network."""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.config import Config, differences, to_dict
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports import drawings, examples, verdict, versus
from jaxattn.reports.drawings import Drawing
from jaxattn.reports.folder import Folder, read
from jaxattn.reports.references import LIMITS, SOURCES
from jaxattn.reports.results import Result, choose
from jaxattn.reports.tables import Table, tables
from jaxattn.system import pages
from jaxattn.system.files import write_text

EMBEDDED = 600_000
"""Bytes of a table that the page carries with it; of a larger one it says the name."""

NAME = "report.html"


class TaskPart(NamedTuple):
    """What the page says of one task of a run."""

    task: str
    id: str
    verdict: verdict.Verdict
    probe: list[Drawing]
    channels: Drawing | None
    tables: list[Table]
    examples: examples.Chosen
    removal: Drawing | None
    learning: Drawing | None
    weights: Drawing | None
    tradeoff: Drawing | None
    truncation: list[tuple[str, str, str, str]]
    """Cut, mean weight, effective share, largest share of instance weights."""


class Download(NamedTuple):
    name: str
    source: str
    """Empty where the file is too large to be carried."""


class RunPart(NamedTuple):
    """What the page says of one run."""

    name: str
    id: str
    tasks: list[TaskPart]
    start: dict[str, Any]
    starts: int
    changed: list[str]
    config: str
    digest: str
    left_out: list[str]
    downloads: list[Download]
    methods: int
    seeds: int


def write(folder: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into the folder of a run; raises ValueError or OSError."""
    path = Path(folder) / NAME
    write_text(path, render([read(Path(folder))]))
    return path


def render(runs: Sequence[Folder]) -> str:
    """The page of one run, or of several that are compared.

    Raises ValueError where the runs are not of the same tasks.
    """
    compared = versus.compare(runs)
    names = versus.labels(runs)
    parts = [_run(run, f"r{i}", names[i]) for i, run in enumerate(runs)]
    used = {m for run in runs for r in run.results if (m := r.metric) in METRICS}
    return pages.render(
        "reports/page.html",
        title=" and ".join(names),
        runs=parts,
        compared=compared,
        definitions={name: METRICS[name] for name in METRICS if name in used},
        sources=SOURCES,
        limits=LIMITS,
        text=verdict.text,
    )


def _run(run: Folder, id: str, name: str) -> RunPart:
    start = dict(run.starts[-1]) if run.starts else {}
    return RunPart(
        name=name,
        id=id,
        tasks=[_task(run, task, f"{id}t{i}") for i, task in enumerate(run.tasks)],
        start=start,
        starts=len(run.starts),
        changed=differences(to_dict(Config()), run.config_text),
        config=json.dumps(run.config_text, indent=2, ensure_ascii=False),
        digest=run.digest,
        left_out=_left_out(run),
        downloads=[_download(run.path / f) for f in ("results.csv", "seeds.csv")],
        methods=len(run.config.methods),
        seeds=max((r.n_seeds for r in run.results), default=0),
    )


def _task(run: Folder, task: str, id: str) -> TaskPart:
    def drawn(what: str):
        return getattr(drawings, what)(run, task, f"{id}-{what}")

    probe = [drawn("accuracy"), drawn("leak"), drawn("codes")]
    return TaskPart(
        task=task,
        id=id,
        verdict=verdict.judge(run, task),
        probe=[d for d in probe if d is not None],
        channels=drawn("channels"),
        tables=tables(run, task),
        examples=examples.choose(run, task),
        removal=drawn("removal"),
        learning=drawn("learning"),
        weights=drawn("weights"),
        tradeoff=drawn("tradeoff"),
        truncation=_truncation(run, task),
    )


def _truncation(run: Folder, task: str) -> list[tuple[str, str, str, str]]:
    def shown(name: str) -> str:
        r: Result | None = choose(run.results, task, None, name)
        if r is None or not np.isfinite(r.mean):
            return "–"
        return verdict.told(r)

    cuts = dict.fromkeys(
        r.variant
        for r in run.results
        if (r.task, r.metric) == (task, "weight_mean")
        and r.variant.startswith("cut at")
    )
    if not choose(run.results, task, None, "weight_mean"):
        return []
    rows = [("as it is (effective sample: as trained)", "")]
    rows += [(f"{cut} of either end", f":{cut}") for cut in cuts]
    metrics = ("weight_mean", "ess_share", "largest_weight_share")
    return [(label, *(shown(m + end) for m in metrics)) for label, end in rows]  # type: ignore[misc]


def _left_out(run: Folder) -> list[str]:
    said = []
    for task in run.tasks:
        prefix = f"{task}: " if len(run.tasks) > 1 else ""
        gone = verdict.diverged(run, task)
        if gone:
            cells = ", ".join(f"{method} seed {seed}" for method, seed in gone)
            said.append(f"{prefix}not finite, frozen and left out: {cells}.")
        missing = verdict.missing(run, task)
        if missing:
            said.append(f"{prefix}unfinished: {missing} cells are still to be run.")
        full = max(r.n_seeds for r in run.results if r.task == task)
        undefined = dict.fromkeys(
            f"{r.metric} ({r.method})"
            for r in run.results
            if r.task == task and r.n_seeds == 0
        )
        if undefined:
            said.append(f"{prefix}undefined for every seed: {', '.join(undefined)}.")
        few = dict.fromkeys(
            f"{r.metric} ({r.method}, {r.n_seeds})"
            for r in run.results
            if r.task == task and 0 < r.n_seeds < full
        )
        if few:
            said.append(f"{prefix}fewer than {full} seeds: {', '.join(few)}.")
    return said


def _download(path: Path) -> Download:
    raw = path.read_bytes()
    if len(raw) > EMBEDDED:
        return Download(path.name, "")
    data = base64.b64encode(raw).decode()
    return Download(path.name, f"data:text/csv;charset=utf-8;base64,{data}")
