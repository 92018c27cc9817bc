"""Examples to look at: the most leaking, some at random, those seeds disagree on.

Instances of a bag on the plane they come from, as the cells of a picture.

Small pictures as data that a page carries with it.
"""

import base64
import io
import math
from typing import NamedTuple

import matplotlib.image
import numpy as np

from jaxattn.methods.table import CONTROLS, FULL_TEXT
from jaxattn.reports.folder import Folder, Masks, Names
from jaxattn.reports.heatmap import Heat, Line, lines, shortened
from jaxattn.reports.verdict import subject

MOST_CELLS = 128
"""Of a side of the picture; instances that share a cell add up."""


def cells(places: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Row and column [n, 2] of instances at places (x, y) [n, 2], and the grid's shape.

    The step of the grid is the least distance between two columns or rows of instances,
    as patches are cut side by side; a plane that is larger is drawn coarser.
    """
    places = np.asarray(places, np.float64)
    start, size = places.min(axis=0), np.ptp(places, axis=0)
    gaps = [np.diff(np.unique(axis)) for axis in places.T]
    smallest = [gap.min() for gap in gaps if len(gap)]
    step = max([size.max() / MOST_CELLS, min(smallest, default=1.0)])
    at = np.floor((places - start) / step + 1e-6).astype(int)
    rows, columns = at[:, 1], at[:, 0]
    return np.stack([rows, columns], axis=1), (rows.max() + 1, columns.max() + 1)


def picture(
    weights: np.ndarray, at: np.ndarray, shape: tuple[int, int], spread: bool = False
) -> np.ndarray:
    """Weights [n] in their cells [rows, columns]; NaN where there is no instance.

    Masks add up where several share a cell; with `spread`, the largest stays.
    """
    found = np.full(shape, np.nan)
    found[at[:, 0], at[:, 1]] = 0
    (np.maximum if spread else np.add).at(found, (at[:, 0], at[:, 1]), weights)
    return found


def square(pixels: np.ndarray) -> str:
    """Grey pixels [side * side] of 0 to 255 as the source of an image."""
    side = math.isqrt(pixels.size)
    return grey(pixels.reshape(side, -1) if side else pixels[None])


def grid_of(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """An image from pixels [positions], or from patches [positions, size * size].

    Of three colours the grey that is their mean.
    """
    if pixels.ndim == 1:
        return pixels.reshape(grid)
    if pixels.shape[1] == 3:
        return pixels.mean(axis=1).reshape(grid)
    size = math.isqrt(pixels.shape[1])
    patches = pixels.reshape(*grid, size, size)
    return patches.transpose(0, 2, 1, 3).reshape(grid[0] * size, grid[1] * size)


def grey(pixels: np.ndarray) -> str:
    """Pixels [rows, columns] of 0 to 255 as the source of an image."""
    return _source(pixels, "gray", 255)


def coloured(values: np.ndarray) -> str:
    """Values [rows, columns] of at least 0, the largest darkest, NaN nothing at all."""
    return _source(values, "Blues", max(float(np.nanmax(values)), 1e-12))


def _source(values: np.ndarray, colours: str, most: float) -> str:
    file = io.BytesIO()
    matplotlib.image.imsave(
        file, values, cmap=colours, vmin=0, vmax=most, format="png",
        metadata={"Software": "jaxattn"},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


EACH = 3
"""Examples of each kind; of a run of many tasks fewer."""

SEEDS = 3
"""Seeds side by side where they disagree."""

MOST_COLUMNS = 120
"""Positions of a strip; of more, the first are drawn."""


class Strip(NamedTuple):
    """One row of weights over positions that are no words."""

    name: str
    cells: list[tuple[str, float]]
    """Weight as text, and its share of the row's largest."""


class Map(NamedTuple):
    """A picture of weights over the places of an image."""

    name: str
    source: str
    told: str


class Shown(NamedTuple):
    """One example with the masks of several methods."""

    name: str
    label: str
    why: str
    text: str
    """What the example says, where its words are not what masks are over."""
    heat: list[Line]
    positions: list[str]
    evidence: list[bool]
    pictures: list[str]
    strips: list[Strip]
    maps: list[Map]


class Chosen(NamedTuple):
    shown: list[Shown]
    notes: list[str]


def choose(run: Folder, task: str) -> Chosen:
    """Examples of one task, each with its masks."""
    method = subject(run, task)
    masks, names = run.masks.get(task, {}), run.names.get(task, Names())
    kept = masks.get(method)
    if kept is None or not kept["alive"].any():
        return Chosen([], ["No masks of this task were kept, or all seeds diverged."])
    own = kept.get("labels", np.zeros(0)).ndim == 2
    rows, notes = _candidates(kept, own)
    each = EACH if len(run.tasks) <= 3 else 1
    found: dict[int, str] = {}
    for why, order in _orders(kept, rows, own).items():
        more = [int(i) for i in order if int(i) not in found][:each]
        found |= dict.fromkeys(more, why)
    if "leak_bits" not in kept:
        notes.append("This run did not keep what each mask gives away.")
    if own:
        notes.append(
            "Each seed has examples of its own; these are of the first seed, and seeds "
            "cannot be compared on one example."
        )
    words = kept.get("tokens")
    if words is not None and not names.vocabulary:
        notes.append(
            "This run did not keep its words, so that tokens are shown as their "
            "numbers: the same command, run again with this version, keeps them."
        )
    if len(found) and names.grid is None and kept["masks"].shape[2] > MOST_COLUMNS:
        notes.append(f"Only the first {MOST_COLUMNS} positions are drawn.")
    shown = [_shown(run, task, method, i, why) for i, why in found.items()]
    return Chosen(shown, notes)


def _candidates(kept: Masks, own: bool) -> tuple[np.ndarray, list[str]]:
    """Which examples [n] may be shown: those with gradients, where there are any."""
    n = kept["masks"].shape[1]
    if "gradient_rows" not in kept or own:
        return np.arange(n), []
    rows = kept["gradient_rows"][0]
    return rows[rows < n], [
        f"Chosen among the {len(rows)} test examples whose gradients were kept."
    ]


def _orders(kept: Masks, rows: np.ndarray, own: bool) -> dict[str, np.ndarray]:
    """Why an example may be shown, with the examples by how well they fit."""
    alive = kept["alive"].astype(bool)
    orders = {}
    if "leak_bits" in kept:
        bits = kept["leak_bits"][alive]
        bits = bits[0] if own else bits.mean(axis=0)
        bits = np.nan_to_num(bits[rows], nan=-np.inf)
        orders["most leaking"] = rows[np.argsort(-bits, kind="stable")]
    orders["at random"] = np.random.default_rng(0).permutation(rows)
    if alive.sum() > 1 and not own:
        apart = disagreement(kept["masks"][alive][:, rows])
        order = np.argsort(-apart, kind="stable")
        orders["seeds disagree most"] = rows[order]
    return orders


def disagreement(masks: np.ndarray) -> np.ndarray:
    """Mean total variation distance [N] of masks [S, N, P] from the seeds' mean."""
    masks = masks.astype(np.float64)
    return np.abs(masks - masks.mean(axis=0)).sum(axis=2).mean(axis=0) / 2


def _shown(run: Folder, task: str, method: str, i: int, why: str) -> Shown:
    names, kept = run.names.get(task, Names()), run.masks[task][method]
    first = int(np.flatnonzero(kept["alive"])[0])
    label = _label(kept, names, i, first)
    ids = kept.get("ids")
    name = f"example {i}" if ids is None else str(ids[i])
    rows = _rows(run, task, method, i, several="disagree" in why)
    tokens = _words(kept, names, i)
    empty = {"text": "", "heat": [], "positions": [], "evidence": [], "pictures": []}
    parts: dict = empty | {"strips": [], "maps": []}
    width = kept["masks"].shape[2]
    if names.grid is not None:
        parts |= {"maps": _maps(run, task, method, i, names)}
    elif "places" in kept and np.isfinite(kept["places"][i]).any():
        parts |= _strips(kept, names, i, first, rows, width)
        parts["maps"] = _maps(run, task, method, i, names)
    elif tokens is not None and run.config.model.values != "default_tokens":
        more = [
            f"default token {k + 1}" for k in range(width - kept["tokens"].shape[1])
        ]
        at = [*range(len(tokens)), *range(kept["tokens"].shape[1], width)]
        rows |= _known(kept, names, i, width)
        heat = tuple((n, w[at]) for n, w in rows.items())
        parts["heat"] = lines(Heat((*tokens, *more), heat))
    else:
        parts |= _strips(kept, names, i, first, rows, width)
        parts["text"] = " ".join(map(shortened, tokens or []))
        full = run.masks[task].get(FULL_TEXT)
        if tokens is not None and full is not None and full["alive"].any():
            weights = full["masks"][int(np.flatnonzero(full["alive"])[0]), i]
            called = "attention over the words (full_text)"
            parts["heat"] = lines(Heat(tokens, ((called, weights[: len(tokens)]),)))
            parts["text"] = ""
    return Shown(shortened(name), shortened(label), why, **parts)


def _label(kept: Masks, names: Names, i: int, first: int) -> str:
    labels = kept.get("labels")
    if labels is None:
        return ""
    number = int(labels[first, i] if labels.ndim == 2 else labels[i])
    return names.classes[number] if number < len(names.classes) else str(number)


def _rows(
    run: Folder, task: str, method: str, i: int, several: bool
) -> dict[str, np.ndarray]:
    """Masks of one example by what they are of: the judged method, remedies, others."""
    found = {}
    for other in dict.fromkeys([method, *run.config.methods]):
        kept = run.masks[task].get(other)
        if kept is None or (other in ("uniform", "random_selection")):
            continue
        alive = np.flatnonzero(kept["alive"])
        for s in alive[: SEEDS if several and other == method else 1]:
            found[f"{other}, seed {int(kept['seeds'][s])}"] = kept["masks"][s, i]
    return {name: mask.astype(np.float64) for name, mask in found.items()}


def _known(kept: Masks, names: Names, i: int, width: int) -> dict[str, np.ndarray]:
    """Other rankings of the words: gradient, people's ratings, the evidence."""
    found = {}
    first = int(np.flatnonzero(kept["alive"])[0])
    if "gradient" in kept:
        at = np.flatnonzero(kept["gradient_rows"][first] == i)
        if len(at):
            size = np.abs(kept["gradient"][first, at[0]]).astype(np.float64)
            found["gradient times input (size)"] = np.nan_to_num(size)
    tokens = kept["tokens"][i]
    if names.ratings:
        rated = [names.ratings.get(int(t), 0.0) for t in tokens]
        found["people's ratings (-4 to 4)"] = np.array(rated)
    if "truth" in kept:
        found["evidence"] = kept["truth"][i].astype(np.float64)
    if "evidence" in kept and np.isfinite(kept["evidence"][i]).any():
        marked = np.nan_to_num(kept["evidence"][i].astype(np.float64))
        found["marked by people"] = marked
    return {name: np.pad(x, (0, width - len(x))) for name, x in found.items()}


def _words(kept: Masks, names: Names, i: int) -> tuple[str, ...] | None:
    if "tokens" not in kept:
        return None
    tokens = kept["tokens"][i][: int(kept["lengths"][i])]
    known = len(names.vocabulary)
    return tuple(names.vocabulary[t] if t < known else f"#{int(t)}" for t in tokens)


def _strips(kept: Masks, names: Names, i: int, first: int, rows, width: int) -> dict:
    """Rows of cells, one for each position: features, instances or default tokens."""
    truth = kept.get("truth")
    inputs = kept.get("inputs")
    length = width
    if "tokens" in kept:
        positions = [f"default {k + 1}" for k in range(width)]
    elif inputs is not None and inputs.ndim == 3:
        positions = [f"x{k + 1} = {v:.2f}" for k, v in enumerate(inputs[first, i])]
    else:
        length = int(kept["lengths"][i]) if "lengths" in kept else width
        positions = [str(k + 1) for k in range(length)]
    length = min(length, MOST_COLUMNS)
    evidence = []
    if truth is not None:
        own = truth[first, i] if truth.ndim == 3 else truth[i]
        evidence = [bool(x) for x in own[:length]]
    pictures = []
    if names.images is not None and names.images.ndim == 3:
        pictures = [square(x) for x in names.images[i][:length]]
    strips = []
    for name, mask in rows.items():
        most = max(float(np.abs(mask).max()), 1e-12)
        cells = [(f"{w:.2f}", round(abs(float(w)) / most, 2)) for w in mask[:length]]
        strips.append(Strip(name, cells))
    return {
        "positions": positions[:length],
        "evidence": evidence,
        "pictures": pictures,
        "strips": strips,
    }


def _maps(run: Folder, task: str, method: str, i: int, names: Names) -> list[Map]:
    """The image, and for each method the mean of the seeds and where they disagree."""
    found = []
    if names.grid is not None and names.images is not None:
        image = grid_of(names.images[i], names.grid)
        found.append(Map("the example", grey(image), "the image itself"))
    for other in dict.fromkeys([method, *run.config.methods]):
        kept = run.masks[task].get(other)
        if kept is None or not kept["alive"].any():
            continue
        if other in CONTROLS and other not in ("gradient", "leave_one_out"):
            continue
        masks = kept["masks"][kept["alive"].astype(bool), i].astype(np.float64)
        for what, x in (("mean", masks.mean(axis=0)), ("spread", masks.std(axis=0))):
            if names.grid is not None:
                grid = x.reshape(names.grid)
            else:
                there = np.flatnonzero(np.isfinite(kept["places"][i]).all(axis=1))
                at, shape = cells(kept["places"][i][there])
                grid = picture(x[there], at, shape, spread=what == "spread")
            row, column = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
            told = (
                f"{what} over {len(masks)} seeds of the masks of {other}; largest "
                f"{grid[row, column]:.2f} in row {row + 1}, column {column + 1}"
            )
            source = coloured(grid)
            found.append(Map(f"{other}, {what} of {len(masks)} seeds", source, told))
    return found
