"""Can the maps of a task be trusted? The answer in words, with its thresholds."""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxattn.config import labels_of
from jaxattn.methods.table import CONTROLS, FULL_TEXT
from jaxattn.metrics.definitions import METRICS
from jaxattn.metrics.statistics import Paired, paired_interval
from jaxattn.reports import findings
from jaxattn.reports.findings import CLOSED, CODE
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import Result, choose

NOTABLE, SIGNIFICANT = 0.01, 0.05
"""A leak: its whole interval lies so many bits above the null, with at most this p."""

PLAUSIBLE = (
    "evidence_auroc",
    "tpr",
    "post_hoc_accuracy",
    "human_auroc",
    "lexicon_auroc",
    "evidence_mass",
)
"""The first of these that was measured says how right or plausible maps are."""


class Change(NamedTuple):
    """A paired difference to `joint`: `better`, `worse`, `tie`, or no judgement."""

    interval: Paired
    outcome: str


class Remedy(NamedTuple):
    method: str
    leak: Change
    accuracy: Change
    plausibility: Change | None


class Verdict(NamedTuple):
    """What is said of one task of a run."""

    kind: str
    """leak, none or inconclusive: what the bits say."""
    tone: str
    """The same of leak and use together: a leak that nobody uses is no alarm."""
    headline: str
    leak: str
    use: str
    remedies: list[Remedy]
    plausible: str
    """The metric behind the column of plausibility; empty where none was measured."""
    sentences: list[str]
    """What the command itself said of the run."""
    thresholds: list[str]


def judge(run: Folder, task: str) -> Verdict:
    """The verdict on one task of a run, from its seeds alone."""
    method = subject(run, task)
    bits = _paired(run, task, (method, "leak_bits"), (method, "leak_bits:permuted"))
    kind = _leaks(bits)
    used, use = _use(run, task, method)
    plausible = next((m for m in PLAUSIBLE if values(run, task, method, m)), "")
    calm = "none" if kind == "none" else "inconclusive"
    return Verdict(
        kind={"leak": "leak", "none": "none"}.get(kind, "inconclusive"),
        tone="leak" if used else calm,
        headline=_headline(kind, used, method),
        leak=_leak_sentence(run, task, method, bits) + _sides(run, task, method),
        use=use,
        remedies=_remedies(run, task, plausible),
        plausible=plausible,
        sentences=_said(run, task),
        thresholds=_thresholds(run),
    )


def subject(run: Folder, task: str) -> str:
    """The method that is judged: `joint`, or the first whose masks are learnt."""
    there = dict.fromkeys(r.method for r in run.rows if r.task == task)
    learnt = [m for m in run.config.methods if m in there and m not in CONTROLS]
    if "joint" in learnt:
        return "joint"
    return (learnt or [m for m in run.config.methods if m in there] or [""])[0]


def directions(run: Folder) -> dict[str, str]:
    """Metrics whose better direction is another in this run than by definition."""
    if run.config.model.values != "default_tokens":
        return {}
    # What is predicted from meaningless tokens is read from the code: to be good at it
    # is no merit, and to be bad at it is what a remedy is for.
    return dict.fromkeys(
        ("accuracy", "nll", "accuracy_vs_joint", "leak_accuracy"), "none"
    )


def paired(run: Folder, task: str, a: str, b: str, name: str) -> Paired:
    """Method a minus method b in one number, over the seeds that both have."""
    return _paired(run, task, (a, name), (b, name))


