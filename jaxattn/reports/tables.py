"""Tables of methods and metrics: for a terminal, for `results.md` and for the page."""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxattn.methods.table import CONTROLS
from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import DIFFERENCE, REFERENCES
from jaxattn.reports.comparison import change, direction
from jaxattn.reports.folder import Folder
from jaxattn.reports.results import Result, choose, measured
from jaxattn.system import console
from jaxattn.system.files import write_text

STATISTICS = {"mean": "mean", "iqm": "interquartile mean"}
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def headline(results: Sequence[Result]) -> tuple[str, ...]:
    """The three metrics that the terminal shows of a run."""
    return definitions.headline({r.metric for r in results})


def compact(
    results: Sequence[Result], metrics: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Headers, with nulls in their second line, and rows of a terminal's table.

    Three of the metrics (`metric` or `metric:variant`) fit into 80 columns. A method
    with fewer seeds than the others says so in a second line.
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
    rows: list[list[str]] = []
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

    `notes` are sentences that stand in front, `more` lines that follow them. A column
    without any result is left out.
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
                continue
            rows = [["method", "seeds", *names]]
            for method, cells in _by_method(results, task, names).items():
                rows.append([method, str(_seeds(cells)), *map(_long, cells)])
            table = console.markdown_table("<>" + "<" * len(names), rows)
            lines += [f"### {heading}", "", *table, ""]
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


def _references(
    results: Sequence[Result], task: str, names: Sequence[str]
) -> list[str]:
    lines = []
    for name in names:
        methods = [r.method for r in results if (r.task, r.metric) == (task, name)]
        texts = {_long(choose(results, task, m, name)): m for m in methods}
        for text, m in texts.items():
            lines.append(f"- {name}{f' of {m}' if len(texts) > 1 else ''}: {text}")
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


def _interval(result: Result, number: Callable[[float, str], str] = _number) -> str:
    """Its ends in brackets; empty where there is no interval."""
    if not result.ci_low < result.ci_high:
        return ""
    low, high = (number(x, result.metric) for x in (result.ci_low, result.ci_high))
    return f" [{low}, {high}]"


def _long(result: Result | None) -> str:
    if result is None or math.isnan(result.mean):
        return "-"
    null = (
        "" if math.isnan(result.null) else f" ({_number(result.null, result.metric)})"
    )
    return _number(result.mean, result.metric) + _interval(result) + null


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
    """The head of a column of the page, and what is best in it."""

    name: str
    arrow: str
    note: str
    """What is measured, in which unit, which way is better: shown on hover."""
    best: str | None
    """The best method, None for a tie."""


class Table(NamedTuple):
    """A table of the page."""

    title: str
    columns: list[Column]
    rows: dict[str, list[Result | None]]
    """By method, one a column."""
    seeds: dict[str, int]
    notes: list[str]


def tables(run: Folder, task: str) -> list[Table]:
    """The tables of one task: those of `results.md`, with the best marked."""
    made = []
    for title, names in _sections(run.results, task).items():
        rows = _by_method(run.results, task, names)
        notes = []
        for name, *cells in zip(names, *rows.values(), strict=True):
            metric, _, variant = name.partition(":")
            # Without a variant in its name, a column may have had to choose one.
            chosen = sorted({r.variant for r in cells if r} - {"", variant})
            if chosen:
                notes.append(f"{metric}: variant {', '.join(chosen)}.")
        if title != REFERENCES:
            columns = [_column(run, task, name) for name in names]
            seeds = {method: _seeds(cells) for method, cells in rows.items()}
            made.append(Table(title, columns, rows, seeds, notes))
    return made


def _column(run: Folder, task: str, name: str) -> Column:
    metric, _, variant = name.partition(":")
    m, way = definitions.metric(metric), direction(run.config, metric)
    better = "no direction is better here" if way == "none" else f"{way} is better"
    of = f" Variant: {variant}." if variant else ""
    note = f"{m.text} Unit: {m.unit}; {better}.{of}"
    return Column(name, ARROWS[way], note, best_of(run, task, name))


def cell_text(r: Result) -> dict[str, str]:
    """Mean, interval and null of a result as the page prints them, and a note."""
    variant = f", variant {r.variant}" if r.variant else ""
    statistic = STATISTICS.get(r.statistic, r.statistic)
    return {
        "mean": _number(r.mean, r.metric),
        "interval": _interval(r).strip(),
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
    learnt = [m for m in run.config.methods if m not in CONTROLS]
    means = [r for m in learnt if (r := measured(run.results, task, m, name))]
    means.sort(key=lambda r: r.mean, reverse=way == "higher")
    if len(means) < 2 or len({r.variant for r in means}) > 1:
        return None
    first = means[0]
    kept = ":".join(filter(None, (first.metric, first.variant)))
    # The nearest first: most columns are a tie, and that ends the search.
    changes = (change(run, task, first.method, r.method, kept) for r in means[1:])
    return first.method if all(c.outcome == "better" for c in changes) else None
