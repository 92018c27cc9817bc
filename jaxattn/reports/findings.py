"""Sentences that say what a run has found; each is a rule with its threshold."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from jaxattn.config import Config, labels_of
from jaxattn.methods.table import CONTROLS, FULL_TEXT, METHODS
from jaxattn.reports.folder import Folder
from jaxattn.reports.results import Result, ends, measured, told

CLOSED = 0.04
"""A method has closed the shortcut if its whole interval lies below majority + this."""
FLAT = 0.02
"""... and if its NLL is within this of the entropy: below chance is no remedy."""
CODE = 0.05
"""A predictor that loses more than this under the true mask has learnt a code."""
FEW_EFFECTIVE = 0.10
"""Effective sample size share under which weighting cannot work."""
SHOWN = 3
"""Findings that a terminal shows; results.md has all."""
CAVEATS = ("Unfinished: ", "Diverged, ", "Only ")
"""How sentences begin that qualify all others: they are shown in any case."""

Get = Callable[[str, str], Result | None]
"""The result of a method and metric, None where it was not measured."""


def of_task(run: Folder, task: str) -> list[str]:
    """What the results of one task of a run say."""
    config = dataclasses.replace(run.config, tasks=(task,))
    return sentences(config, run.results, diverged(run, task), missing(run, task))


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


def sentences(
    config: Config,
    results: list[Result],
    diverged: list[tuple[str, int]],
    missing: int = 0,
) -> list[str]:
    """What results say of the config's first task, the most important first.

    `diverged` are the cells (method, seed) that were left out; `missing` is how many
    are still to be run.
    """
    return list(_sentences(config, results, diverged, missing))


def _sentences(config, results, diverged, missing) -> Iterator[str]:
    get: Get = functools.partial(measured, results, config.tasks[0])
    if missing:
        yield (
            f"Unfinished: {missing} cells (method and seed) are still to be run; the "
            "same command goes on."
        )
    if config.model.values == "default_tokens":
        yield from _shortcut(config, get)
    elif get("joint", "true_mask_accuracy"):
        yield from _evidence(config, get)
    elif kept := get("joint", "post_hoc_accuracy"):
        yield _explanation(config, get, kept)
    elif config.model.values == "inputs":
        yield from _cost(config, get)
    else:
        yield from _competition(config, get)
    yield from _marked(config, get)
    yield from _pretraining(config, get)
    yield from _weighting(config, results)
    if diverged:
        names = ", ".join(f"{method} seed {seed}" for method, seed in diverged)
        yield (
            f"Diverged, frozen and left out of every mean: {names}. A smaller "
            "--optimizer.learning-rate usually helps."
        )
    # No seed at all: the number is undefined for that task, not short of seeds.
    fewest = min((r.n_seeds for r in results if r.n_seeds), default=0)
    if fewest < 8:
        yield (
            f"Only {fewest} seed{'s' * (fewest != 1)} for some numbers: too few for "
            "their intervals to mean much; report no fewer than 8."
        )


def brief(said: list[str]) -> list[str]:
    """What a terminal shows of the findings: the first ones, and every caveat."""
    kept = [s for s in said if not s.startswith(CAVEATS)][:SHOWN]
    return [s for s in said if s in kept or s.startswith(CAVEATS)]


def _each(config: Config, get: Get, name: str, sign: str = "") -> list[str]:
    """One number of every method that has it, as texts."""
    results = {method: get(method, name) for method in config.methods}
    return [f"{method} {told(r, sign)}" for method, r in results.items() if r]


def _shortcut(config: Config, get: Get) -> Iterator[str]:
    joint = get("joint", "accuracy")
    if joint and not ends(joint)[0] > joint.null:
        yield (
            f"joint: no shortcut was learnt here: accuracy {told(joint)}, majority "
            f"{joint.null:.3f}. More --epochs may be needed."
        )
    elif joint:
        text = (
            f"joint: attention over {config.model.default_tokens} meaningless tokens "
            f"predicts the label with accuracy {told(joint)}; majority {joint.null:.3f}"
        )
        if full := get(FULL_TEXT, "full_text_accuracy"):
            share = joint.mean / full.mean
            text += f", the words {full.mean:.3f} ({share:.0%} of it)"
        if leak := get("joint", "leak_share"):
            text += f". The mask alone holds {leak.mean:.0%} of the label's bits"
        yield text + "."
    closed, open_ = [], []
    for method in config.methods:
        accuracy, nll = get(method, "accuracy"), get(method, "nll")
        if accuracy and method not in ("joint", "uniform"):
            flat = nll is not None and abs(nll.mean - nll.null) <= FLAT
            is_closed = ends(accuracy)[1] <= accuracy.null + CLOSED and flat
            (closed if is_closed else open_).append(f"{method} {told(accuracy)}")
    if closed:
        yield (
            f"Shortcut closed (whole interval at most {CLOSED} above the majority, NLL "
            f"within {FLAT} nats of the label entropy): {'; '.join(closed)}."
        )
    if open_:
        yield f"Shortcut not closed: {'; '.join(open_)}."


def _cost(config: Config, get: Get) -> Iterator[str]:
    if joint := get("joint", "accuracy"):
        # Words have kinds, of which mass is measured.
        over = "words" if get("joint", "lexicon_mass") else "inputs"
        yield (
            f"joint: accuracy {told(joint)} with attention over the {over}; majority "
            f"{joint.null:.3f}."
        )
    if losses := _each(config, get, "accuracy_vs_joint", "+"):
        yield f"Accuracy against joint, same seeds: {'; '.join(losses)}."


def _evidence(config: Config, get: Get) -> Iterator[str]:
    """What predictors make of the right explanation: code or evidence?"""
    for method in config.methods:
        own, right = get(method, "accuracy"), get(method, "true_mask_accuracy")
        if method in CONTROLS or not own or not right:
            continue
        text = (
            f"{method}: accuracy {told(own)}, {told(right)} under the true mask "
            f"(majority {own.null:.3f})"
        )
        if control := get(method, "control_rate"):
            text += f"; control feature shown in {control.mean:.0%} of masks"
        if ends(own)[0] > ends(right)[1] and own.mean - right.mean > CODE:
            text += ". It does worse on the evidence than on its mask: it reads a code"
        yield text + "."


def _explanation(config: Config, get: Get, joint: Result) -> str:
    texts = [
        f"{method} {told(kept)} and {told(judged)}"
        for method in config.methods
        if (kept := get(method, "post_hoc_accuracy"))
        and (judged := get(method, "evalx_accuracy"))
    ]
    return (
        "How often the selection alone gives the model's answer (random selections of "
        f"that size: {joint.null:.3f}), and gives it to an evaluator: "
        f"{'; '.join(texts)}."
    )


def _marked(config: Config, get: Get) -> Iterator[str]:
    """Do maps find what people marked, and better than a ranking without a model?"""
    areas = {m: get(m, "human_auroc") for m in config.methods if m not in CONTROLS}
    texts = [f"{m} {told(r)}" for m, r in areas.items() if r and not r.variant]
    beside = [
        f"{name} {r.mean:.3f}"
        for name in ("idf", "position")
        if (r := get(config.methods[0], f"human_auroc:{name}"))
    ]
    if texts:
        yield (
            f"What people marked, AUROC within each text (chance 0.500): "
            f"{'; '.join(texts)}. Without any model: {', '.join(beside)}."
        )


def _competition(config: Config, get: Get) -> Iterator[str]:
    name = "default_token_mass"
    masses = [r for m in config.methods if (r := get(m, name))]
    if masses:
        yield (
            "Share of the mask on meaningless default tokens while the words are there "
            f"({masses[-1].null:.3f} if uniform): "
            f"{'; '.join(_each(config, get, name))}."
        )


def _pretraining(config: Config, get: Get) -> Iterator[str]:
    accuracy, nll = (get("random_pretraining", name) for name in ("accuracy", "nll"))
    if config.model.values != "default_tokens" or not accuracy or not nll:
        return
    if ends(accuracy)[0] > accuracy.null:
        yield (
            f"random_pretraining stays above the majority with an NLL of {nll.mean:.3f}"
            f" against the entropy {nll.null:.3f} nats: the frozen predictor still "
            "varies a little with the mask, and the selector drives it across its "
            "threshold."
        )


def _weighting(config: Config, results: list[Result]) -> Iterator[str]:
    noisier = "--model.normalizer gumbel_softmax"
    if config.model.normalizer == "gumbel_softmax":
        noisier = "a higher --model.temperature"

    def worst(method: str, metric: str) -> float:
        # The weights fail where the predictor learns, so training counts as well.
        key = (config.tasks[0], method, metric)
        means = [r.mean for r in results if r[:3] == key and np.isfinite(r.mean)]
        return min(means, default=1.0)

    for method in config.methods:
        # A row that a program has added is not there when its run is read elsewhere.
        row = METHODS.get(method)
        if row is None or not row.structure.weighted:
            continue
        ess, overlap = worst(method, "ess_share"), worst(method, "overlap_share")
        if ess < FEW_EFFECTIVE or overlap < 0.5:
            yield (
                f"{method} cannot work here: effective sample size {ess:.0%}, "
                f"{overlap:.0%} of examples with overlap; make masks noisier "
                f"({noisier}) or use mask_swap."
            )
