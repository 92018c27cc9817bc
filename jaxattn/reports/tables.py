"""Tables of methods and metrics as cells: number, interval, null, and what is best.

Results as tables for people: the terminal and `results.md`.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.methods.table import CONTROLS
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports.folder import Folder
from jaxattn.reports.results import Result, choose
from jaxattn.reports.verdict import directions, outcome, paired
from jaxattn.system.files import write_text

# What does not depend on the masks: printed once, above the table.
REFERENCES = ("majority", "label_entropy", "full_text_accuracy", "full_text_nll")

SECTIONS: dict[str, tuple[str, ...]] = {
    "Accuracy, and what the mask alone holds": (
        "accuracy",
        "nll",
        "accuracy_vs_joint",
        "foreign_mask_accuracy",
        "foreign_values_accuracy",
        "leak_bits",
        "evalx_accuracy",
    ),
    "Explaining the black box": (
        "post_hoc_accuracy",
        "gradient_overlap",
        "leave_one_out_overlap",
        "weight_overlap",
        "contentless_share",
    ),
    "Where the evidence is known": (
        "true_mask_accuracy",
        "evidence_auroc",
        "evidence_auroc:lexicon",
        "evidence_auroc:idf",
        "evidence_ap",
        "evidence_mass",
        "pointing_game",
        "tpr",
        "fdr",
        "exact_set_rate",
        "median_rank",
        "control_rate",
        "selected_count",
        "extra_leak_bits",
    ),
    "Where the leak lives": (
        "channel_leak_bits:all",
        "channel_leak_bits:beyond length",
        "channel_leak_bits:length",
        "channel_leak_bits:shape",
        "channel_leak_bits:place",
        "channel_leak_bits:types",
        "encoding_bits",
        "stripe_x_bits",
    ),
    "Instance weights": (
        "weighted_leak_bits",
        "ess_share",
        "weight_mean",
        "largest_weight_share",
        "pareto_k",
        "imbalance",
    ),
    "Agreement": (
        "gradient_tau",
        "gradient_tau:through_attention",
        "gradient_tau:integrated",
        "leave_one_out_tau",
        "ceiling_tau",
        "seed_jsd",
    ),
    "Plausibility": (
        "human_auroc",
        "human_auroc:idf",
        "human_auroc:position",
        "human_auroc:lexicon",
        "human_ap",
        "human_ap:idf",
        "human_auprc",
        "human_auprc:idf",
        "human_auprc:position",
        "human_mass",
        "lexicon_auroc",
        "lexicon_auroc:idf",
        "lexicon_auroc:position",
        "lexicon_ap",
    ),
    "Faithfulness by removal": (
        "comprehensiveness",
        "sufficiency",
        "comprehensiveness:ferret",
        "sufficiency:ferret",
        "normalised_comprehensiveness",
        "normalised_sufficiency",
        "deletion_area",
        "insertion_area",
        "tokens_to_flip",
    ),
    "Tests of attention": (
        "decision_flip",
        "decision_flip:gradient",
        "decision_flip:product",
        "single_weight_js",
        "permuted_tvd",
        "adversarial_jsd",
        "model_adversary_jsd",
        "infidelity",
        "max_sensitivity",
    ),
}

TERMINAL = (
    ("tpr", ("accuracy", "true_mask_accuracy", "tpr")),
    ("evidence_mass", ("accuracy", "true_mask_accuracy", "evidence_auroc")),
    ("human_auroc", ("accuracy", "human_auroc", "leak_bits")),
    ("post_hoc_accuracy", ("post_hoc_accuracy", "evalx_accuracy", "leak_bits")),
)
"""The first of these whose metric was measured says what the terminal shows."""


def headline(results: Sequence[Result]) -> tuple[str, ...]:
    """The three metrics that the terminal shows of a run."""
    measured = {r.metric for r in results}
    for sign, shown in TERMINAL:
        if sign in measured:
            return shown
    return ("accuracy", "nll", "leak_bits")


def compact(
    results: Sequence[Result], metrics: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a terminal table; three metrics fit into 80 columns.

    metrics: `metric` or `metric:variant`. Nulls stand in the second line of the
    header; a method with fewer seeds than the others says so in a second line.
    """
    tasks = list(dict.fromkeys(r.task for r in results))
    chosen = {
        (task, method): cells
        for task in tasks
        for method, cells in by_method(results, task, metrics).items()
    }
    full = max((most_seeds(cells) for cells in chosen.values()), default=0)
    headers = [f"method\n{full} seeds"]
    for i, name in enumerate(metrics):
        headers.append(f"{name}\n{_null_range([row[i] for row in chosen.values()])}")
    rows = []
    above = None
    for (task, method), cells in chosen.items():
        if len(tasks) > 1 and task != above:
            rows.append([task, *[""] * len(metrics)])
            above = task
        few = most_seeds(cells) < full
        label = method + f"\n{most_seeds(cells)} of {full} seeds" * few
        rows.append([label, *(_short(cell) for cell in cells)])
    return headers, rows


