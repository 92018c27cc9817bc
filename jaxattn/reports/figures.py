"""Figures of a run as reproducible SVG files.

Figure of the overlap that instance weights need: how masks betray their label.

Figures of what a selection gains and costs, over all settings of a run.
"""

import io
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxattn.methods.weighting import NO_OVERLAP
from jaxattn.metrics.weights import overlap_histogram
from jaxattn.reports.results import Result
from jaxattn.system.files import write_text

STYLE: dict[Any, Any] = {
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text: searchable, small, read aloud
    "svg.hashsalt": "jaxattn",  # the same figure gives the same bytes
}

WIDTH = 8.0  # inches: text of 9 points is 12 pixels high at a width of 800 pixels

# Okabe and Ito's colours, told apart by colour-blind readers as well.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000",
    "#888888",
)  # fmt: skip

SHOWN_SEEDS = 6

Target = str | os.PathLike[str] | TextIO  # a file by name, or an open text


def accuracy_by_method(
    path: Target,
    accuracies: Mapping[str, np.ndarray],
    intervals: Mapping[str, Sequence[float]],
    majority: float,
    full_text: Sequence[float] | None,
    title: str,
) -> None:
    """One dot a seed, mean and interval a method, majority and full text as lines.

    accuracies: method -> [seeds]; NaN seeds are left out and counted beside the name.
    intervals: method -> (mean, low, high, ...). full_text: (mean, low, high) or None.
    Raises ValueError where there is nothing to draw, OSError for file trouble.
    """
    values = _checked(accuracies, 1)
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows_of_methods(values, title)
        label = f"majority class ({majority:.3f})"
        axes.axvline(majority, color=RED, ls="--", label=label)
        if full_text is not None:
            mean, low, high = full_text[:3]
            label = f"attention over the words ({mean:.3f})"
            axes.axvline(mean, color=GREEN, label=label)
            if low < high:
                axes.axvspan(low, high, color=GREEN, alpha=0.2, lw=0)
        for y, (method, x) in enumerate(values.items()):
            _dots(axes, x, y, f"seeds-{method}", color=BLUE, alpha=0.6)
            if method in intervals:
                mean, low, high = intervals[method][:3]
                axes.plot([low, high], [y, y], color=BLACK, lw=2)
                axes.plot([mean], [y], color=BLACK, marker="D", ms=6)
        _key(axes, "one seed", marker="o", color=BLUE, alpha=0.6)
        _key(axes, "mean, 95 % interval", marker="D", color=BLACK)
        axes.set_xlabel("test accuracy")
        figure.legend(loc="outside lower center", ncols=4)
        save(figure, path)


def leak_by_method(
    path: Target,
    leak: Mapping[str, np.ndarray],
    null: Mapping[str, np.ndarray],
    entropy_bits: float,
    title: str,
) -> None:
    """Bits of the label read from the mask, beside the same with permuted labels.

    leak, null: method -> [seeds], in bits; entropy_bits: all there is to know. Raises
    ValueError where there is nothing to draw, OSError for file trouble.
    """
    values = _checked(leak, 1)
    permuted = _checked(null, 1) if null else {}
    with matplotlib.rc_context(STYLE):
        figure, axes = _rows_of_methods(values, title)
        axes.axvline(0, color=BLACK, lw=0.8)
        axes.axvline(
            entropy_bits,
            color=RED,
            ls="--",
            label=f"all of the label ({entropy_bits:.2f} bits)",
        )
        hollow: dict[str, Any] = {"color": GREY, "mfc": "none"}
        for y, (method, x) in enumerate(values.items()):
            _dots(axes, x, y - 0.16, f"seeds-{method}", 0.24, color=BLUE, alpha=0.6)
            x = permuted.get(method, np.empty(0))
            _dots(axes, x, y + 0.2, f"null-{method}", 0.24, **hollow)
        _key(axes, "one seed", marker="o", color=BLUE, alpha=0.6)
        _key(axes, "the same, labels permuted", marker="o", **hollow)
        axes.set_xlabel("label information in the mask (bits)")
        figure.legend(loc="outside lower center", ncols=3)
        save(figure, path)


