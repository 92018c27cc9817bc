"""The pictures of a report, drawn again from what a run's folder holds."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxattn.config import numbers
from jaxattn.methods.table import FULL_TEXT
from jaxattn.reports import figures
from jaxattn.reports.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import Result, choose
from jaxattn.system import pages

PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY)

CHANNELS = ("all", "beyond length", "length", "shape", "place", "types")


class Drawing(NamedTuple):
    svg: str
    caption: str


def trained(run: Folder, task: str) -> list[str]:
    """Methods of a task in the config's order, those of whose seeds one is alive."""
    there = dict.fromkeys(r.method for r in run.rows if r.task == task)
    return [
        m
        for m in run.config.methods
        if m in there
        and np.isfinite(list(values(run, task, m, "accuracy").values())).any()
    ]


def _inlined(name: str, caption: str, draw: Callable[[Any], Any]) -> Drawing:
    text = io.StringIO()
    draw(text)
    return Drawing(pages.inline(text.getvalue(), name, caption), caption)


def _by_seed(run: Folder, task: str, name: str) -> dict[str, np.ndarray]:
    found = {m: values(run, task, m, name) for m in trained(run, task)}
    return {m: np.array(list(v.values())) for m, v in found.items() if v}


def _interval(result: Result | None) -> tuple[float, float, float]:
    if result is None:
        return np.nan, np.nan, np.nan
    return result.mean, result.ci_low, result.ci_high


def accuracy(run: Folder, task: str, name: str) -> Drawing | None:
    """A dot for each seed, intervals, majority, and the reference over the words."""
    seeds = _by_seed(run, task, "accuracy")
    if not seeds:
        return None
    chance = choose(run.results, task, None, "majority")
    full = choose(run.results, task, FULL_TEXT, "full_text_accuracy")
    known = full is not None and np.isfinite(full.mean)
    where = run.config.model.values.replace("_", " ")
    return _inlined(
        name,
        f"Test accuracy of every seed on {task}, attention over {where}, with means "
        "and 95 % intervals; lines: the majority class"
        + (" and attention over the words." if known else "."),
        lambda out: figures.accuracy_by_method(
            out,
            seeds,
            {m: _interval(choose(run.results, task, m, "accuracy")) for m in seeds},
            _interval(chance)[0],
            _interval(full) if known else None,
            "Test accuracy",
        ),
    )


def leak(run: Folder, task: str, name: str) -> Drawing | None:
    """Bits in the mask by seed, beside those with labels permuted."""
    seeds = _by_seed(run, task, "leak_bits")
    nats = choose(run.results, task, None, "label_entropy")
    if not seeds or nats is None:
        return None
    return _inlined(
        name,
        f"Bits of the label that a probe reads from the mask alone, every seed of "
        f"{task} (filled), and the same with labels permuted (hollow).",
        lambda out: figures.leak_by_method(
            out,
            seeds,
            _by_seed(run, task, "leak_bits:permuted"),
            nats.mean / np.log(2),
            "Bits of the label in the mask alone",
        ),
    )


def codes(run: Folder, task: str, name: str) -> Drawing | None:
    """The mean mask of each class on the default tokens, several seeds side by side."""
    if run.config.model.values == "inputs":
        return None
    means = {}
    for method in trained(run, task):
        kept = run.masks[task].get(method)
        if kept is not None and kept.get("labels", np.zeros(0)).ndim == 1:
            means[method] = class_means(kept, run.config.model.default_tokens)
    if not means:
        return None
    most = max(m.shape[2] for m in means.values())
    classes = _classes(run, task, most)
    means = {m: x for m, x in means.items() if x.shape[2] == len(classes)}
    if not means:
        return None
    return _inlined(
        name,
        "The mean mask of each class, seeds side by side: where classes differ, the "
        "mask is a code, and each seed has invented its own.",
        lambda out: figures.codes(
            out, means, classes, "Mean mask by class", run.config.first_seed
        ),
    )


def _classes(run: Folder, task: str, most: int) -> list[str]:
    """Names of the classes, or their numbers; a dollar would begin a formula."""
    named = run.names[task].classes or map(str, range(most))
    return [name.replace("$", r"\$") for name in named]


def class_means(kept: dict[str, np.ndarray], tokens: int) -> np.ndarray:
    """Mean masks [S, tokens, classes] on the default tokens; NaN for diverged seeds."""
    labels = kept["labels"].astype(int)
    masks = kept["masks"][:, :, kept["masks"].shape[2] - tokens :]
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    sums = np.einsum("snk,nc->skc", masks.astype(np.float64), one_hot)
    means = sums / np.maximum(one_hot.sum(axis=0), 1)
    return np.where(kept["alive"].astype(bool)[:, None, None], means, np.nan)


def learning(run: Folder, task: str, name: str) -> Drawing | None:
    """Validation accuracy by epoch."""
    curves = run.curves.get(task, {})
    curves = {m: curves[m] for m in trained(run, task) if m in curves}
    curves = {m: x for m, x in curves.items() if x.size}
    if not curves:
        return None
    return _inlined(
        name,
        f"Validation accuracy by epoch on {task}: means over seeds, bands for the "
        "middle 80 % of them.",
        lambda out: figures.learning_curves(
            out, curves, "validation accuracy", "Learning curves"
        ),
    )