def write_markdown(
    path: str | os.PathLike[str],
    title: str,
    results: Sequence[Result],
    notes: Sequence[str],
    sections: Mapping[str, Sequence[str]] = SECTIONS,
    more: Sequence[str] = (),
    statistic: str = "mean",
) -> None:
    """Write `results.md`: findings, tables with nulls for each task, definitions.

    sections: title -> `metric` or `metric:variant`; what has no result is left out.
    more: lines that follow the findings. Raises OSError where the file cannot be
    written.
    """
    lines = [f"# {title}", ""]
    lines += [f"- {note}" for note in notes] + [""] * bool(notes) + [*more]
    printed: list[str] = []
    tasks = list(dict.fromkeys(r.task for r in results))
    for task in tasks:
        lines += [f"## {task}", ""]
        references = _references(results, task)
        lines += references + [""] * bool(references)
        printed += [m for m in REFERENCES if choose(results, task, None, m)]
        for heading, metrics in sections.items():
            names = [m for m in metrics if there(results, task, m)]
            if names:
                methods = by_method(results, task, names)
                lines += [f"### {heading}", "", *_table(methods, names), ""]
                printed += names
    lines += [
        f"Each number is the {statistic} over seeds with its 95 % bootstrap interval"
        " (BCa) in brackets; the seed is the unit. In parentheses: the null, what the"
        " number would be if there were nothing to find. `results.csv` has every"
        " metric, `seeds.csv` every seed.",
        "",
    ]
    for name in dict.fromkeys(p.partition(":")[0] for p in printed):
        unit, direction, definition = METRICS[name]
        better = "" if direction == "none" else f", {direction} is better"
        lines.append(f"- `{name}` ({unit}{better}): {definition}")
    write_text(path, "\n".join(lines) + "\n")


def there(results: Sequence[Result], task: str, name: str) -> bool:
    """Whether some method has a number of this name."""
    metric, _, variant = name.partition(":")
    return any(
        (r.task, r.metric) == (task, metric)
        and (not variant or r.variant == variant)
        and not math.isnan(r.mean)
        for r in results
    )


def by_method(
    results: Sequence[Result], task: str, names: Sequence[str]
) -> dict[str, list[Result | None]]:
    """The results of each method that has any of these names, None where it has not."""
    methods = dict.fromkeys(r.method for r in results if r.task == task)
    table = {m: [choose(results, task, m, name) for name in names] for m in methods}
    return {m: cells for m, cells in table.items() if any(cells)}


def most_seeds(cells: Sequence[Result | None]) -> int:
    """How many seeds the cells of a row rest on, at most."""
    return max((cell.n_seeds for cell in cells if cell), default=0)


def _table(methods: dict[str, list[Result | None]], names: Sequence[str]) -> list[str]:
    lines = [
        "| method | seeds | " + " | ".join(names) + " |",
        "|:--|--:|" + ":--|" * len(names),
    ]
    for method, cells in methods.items():
        texts = [method, str(most_seeds(cells)), *(_long(cell) for cell in cells)]
        lines.append("| " + " | ".join(t.replace("|", "\\|") for t in texts) + " |")
    return lines


def _references(results: Sequence[Result], task: str) -> list[str]:
    lines = []
    for name in REFERENCES:
        found = [r for r in results if r.task == task and r.metric == name]
        values = {_long(choose(results, task, r.method, name)): r.method for r in found}
        if len(values) == 1:
            lines.append(f"- {name}: {next(iter(values))}")
        else:
            lines += [f"- {name} of {m}: {text}" for text, m in values.items()]
    return lines


def _long(result: Result | None) -> str:
    if result is None or math.isnan(result.mean):
        return "-"
    text = number(result.mean, result.metric)
    if result.ci_low < result.ci_high:
        low, high = (number(v, result.metric) for v in (result.ci_low, result.ci_high))
        text += f" [{low}, {high}]"
    if not math.isnan(result.null):
        text += f" ({number(result.null, result.metric)})"
    return text


def _short(result: Result | None) -> str:
    if result is None or math.isnan(result.mean):
        return "-"
    mean = number(result.mean, result.metric)
    if not result.ci_low < result.ci_high:
        return mean.replace("-0.", "-.")
    low, high = (_tight(v, result.metric) for v in (result.ci_low, result.ci_high))
    return f"{mean.replace('-0.', '-.')} [{low}, {high}]"


def _null_range(cells: Sequence[Result | None]) -> str:
    nulls = [c.null for c in cells if c and not math.isnan(c.null)]
    name = next((c.metric for c in cells if c), "")
    if not nulls:
        return ""
    ends = dict.fromkeys(_tight(v, name) for v in (min(nulls), max(nulls)))
    return "null " + " to ".join(ends)


def number(value: float, metric: str) -> str:
    """A number of a metric as tables print it."""
    text = f"{value:.1e}" if metric == "smallest_probability" else f"{value:.3f}"
    return text.removeprefix("-") if text == "-0.000" else text


def _tight(value: float, metric: str) -> str:
    # ".781" and "1.78" rather than "0.781" and "1.781": 80 columns are few.
    text = number(value, metric)
    if "e" in text:
        return text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text[:-1]


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
            found.append(_html_table(run, task, title, names))
    return found


def _html_table(run: Folder, task: str, title: str, names: list[str]) -> Table:
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
