"""Examples to look at: the most leaking, some at random, those seeds disagree on."""

import base64
import io
import math
from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.image
import numpy as np

from jaxattn.methods.table import CONTROLS, FULL_TEXT
from jaxattn.reports.folder import Folder, Masks, Names
from jaxattn.reports.heatmap import Heat, Line, lines, shortened
from jaxattn.reports.verdict import subject

EACH = 3
"""Examples of each kind; of a run of many tasks fewer."""
SEEDS = 3
"""Seeds side by side where they disagree."""
MOST_COLUMNS = 120
"""Positions of a strip; of more, the first are drawn."""
MOST_CELLS = 128
"""Of a side of a picture; instances that share a cell add up."""

Rows = Mapping[str, np.ndarray]
"""Weights [P] of one example by what they are of."""


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
    text: str = ""
    """What the example says, where its words are not what masks are over."""
    heat: tuple[Line, ...] = ()
    """Weights over words."""
    positions: tuple[str, ...] = ()
    """Names of positions that are no words, and what is known of each."""
    evidence: tuple[bool, ...] = ()
    pictures: tuple[str, ...] = ()
    strips: tuple[Line, ...] = ()
    """Weights over these positions."""
    maps: tuple[Map, ...] = ()


class Subject(NamedTuple):
    """The method that is judged, and what was kept of it."""

    run: Folder
    task: str
    method: str
    kept: Masks
    names: Names

    @property
    def first(self) -> int:
        """The first seed that did not diverge."""
        return int(np.flatnonzero(self.kept["alive"])[0])

    @property
    def own(self) -> bool:
        """Whether each seed has examples of its own."""
        return self.kept.get("labels", np.zeros(0)).ndim == 2


def choose(run: Folder, task: str) -> tuple[list[Shown], list[str]]:
    """Examples of one task, each with its masks; and how they were chosen."""
    method = subject(run, task)
    kept = run.masks.get(task, {}).get(method)
    if kept is None or not kept["alive"].any():
        return [], ["No masks of this task were kept, or all seeds diverged."]
    of = Subject(run, task, method, kept, run.names.get(task, Names()))
    rows, notes = np.arange(kept["masks"].shape[1]), []
    if "gradient_rows" in kept and not of.own:
        rows = kept["gradient_rows"][0][kept["gradient_rows"][0] < len(rows)]
        notes.append(
            f"Chosen among the {len(kept['gradient_rows'][0])} test examples whose "
            "gradients were kept."
        )
    each = EACH if len(run.tasks) <= 3 else 1
    reasons: dict[int, str] = {}
    for why, order in _orders(of, rows).items():
        more = [int(i) for i in order if int(i) not in reasons][:each]
        reasons |= dict.fromkeys(more, why)
    if "leak_bits" not in kept:
        notes.append("This run did not keep what each mask gives away.")
    if of.own:
        notes.append(
            "Each seed has examples of its own; these are of the first seed, and seeds "
            "cannot be compared on one example."
        )
    if "tokens" in kept and not of.names.vocabulary:
        notes.append(
            "This run did not keep its words, so that tokens are shown as their "
            "numbers: the same command, run again with this version, keeps them."
        )
    if reasons and of.names.grid is None and kept["masks"].shape[2] > MOST_COLUMNS:
        notes.append(f"Only the first {MOST_COLUMNS} positions are drawn.")
    return [_shown(of, i, why) for i, why in reasons.items()], notes


