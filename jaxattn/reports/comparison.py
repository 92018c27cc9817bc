"""Differences between the methods of a run, and what they amount to."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.config import Config
from jaxattn.methods.table import CONTROLS
from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import DIFFERENCE
from jaxattn.metrics.statistics import Paired, paired_interval
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import Result, choose, told
from jaxattn.system.console import markdown_table

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


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired:
    """Numbers by seed minus others, over the seeds that both have."""
    seeds = [seed for seed in a if seed in b]
    return paired_interval([a[s] for s in seeds], [b[s] for s in seeds])


def change(run: Folder, task: str, method: str, other: str, name: str) -> Change:
    """What a method changes in one number against another method."""
    own = (values(run, task, one, name) for one in (method, other))
    interval = paired(*own)
    way = direction(run.config, name)
    return Change(interval, outcome(interval.low, interval.high, way))


def against_joint(
    results: Sequence[Result], metrics: Sequence[str] = ()
) -> list[AgainstJoint]:
    """The differences to `joint` of every task and remedy, by default in all metrics
    whose outcomes are counted."""
    by_key = {r[:5]: r for r in results}
    differences = []
    for task, method in dict.fromkeys((r.task, r.method) for r in results):
        for metric in metrics or definitions.shown("outcomes"):
            r = by_key.get((task, method, metric + DIFFERENCE, "", "test"))
            if method not in CONTROLS and r and np.isfinite(r.mean):
                way = definitions.metric(metric).direction
                amounts = outcome(r.ci_low, r.ci_high, way) or "tie"
                differences.append(AgainstJoint(task, method, metric, r, amounts))
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
    counted = [f"{m} {'/'.join(map(str, n))}" for m, n in counts(differences).items()]
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
    metrics = {d.task: d.metric for d in reversed(differences)}
    tasks = list(dict.fromkeys(d.task for d in differences))
    texts = {}
    for d in reversed(differences):
        mark = "**" if d.outcome == "better" else ""
        texts[d.task, d.method] = f"{mark}{told(d.difference, '+')}{mark}"
    heads = []
    for task in tasks:
        joint = choose(results, task, "joint", metrics[task])
        at = "" if joint is None else f" (joint {joint.mean:.3f})"
        heads.append(f"{task}, {metrics[task]}{at}")
    rows = [["method", *heads, "wins / ties / losses"]]
    for method, numbers in counts(differences).items():
        cells = [texts.get((task, method), "-") for task in tasks]
        rows.append([method, *cells, " / ".join(map(str, numbers))])
    table = markdown_table("<" * len(rows[0]), rows)
    return ["## Differences to joint", "", *table, ""]
