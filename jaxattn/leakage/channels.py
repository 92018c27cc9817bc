"""Where a leak may live: features of a mask that show one side of it only."""

import numpy as np
from scipy import special

MOST_COLUMNS = 1024
"""Wider masks (bags of patches) are summed over neighbours into this many bins."""
MOST_SORTED, FEW_SORTED = 64, 8
MOST_PLACES = 64
MOST_TYPES = 200
FLOOR = 1e-3


def whole(masks: np.ndarray) -> np.ndarray:
    """Weights [N, P] and their logarithms: [N, 2 P]."""
    if masks.shape[1] > MOST_COLUMNS:
        edges = np.linspace(0, masks.shape[1], MOST_COLUMNS + 1).astype(int)[:-1]
        masks = np.add.reduceat(masks, edges, axis=1)
    width = masks.shape[1]
    made = np.empty((len(masks), 2 * width), np.float32)
    made[:, :width] = masks
    # In place: with many masks each copy counts.
    logs = np.maximum(masks, 0, out=made[:, width:])
    np.log(np.add(logs, FLOOR, out=logs), out=logs)
    np.subtract(1, np.divide(logs, np.log(FLOOR), out=logs), out=logs)
    return made


def everything(every: np.ndarray, mean: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All weights [N, P] and, as a probe would hardly find it, how peaked they are."""
    peaks = shape(mean, lengths, most=FEW_SORTED)
    return np.concatenate([whole(every), peaks], axis=1)


def length(lengths: np.ndarray) -> np.ndarray:
    """How long the input is, [N, 3]."""
    x = lengths.astype(np.float32)[:, None]
    return np.concatenate([x, np.log(x), np.sqrt(x)], axis=1)


def shape(
    masks: np.ndarray, lengths: np.ndarray, most: int = MOST_SORTED
) -> np.ndarray:
    """How peaked masks [N, T] are, wherever: the largest weights in order, entropy."""
    ordered = -np.sort(-masks, axis=1)[:, :most]
    total = np.maximum(masks.sum(axis=1, keepdims=True), 1e-12)
    entropy = special.entr(masks / total).sum(axis=1)
    relative = entropy - np.log(lengths)
    more = np.stack([entropy, np.exp(entropy), relative], axis=1)
    return np.concatenate([whole(ordered), total, more], axis=1).astype(np.float32)


def place(masks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where its largest weight [N, T] lies: which position, and how far along."""
    top = masks.argmax(axis=1)
    width = masks.shape[1]
    bins = min(width, MOST_PLACES)
    along = top / np.maximum(lengths - 1, 1)
    return np.concatenate(
        [
            np.eye(bins)[top * bins // width],
            np.eye(10)[np.minimum((along * 10).astype(int), 9)],
        ],
        axis=1,
    ).astype(np.float32)


def types(masks: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """How much weight [N, T] falls on each of the most frequent tokens [N, T]."""
    names, inverse = np.unique(tokens, return_inverse=True)
    inverse = inverse.reshape(tokens.shape)
    counts = np.bincount(inverse.ravel(), minlength=len(names))
    counts[names == ""] = 0
    kept = np.argsort(-counts, kind="stable")[:MOST_TYPES]
    column = np.full(len(names), len(kept))
    column[kept] = np.arange(len(kept))
    found = np.zeros((len(masks), len(kept) + 1), np.float32)
    rows = np.broadcast_to(np.arange(len(masks))[:, None], masks.shape)
    np.add.at(found, (rows, column[inverse]), masks)
    return found[:, :-1]
