"""The report of one or more runs as one HTML page that needs no network."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxattn.config import Config, differences, to_dict
from jaxattn.metrics.definitions import DIFFERENCE, METRICS, metric
from jaxattn.reports import drawings, examples, findings, verdict, versus
from jaxattn.reports.drawings import Drawing
from jaxattn.reports.folder import Folder
from jaxattn.reports.results import interval_text, measured, told
from jaxattn.reports.tables import cell_text, tables
from jaxattn.system import pages
from jaxattn.system.files import write_text

EMBEDDED = 600_000
"""Bytes of a table that the page carries with it; of a larger one it says the name."""
NAME = "report.html"
Drawings = Mapping[str, Mapping[str, Drawing]]
"""The figures of a run by task and by the names of their files."""


Part = dict[str, Any]
"""What a template says of a run or of a task, by the names in `page.html`."""


def write(run: Folder) -> None:
    """Writes `report.html` and the files of its figures into the folder of a run.

    Raises:
      OSError: a file cannot be written.
    """
    drawn = {task: drawings.draw(run, task) for task in run.tasks}
    for task, figures in drawn.items():
        folder = run.path / "figures" / (task if len(run.config.tasks) > 1 else "")
        folder.mkdir(parents=True, exist_ok=True)
        for name, drawing in figures.items():
            write_text(folder / f"{name}.svg", drawing.svg)
    write_text(run.path / NAME, _page([run], [drawn]))


def render(runs: Sequence[Folder]) -> str:
    """The page of one run, or of several that are compared.

    Raises:
      ValueError: the runs are not of the same tasks.
    """
    drawn = [{t: drawings.draw(run, t) for t in run.tasks} for run in runs]
    return _page(runs, drawn)


def _page(runs: Sequence[Folder], drawn: Sequence[Drawings]) -> str:
    compared = versus.compare(runs)
    names = versus.labels(runs)
    parts = [
        _run(run, f"r{i}", name, figures)
        for i, (run, name, figures) in enumerate(zip(runs, names, drawn, strict=True))
    ]
    used = {r.metric for run in runs for r in run.results}
    names_of = (n for own in METRICS for n in (own, own + DIFFERENCE))
    return pages.render(
        "reports/page.html",
        title=" and ".join(names),
        runs=parts,
        compared=compared,
        definitions={name: metric(name) for name in names_of if name in used},
        text=interval_text,
        cell=cell_text,
    )


def _run(run: Folder, id: str, name: str, drawn: Drawings) -> Part:
    return dict(
        name=name,
        id=id,
        tasks=[
            _task(run, task, f"{id}t{i}", drawn[task])
            for i, task in enumerate(run.tasks)
        ],
        start=dict(run.starts[-1]) if run.starts else {},
        starts=len(run.starts),
        changed=differences(to_dict(Config()), run.config_text),
        config=json.dumps(run.config_text, indent=2, ensure_ascii=False),
        digest=run.digest,
        left_out=_left_out(run),
        downloads=[_download(run.path / f) for f in ("results.csv", "seeds.csv")],
        methods=len(run.config.methods),
        seeds=max((r.n_seeds for r in run.results), default=0),
    )


def _task(run: Folder, task: str, id: str, drawn: Mapping[str, Drawing]) -> Part:
    shown, notes = examples.choose(run, task)
    return dict(
        task=task,
        id=id,
        verdict=verdict.judge(run, task),
        drawings={
            name: Drawing(pages.inline(d.svg, f"{id}-{name}", d.caption), d.caption)
            for name, d in drawn.items()
        },
        tables=tables(run, task),
        examples=shown,
        notes=notes,
        truncation=_truncation(run, task),
    )


def _truncation(run: Folder, task: str) -> list[tuple[str, ...]]:
    """Cut, mean weight, effective share and largest share of instance weights."""

    def shown(name: str) -> str:
        r = measured(run.results, task, None, name)
        return told(r) if r else "–"

    variants = dict.fromkeys(
        r.variant for r in run.results if (r.task, r.metric) == (task, "weight_mean")
    )
    if not variants:
        return []
    rows = {"": "as it is (effective sample: as trained)"}
    cuts = [variant for variant in variants if variant.startswith("cut at")]
    rows |= {f":{cut}": f"{cut} of either end" for cut in cuts}
    metrics = ("weight_mean", "ess_share", "largest_weight_share")
    return [(label, *(shown(m + end) for m in metrics)) for end, label in rows.items()]


def _left_out(run: Folder) -> list[str]:
    said = []
    for task in run.tasks:
        prefix = run.prefix(task)
        results = [r for r in run.results if r.task == task]
        full = max(r.n_seeds for r in results)
        gone = [f"{m} seed {seed}" for m, seed in findings.diverged(run, task)]
        none = [f"{r.metric} ({r.method})" for r in results if r.n_seeds == 0]
        below = [r for r in results if 0 < r.n_seeds < full]
        few = [f"{r.metric} ({r.method}, {r.n_seeds})" for r in below]
        if missing := findings.missing(run, task):
            said.append(f"{prefix}unfinished: {missing} cells are still to be run.")
        for what, names in (
            ("not finite, frozen and left out", gone),
            ("undefined for every seed", none),
            (f"fewer than {full} seeds", few),
        ):
            if names:
                said.append(f"{prefix}{what}: {', '.join(dict.fromkeys(names))}.")
    return said


def _download(path: Path) -> Part:
    """A file that the page carries; of one that is too large, its name only."""
    raw = path.read_bytes()
    data = base64.b64encode(raw).decode() if len(raw) <= EMBEDDED else ""
    source = f"data:text/csv;charset=utf-8;base64,{data}" if data else ""
    return dict(name=path.name, source=source)
