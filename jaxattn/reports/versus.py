"""Two or more runs of the same tasks side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.config import differences
from jaxattn.metrics.definitions import METRICS
from jaxattn.metrics.statistics import difference_interval, paired_interval
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import choose
from jaxattn.reports.tables import headline
from jaxattn.reports.verdict import directions, outcome, text, told

COMPARED = (
    "accuracy",
    "leak_bits",
    "true_mask_accuracy",
    "evidence_auroc",
    "foreign_values_accuracy",
    "human_auroc",
    "lexicon_auroc",
    "comprehensiveness",
)


class Difference(NamedTuple):
    task: str
    method: str
    metric: str
    means: list[str]
    """Of each run."""
    apart: list[str]
    """Of each further run: minus the first, with its interval."""
    outcomes: list[str]
    """better, worse or tie beside the first; empty where no direction is better."""


class Comparison(NamedTuple):
    names: list[str]
    changed: list[list[str]]
    """Of each further run, in which fields its config is not that of the first."""
    pairing: list[str]
    """Of each further run, what its differences rest on."""
    rows: list[Difference]


def check(runs: Sequence[Folder]) -> None:
    """Raises ValueError where runs are not of the same tasks."""
    for run in runs[1:]:
        if set(run.tasks) != set(runs[0].tasks):
            raise ValueError(
                f"the runs have different tasks and cannot be compared: {runs[0].path} "
                f"has {', '.join(runs[0].tasks)}; {run.path} has {', '.join(run.tasks)}"
            )


def compare(runs: Sequence[Folder]) -> Comparison | None:
    """What differs between the first run and the others; None for one run."""
    check(runs)
    if len(runs) < 2:
        return None
    first, others = runs[0], runs[1:]
    names = dict.fromkeys(r.metric for run in runs for r in run.results)
    metrics = dict.fromkeys((*headline(first.results), *COMPARED))
    rows = []
    for task in first.tasks:
        methods = [
            m for m in _methods(first, task) if any(_has(o, task, m) for o in others)
        ]
        for method in methods:
            rows += [
                row
                for metric in metrics
                if metric in names
                and (row := _row(first, others, task, method, metric)) is not None
            ]
    return Comparison(
        names=labels(runs),
        changed=[
            [
                line
                for line in differences(first.config_text, o.config_text)
                if not line.startswith("name:")
            ]
            for o in others
        ],
        pairing=[_pairing(first, o) for o in others],
        rows=rows,
    )


def labels(runs: Sequence[Folder]) -> list[str]:
    """A name for each run, its number in front where two have the same."""
    names = [run.path.resolve().name or str(run.path) for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]


def _methods(run: Folder, task: str) -> list[str]:
    return list(dict.fromkeys(r.method for r in run.results if r.task == task))


def _has(run: Folder, task: str, method: str) -> bool:
    return any((r.task, r.method) == (task, method) for r in run.results)


def _row(first, others, task: str, method: str, metric: str) -> Difference | None:
    own = choose(first.results, task, method, metric)
    if own is None or not np.isfinite(own.mean):
        return None
    means, apart, outcomes = [told(own)], [], []
    name = ":".join(filter(None, (metric, own.variant)))
    for other in others:
        theirs = choose(other.results, task, method, name)
        if theirs is None or not np.isfinite(theirs.mean):
            means.append("–")
            apart.append("–")
            outcomes.append("")
            continue
        a, b = values(other, task, method, name), values(first, task, method, name)
        if paired(first, other):
            seeds = [s for s in a if s in b]
            found = paired_interval([a[s] for s in seeds], [b[s] for s in seeds])
        else:
            found = difference_interval(list(a.values()), list(b.values()))
        direction = METRICS[metric].direction
        for run in (first, other):
            direction = directions(run).get(metric, direction)
        means.append(told(theirs))
        apart.append(text(found.mean, found.low, found.high, "+"))
        outcomes.append(outcome(found, direction))
    return Difference(task, method, metric, means, apart, outcomes)


def paired(one: Folder, other: Folder) -> bool:
    """Whether the same seed had the same data in both runs."""
    seeds = [{r.seed for r in run.rows} for run in (one, other)]
    return one.digest == other.digest and one.digest != "" and seeds[0] == seeds[1]


def _pairing(one: Folder, other: Folder) -> str:
    if paired(one, other):
        return "same data and seeds: differences seed by seed"
    if one.digest != other.digest:
        return "other data: differences of means that are not paired"
    return "other seeds: differences of means that are not paired"