def codes(
    path: Target,
    class_means: Mapping[str, np.ndarray],
    classes: Sequence[str],
    title: str,
    first_seed: int = 0,
) -> None:
    """Class-mean masks of the first six seeds: every seed invents its own code.

    class_means: method -> [seeds, positions, classes]. Raises ValueError where there
    is nothing to draw or a shape does not fit, OSError for file trouble.
    """
    values = _checked(class_means, 3)
    positions = next(iter(values.values())).shape[1]
    for method, means in values.items():
        if means.shape[1:] != (positions, len(classes)):
            raise ValueError(
                f"class means of {method} have shape {list(means.shape)}, expected "
                f"[seeds, {positions} positions, {len(classes)} classes]"
            )
    finite = [m[np.isfinite(m)] for m in values.values()]
    norm = Normalize(0, max((float(m.max()) for m in finite if m.size), default=1.0))
    colours = matplotlib.colormaps["Blues"].resampled(16)
    most = max(len(m) for m in values.values())
    shown = min(SHOWN_SEEDS, most)
    across, down = positions * 1.08 + 0.1, len(classes) + 1.25
    with matplotlib.rc_context(STYLE):
        height = 1.5 + 0.22 * down * len(values)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        title_of(figure, title)
        axes = figure.subplots()
        for row, (method, means) in enumerate(values.items()):
            axes.text(0, row * down - 0.2, method)
            for seed, mask in enumerate(means[:shown]):
                _panel(axes, mask, seed * across, row * down, norm, colours)
        tops = np.arange(len(values)) * down + 0.5
        y = (tops[:, None] + np.arange(len(classes))).ravel()
        axes.set_yticks(y, list(classes) * len(values), size=9)
        lefts = np.arange(shown) * across
        # Of many tokens only the first and the last have room for their number.
        tokens = (
            np.arange(positions) if positions <= 6 else np.array([0, positions - 1])
        )
        x = (lefts[:, None] + tokens + 0.5).ravel()
        axes.set_xticks(x, list(tokens + 1) * shown, size=9)
        names = [f"\nseed {first_seed + i}" for i in range(shown)]
        axes.set_xticks(lefts + positions / 2, names, minor=True)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(0, lefts[-1] + positions), ylim=(down * len(values) - 1.2, -1))
        bar = figure.colorbar(
            ScalarMappable(norm, colours),
            ax=axes,
            location="bottom",
            shrink=0.6,
            aspect=40,
            pad=0.2 / height,
        )
        bar.set_label(
            f"mean attention on each default token, by class (first {shown} of "
            f"{most} seeds)"
        )
        save(figure, path)


