"""Does a remedy show the evidence better than `joint`? Wins, ties and losses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.methods.table import CONTROLS
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports.results import Result, choose

HEADLINES = ("evidence_auroc", "post_hoc_accuracy")
"""What says best how right a mask is: where evidence is known, where a model is
explained. Fixed before any result was seen."""


class Verdict(NamedTuple):
    """A paired difference to `joint` (same seeds, same data) and what it amounts to."""

    task: str
    method: str
    metric: str
    difference: Result
    outcome: str
    """`win`, `tie` or `loss`: the 95 % interval lies on one side of 0, or not."""


def verdicts(
    results: Sequence[Result], metrics: Sequence[str] = HEADLINES
) -> list[Verdict]:
    """A verdict for each task, remedy and metric that has a difference to `joint`."""
    found = []
    pairs = dict.fromkeys((r.task, r.method) for r in results)
    for task, method in pairs:
        for metric in metrics:
            same = [
                r
                for r in results
                if (r.task, r.method, r.metric, r.variant, r.split)
                == (task, method, f"{metric}_vs_joint", "", "test")
            ]
            if method not in CONTROLS and same and np.isfinite(same[0].mean):
                outcome = _outcome(same[0], METRICS[metric].direction)
                found.append(Verdict(task, method, metric, same[0], outcome))
    return found


def _outcome(difference: Result, direction: str) -> str:
    low, high = difference.ci_low, difference.ci_high
    sign = -1 if direction == "lower" else 1
    if sign * low > 0 and sign * high > 0:
        return "win"
    return "loss" if sign * low < 0 and sign * high < 0 else "tie"


def counts(found: Sequence[Verdict]) -> dict[str, tuple[int, int, int]]:
    """Wins, ties and losses of each method over all tasks."""
    methods = dict.fromkeys(v.method for v in found)
    return {
        m: tuple(
            sum(v.method == m and v.outcome == o for v in found)
            for o in ("win", "tie", "loss")
        )
        for m in methods
    }  # type: ignore[return-value]


def sentences(results: Sequence[Result]) -> list[str]:
    """Which remedies show the evidence better than `joint`, over all tasks of a run."""
    found = verdicts(results)
    if not found:
        return []
    texts = [f"{m} {w}/{t}/{n}" for m, (w, t, n) in counts(found).items()]
    metrics = " and ".join(dict.fromkeys(v.metric for v in found))
    tasks = len({v.task for v in found})
    return [
        f"Against joint in {metrics} (same seeds; a win or loss is a 95 % interval on "
        f"one side of 0), wins/ties/losses on {tasks} task{'s' * (tasks > 1)}: "
        f"{'; '.join(texts)}."
    ]


def markdown(results: Sequence[Result]) -> list[str]:
    """Lines of a table: one row a method, one column a task, and the count."""
    found = verdicts(results)
    if not found:
        return []
    tasks = list(dict.fromkeys(v.task for v in found))
    lines = ["## Differences to joint", ""]
    headers = []
    for task in tasks:
        metric = next(v.metric for v in found if v.task == task)
        joint = choose(results, task, "joint", metric)
        at = "" if joint is None else f" (joint {joint.mean:.3f})"
        headers.append(f"{task}, {metric}{at}")
    lines.append(f"| method | {' | '.join(headers)} | wins / ties / losses |")
    lines.append("|:--|" + ":--|" * len(tasks) + ":--|")
    for method, (wins, ties, losses) in counts(found).items():
        cells = []
        for task in tasks:
            own = [v for v in found if (v.method, v.task) == (method, task)]
            cells.append(_cell(own[0]) if own else "-")
        lines.append(f"| {method} | {' | '.join(cells)} | {wins} / {ties} / {losses} |")
    return [*lines, ""]


def _cell(v: Verdict) -> str:
    d = v.difference
    text = f"{d.mean:+.3f} [{d.ci_low:+.3f}, {d.ci_high:+.3f}]"
    return f"**{text}**" if v.outcome == "win" else text
