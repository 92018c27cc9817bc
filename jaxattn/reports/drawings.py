"""Which numbers of a run go into which figure, each drawn once for files and page."""

from typing import NamedTuple

import numpy as np

from jaxattn.config import numbers
from jaxattn.methods.table import FULL_TEXT
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports import figures
from jaxattn.reports.folder import Folder, values
from jaxattn.reports.results import Result, choose, measured

PANELS = (("fdr", "tpr"), ("selected_count", "true_mask_accuracy"))
"""Metrics across and up: what a selection finds, and what it costs."""


class Drawing(NamedTuple):
    """A figure as the text of an SVG file, and what it shows in words."""

    svg: str
    caption: str


def draw(run: Folder, task: str) -> dict[str, Drawing]:
    """The figures of one task by the names of their files; what is not there is not."""
    functions = (
        *(_accuracy, _leak, _codes, _channels),
        *(_removal, _learning_curves, _overlap, _tradeoff),
    )
    drawings = {f.__name__[1:]: f(run, task) for f in functions}
    return {name: d for name, d in drawings.items() if d is not None}


def _trained(run: Folder, task: str) -> list[str]:
    """Methods with at least one seed that did not diverge, in config order."""
    accuracies = {m: values(run, task, m, "accuracy") for m in run.config.methods}
    return [m for m, x in accuracies.items() if np.isfinite(list(x.values())).any()]


def _by_seed(run: Folder, task: str, name: str) -> dict[str, np.ndarray]:
    of_method = {m: values(run, task, m, name) for m in _trained(run, task)}
    return {m: np.array(list(x.values())) for m, x in of_method.items() if x}


def _interval(run: Folder, task: str, method: str | None, name: str) -> tuple:
    result = choose(run.results, task, method, name)
    return (result.mean, result.ci_low, result.ci_high) if result else (np.nan,) * 3


def _accuracy(run: Folder, task: str) -> Drawing | None:
    seeds = _by_seed(run, task, "accuracy")
    if not seeds:
        return None
    full = _interval(run, task, FULL_TEXT, "full_text_accuracy")
    known = bool(np.isfinite(full[0]))
    where = run.config.model.values.replace("_", " ")
    lines = "the majority class" + " and attention over the words" * known
    return Drawing(
        figures.accuracy_by_method(
            seeds,
            {m: _interval(run, task, m, "accuracy") for m in seeds},
            _interval(run, task, None, "majority")[0],
            full if known else None,
            f"Test accuracy on {task}, attention over {where}",
        ),
        f"Test accuracy of every seed on {task}, attention over {where}, with means "
        f"and 95 % intervals; lines: {lines}.",
    )


def _leak(run: Folder, task: str) -> Drawing | None:
    seeds = _by_seed(run, task, "leak_bits")
    nats = choose(run.results, task, None, "label_entropy")
    if not seeds or nats is None:
        return None
    null, title = "leak_bits:permuted", f"Bits of the label in the mask alone, {task}"
    bits = nats.mean / np.log(2)
    return Drawing(
        figures.leak_by_method(seeds, _by_seed(run, task, null), bits, title),
        f"Bits of the label that a probe reads from the mask alone, every seed of "
        f"{task} (filled), and the same with labels permuted (hollow).",
    )


def _codes(run: Folder, task: str) -> Drawing | None:
    if run.config.model.values == "inputs":
        return None
    means = {
        method: class_means(kept, run.config.model.default_tokens)
        for method in _trained(run, task)
        if "labels" in (kept := run.masks[task].get(method, {}))
    }
    classes = _classes(run, task, max((m.shape[2] for m in means.values()), default=0))
    means = {m: x for m, x in means.items() if x.shape[2] == len(classes)}
    if not means:
        return None
    title = f"Mean mask on the default tokens by class, {task}"
    return Drawing(
        figures.codes(means, classes, title, run.config.first_seed),
        "The mean mask of each class, seeds side by side: where classes differ, the "
        "mask is a code, and each seed has invented its own.",
    )


def _classes(run: Folder, task: str, most: int) -> list[str]:
    """Names of the classes, or their numbers; a dollar would begin a formula."""
    named = run.names[task].classes or map(str, range(most))
    return [name.replace("$", r"\$") for name in named]


def class_means(kept: dict[str, np.ndarray], tokens: int) -> np.ndarray:
    """Mean masks [S, tokens, classes] on the default tokens; NaN for diverged seeds."""
    masks = kept["masks"][:, :, kept["masks"].shape[2] - tokens :]
    labels = np.broadcast_to(kept["labels"].astype(int), masks.shape[:2])
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    sums = np.einsum("snk,snc->skc", masks.astype(np.float64), one_hot)
    means = sums / np.maximum(one_hot.sum(axis=1), 1)[:, None]
    return np.where(kept["alive"].astype(bool)[:, None, None], means, np.nan)