def learning_curves(
    path: Target,
    curves: Mapping[str, np.ndarray],
    ylabel: str,
    title: str,
    null: float | None = None,
) -> None:
    """Mean over seeds by epoch, with a band for the middle 80 % of the seeds.

    curves: method -> [seeds, epochs]; seeds that are not finite throughout are left
    out. null: drawn as a dashed line. Raises ValueError where there is nothing to
    draw, OSError for file trouble.
    """
    values = _checked(curves, 2)
    kept = {m: x[np.all(np.isfinite(x), axis=1)] for m, x in values.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        title_of(figure, title)
        axes = figure.subplots()
        palette = [BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK]
        for i, (method, x) in enumerate(kept.items()):
            label = method + _missing(len(x), len(values[method]))
            style: dict[str, Any] = {
                "color": palette[i % 6],
                "ls": ("-", "--")[i // 6 % 2],
            }
            if x.size == 0:
                axes.plot([], [], label=label, **style)
                continue
            epochs = np.arange(1, x.shape[1] + 1)
            marker = "osD^v<>Xph"[i % 10]
            every = max(1, x.shape[1] // 8)
            axes.plot(epochs, x.mean(0), label=label, gid=f"curve-{method}", ms=5,
                      marker=marker, markevery=every, **style)  # fmt: skip
            low, high = np.quantile(x, [0.1, 0.9], axis=0)
            axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, lw=0)
        if null is not None:
            axes.axhline(null, color=RED, ls=":", label=f"null ({null:.3f})")
        axes.set_xlabel("epoch (band: the middle 80 % of the seeds)")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside right upper")
        save(figure, path)


def _checked(values: Mapping[str, Iterable], axes: int) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(x, dtype=np.float64) for name, x in values.items()}
    if not arrays:
        raise ValueError("nothing to draw: no method was given")
    for name, x in arrays.items():
        if x.ndim != axes or x.size == 0:
            raise ValueError(
                f"cannot draw {name}: shape {list(x.shape)}, expected {axes} axes, "
                "none of them empty"
            )
    return arrays


def _rows_of_methods(values: dict[str, np.ndarray], title: str) -> tuple[Figure, Axes]:
    height = 1.7 + 0.42 * len(values)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    title_of(figure, title)
    axes = figure.subplots()
    labels = [
        method + _missing(int(np.sum(np.isfinite(x))), x.size).replace(" (", "\n(")
        for method, x in values.items()
    ]
    axes.set_yticks(range(len(values)), labels)
    axes.set_ylim(len(values) - 0.45, -0.55)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _panel(
    axes: Axes,
    mask: np.ndarray,
    left: float,
    top: float,
    norm: Normalize,
    colours: Colormap,
) -> None:
    positions, classes = mask.shape
    x, y = left + np.arange(positions + 1), top + np.arange(classes + 1)
    if np.all(np.isfinite(mask)):
        axes.pcolormesh(x, y, mask.T, norm=norm, cmap=colours, ec="white", lw=0.5)
    else:
        middle = (x.mean(), y.mean())
        axes.text(*middle, "diverged", color=GREY, ha="center", va="center")
    frame = Rectangle((left, top), positions, classes, fill=False, ec=GREY, lw=0.8)
    axes.add_patch(frame).set_clip_on(False)


def _missing(kept: int, all_seeds: int) -> str:
    return "" if kept == all_seeds else f" ({kept} of {all_seeds} seeds)"


def title_of(figure: Figure, title: str) -> None:
    figure.suptitle(textwrap.fill(title, 84), x=0.01, ha="left", size=12)


def _dots(
    axes: Axes, x: np.ndarray, y: float, gid: str, spread: float = 0.5, **style: Any
) -> None:
    # Golden-ratio steps spread neighbouring seeds evenly, and alike in every row.
    jitter = (np.arange(x.size) * (math.sqrt(5) - 1) / 2) % 1 - 0.5
    kept = np.isfinite(x)
    axes.plot(x[kept], (y + spread * jitter)[kept], "o", ms=5, gid=gid, **style)


def _key(axes: Axes, label: str, **style: Any) -> None:
    axes.plot([], [], ls="none", label=label, **style)


def save(figure: Figure, path: Target) -> None:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    if isinstance(path, str | os.PathLike):
        return write_text(path, buffer.getvalue())
    path.write(buffer.getvalue())


COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK)
"""Of more classes the first are drawn."""

BINS = 20


