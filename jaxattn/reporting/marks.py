"""Tables of methods and metrics as cells: number, interval, null, and what is best."""

from typing import NamedTuple

import numpy as np

from jaxattn.methods import CONTROLS
from jaxattn.metrics.definitions import METRICS
from jaxattn.reporting.run_folder import Folder
from jaxattn.reporting.verdict import directions, outcome, paired
from jaxattn.results import Result, choose
from jaxattn.tables import SECTIONS, by_method, most_seeds, number, there

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


class Column(NamedTuple):
    name: str
    arrow: str
    note: str
    """What is measured, in which unit, which way is better: shown on hover."""


class Cell(NamedTuple):
    mean: str
    interval: str
    null: str
    order: float
    """What the column is sorted by."""
    note: str
    best: bool


class Line(NamedTuple):
    method: str
    seeds: int
    cells: list[Cell]


class Table(NamedTuple):
    title: str
    columns: list[Column]
    lines: list[Line]
    footnotes: list[str]


def tables(run: Folder, task: str) -> list[Table]:
    """The tables of one task: those of `results.md`, with the best marked."""
    found = []
    for title, metrics in SECTIONS.items():
        names = [m for m in metrics if there(run.results, task, m)]
        if names:
            found.append(_table(run, task, title, names))
    return found


def _table(run: Folder, task: str, title: str, names: list[str]) -> Table:
    rows = by_method(run.results, task, names)
    best = [best_of(run, task, name) for name in names]
    lines = [
        Line(
            method,
            most_seeds(results),
            [
                _cell(r, best[i] == method and r is not None)
                for i, r in enumerate(results)
            ],
        )
        for method, results in rows.items()
    ]
    notes = []
    for i, name in enumerate(names):
        of = {r.variant for row in rows.values() if (r := row[i])}
        metric, _, variant = name.partition(":")
        # Without a variant in its name, a column may have had to choose one.
        chosen = sorted(v for v in of if v and v != variant)
        if chosen:
            notes.append(f"{metric}: variant {', '.join(chosen)}.")
    return Table(title, [_column(run, name) for name in names], lines, notes)


def _column(run: Folder, name: str) -> Column:
    metric, _, variant = name.partition(":")
    unit, direction, definition = METRICS[metric]
    direction = directions(run).get(metric, direction)
    way = (
        "no direction is better here"
        if direction == "none"
        else f"{direction} is better"
    )
    note = f"{definition} Unit: {unit}; {way}."
    if variant:
        note += f" Variant: {variant}."
    return Column(name, ARROWS[direction], note)


def _cell(r: Result | None, best: bool) -> Cell:
    if r is None or not np.isfinite(r.mean):
        return Cell("–", "", "", -np.inf, "not measured, or undefined", False)
    interval = null = ""
    if r.ci_low < r.ci_high:
        low, high = number(r.ci_low, r.metric), number(r.ci_high, r.metric)
        interval = f"[{low}, {high}]"
    if np.isfinite(r.null):
        null = f"null {number(r.null, r.metric)}"
    kept = {"mean": "mean", "iqm": "interquartile mean"}.get(r.statistic, r.statistic)
    variant = f", variant {r.variant}" if r.variant else ""
    note = f"{r.split} split{variant}; {kept} over {r.n_seeds} seeds"
    return Cell(number(r.mean, r.metric), interval, null, r.mean, note, best)


def best_of(run: Folder, task: str, name: str) -> str | None:
    """The method that is better than every other in one number, None for a tie.

    Learnt masks only are compared; every paired interval must exclude 0.
    """
    metric, _, variant = name.partition(":")
    direction = directions(run).get(metric, METRICS[metric].direction)
    if direction == "none" or metric.endswith("_vs_joint"):
        return None
    means = {}
    for method in run.config.methods:
        r = choose(run.results, task, method, name)
        if r is not None and np.isfinite(r.mean) and method not in CONTROLS:
            means[method] = r
    order = sorted(means, key=lambda m: means[m].mean, reverse=direction == "higher")
    if len(order) < 2:
        return None
    first = order[0]
    if len({means[m].variant for m in order}) > 1:
        return None
    kept = ":".join(filter(None, (metric, means[first].variant)))
    # The nearest first: most columns are a tie, and that ends the search.
    for other in order[1:]:
        apart = paired(run, task, first, other, kept)
        if outcome(apart, direction) != "better":
            return None
    return first
