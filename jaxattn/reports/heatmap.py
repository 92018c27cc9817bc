"""Weights over tokens as a heat-map: in a terminal, in a notebook, in a file."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size

from jaxattn.system import pages
from jaxattn.system.files import write_text

WIDTH = 80
LONGEST = 24
"""Columns of a token in a terminal."""
MOST_CHARACTERS = 80
"""Characters of a token in a page."""
BLOCKS = "·▁▂▃▄▅▆▇█"


class Heat(NamedTuple):
    """Tokens and one or more rows of weights over them; printing it draws it."""

    tokens: tuple[str, ...]
    rows: tuple[tuple[str, np.ndarray], ...]
    """Name and weights [T] of each row."""

    def __repr__(self) -> str:
        return _drawn(self)

    def _repr_html_(self) -> str:
        return self._page(whole=False)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes it as a page that needs no network; raises OSError."""
        write_text(path, self._page(whole=True))

    def _page(self, whole: bool) -> str:
        return pages.render("reports/heatmap.html", lines=lines(self), whole=whole)


class Token(NamedTuple):
    """A token of one row of a page."""

    text: str
    share: float
    """Of the row's largest weight, 0 to 1: how dark it is."""
    weight: float


class Line(NamedTuple):
    """One row of a page."""

    name: str
    tokens: tuple[Token, ...]
    most: str
    """The largest weights in words, for whoever sees no colour."""


def show(
    tokens: Sequence[str],
    masks: Any,
    path: str | os.PathLike[str] | None = None,
) -> Heat:
    """A heat-map of one example: which tokens do one or several masks weigh?

    It prints as text and shows as HTML in a notebook.

    Args:
        tokens: the words, or what else the masks weigh `[T]`.
        masks: weights `[T]` or `[M, T]`, or masks `[T]` by name. Weights below 0, as
            gradients have, are drawn by their size.
        path: where a page is written, if anywhere.

    Returns:
        The heat-map, with `.save_html(path)`.

    Raises:
        ValueError: masks do not fit the tokens, or are not finite.
        OSError: `path` is not writable.

    >>> import jaxattn
    >>> words = ["a", "fine", "film"]
    >>> jaxattn.show(words, {"joint": [0.1, 0.7, 0.2], "uniform": [1 / 3] * 3})
             a      fine   film
    joint    ▂ .10  █ .70  ▃ .20
    uniform  █ .33  █ .33  █ .33
    """
    tokens = tuple(map(str, tokens))
    rows = []
    for name, mask in _named(masks).items():
        weights = _weights(name, mask)
        if weights.shape != (len(tokens),):
            raise ValueError(
                f"{name or 'the mask'} has shape {list(weights.shape)}, but there are "
                f"{len(tokens)} tokens"
            )
        if not np.isfinite(weights).all():
            raise ValueError(f"{name or 'the mask'} has weights that are not finite")
        rows.append((str(name), weights))
    heat = Heat(tokens, tuple(rows))
    if path is not None:
        heat.save_html(path)
    return heat


def _named(masks: Any) -> dict[str, Any]:
    if isinstance(masks, Mapping):
        return dict(masks)
    array = _weights("", masks)
    if array.ndim == 1:
        return {"": array}
    if array.ndim == 2:
        return {f"mask {i + 1}": row for i, row in enumerate(array)}
    raise ValueError(f"masks have shape {list(array.shape)}: expected [T] or [M, T]")


def _weights(name: str, mask: Any) -> np.ndarray:
    try:
        return np.asarray(mask, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name or 'masks'}: expected numbers, all rows alike"
        ) from None


def lines(heat: Heat) -> list[Line]:
    """The rows of a heat-map as a page draws them."""
    return [_line(heat.tokens, name, weights) for name, weights in heat.rows]


def _line(tokens: Sequence[str], name: str, weights: np.ndarray) -> Line:
    sizes = np.abs(weights)
    cells = tuple(
        Token(shortened(text), round(float(share), 2), float(weight))
        for text, share, weight in zip(tokens, _shares(weights), weights, strict=True)
    )
    # Equal weights have no largest ones.
    if len(sizes) > 3 and np.ptp(sizes) < 1e-9:
        return Line(name, cells, "all alike")
    top = [i for i in np.argsort(-sizes, kind="stable")[:3] if sizes[i] > 0]
    most = [f"{shortened(tokens[int(i)], 20)} {weights[i]:.2f}" for i in top]
    return Line(name, cells, ", ".join(most))


def _shares(weights: np.ndarray) -> np.ndarray:
    """Sizes of weights [T] as shares of the largest."""
    sizes = np.abs(weights)
    return sizes / max(float(sizes.max(initial=0)), 1e-12)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """A token that may be anything, of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str) -> str:
    """A text as a terminal can bear it: a control code must not reach it."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _plain(token: str) -> str:
    text = printable(token)
    return text if cell_len(text) <= LONGEST else set_cell_size(text, LONGEST - 1) + "…"


def _drawn(heat: Heat) -> str:
    """The rows below their tokens, in blocks of at most 80 columns."""
    tokens = [_plain(t) for t in heat.tokens]
    names = [_plain(name) for name, _ in heat.rows]
    cells = [_cells(weights) for _, weights in heat.rows]
    left = max(map(cell_len, names), default=0)
    widths = [max(map(cell_len, column)) for column in zip(tokens, *cells, strict=True)]
    blocks, start, used = [], 0, left
    for i, width in enumerate(widths):
        if used + 2 + width > WIDTH and i > start:
            blocks.append((start, i))
            start, used = i, left
        used += 2 + width
    blocks += [(start, len(widths))] * bool(widths)
    table = [("", tokens), *zip(names, cells, strict=True)]
    drawn = []
    for a, b in blocks:
        sizes = [left, *widths[a:b]]
        rows = (map(set_cell_size, [name, *row[a:b]], sizes) for name, row in table)
        drawn.append("\n".join("  ".join(row).rstrip() for row in rows))
    return "\n\n".join(drawn)


def _cells(weights: np.ndarray) -> list[str]:
    shares = _shares(weights)
    # The dot is for next to nothing; the largest weight fills its block.
    steps = np.where(shares < 0.02, 0, np.ceil(shares * (len(BLOCKS) - 1))).astype(int)
    return [
        f"{BLOCKS[step]} {_short(weight)}"
        for step, weight in zip(steps, weights, strict=True)
    ]


def _short(weight: float) -> str:
    text = f"{weight:.2f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