def histograms(
    path: Target,
    weights: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray | None,
    classes: Sequence[str],
    title: str,
) -> None:
    """How many examples of each class have which P(own class given m).

    weights [seeds, N] are P(y) / P(y given m), not cut; labels [N] or [seeds, N]; prior
    [classes] is the P(y) of the weights, by default that of the labels. Lines are means
    over the seeds, bands the middle 80 % of them. Raises OSError for file trouble.
    """
    many = np.broadcast_to(labels, weights.shape)
    if prior is None:
        prior = np.bincount(many.ravel(), minlength=len(classes)) / many.size
    shares = np.array(
        [
            overlap_histogram(prior[y] / w, y, len(classes), BINS)
            for w, y in zip(weights, many, strict=True)
        ]
    )
    edges = np.linspace(0, 1, BINS + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        title_of(figure, title)
        axes = figure.subplots()
        for c, (name, colour) in enumerate(zip(classes, COLOURS, strict=False)):
            label = f"{name} ({prior[c]:.3f})"
            low, high = np.quantile(shares[:, c], [0.1, 0.9], axis=0)
            mean = shares[:, c].mean(axis=0)
            band: dict[str, Any] = {"baseline": low, "fill": True, "alpha": 0.15}
            axes.stairs(mean, edges, color=colour, label=label, gid=f"class-{c}")
            axes.stairs(high, edges, color=colour, **band)
            axes.axvline(prior[c], color=colour, ls=":", lw=1)
        hopeless = f"below {NO_OVERLAP:g} no weight helps"
        axes.axvspan(0, NO_OVERLAP, color=RED, alpha=0.3, lw=0, label=hopeless)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(
            "P(own class | mask); dotted: P(class), where all lie if masks hold nothing"
        )
        axes.set_ylabel("share of the class's examples")
        figure.legend(loc="outside lower center", ncols=4)
        save(figure, path)


PANELS = (
    ("fdr", "tpr", "false discovery rate", "true positive rate"),
    ("selected_count", "true_mask_accuracy", "positions selected",
     "accuracy under the true mask"),
)  # fmt: skip

Points = Mapping[str, Sequence[tuple[Result, Result]]]
"""By method: (x, y) for each setting, in the order of the settings."""


def settings_of(
    results: Sequence[Result], task: str, x: str, y: str, main: str
) -> dict[str, list[tuple[Result, Result]]]:
    """The results of two metrics of a task under each setting, by method.

    `main` names the setting of the results without one, as model.penalty=0.03; a
    setting that changes another number than it is left out, for it is on another curve.
    """
    found: dict[str, list[tuple[float, Result, Result]]] = {}
    path = main.partition("=")[0]
    by_key = {(r.method, r.metric, r.variant): r for r in results if r.task == task}
    for (method, metric, variant), result in by_key.items():
        setting = variant or main
        if metric != x or setting.partition("=")[0] != path or " " in setting:
            continue
        other = by_key.get((method, y, variant))
        if other is not None and np.isfinite([result.mean, other.mean]).all():
            place = float(setting.partition("=")[2])
            found.setdefault(method, []).append((place, result, other))
    return {
        method: [(a, b) for _, a, b in sorted(points, key=lambda p: p[0])]
        for method, points in found.items()
    }


def curves(
    path: Target,
    results: Sequence[Result],
    task: str,
    main: str,
    title: str,
) -> bool:
    """One curve a method over the settings, with intervals; False if there is none.

    Left: evidence found against false discoveries; right: accuracy under the true mask
    against the size of the selection. Raises OSError for file trouble.
    """
    panels = [(p, settings_of(results, task, p[0], p[1], main)) for p in PANELS]
    if not any(panels[0][1].values()):
        return False
    methods = list(dict.fromkeys(m for _, points in panels for m in points))
    palette = [BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        title_of(figure, title)
        left, right = figure.subplots(1, 2)
        for axes, ((_, _, xlabel, ylabel), points) in zip(
            (left, right), panels, strict=True
        ):
            for method, pairs in points.items():
                i = methods.index(method)
                style: dict[str, Any] = {
                    "color": palette[i % len(palette)],
                    "marker": "osD^v<>Xph"[i % 10],
                    "ls": ("-", "--")[i // len(palette) % 2],
                }
                x, y = (np.array([p[k].mean for p in pairs]) for k in (0, 1))
                bars = [_bars([p[k] for p in pairs]) for k in (0, 1)]
                label = method if axes is left else None
                axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], ms=5, lw=1.2,
                              elinewidth=0.8, label=label, gid=f"curve-{method}",
                              **style)  # fmt: skip
            axes.set_xlabel(xlabel)
            axes.set_ylabel(ylabel)
            axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=min(4, len(methods)))
        save(figure, path)
    return True


def _bars(results: Sequence[Result]) -> np.ndarray:
    ends = np.array([[r.mean - r.ci_low, r.ci_high - r.mean] for r in results]).T
    return np.nan_to_num(np.maximum(ends, 0))