def text(value: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval, where it has one."""
    if not low < high:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def told(r: Result) -> str:
    """A mean over seeds with its interval."""
    return text(r.mean, r.ci_low, r.ci_high)


def _paired(run, task, one: tuple[str, str], other: tuple[str, str]) -> Paired:
    a, b = values(run, task, *one), values(run, task, *other)
    seeds = [s for s in a if s in b]
    return paired_interval([a[s] for s in seeds], [b[s] for s in seeds])


def _leaks(bits: Paired) -> str:
    if bits.n == 0:
        return "unknown"
    # An interval of few seeds is too narrow: five cannot have a p below 0.05.
    if bits.low > NOTABLE:
        return "leak" if bits.p <= SIGNIFICANT else "inconclusive"
    return "none" if bits.high <= NOTABLE else "inconclusive"


def _headline(kind: str, used: bool | None, method: str) -> str:
    if kind == "unknown":
        return "Nothing can be said: no leak was measured."
    if used and kind == "leak":
        return f"Do not trust the maps of {method}: they are a code, and it is read."
    if used:
        return f"Do not trust the maps of {method}: the predictor reads a code."
    if kind == "leak" and used is None:
        return f"The maps of {method} leak; whether that is used was not measured."
    if kind == "leak":
        return (
            f"The maps of {method} leak, but no use of it was found: the evidence "
            "itself may lie in certain places."
        )
    if kind == "inconclusive":
        return f"Inconclusive for {method}: more seeds are needed."
    return f"No leak was found in the maps of {method}."


def _leak_sentence(run: Folder, task: str, method: str, bits: Paired) -> str:
    own = choose(run.results, task, method, "leak_bits")
    nats = choose(run.results, task, None, "label_entropy")
    if own is None or nats is None or bits.n == 0:
        return "The leak was not measured."
    whole = nats.mean / np.log(2)
    share = f", {own.mean / whole:.0%} of H(Y) = {whole:.3f} bits" if whole > 0 else ""
    p = f"; p = {bits.p:.2g}, sign-flip over {bits.n} seeds" if bits.n > 1 else ""
    return (
        f"The masks of {method} alone hold {told(own)} bits of the label{share}. "
        f"With exchanged labels the same probe reads {own.null:.3f}; the difference "
        f"is {text(bits.mean, bits.low, bits.high, '+')}{p}."
    )


def _sides(run: Folder, task: str, method: str) -> str:
    """What the audit of every seed adds, where the run asked for it."""
    found = [
        r
        for r in run.results
        if (r.task, r.method, r.metric) == (task, method, "channel_leak_bits")
        and r.variant not in ("all", "beyond length")
        and r.ci_low > NOTABLE
    ]
    if not found:
        return ""
    most = max(found, key=lambda r: r.mean)
    return f" Of its sides, {most.variant} tells most: {told(most)} bits."


def _use(run: Folder, task: str, method: str) -> tuple[bool | None, str]:
    """Whether the predictor reads the code (None: not measured), and a sentence."""
    accuracy = choose(run.results, task, method, "accuracy")
    if accuracy is None or not np.isfinite(accuracy.mean):
        return None, "The use of the shortcut was not measured."
    own = told(accuracy)
    chance = accuracy.null
    if run.config.model.values == "default_tokens":
        above = accuracy.ci_low if np.isfinite(accuracy.ci_low) else accuracy.mean
        full = choose(run.results, task, FULL_TEXT, "full_text_accuracy")
        beside = f", with attention over the words {told(full)}" if full else ""
        return bool(above > chance + CLOSED), (
            f"The predictor of {method} sees meaningless tokens only, so that all it "
            f"knows comes through the mask: accuracy {own}, majority {chance:.3f}"
            f"{beside}."
        )
    right = choose(run.results, task, method, "true_mask_accuracy")
    if right is not None and np.isfinite(right.mean):
        both = (method, "true_mask_accuracy"), (method, "accuracy")
        change = _paired(run, task, *both)
        return bool(change.high < 0 and change.mean < -CODE), (
            f"Given the right mask instead of its own, the predictor of {method} has "
            f"accuracy {told(right)} instead of {own} (difference "
            f"{text(change.mean, change.low, change.high, '+')}); one that loses has "
            "learnt a code, not the evidence."
        )
    foreign = choose(run.results, task, method, "foreign_values_accuracy")
    if foreign is not None and np.isfinite(foreign.mean):
        above = foreign.ci_low if np.isfinite(foreign.ci_low) else foreign.mean
        return bool(above > chance + CLOSED), (
            f"With its own mask on another example's values, the predictor of {method} "
            f"still names the own label in {told(foreign)} of examples "
            f"(majority {chance:.3f}; accuracy on its own values {own})."
        )
    return None, "The use of the shortcut was not measured."


def _remedies(run: Folder, task: str, plausible: str) -> list[Remedy]:
    there = dict.fromkeys(r.method for r in run.rows if r.task == task)
    if "joint" not in there:
        return []

    def change(method: str, name: str) -> Change:
        metric = name.partition(":")[0]
        direction = directions(run).get(metric, METRICS[metric].direction)
        interval = paired(run, task, method, "joint", name)
        return Change(interval, outcome(interval, direction))

    return [
        Remedy(
            method,
            change(method, "leak_bits"),
            change(method, "accuracy"),
            change(method, plausible) if plausible else None,
        )
        for method in run.config.methods
        if method in there and method != "joint"
    ]


def outcome(interval, direction: str) -> str:
    """What a difference with `low` and `high` amounts to: better, worse, tie or ''."""
    if direction == "none" or not np.isfinite([interval.low, interval.high]).all():
        return ""
    sign = -1 if direction == "lower" else 1
    if sign * interval.low > 0 and sign * interval.high > 0:
        return "better"
    return "worse" if sign * interval.low < 0 and sign * interval.high < 0 else "tie"


def diverged(run: Folder, task: str) -> list[tuple[str, int]]:
    """Cells (method, seed) that were frozen because they were not finite."""
    return [
        (method, int(seed))
        for method, kept in run.masks.get(task, {}).items()
        for seed, alive in zip(kept["seeds"], kept["alive"], strict=True)
        if not alive
    ]


def missing(run: Folder, task: str) -> int:
    """How many cells the config asks for that have no number yet."""
    labels = labels_of(run.config.methods, run.config.also)
    asked = run.config.seeds * (len(labels) + (run.config.model.values != "inputs"))
    kept = sum(len(m["seeds"]) for m in run.masks.get(task, {}).values())
    return max(0, asked - kept) if kept else 0


def _said(run: Folder, task: str) -> list[str]:
    one = dataclasses.replace(run.config, tasks=(task,))
    gone = diverged(run, task)
    return findings.sentences(one, run.results, gone, missing(run, task))


def _thresholds(run: Folder) -> list[str]:
    found = [
        "A leak: the whole 95 % interval of the bits beyond exchanged labels lies "
        f"above {NOTABLE} bits, with a p of at most {SIGNIFICANT}. No leak: the "
        "interval lies at or below. Else: inconclusive."
    ]
    if run.config.model.values == "default_tokens":
        found.append(
            f"Use: the whole interval of the accuracy lies more than {CLOSED} above "
            "the majority, though the tokens mean nothing."
        )
    else:
        found.append(
            "Use: where the right mask is known, the predictor loses more than "
            f"{CODE} under it, with the whole interval above 0; elsewhere, the whole "
            "interval of its accuracy with another example's values lies more than "
            f"{CLOSED} above the majority."
        )
    found.append(
        "Better or worse than joint: the 95 % interval of the difference, seed by "
        "seed, lies on one side of 0. Otherwise it is a tie."
    )
    return found
