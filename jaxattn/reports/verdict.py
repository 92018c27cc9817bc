"""Can the maps of a task be trusted? The answer in words, with its thresholds."""

import functools
from typing import NamedTuple

import numpy as np

from jaxattn.methods.table import CONTROLS, FULL_TEXT
from jaxattn.metrics import definitions
from jaxattn.metrics.statistics import Paired
from jaxattn.reports import findings
from jaxattn.reports.comparison import Change, change, paired
from jaxattn.reports.findings import CLOSED, CODE
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import choose, ends, interval_text, measured, told

NOTABLE, SIGNIFICANT = 0.01, 0.05
"""A leak: its whole interval lies so many bits above the null, with at most this p."""


class Verdict(NamedTuple):
    """What is said of one task of a run."""

    kind: str
    """leak, none or inconclusive: what the bits say."""
    tone: str
    """The same of leak and use together: a leak that nobody uses is no alarm."""
    headline: str
    leak: str
    use: str
    remedies: dict[str, list[Change]]
    """What each method changes against `joint`: leak, accuracy and plausibility."""
    plausible: str
    """The metric of plausibility; empty where none was measured."""
    sentences: list[str]
    """What the command itself said of the run."""
    thresholds: list[str]


def judge(run: Folder, task: str) -> Verdict:
    """The verdict on one task of a run, from its seeds alone."""
    method = subject(run, task)
    names = ("leak_bits", "leak_bits:permuted")
    bits = paired(*(values(run, task, method, name) for name in names))
    kind = _kind(bits)
    used, use = _use(run, task, method)
    candidates = definitions.shown("verdict")
    plausible = next((m for m in candidates if values(run, task, method, m)), "")
    compared = ["leak_bits", "accuracy", *filter(None, [plausible])]
    methods = _methods(run, task)
    calm = "none" if kind == "none" else "inconclusive"
    return Verdict(
        kind=kind if bits.n else "inconclusive",
        tone="leak" if used else calm,
        headline=_headline(kind, used, method),
        leak=_leak_sentence(run, task, method, bits) + _channel(run, task, method),
        use=use,
        remedies={
            other: [change(run, task, other, "joint", name) for name in compared]
            for other in methods
            if "joint" in methods and other != "joint"
        },
        plausible=plausible,
        sentences=findings.of_task(run, task),
        thresholds=_thresholds(run),
    )


def subject(run: Folder, task: str) -> str:
    """The method that is judged: `joint`, or the first whose masks are learnt."""
    methods = _methods(run, task)
    learnt = [m for m in methods if m not in CONTROLS]
    return "joint" if "joint" in learnt else (learnt or methods or [""])[0]


def _methods(run: Folder, task: str) -> list[str]:
    there = {r.method for r in run.rows if r.task == task}
    return [method for method in run.config.methods if method in there]


def _kind(bits: Paired) -> str:
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
    whole, share = nats.mean / np.log(2), ""
    if whole > 0:
        share = f", {max(own.mean / whole, 0):.0%} of H(Y) = {whole:.3f} bits"
    p = f"; p = {bits.p:.2g}, sign-flip over {bits.n} seeds" if bits.n > 1 else ""
    return (
        f"The masks of {method} alone hold {told(own)} bits of the label{share}. "
        f"With exchanged labels the same probe reads {own.null:.3f}; the difference "
        f"is {interval_text(bits.mean, bits.low, bits.high, '+')}{p}."
    )


def _channel(run: Folder, task: str, method: str) -> str:
    """What the audit of every seed adds, where the run asked for it."""
    channels = [
        r
        for r in run.results
        if (r.task, r.method, r.metric) == (task, method, "audit_bits")
        and r.variant not in ("mask", "beyond length")
        and r.ci_low > NOTABLE
    ]
    if not channels:
        return ""
    most = max(channels, key=lambda r: r.mean)
    return f" Of its channels, {most.variant} tells most: {told(most)} bits."


def _use(run: Folder, task: str, method: str) -> tuple[bool | None, str]:
    """Whether the predictor reads the code (None: not measured), and a sentence."""
    get = functools.partial(measured, run.results, task, method)
    accuracy = get("accuracy")
    if accuracy is None:
        return None, "The use of the shortcut was not measured."
    own, chance = told(accuracy), accuracy.null
    if run.config.model.values == "default_tokens":
        full = choose(run.results, task, FULL_TEXT, "full_text_accuracy")
        beside = f", with attention over the words {told(full)}" if full else ""
        return bool(ends(accuracy)[0] > chance + CLOSED), (
            f"The predictor of {method} sees meaningless tokens only, so that all it "
            f"knows comes through the mask: accuracy {own}, majority {chance:.3f}"
            f"{beside}."
        )
    if right := get("true_mask_accuracy"):
        names = ("true_mask_accuracy", "accuracy")
        lost = paired(*(values(run, task, method, name) for name in names))
        return bool(lost.high < 0 and lost.mean < -CODE), (
            f"Given the right mask instead of its own, the predictor of {method} has "
            f"accuracy {told(right)} instead of {own} (difference "
            f"{interval_text(lost.mean, lost.low, lost.high, '+')}). A predictor that "
            "loses has learnt a code, not the evidence."
        )
    if foreign := get("foreign_values_accuracy"):
        return bool(ends(foreign)[0] > chance + CLOSED), (
            f"With its own mask on another example's values, the predictor of {method} "
            f"still names the own label in {told(foreign)} of examples "
            f"(majority {chance:.3f}; accuracy on its own values {own})."
        )
    return None, "The use of the shortcut was not measured."


def _thresholds(run: Folder) -> list[str]:
    use = (
        f"Use: the whole interval of the accuracy lies more than {CLOSED} above the "
        "majority, though the tokens mean nothing."
        if run.config.model.values == "default_tokens"
        else "Use: where the right mask is known, the predictor loses more than "
        f"{CODE} under it, with the whole interval above 0; elsewhere, the whole "
        "interval of its accuracy with another example's values lies more than "
        f"{CLOSED} above the majority."
    )
    return [
        "A leak: the whole 95 % interval of the bits beyond exchanged labels lies "
        f"above {NOTABLE} bits, with a p of at most {SIGNIFICANT}. No leak: the "
        "interval lies at or below. Else: inconclusive.",
        use,
        "Better or worse than joint: the 95 % interval of the difference, seed by "
        "seed, lies on one side of 0. Otherwise it is a tie.",
    ]
