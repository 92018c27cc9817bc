"""Figures of what a selection gains and costs, over all settings of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxattn.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    WIDTH,
    Target,
    save,
    title_of,
)
from jaxattn.results import Result

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
