"""Tables of methods and metrics: for a terminal, for `results.md` and for the page."""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.methods.table import CONTROLS
from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import DIFFERENCE, REFERENCES
from jaxattn.reports.comparison import change, direction
from jaxattn.reports.folder import Folder
from jaxattn.reports.results import Result, choose
from jaxattn.system.files import write_text

STATISTICS = {"mean": "mean", "iqm": "interquartile mean"}

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def headline(results: Sequence[Result]) -> tuple[str, ...]:
    """The three metrics that the terminal shows of a run."""
    return definitions.headline({r.metric for r in results})


def compact(
    results: Sequence[Result], metrics: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """A terminal's table; three metrics fit into 80 columns.

    Args:
      results: of a run.
      metrics: `metric` or `metric:variant`, one a column.

    Returns:
      Headers, with nulls in their second line, and rows. A method with fewer seeds than
      the others says so in a second line.
    """
    rows_of = {
        (task, method): cells
        for task in dict.fromkeys(r.task for r in results)
        for method, cells in _by_method(results, task, metrics).items()
    }
    many = len({task for task, _ in rows_of}) > 1
    full = max(map(_seeds, rows_of.values()), default=0)
    headers = [f"method\n{full} seeds"]
    for i, name in enumerate(metrics):
        headers.append(f"{name}\n{_null_range([row[i] for row in rows_of.values()])}")
    rows = []
    above = None
    for (task, method), cells in rows_of.items():
        if many and task != above:
            rows.append([task, *[""] * len(metrics)])
            above = task
        few = _seeds(cells) < full
        label = method + f"\n{_seeds(cells)} of {full} seeds" * few
        rows.append([label, *map(_short, cells)])
    return headers, rows


def write_markdown(
    path: str | os.PathLike[str],
    title: str,
    results: Sequence[Result],
    notes: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    """Writes `results.md`: findings, tables with nulls for each task, definitions.

    Args:
      path: of the file.
      title: of the page.
      results: of a run; a column without any is left out.
      notes: sentences that stand in front.
      more: lines that follow them.

    Raises:
      OSError: the file cannot be written.
    """
    lines = [f"# {title}", "", *(f"- {note}" for note in notes)]
    lines += [""] * bool(notes) + [*more]
    printed: list[str] = []
    for task in dict.fromkeys(r.task for r in results):
        lines += [f"## {task}", ""]
        for heading, names in _sections(results, task).items():
            printed += names
            if heading == REFERENCES:
                lines += [*_references(results, task, names), ""]
            else:
                rows = _by_method(results, task, names)
                lines += [f"### {heading}", "", *_markdown_table(rows, names), ""]
    statistic = STATISTICS[results[0].statistic] if results else "mean"
    lines += [
        f"Each number is the {statistic} over seeds with its 95 % bootstrap interval"
        " (BCa) in brackets; the seed is the unit. In parentheses: the null, what the"
        " number would be if there were nothing to find. `results.csv` has every"
        " metric, `seeds.csv` every seed.",
        "",
    ]
    for name in dict.fromkeys(p.partition(":")[0] for p in printed):
        m = definitions.metric(name)
        better = "" if m.direction == "none" else f", {m.direction} is better"
        lines.append(f"- `{name}` ({m.unit}{better}): {m.text}")
    write_text(path, "\n".join(lines) + "\n")


def _sections(results: Sequence[Result], task: str) -> dict[str, list[str]]:
    """The columns of each section of which some method has a number."""
    numbers = [r for r in results if r.task == task and not math.isnan(r.mean)]
    there = {name for r in numbers for name in (r.metric, f"{r.metric}:{r.variant}")}
    columns = {
        section: [name for name in names if name in there]
        for section, names in definitions.sections().items()
    }
    return {section: names for section, names in columns.items() if names}


def _by_method(
    results: Sequence[Result], task: str, names: Sequence[str]
) -> dict[str, list[Result | None]]:
    """The results of each method that has any of these names, None where it has not."""
    methods = dict.fromkeys(r.method for r in results if r.task == task)
    table = {m: [choose(results, task, m, name) for name in names] for m in methods}
    return {m: cells for m, cells in table.items() if any(cells)}


def _seeds(cells: Sequence[Result | None]) -> int:
    """How many seeds the cells of a row rest on, at most."""
    return max((cell.n_seeds for cell in cells if cell), default=0)


def _markdown_table(
    rows: dict[str, list[Result | None]], names: Sequence[str]
) -> list[str]:
    lines = [
        "| method | seeds | " + " | ".join(names) + " |",
        "|:--|--:|" + ":--|" * len(names),
    ]
    for method, cells in rows.items():
        texts = [method, str(_seeds(cells)), *map(_long, cells)]
        lines.append("| " + " | ".join(t.replace("|", "\\|") for t in texts) + " |")
    return lines


def _references(
    results: Sequence[Result], task: str, names: Sequence[str]
) -> list[str]:
    lines = []
    for name in names:
        methods = [r.method for r in results if (r.task, r.metric) == (task, name)]
        texts = {_long(choose(results, task, m, name)): m for m in methods}
        if len(texts) == 1:
            lines.append(f"- {name}: {next(iter(texts))}")
        else:
            lines += [f"- {name} of {m}: {text}" for text, m in texts.items()]
    return lines


def _number(value: float, metric: str) -> str:
    text = f"{value:.1e}" if metric == "smallest_probability" else f"{value:.3f}"
    return text.removeprefix("-") if text == "-0.000" else text


def _tight(value: float, metric: str) -> str:
    # ".781" and "1.78" rather than "0.781" and "1.781": 80 columns are few.
    text = _number(value, metric)
    if "e" in text:
        return text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text[:-1]


def _interval(result: Result, number: Callable[[float, str], str]) -> str:
    """Its ends in brackets; empty where there is no interval."""
    if not result.ci_low < result.ci_high:
        return ""
    low, high = (number(x, result.metric) for x in (result.ci_low, result.ci_high))
    return f" [{low}, {high}]"


def _long(result: Result | None) -> str:
    if result is None or math.isnan(result.mean):
        return "-"
    text = _number(result.mean, result.metric) + _interval(result, _number)
    if not math.isnan(result.null):
        text += f" ({_number(result.null, result.metric)})"
    return text


def _short(result: Result | None) -> str:
    if result is None or math.isnan(result.mean):
        return "-"
    mean = _number(result.mean, result.metric).replace("-0.", "-.")
    return mean + _interval(result, _tight)


def _null_range(cells: Sequence[Result | None]) -> str:
    nulls = {c.null: c.metric for c in cells if c and not math.isnan(c.null)}
    if not nulls:
        return ""
    ends = [min(nulls), max(nulls)]
    return "null " + " to ".join(dict.fromkeys(_tight(x, nulls[x]) for x in ends))


class Column(NamedTuple):
    """The head of a column of the page."""

    name: str
    arrow: str
    note: str
    """What is measured, in which unit, which way is better: shown on hover."""


class Table(NamedTuple):
    """A table of the page."""

    title: str
    columns: list[Column]
    rows: dict[str, list[Result | None]]
    """By method, one a column."""
    best: list[str | None]
    """The best method of each column, None for a tie."""
    seeds: dict[str, int]
    notes: list[str]


def tables(run: Folder, task: str) -> list[Table]:
    """The tables of one task: those of `results.md`, with the best marked."""
    return [
        _page_table(run, task, title, names)
        for title, names in _sections(run.results, task).items()
        if title != REFERENCES
    ]


def _page_table(run: Folder, task: str, title: str, names: list[str]) -> Table:
    rows = _by_method(run.results, task, names)
    notes = []
    for i, name in enumerate(names):
        variants = {r.variant for row in rows.values() if (r := row[i])}
        metric, _, variant = name.partition(":")
        # Without a variant in its name, a column may have had to choose one.
        if chosen := sorted(v for v in variants if v and v != variant):
            notes.append(f"{metric}: variant {', '.join(chosen)}.")
    return Table(
        title=title,
        columns=[_column(run, name) for name in names],
        rows=rows,
        best=[best_of(run, task, name) for name in names],
        seeds={method: _seeds(cells) for method, cells in rows.items()},
        notes=notes,
    )


def _column(run: Folder, name: str) -> Column:
    metric, _, variant = name.partition(":")
    m, way = definitions.metric(metric), direction(run.config, metric)
    better = "no direction is better here" if way == "none" else f"{way} is better"
    of = f" Variant: {variant}." if variant else ""
    return Column(name, ARROWS[way], f"{m.text} Unit: {m.unit}; {better}.{of}")


def cell_text(r: Result) -> dict[str, str]:
    """Mean, interval and null of a result as the page prints them, and a note."""
    variant = f", variant {r.variant}" if r.variant else ""
    statistic = STATISTICS.get(r.statistic, r.statistic)
    return {
        "mean": _number(r.mean, r.metric),
        "interval": _interval(r, _number).strip(),
        "null": "" if math.isnan(r.null) else f"null {_number(r.null, r.metric)}",
        "note": f"{r.split} split{variant}; {statistic} over {r.n_seeds} seeds",
    }


def best_of(run: Folder, task: str, name: str) -> str | None:
    """The method that is better than every other in one number, None for a tie.

    Learnt masks only are compared; every paired interval must exclude 0.
    """
    way = direction(run.config, name)
    if way == "none" or name.endswith(DIFFERENCE):
        return None
    means = {}
    for method in run.config.methods:
        r = choose(run.results, task, method, name)
        if r is not None and np.isfinite(r.mean) and method not in CONTROLS:
            means[method] = r
    first, *others = sorted(
        means, key=lambda m: means[m].mean, reverse=way == "higher"
    ) or [None]
    if first is None or not others or len({r.variant for r in means.values()}) > 1:
        return None
    kept = ":".join(filter(None, (name.partition(":")[0], means[first].variant)))
    # The nearest first: most columns are a tie, and that ends the search.
    changes = (change(run, task, first, other, kept) for other in others)
    return first if all(c.outcome == "better" for c in changes) else None