def weights(run: Folder, task: str, name: str) -> Drawing | None:
    """How many examples of each class have which P(own class given m)."""
    for method in trained(run, task):
        kept = run.masks[task].get(method, {})
        if "instance_weights" not in kept or not kept["alive"].any():
            continue
        alive = kept["alive"].astype(bool)
        labels = kept["labels"][alive] if kept["labels"].ndim == 2 else kept["labels"]
        names = run.names[task]
        classes = _classes(run, task, int(labels.max()) + 1)
        if len(classes) <= int(labels.max()):
            return None
        return _inlined(
            name,
            f"Histogram of P(own class given mask) of {method}, by class: a weight "
            "cannot help an example at the left edge.",
            lambda out: figures.histograms(
                out,
                kept["instance_weights"][alive],  # noqa: B023
                labels,  # noqa: B023
                names.train_shares,  # noqa: B023
                classes,  # noqa: B023
                f"Do masks of {method} leave every class possible?",  # noqa: B023
            ),
        )
    return None


def tradeoff(run: Folder, task: str, name: str) -> Drawing | None:
    """What a selection gains and costs over the settings of a run."""
    if not run.config.also:
        return None
    number = run.config.also[0].partition("=")[0]
    main = f"{number}={numbers(run.config)[number]:g}"
    text = io.StringIO()
    title = f"What the selection finds and costs, over {number}"
    if not figures.curves(text, run.results, task, main, title):
        return None
    caption = f"{title}: a curve for each method, with 95 % intervals."
    return Drawing(pages.inline(text.getvalue(), name, caption), caption)


def channels(run: Folder, task: str, name: str) -> Drawing | None:
    """Bits by side of the mask and by method, with intervals."""
    found = {
        (m, c): r
        for m in trained(run, task)
        for c in CHANNELS
        if (r := choose(run.results, task, m, f"channel_leak_bits:{c}"))
        and np.isfinite(r.mean)
    }
    if not found:
        return None
    sides = [c for c in CHANNELS if any(side == c for _, side in found)]
    methods = list(dict.fromkeys(m for m, _ in found))
    with matplotlib.rc_context(figures.STYLE):
        height = 1.6 + len(sides) * (0.3 + 0.13 * len(methods))
        figure = Figure(figsize=(figures.WIDTH, height), layout="constrained")
        figures.title_of(figure, "Bits of the label by side of the mask")
        axes = figure.subplots()
        for k, method in enumerate(methods):
            at = [i for i, c in enumerate(sides) if (method, c) in found]
            rs = [found[method, sides[i]] for i in at]
            y = np.array(at) + (k + 0.5) / len(methods) * 0.8 - 0.4
            means = np.array([r.mean for r in rs])
            ends = np.array([[r.mean - r.ci_low, r.ci_high - r.mean] for r in rs]).T
            axes.errorbar(
                means, y, xerr=np.nan_to_num(np.maximum(ends, 0)), ls="none", ms=5,
                marker="osD^v<>Xph"[k % 10], color=PALETTE[k % 7], label=method,
                gid=f"channel-{method}",
            )  # fmt: skip
        axes.axvline(0, color=BLACK, lw=0.8, label="null: exchanged labels")
        axes.set_yticks(range(len(sides)), sides)
        axes.set_ylim(len(sides) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("bits beyond exchanged labels (95 % intervals over seeds)")
        figure.legend(loc="outside lower center", ncols=3)
        caption = (
            "Bits of the label in all of the mask and in single sides of it (length, "
            f"shape, place, types of words) on {task}; the null is 0."
        )
        return _inlined(name, caption, lambda out: figures.save(figure, out))


def removal(run: Folder, task: str, name: str) -> Drawing | None:
    """Probability of the predicted class as positions go, or come, by share."""
    shares: dict[tuple[str, str], dict[float, dict[str, np.ndarray]]] = {}
    for r in run.rows:
        if (r.task, r.metric) == (task, "removal_curve"):
            side, share, *random = r.variant.split()
            kind = "random" if random else "own"
            at = shares.setdefault((r.method, side), {}).setdefault(
                float(share.rstrip("%")), {}
            )
            at[kind] = np.append(at.get(kind, np.zeros(0)), r.value)
    methods = [m for m in trained(run, task) if (m, "without") in shares]
    if not methods:
        return None
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 4.6), layout="constrained")
        figures.title_of(figure, "Removal, most attended first, against random order")
        for axes, side in zip(figure.subplots(1, 2), ("without", "only"), strict=True):
            for k, method in enumerate(methods):
                style = {"color": PALETTE[k % 7]}
                label = method if side == "without" else None
                _curve(axes, shares[method, side], "own", label, style)
                if k == 0:
                    label = "random order" if side == "without" else None
                    grey = {"color": GREY, "ls": "--"}
                    _curve(axes, shares[method, side], "random", label, grey)
            axes.set_xlabel(f"{side} this share of positions (%)")
            axes.set_ylabel("probability of the predicted class")
        figure.legend(loc="outside lower center", ncols=4)
        caption = (
            "Left: without the most attended positions; right: with these only. Means "
            "over seeds, bands for the middle 80 % of them; dashed: random positions "
            f"({methods[0]})."
        )
        return _inlined(name, caption, lambda out: figures.save(figure, out))


def _curve(axes, by_share, kind: str, label: str | None, style: dict) -> None:
    x = sorted(by_share)
    seeds = [by_share[s].get(kind, np.array([np.nan])) for s in x]
    kept = [v[np.isfinite(v)] for v in seeds]
    if not all(v.size for v in kept):
        return
    axes.plot(x, [v.mean() for v in kept], marker="o", ms=4, label=label, **style)
    ends = np.array([np.quantile(v, [0.1, 0.9]) for v in kept]).T
    axes.fill_between(x, *ends, alpha=0.15, lw=0, color=style["color"])
