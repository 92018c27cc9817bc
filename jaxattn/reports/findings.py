"""Plain sentences that say what a run has found; each is a rule with its threshold."""

import numpy as np

from jaxattn.config import Config
from jaxattn.methods.table import CONTROLS, FULL_TEXT, METHODS
from jaxattn.reports.results import Result, choose

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


def sentences(
    config: Config,
    results: list[Result],
    diverged: list[tuple[str, int]],
    missing: int = 0,
) -> list[str]:
    """What the results say of the first task; `missing` cells are still to be run."""
    found = []
    if missing:
        found.append(
            f"Unfinished: {missing} cells (method and seed) are still to be run; the "
            "same command goes on."
        )
    if config.model.values == "default_tokens":
        found += _shortcut(config, results)
    elif _get(config, results, "joint", "true_mask_accuracy"):
        found += _evidence(config, results)
    elif _get(config, results, "joint", "post_hoc_accuracy"):
        found += _explanation(config, results)
    elif config.model.values == "inputs":
        found += _cost(config, results)
    else:
        found += _competition(config, results)
    found += _marked(config, results)
    found += _pretraining(config, results)
    found += _weighting(config, results)
    if diverged:
        names = ", ".join(f"{method} seed {seed}" for method, seed in diverged)
        found.append(
            f"Diverged, frozen and left out of every mean: {names}. A smaller "
            "--optimizer.learning-rate usually helps."
        )
    # No seed at all: the number is undefined for that task, not short of seeds.
    fewest = min((r.n_seeds for r in results if r.n_seeds), default=0)
    if fewest < 8:
        found.append(
            f"Only {fewest} seed{'s' * (fewest != 1)} for some numbers: too few for "
            "their intervals to mean much; report no fewer than 8."
        )
    return found


def brief(found: list[str]) -> list[str]:
    """What a terminal shows of the findings: the first ones, and every caveat."""
    kept = [s for s in found if not s.startswith(CAVEATS)][:SHOWN]
    return [s for s in found if s in kept or s.startswith(CAVEATS)]


def _get(config, results, method, name) -> Result | None:
    found = choose(results, config.tasks[0], method, name)
    return found if found and np.isfinite(found.mean) else None


def _text(r: Result, sign: str = "") -> str:
    if not r.ci_low < r.ci_high:
        return f"{r.mean:{sign}.3f}"
    return f"{r.mean:{sign}.3f} [{r.ci_low:{sign}.3f}, {r.ci_high:{sign}.3f}]"


def _low(r: Result) -> float:
    return r.ci_low if np.isfinite(r.ci_low) else r.mean


def _shortcut(config: Config, results: list[Result]) -> list[str]:
    found = []
    joint = _get(config, results, "joint", "accuracy")
    full = _get(config, results, FULL_TEXT, "full_text_accuracy")
    leak = _get(config, results, "joint", "leak_share")
    if joint and not _low(joint) > joint.null:
        found.append(
            f"joint: no shortcut was learnt here: accuracy {_text(joint)}, majority "
            f"{joint.null:.3f}. More --epochs may be needed."
        )
    elif joint:
        text = (
            f"joint: attention over {config.model.default_tokens} meaningless tokens "
            f"predicts the label with accuracy {_text(joint)}; majority "
            f"{joint.null:.3f}"
        )
        if full:
            share = joint.mean / full.mean
            text += f", the words {full.mean:.3f} ({share:.0%} of it)"
        if leak:
            text += f". The mask alone holds {leak.mean:.0%} of the label's bits"
        found.append(text + ".")
    closed, open_ = [], []
    for method in config.methods:
        accuracy = _get(config, results, method, "accuracy")
        if method in ("joint", "uniform") or not accuracy:
            continue
        nll = _get(config, results, method, "nll")
        high = accuracy.ci_high if np.isfinite(accuracy.ci_high) else accuracy.mean
        flat = nll is not None and abs(nll.mean - nll.null) <= FLAT
        is_closed = high <= accuracy.null + CLOSED and flat
        (closed if is_closed else open_).append(f"{method} {_text(accuracy)}")
    if closed:
        found.append(
            f"Shortcut closed (whole interval at most {CLOSED} above the majority, NLL "
            f"within {FLAT} nats of the label entropy): {'; '.join(closed)}."
        )
    if open_:
        found.append(f"Shortcut not closed: {'; '.join(open_)}.")
    return found


def _cost(config: Config, results: list[Result]) -> list[str]:
    joint = _get(config, results, "joint", "accuracy")
    found = []
    if joint:
        # Words have kinds, of which mass is measured.
        words = choose(results, config.tasks[0], "joint", "lexicon_mass")
        over = "words" if words else "inputs"
        found.append(
            f"joint: accuracy {_text(joint)} with attention over the {over}; majority "
            f"{joint.null:.3f}."
        )
    losses = []
    for method in config.methods:
        difference = _get(config, results, method, "accuracy_vs_joint")
        if difference:
            losses.append(f"{method} {_text(difference, '+')}")
    if losses:
        found.append(f"Accuracy against joint, same seeds: {'; '.join(losses)}.")
    return found


