"""The figures of a run: functions of arrays that give reproducible SVG text.

Each raises ValueError where there is nothing to draw, or a shape does not fit.
"""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxattn.methods.weighting import NO_OVERLAP
from jaxattn.metrics.definitions import label
from jaxattn.metrics.weights import overlap_histogram
from jaxattn.reports.results import Result

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
MARKERS = "osD^v<>Xph"
SHOWN_SEEDS = 6
BINS = 20

# Okabe and Ito's colours, told apart by colour-blind readers as well.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000",
    "#888888",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY)
SEED: dict[str, Any] = {"color": BLUE, "alpha": 0.6}
HOLLOW: dict[str, Any] = {"color": GREY, "mfc": "none"}
Interval = Sequence[float]
"""(mean, low, high)."""


def _as_svg(draw: Callable[..., Figure]) -> Callable[..., str]:
    """The SVG text of what `draw` draws, in the style of all figures."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> str:
        text = io.StringIO()
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()

    return drawn


@_as_svg
def accuracy_by_method(
    accuracies: Mapping[str, np.ndarray],
    intervals: Mapping[str, Interval],
    majority: float,
    full_text: Interval | None,
    title: str,
) -> Figure:
    """One dot a seed, mean and interval a method, majority and full text as lines.

    `accuracies` [seeds] and `intervals` are by method. NaN seeds are left out and
    counted beside the name.
    """
    values = _checked(accuracies, 1)
    figure, axes = _rows_of_methods(values, title)
    axes.axvline(majority, color=RED, ls="--", label=f"majority class ({majority:.3f})")
    if full_text is not None:
        mean, low, high = full_text
        words = f"attention over the words ({mean:.3f})"
        axes.axvline(mean, color=GREEN, label=words)
        if low < high:
            axes.axvspan(low, high, color=GREEN, alpha=0.2, lw=0)
    for y, (method, x) in enumerate(values.items()):
        _dots(axes, x, y, f"seeds-{method}", **SEED)
        if method in intervals:
            mean, low, high = intervals[method][:3]
            axes.plot([low, high], [y, y], color=BLACK, lw=2)
            axes.plot([mean], [y], color=BLACK, marker="D", ms=6)
    axes.plot([], [], "o", label="one seed", **SEED)
    axes.plot([], [], "D", label="mean, 95 % interval", color=BLACK)
    axes.set_xlabel(f"test {label('accuracy')}")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


@_as_svg
def leak_by_method(
    leak: Mapping[str, np.ndarray],
    null: Mapping[str, np.ndarray],
    entropy_bits: float,
    title: str,
) -> Figure:
    """Bits of the label read from the mask, beside the same with permuted labels.

    `leak` and `null` [seeds] are by method; `entropy_bits` are all there is to know.
    """
    values = _checked(leak, 1)
    permuted = _checked(null, 1) if null else {}
    figure, axes = _rows_of_methods(values, title)
    axes.axvline(0, color=BLACK, lw=0.8)
    whole = f"all of the label ({entropy_bits:.2f} bits)"
    axes.axvline(entropy_bits, color=RED, ls="--", label=whole)
    for y, (method, x) in enumerate(values.items()):
        _dots(axes, x, y - 0.16, f"seeds-{method}", 0.24, **SEED)
        x = permuted.get(method, np.empty(0))
        _dots(axes, x, y + 0.2, f"null-{method}", 0.24, **HOLLOW)
    axes.plot([], [], "o", label="one seed", **SEED)
    axes.plot([], [], "o", label="the same, labels permuted", **HOLLOW)
    axes.set_xlabel(f"{label('leak_bits')} (bits)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@_as_svg
def codes(
    class_means: Mapping[str, np.ndarray],
    classes: Sequence[str],
    title: str,
    first_seed: int = 0,
) -> Figure:
    """Class-mean masks of the first six seeds: every seed invents its own code.

    `class_means` [seeds, positions, classes] are by method.
    """
    values = _checked(class_means, 3)
    positions = next(iter(values.values())).shape[1]
    largest = [float(m[np.isfinite(m)].max(initial=0)) for m in values.values()]
    norm = Normalize(0, max(largest) or 1.0)
    colours = matplotlib.colormaps["Blues"].resampled(16)
    most = max(len(m) for m in values.values())
    shown = min(SHOWN_SEEDS, most)
    across, down = positions * 1.08 + 0.1, len(classes) + 1.25
    height = 1.5 + 0.22 * down * len(values)
    figure = _figure(title, height)
    axes = figure.subplots()
    for row, (method, means) in enumerate(values.items()):
        axes.text(0, row * down - 0.2, method)
        for seed, mask in enumerate(means[:shown]):
            _panel(axes, mask, (seed * across, row * down), norm, colours)
    tops = np.arange(len(values)) * down + 0.5
    y = (tops[:, None] + np.arange(len(classes))).ravel()
    axes.set_yticks(y, list(classes) * len(values), size=9)
    lefts = np.arange(shown) * across
    # Of many tokens only the first and the last have room for their number.
    tokens = np.arange(positions) if positions <= 6 else np.array([0, positions - 1])
    x = (lefts[:, None] + tokens + 0.5).ravel()
    axes.set_xticks(x, list(tokens + 1) * shown, size=9)
    seeds = [f"\nseed {first_seed + i}" for i in range(shown)]
    axes.set_xticks(lefts + positions / 2, seeds, minor=True)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(0, lefts[-1] + positions), ylim=(down * len(values) - 1.2, -1))
    figure.colorbar(
        ScalarMappable(norm, colours), ax=axes, location="bottom", shrink=0.6,
        aspect=40, pad=0.2 / height, label="mean attention on each default token, by "
        f"class (first {shown} of {most} seeds)",
    )  # fmt: skip
    return figure


@_as_svg
def learning_curves(
    curves: Mapping[str, np.ndarray],
    ylabel: str,
    title: str,
    null: float | None = None,
) -> Figure:
    """Mean over seeds by epoch, with a band for the middle 80 % of the seeds.

    `curves` [seeds, epochs] are by method; seeds that are not finite throughout are
    left out. `null` is a level that is drawn as a dotted line.
    """
    values = _checked(curves, 2)
    figure = _figure(title, 4.4)
    axes = figure.subplots()
    for i, (method, every_seed) in enumerate(values.items()):
        x = every_seed[np.all(np.isfinite(every_seed), axis=1)]
        name = method + _missing(len(x), len(every_seed))
        style = _style(i)
        if x.size == 0:
            axes.plot([], [], label=name, **style)
            continue
        epochs = np.arange(1, x.shape[1] + 1)
        _banded(
            axes, epochs, x.T, label=name, gid=f"curve-{method}", ms=5,
            marker=MARKERS[i % len(MARKERS)], markevery=max(1, len(epochs) // 8),
            **style,
        )  # fmt: skip
    if null is not None:
        axes.axhline(null, color=RED, ls=":", label=f"null ({null:.3f})")
    axes.set(xlabel="epoch (band: the middle 80 % of the seeds)", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper")
    return figure


@_as_svg
def overlap(
    weights: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray | None,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Instance weights need overlap: how many examples have which P(own class | mask).

    Lines are means over the seeds, bands the middle 80 % of them. Of more than six
    classes, the first are drawn. `weights` [seeds, N] are P(y) / P(y given m), not cut;
    `labels` are [N] or [seeds, N]; `prior` [classes] is the P(y) of the weights, by
    default that of the labels.
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
    figure = _figure(title, 4.4)
    axes = figure.subplots()
    for c, (name, colour) in enumerate(zip(classes, PALETTE[:6], strict=False)):
        low, high = np.quantile(shares[:, c], [0.1, 0.9], axis=0)
        mean = shares[:, c].mean(axis=0)
        named = f"{name} ({prior[c]:.3f})"
        axes.stairs(mean, edges, color=colour, label=named, gid=f"class-{c}")
        axes.stairs(high, edges, baseline=low, fill=True, alpha=0.15, color=colour)
        axes.axvline(prior[c], color=colour, ls=":", lw=1)
    hopeless = f"below {NO_OVERLAP:g} no weight helps"
    axes.axvspan(0, NO_OVERLAP, color=RED, alpha=0.3, lw=0, label=hopeless)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="P(own class | mask); dotted: P(class), where all lie if masks hold "
        "nothing",
        ylabel="share of the class's examples",
    )
    figure.legend(loc="outside lower center", ncols=4)
    return figure


Points = Mapping[str, Sequence[tuple[Result, Result]]]
"""By method: (x, y) for each setting, in the order of the settings."""


@_as_svg
def tradeoff(panels: Sequence[tuple[str, str, Points]], title: str) -> Figure:
    """One curve a method over the settings of a sweep, with intervals.

    Each panel has two metrics, across and up, and their points.
    """
    methods = list(dict.fromkeys(m for _, _, points in panels for m in points))
    figure = _figure(title, 4.6)
    for i, (axes, (x, y, points)) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True)
    ):
        for method, pairs in points.items():
            k = methods.index(method)
            (across, xerr), (up, yerr) = map(_bars, zip(*pairs, strict=True))
            axes.errorbar(
                across, up, xerr=xerr, yerr=yerr, ms=5, lw=1.2, elinewidth=0.8,
                marker=MARKERS[k % len(MARKERS)], gid=f"curve-{method}",
                label=None if i else method, **_style(k),
            )  # fmt: skip
        axes.set(xlabel=label(x), ylabel=label(y))
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(4, len(methods)))
    return figure


@_as_svg
def channels(bits: Mapping[tuple[str, str], Result], title: str) -> Figure:
    """Bits of the label by (method, channel of the mask), with intervals."""
    methods = list(dict.fromkeys(method for method, _ in bits))
    sides = list(dict.fromkeys(channel for _, channel in bits))
    figure = _figure(title, 1.6 + len(sides) * (0.3 + 0.13 * len(methods)))
    axes = figure.subplots()
    for k, method in enumerate(methods):
        at = [i for i, side in enumerate(sides) if (method, side) in bits]
        style: dict[str, Any] = {**_style(k), "ls": "none"}
        means, arms = _bars([bits[method, sides[i]] for i in at])
        axes.errorbar(
            means, np.array(at) + (k + 0.5) / len(methods) * 0.8 - 0.4, xerr=arms,
            ms=5, marker=MARKERS[k % len(MARKERS)], label=method,
            gid=f"channel-{method}", **style,
        )  # fmt: skip
    axes.axvline(0, color=BLACK, lw=0.8, label="null: exchanged labels")
    axes.set_yticks(range(len(sides)), sides)
    axes.set_ylim(len(sides) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("bits beyond exchanged labels (95 % intervals over seeds)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


Curve = Mapping[float, np.ndarray]
"""Values [seeds] by share of positions in per cent."""


@_as_svg
def removal(
    without: Mapping[str, Curve], only: Mapping[str, Curve], title: str
) -> Figure:
    """Probability of the predicted class as positions go (left) or come (right).

    `without` and `only` are curves by method; the one of `random order` is dashed.
    """
    figure = _figure(title, 4.6)
    sides = {"without": without, "only": only}
    axes_of = np.atleast_1d(figure.subplots(1, 2))
    for axes, (side, curves) in zip(axes_of, sides.items(), strict=True):
        for k, (name, curve) in enumerate(curves.items()):
            random = name == "random order"
            style = {"color": GREY, "ls": "--"} if random else _style(k)
            shares = sorted(curve)
            kept = [curve[s][np.isfinite(curve[s])] for s in shares]
            if all(x.size for x in kept):
                named = name if side == "without" else None
                _banded(axes, shares, kept, marker="o", ms=4, label=named, **style)
        axes.set(
            xlabel=f"{side} this share of positions (%)",
            ylabel="probability of the predicted class",
        )
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _figure(title: str, height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, 84), x=0.01, ha="left", size=12)
    return figure


def _style(i: int) -> dict[str, Any]:
    """Colour and stroke of the i-th curve."""
    dashed = i // len(PALETTE) % 2
    return {"color": PALETTE[i % len(PALETTE)], "ls": ("-", "--")[dashed]}


def _banded(
    axes: Axes, x: Sequence[float], values: Iterable[np.ndarray], **style: Any
) -> None:
    """The means of the values at each x, with a band for their middle 80 %."""
    values = list(values)
    axes.plot(x, [v.mean() for v in values], **style)
    low, high = np.reshape([np.quantile(v, [0.1, 0.9]) for v in values], (-1, 2)).T
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)


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
    figure = _figure(title, 1.7 + 0.42 * len(values))
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
    corner: tuple[float, float],
    norm: Normalize,
    colours: Colormap,
) -> None:
    positions, classes = mask.shape
    x, y = corner[0] + np.arange(positions + 1), corner[1] + np.arange(classes + 1)
    if np.all(np.isfinite(mask)):
        axes.pcolormesh(x, y, mask.T, norm=norm, cmap=colours, ec="white", lw=0.5)
    else:
        middle = (x.mean(), y.mean())
        axes.text(*middle, "diverged", color=GREY, ha="center", va="center")
    frame = Rectangle(corner, positions, classes, fill=False, ec=GREY, lw=0.8)
    axes.add_patch(frame).set_clip_on(False)


def _missing(kept: int, all_seeds: int) -> str:
    return "" if kept == all_seeds else f" ({kept} of {all_seeds} seeds)"


def _dots(
    axes: Axes, x: np.ndarray, y: float, gid: str, spread: float = 0.5, **style: Any
) -> None:
    # Golden-ratio steps spread neighbouring seeds evenly, and alike in every row.
    jitter = (np.arange(x.size) * (math.sqrt(5) - 1) / 2) % 1 - 0.5
    kept = np.isfinite(x)
    axes.plot(x[kept], (y + spread * jitter)[kept], "o", ms=5, gid=gid, **style)


def _bars(results: Sequence[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Means [n], and the lengths [2, n] of the arms of the intervals around them."""
    arms = np.array([[r.mean - r.ci_low, r.ci_high - r.mean] for r in results]).T
    return np.array([r.mean for r in results]), np.nan_to_num(np.maximum(arms, 0))
