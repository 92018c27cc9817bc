"""Instances of a bag on the plane they come from, as the cells of a picture."""

import numpy as np

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