def _evidence(config: Config, results: list[Result]) -> list[str]:
    """What predictors make of the right explanation: code or evidence?"""
    found = []
    for method in config.methods:
        if method in CONTROLS:
            continue
        own = _get(config, results, method, "accuracy")
        right = _get(config, results, method, "true_mask_accuracy")
        if not own or not right:
            continue
        text = (
            f"{method}: accuracy {_text(own)}, {_text(right)} under the true mask "
            f"(majority {own.null:.3f})"
        )
        control = _get(config, results, method, "control_rate")
        if control:
            text += f"; control feature shown in {control.mean:.0%} of masks"
        code = _low(own) > (right.ci_high if np.isfinite(right.ci_high) else right.mean)
        if code and own.mean - right.mean > CODE:
            text += ". It does worse on the evidence than on its mask: it reads a code"
        found.append(text + ".")
    return found


def _explanation(config: Config, results: list[Result]) -> list[str]:
    found = []
    for method in config.methods:
        kept = _get(config, results, method, "post_hoc_accuracy")
        judged = _get(config, results, method, "evalx_accuracy")
        if kept and judged:
            found.append(f"{method} {_text(kept)} and {_text(judged)}")
    return [
        "The model's answer on the selection alone (random selections of that size: "
        f"{kept.null:.3f}), and as an evaluator sees it: {'; '.join(found)}."
        for kept in [_get(config, results, "joint", "post_hoc_accuracy")]
        if kept
    ]


def _marked(config: Config, results: list[Result]) -> list[str]:
    """Do maps find what people marked, and better than a ranking without a model?"""
    texts, beside = [], []
    for method in config.methods:
        area = _get(config, results, method, "human_auroc")
        if area and area.variant == "" and method not in CONTROLS:
            texts.append(f"{method} {_text(area)}")
    for name in ("idf", "position"):
        same = [
            _get(config, results, method, f"human_auroc:{name}")
            for method in config.methods
        ]
        beside += [f"{name} {r.mean:.3f}" for r in same[:1] if r]
    if not texts:
        return []
    return [
        f"What people marked, AUROC within each text (chance 0.500): "
        f"{'; '.join(texts)}. Without any model: {', '.join(beside)}."
    ]


def _competition(config: Config, results: list[Result]) -> list[str]:
    texts = []
    for method in config.methods:
        mass = _get(config, results, method, "default_token_mass")
        if mass:
            texts.append(f"{method} {_text(mass)}")
            null = mass.null
    if not texts:
        return []
    return [
        "Share of the mask on meaningless default tokens while the words are there "
        f"({null:.3f} if uniform): {'; '.join(texts)}."
    ]


def _pretraining(config: Config, results: list[Result]) -> list[str]:
    accuracy = _get(config, results, "random_pretraining", "accuracy")
    nll = _get(config, results, "random_pretraining", "nll")
    if config.model.values != "default_tokens" or not accuracy or not nll:
        return []
    if not _low(accuracy) > accuracy.null:
        return []
    return [
        f"random_pretraining stays above the majority with an NLL of {nll.mean:.3f} "
        f"against the entropy {nll.null:.3f} nats: the frozen predictor still varies a "
        "little with the mask, and the selector drives it across its threshold."
    ]


def _weighting(config: Config, results: list[Result]) -> list[str]:
    found = []
    for method in config.methods:
        # A row that a program has added is not there when its run is read elsewhere.
        row = METHODS.get(method)
        if row is None or not row.structure.weighted:
            continue
        noisier = "--model.normalizer gumbel_softmax"
        if config.model.normalizer == "gumbel_softmax":
            noisier = "a higher --model.temperature"
        # The weights fail where the predictor learns, so training counts as well.
        ess = _worst(config, results, method, "ess_share")
        overlap = _worst(config, results, method, "overlap_share")
        if ess < FEW_EFFECTIVE or overlap < 0.5:
            found.append(
                f"{method} cannot work here: effective sample size {ess:.0%}, "
                f"{overlap:.0%} of examples with overlap; make masks noisier "
                f"({noisier}) or use mask_swap."
            )
    return found


def _worst(config: Config, results: list[Result], method: str, metric: str) -> float:
    """The smaller mean of both splits; 1 where neither was measured."""
    return min(
        (
            r.mean
            for r in results
            if (r.task, r.method, r.metric) == (config.tasks[0], method, metric)
            and np.isfinite(r.mean)
        ),
        default=1.0,
    )
