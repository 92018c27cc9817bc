"""Two or more runs of the same tasks side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxattn.config import differences
from jaxattn.metrics import definitions
from jaxattn.metrics.statistics import difference_interval
from jaxattn.reports.comparison import direction, outcome, paired
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import interval_text, measured, told

PAIRED = "same data and seeds: differences seed by seed"


class Difference(NamedTuple):
    """One number of one method in every run."""

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
    """What differs between a first run and others."""

    names: list[str]
    changed: list[list[str]]
    """Of each further run, in which fields its config is not that of the first."""
    pairing: list[str]
    """Of each further run, what its differences rest on."""
    rows: list[Difference]


def compare(runs: Sequence[Folder]) -> Comparison | None:
    """What differs between the first run and the others; None for one run.

    Raises:
      ValueError: the runs are not of the same tasks.
    """
    for run in runs[1:]:
        if set(run.tasks) != set(runs[0].tasks):
            raise ValueError(
                f"the runs have different tasks and cannot be compared: {runs[0].path} "
                f"has {', '.join(runs[0].tasks)}; {run.path} has {', '.join(run.tasks)}"
            )
    if len(runs) < 2:
        return None
    first, others = runs[0], runs[1:]
    headline = definitions.headline({r.metric for r in first.results})
    metrics = dict.fromkeys((*headline, *definitions.shown("compared")))
    elsewhere = {(r.task, r.method) for other in others for r in other.results}
    rows = [
        _row(first, others, task, method, metric)
        for task in first.tasks
        for method in dict.fromkeys(r.method for r in first.results if r.task == task)
        if (task, method) in elsewhere
        for metric in metrics
    ]
    changes = [differences(first.config_text, other.config_text) for other in others]
    return Comparison(
        names=labels(runs),
        changed=[[s for s in of if not s.startswith("name:")] for of in changes],
        pairing=[_pairing(first, other) for other in others],
        rows=[row for row in rows if row is not None],
    )


def labels(runs: Sequence[Folder]) -> list[str]:
    """A name for each run, its number in front where two have the same."""
    names = [run.path.resolve().name or str(run.path) for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]


def _row(
    first: Folder, others: Sequence[Folder], task: str, method: str, metric: str
) -> Difference | None:
    own = measured(first.results, task, method, metric)
    if own is None:
        return None
    means, apart, outcomes = [told(own)], [], []
    name = ":".join(filter(None, (metric, own.variant)))
    for other in others:
        theirs = measured(other.results, task, method, name)
        if theirs is None:
            means.append("–")
            apart.append("–")
            outcomes.append("")
            continue
        a, b = values(other, task, method, name), values(first, task, method, name)
        if _pairing(first, other) == PAIRED:
            interval = paired(a, b)
        else:
            interval = difference_interval(list(a.values()), list(b.values()))
        ways = [direction(run.config, metric) for run in (first, other)]
        way = "none" if "none" in ways else ways[0]
        means.append(told(theirs))
        apart.append(interval_text(interval.mean, interval.low, interval.high, "+"))
        outcomes.append(outcome(interval.low, interval.high, way))
    return Difference(task, method, metric, means, apart, outcomes)


def _pairing(one: Folder, other: Folder) -> str:
    if one.digest != other.digest or not one.digest:
        return "other data: differences of means that are not paired"
    if {r.seed for r in one.rows} != {r.seed for r in other.rows}:
        return "other seeds: differences of means that are not paired"
    return PAIRED
