"""Figure of the overlap that instance weights need: how masks betray their label."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxattn.figures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    STYLE,
    WIDTH,
    Target,
    save,
    title_of,
)
from jaxattn.metrics.weights import overlap_histogram
from jaxattn.weighting import NO_OVERLAP

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
