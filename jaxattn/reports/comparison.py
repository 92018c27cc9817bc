"""Differences between the methods of a run, and what they amount to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.config import Config
from jaxattn.methods.table import CONTROLS
from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import DIFFERENCE
from jaxattn.metrics.statistics import Paired, paired_interval
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import Result, choose, told

OUTCOMES = ("better", "tie", "worse")


class Change(NamedTuple):
    """A paired difference of two methods, and its outcome."""

    interval: Paired
    outcome: str
    """better, tie or worse; empty where no direction is better."""


class AgainstJoint(NamedTuple):
    """How one method differs from `joint` in one metric of one task."""

    task: str
    method: str
    metric: str
    difference: Result
    outcome: str


def direction(config: Config, name: str) -> str:
    """Which direction of a metric is better in a run of this config."""
    metric = name.partition(":")[0]
    # What is predicted from meaningless tokens is read from the code: to be good at it
    # is no merit, and to be bad at it is what a remedy is for.
    codes = ("accuracy", "nll", "accuracy_vs_joint", "leak_accuracy")
    if config.model.values == "default_tokens" and metric in codes:
        return "none"
    return definitions.metric(metric).direction


def outcome(low: float, high: float, direction: str) -> str:
    """What a difference with this interval amounts to.

    >>> outcome(0.1, 0.2, "higher"), outcome(0.1, 0.2, "lower"), outcome(-1, 1, "lower")
    ('better', 'worse', 'tie')
    """
    if direction == "none" or not np.isfinite([low, high]).all():
        return ""
    if low <= 0 <= high:
        return "tie"
    return "better" if (low > 0) == (direction == "higher") else "worse"


def paired(
    run: Folder, task: str, one: tuple[str, str], other: tuple[str, str]
) -> Paired:
    """(method, metric) `one` minus `other`, over the seeds that both have."""
    a, b = values(run, task, *one), values(run, task, *other)
    seeds = [seed for seed in a if seed in b]
    return paired_interval([a[s] for s in seeds], [b[s] for s in seeds])


def change(run: Folder, task: str, method: str, other: str, name: str) -> Change:
    """What a method changes in one number against another method."""
    interval = paired(run, task, (method, name), (other, name))
    way = direction(run.config, name)
    return Change(interval, outcome(interval.low, interval.high, way))


def against_joint(
    results: Sequence[Result], metrics: Sequence[str] = ()
) -> list[AgainstJoint]:
    """The differences to `joint` of every task and remedy, by default in all metrics
    whose outcomes are counted."""
    differences = []
    for task, method in dict.fromkeys((r.task, r.method) for r in results):
        for metric in metrics or definitions.shown("outcomes"):
            key = (task, method, metric + DIFFERENCE, "", "test")
            same = [r for r in results if r[:5] == key]
            if method not in CONTROLS and same and np.isfinite(same[0].mean):
                way = definitions.metric(metric).direction
                amounts = outcome(same[0].ci_low, same[0].ci_high, way) or "tie"
                differences.append(AgainstJoint(task, method, metric, same[0], amounts))
    return differences


def counts(differences: Sequence[AgainstJoint]) -> dict[str, list[int]]:
    """How often each method is better, equal and worse, over all tasks."""
    return {
        method: [
            sum((d.method, d.outcome) == (method, outcome) for d in differences)
            for outcome in OUTCOMES
        ]
        for method in dict.fromkeys(d.method for d in differences)
    }


def sentences(results: Sequence[Result]) -> list[str]:
    """Which remedies show the evidence better than `joint`, over all tasks of a run."""
    differences = against_joint(results)
    if not differences:
        return []
    counted = [
        f"{method} {'/'.join(map(str, numbers))}"
        for method, numbers in counts(differences).items()
    ]
    metrics = " and ".join(dict.fromkeys(d.metric for d in differences))
    tasks = len({d.task for d in differences})
    return [
        f"Against joint in {metrics} (same seeds; a win or loss is a 95 % interval on "
        f"one side of 0), wins/ties/losses on {tasks} task{'s' * (tasks > 1)}: "
        f"{'; '.join(counted)}."
    ]


def markdown(results: Sequence[Result]) -> list[str]:
    """Lines of a table: one row a method, one column a task, and the count."""
    differences = against_joint(results)
    if not differences:
        return []
    # One metric a task: the first.
    first = {(d.task, d.method): d for d in reversed(differences)}
    headers = []
    for task in dict.fromkeys(d.task for d in differences):
        metric = next(d.metric for d in differences if d.task == task)
        joint = choose(results, task, "joint", metric)
        at = "" if joint is None else f" (joint {joint.mean:.3f})"
        headers.append(f"{task}, {metric}{at}")
    tasks = dict.fromkeys(d.task for d in differences)
    lines = [
        "## Differences to joint",
        "",
        f"| method | {' | '.join(headers)} | wins / ties / losses |",
        "|:--|" + ":--|" * len(headers) + ":--|",
    ]
    for method, numbers in counts(differences).items():
        cells = [_cell(first.get((task, method))) for task in tasks]
        counted = " / ".join(map(str, numbers))
        lines.append(f"| {method} | {' | '.join(cells)} | {counted} |")
    return [*lines, ""]


def _cell(d: AgainstJoint | None) -> str:
    if d is None:
        return "-"
    text = told(d.difference, "+")
    return f"**{text}**" if d.outcome == "better" else text
