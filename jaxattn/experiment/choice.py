"""Which setting of a sweep is best: chosen on validation, told on the test split."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.config import Config
from jaxattn.experiment.wave import Outcome
from jaxattn.metrics.statistics import interval
from jaxattn.reports.results import Result, interval_text, told
from jaxattn.system.console import markdown_table

MAIN = "the config's own"


class Choice(NamedTuple):
    """The setting in which one method does best on the validation split."""

    method: str
    setting: str
    """'' is the config's own."""
    validation: dict[str, tuple[float, float, float]]
    """Accuracy after the last epoch by setting: mean over seeds, 95 % interval."""


def chosen(config: Config, methods: Mapping[str, Outcome]) -> list[Choice]:
    """For each method the setting of the highest mean validation accuracy.

    The test split has no say. Settings in which a seed diverged are left out, for the
    mean of the others would flatter them; empty where a run has one setting only.
    """
    choices = []
    for method in config.methods if config.also else ():
        scores = {}
        for setting in ("", *config.also):
            outcome = methods.get(f"{method}@{setting}" if setting else method)
            if outcome is not None:
                last = outcome.curves["validation_accuracy"][:, -1]
                if np.isfinite(last).all():
                    scores[setting] = tuple(interval([float(x) for x in last]))[:3]
        if scores:
            best = max(scores, key=lambda setting: scores[setting][0])
            choices.append(Choice(method, best, scores))
    return choices


def sentences(choices: Sequence[Choice]) -> list[str]:
    """What was chosen, in words."""
    if not choices:
        return []
    settings = "; ".join(
        f"{c.method} {c.setting or MAIN} ({c.validation[c.setting][0]:.3f})"
        for c in choices
    )
    return [f"Chosen on the validation split, by accuracy: {settings}."]


def markdown(
    task: str, choices: Sequence[Choice], results: Sequence[Result]
) -> list[str]:
    """Lines of a table: all settings of each method, the chosen one bold, its test."""
    if not choices:
        return []
    tested = {
        (r.method, r.variant): r
        for r in results
        if (r.task, r.metric, r.split) == (task, "accuracy", "test")
    }
    rows = [["method", "setting", "validation", "test"]]
    for c in choices:
        for setting, values in c.validation.items():
            mark = "**" if setting == c.setting else ""
            result = tested.get((c.method, setting))
            cells = [c.method, f"{mark}{setting or MAIN}{mark}"]
            rows.append(
                [*cells, interval_text(*values), told(result) if result else "-"]
            )
    return [
        f"## Chosen on the validation split, {task}",
        "",
        "Accuracy, mean over seeds with 95 % interval; the chosen setting is bold.",
        "",
        *markdown_table("<<>>", rows),
        "",
    ]