def _orders(of: Subject, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Why an example may be shown, with the examples by how well they fit."""
    alive = of.kept["alive"].astype(bool)
    orders = {}
    if "leak_bits" in of.kept:
        bits = of.kept["leak_bits"][alive]
        bits = bits[0] if of.own else bits.mean(axis=0)
        bits = np.nan_to_num(bits[rows], nan=-np.inf)
        orders["most leaking"] = rows[np.argsort(-bits, kind="stable")]
    orders["at random"] = np.random.default_rng(0).permutation(rows)
    if alive.sum() > 1 and not of.own:
        masks = of.kept["masks"][alive][:, rows].astype(np.float64)
        # Mean total variation distance from the mean of the seeds.
        apart = np.abs(masks - masks.mean(axis=0)).sum(axis=2).mean(axis=0) / 2
        orders["seeds disagree most"] = rows[np.argsort(-apart, kind="stable")]
    return orders


def _shown(of: Subject, i: int, why: str) -> Shown:
    kept, names = of.kept, of.names
    name = str(kept["ids"][i]) if "ids" in kept else f"example {i}"
    shown = Shown(shortened(name), shortened(_label(of, i)), why)
    rows = _rows(of, i, several="disagree" in why)
    if names.grid is not None:
        return shown._replace(maps=_maps(of, i))
    if "places" in kept and np.isfinite(kept["places"][i]).any():
        return _with_strips(shown, of, i, rows)._replace(maps=_maps(of, i))
    words = _words(of, i)
    if words and of.run.config.model.values != "default_tokens":
        return shown._replace(heat=_over_words(of, i, words, rows))
    shown = _with_strips(shown, of, i, rows)
    full = of.run.masks[of.task].get(FULL_TEXT)
    if words and full is not None and full["alive"].any():
        weights = full["masks"][int(np.flatnonzero(full["alive"])[0]), i]
        called = "attention over the words (full_text)"
        heat = Heat(words, ((called, weights[: len(words)]),))
        return shown._replace(heat=tuple(lines(heat)))
    return shown._replace(text=" ".join(map(shortened, words)))


def _label(of: Subject, i: int) -> str:
    labels = of.kept.get("labels")
    if labels is None:
        return ""
    number = int(labels[of.first, i] if of.own else labels[i])
    known = number < len(of.names.classes)
    return of.names.classes[number] if known else str(number)


def _rows(of: Subject, i: int, several: bool) -> dict[str, np.ndarray]:
    """Masks of one example: of the judged method, of remedies, of other methods."""
    rows = {}
    for method in dict.fromkeys([of.method, *of.run.config.methods]):
        kept = of.run.masks[of.task].get(method)
        if kept is None or method in ("uniform", "random_selection"):
            continue
        alive = np.flatnonzero(kept["alive"])
        for s in alive[: SEEDS if several and method == of.method else 1]:
            mask = kept["masks"][s, i].astype(np.float64)
            rows[f"{method}, seed {int(kept['seeds'][s])}"] = mask
    return rows


def _words(of: Subject, i: int) -> tuple[str, ...]:
    if "tokens" not in of.kept:
        return ()
    tokens = of.kept["tokens"][i][: int(of.kept["lengths"][i])]
    words = of.names.vocabulary
    return tuple(words[t] if t < len(words) else f"#{int(t)}" for t in tokens)


def _over_words(
    of: Subject, i: int, words: tuple[str, ...], rows: Rows
) -> tuple[Line, ...]:
    """Masks and other rankings over the words, and over default tokens behind them."""
    width, length = of.kept["masks"].shape[2], of.kept["tokens"].shape[1]
    defaults = [f"default token {k + 1}" for k in range(width - length)]
    at = [*range(len(words)), *range(length, width)]
    others = {k: np.pad(x, (0, width - len(x))) for k, x in _rankings(of, i).items()}
    heat = tuple((name, x[at]) for name, x in {**rows, **others}.items())
    return tuple(lines(Heat((*words, *defaults), heat)))


def _rankings(of: Subject, i: int) -> dict[str, np.ndarray]:
    """Other rankings of the words: gradient, people's ratings, the evidence."""
    kept, rankings = of.kept, {}
    if "gradient" in kept:
        at = np.flatnonzero(kept["gradient_rows"][of.first] == i)
        if len(at):
            size = np.abs(kept["gradient"][of.first, at[0]]).astype(np.float64)
            rankings["gradient times input (size)"] = np.nan_to_num(size)
    if of.names.ratings:
        rated = [of.names.ratings.get(int(t), 0.0) for t in kept["tokens"][i]]
        rankings["people's ratings (-4 to 4)"] = np.array(rated)
    if "truth" in kept:
        rankings["evidence"] = kept["truth"][i].astype(np.float64)
    if "evidence" in kept and np.isfinite(kept["evidence"][i]).any():
        marked = np.nan_to_num(kept["evidence"][i].astype(np.float64))
        rankings["marked by people"] = marked
    return rankings


def _with_strips(shown: Shown, of: Subject, i: int, rows: Rows) -> Shown:
    """Rows of cells, one for each position: features, instances or default tokens."""
    kept, width = of.kept, of.kept["masks"].shape[2]
    inputs = kept.get("inputs")
    if "tokens" in kept:
        positions = [f"default {k + 1}" for k in range(width)]
    elif inputs is not None and inputs.ndim == 3:
        values = inputs[of.first, i]
        positions = [f"x{k + 1} = {v:.2f}" for k, v in enumerate(values)]
    else:
        length = int(kept["lengths"][i]) if "lengths" in kept else width
        positions = [str(k + 1) for k in range(length)]
    positions = tuple(positions[:MOST_COLUMNS])
    n = len(positions)
    if (truth := kept.get("truth")) is not None:
        truth = truth[of.first, i] if truth.ndim == 3 else truth[i]
        shown = shown._replace(evidence=tuple(bool(x) for x in truth[:n]))
    images = of.names.images
    if images is not None and images.ndim == 3:
        side = math.isqrt(images.shape[2])
        pictures = tuple(_source(x.reshape(side, side)) for x in images[i][:n])
        shown = shown._replace(pictures=pictures)
    strips = Heat(positions, tuple((name, mask[:n]) for name, mask in rows.items()))
    return shown._replace(positions=positions, strips=tuple(lines(strips)))


def _maps(of: Subject, i: int) -> tuple[Map, ...]:
    """The image, and for each method the mean of the seeds and where they disagree."""
    maps, grid = [], of.names.grid
    if grid is not None and of.names.images is not None:
        image = image_of(of.names.images[i], grid)
        maps.append(Map("the example", _source(image), "the image itself"))
    for method in dict.fromkeys([of.method, *of.run.config.methods]):
        kept = of.run.masks[of.task].get(method)
        if kept is None or not kept["alive"].any():
            continue
        if method in CONTROLS and method not in ("gradient", "leave_one_out"):
            continue
        masks = kept["masks"][kept["alive"].astype(bool), i].astype(np.float64)
        for what, x in (("mean", masks.mean(axis=0)), ("spread", masks.std(axis=0))):
            if grid is not None:
                picture = x.reshape(grid)
            else:
                there = np.flatnonzero(np.isfinite(kept["places"][i]).all(axis=1))
                places = kept["places"][i][there]
                picture = picture_of(x[there], places, spread=what == "spread")
            row, column = np.unravel_index(int(np.nanargmax(picture)), picture.shape)
            told = (
                f"{what} over {len(masks)} seeds of the masks of {method}; largest "
                f"{picture[row, column]:.2f} in row {row + 1}, column {column + 1}"
            )
            name = f"{method}, {what} of {len(masks)} seeds"
            most = max(float(np.nanmax(picture)), 1e-12)
            maps.append(Map(name, _source(picture, "Blues", most), told))
    return tuple(maps)


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


def picture_of(weights: np.ndarray, places: np.ndarray, spread: bool) -> np.ndarray:
    """Weights [n] of instances at places (x, y) [n, 2] as a picture, NaN between them.

    Masks add up where several share a cell; with `spread`, the largest stays.
    """
    at, shape = cells(places)
    picture = np.full(shape, np.nan)
    picture[at[:, 0], at[:, 1]] = 0
    (np.maximum if spread else np.add).at(picture, (at[:, 0], at[:, 1]), weights)
    return picture


def image_of(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
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


def _source(values: np.ndarray, colours: str = "gray", most: float = 255) -> str:
    """The source of an image of values [rows, columns] from 0 to `most`, NaN clear."""
    file = io.BytesIO()
    matplotlib.image.imsave(
        file, values, cmap=colours, vmin=0, vmax=most, format="png",
        metadata={"Software": "jaxattn"},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