def _learning_curves(run: Folder, task: str) -> Drawing | None:
    curves, names = run.curves.get(task, {}), run.names[task]
    curves = {
        m: curves[m] for m in _trained(run, task) if m in curves and curves[m].size
    }
    if not curves:
        return None
    null, title = names.validation_majority, f"Learning curves, {task}"
    if null is None and names.train_shares is None:
        # Generated labels, whose classes are as frequent in every split.
        chance = _interval(run, task, None, "majority")[0]
        null = chance if np.isfinite(chance) else None
    return Drawing(
        figures.learning_curves(curves, "validation accuracy", title, null),
        f"Validation accuracy by epoch on {task}: means over seeds, bands for the "
        "middle 80 % of them.",
    )


def _overlap(run: Folder, task: str) -> Drawing | None:
    for method in _trained(run, task):
        kept = run.masks[task].get(method, {})
        if "instance_weights" not in kept or not kept["alive"].any():
            continue
        alive = kept["alive"].astype(bool)
        labels = kept["labels"][alive] if kept["labels"].ndim == 2 else kept["labels"]
        classes = _classes(run, task, int(labels.max()) + 1)
        if len(classes) <= int(labels.max()):
            return None
        weights, prior = kept["instance_weights"][alive], run.names[task].train_shares
        title = f"Do masks of {method} leave every class possible? {task}"
        return Drawing(
            figures.overlap(weights, labels, prior, classes, title),
            f"Histogram of P(own class given mask) of {method}, by class: a weight "
            "cannot help an example at the left edge.",
        )
    return None


def _tradeoff(run: Folder, task: str) -> Drawing | None:
    """Over the first field of the config that was varied alone, if it is a number."""
    own = numbers(run.config)
    alone = [s.partition("=")[0] for s in run.config.also if " " not in s]
    field = next((path for path in alone if path in own), None)
    if field is None:
        return None
    main = f"{field}={own[field]:g}"
    panels = [(x, y, settings_of(run.results, task, x, y, main)) for x, y in PANELS]
    if not any(panels[0][2].values()):
        return None
    title = f"{task}: what the selection finds and costs, over {field}"
    return Drawing(
        figures.tradeoff(panels, title),
        f"What the selection finds and costs, over {field}: a curve for each method, "
        "with 95 % intervals.",
    )


def settings_of(
    results: list[Result], task: str, x: str, y: str, main: str
) -> dict[str, list[tuple[Result, Result]]]:
    """The results of two metrics of a task under each setting, by method.

    `main` names the setting of the results without one, as model.penalty=0.03. A
    setting that changes another field is left out, for it is on another curve.
    """
    points: dict[str, list[tuple[float, Result, Result]]] = {}
    field = main.partition("=")[0]
    by_key = {(r.method, r.metric, r.variant): r for r in results if r.task == task}
    for (method, metric, variant), across in by_key.items():
        setting = variant or main
        if metric != x or setting.partition("=")[0] != field or " " in setting:
            continue
        up = by_key.get((method, y, variant))
        if up is not None and np.isfinite([across.mean, up.mean]).all():
            place = float(setting.partition("=")[2])
            points.setdefault(method, []).append((place, across, up))
    return {
        method: [point[1:] for point in sorted(own, key=lambda point: point[0])]
        for method, own in points.items()
    }


def _channels(run: Folder, task: str) -> Drawing | None:
    bits = {
        (method, channel): result
        for method in _trained(run, task)
        for channel in METRICS["audit_bits"].columns
        if (result := measured(run.results, task, method, f"audit_bits:{channel}"))
    }
    if not bits:
        return None
    return Drawing(
        figures.channels(bits, f"Bits of the label by channel of the mask, {task}"),
        "Bits of the label that the audit's probes read from the whole mask and from "
        "single channels of it (length, shape, place, types of words) on "
        f"{task}; the null is 0.",
    )


def _removal(run: Folder, task: str) -> Drawing | None:
    curves: dict[tuple[str, str, bool], dict[float, np.ndarray]] = {}
    for r in run.rows:
        if (r.task, r.metric) == (task, "removal_curve"):
            side, share, *random = r.variant.split()
            curve = curves.setdefault((r.method, side, bool(random)), {})
            at = float(share.rstrip("%"))
            curve[at] = np.append(curve.get(at, np.zeros(0)), r.value)
    methods = [m for m in _trained(run, task) if (m, "without", False) in curves]
    if not methods:
        return None
    without, only = (
        {m: curves[m, side, False] for m in methods}
        | {"random order": curves.get((methods[0], side, True), {})}
        for side in ("without", "only")
    )
    title = f"Removal, most attended first, against random order, {task}"
    return Drawing(
        figures.removal(without, only, title),
        "Left: without the most attended positions; right: with these only. Means "
        "over seeds, bands for the middle 80 % of them; dashed: random positions "
        f"({methods[0]}).",
    )
