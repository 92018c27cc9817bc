"""Do maps look as people would have marked them? ERASER's choices, named.

Functions of all examples at once, [N, T] numpy arrays; undefined ones are counted.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats


class Overlap(NamedTuple):
    """Precision, recall and F1, in shares."""

    precision: float
    recall: float
    f1: float


def token_micro(selected: np.ndarray, human: np.ndarray) -> Overlap:
    """Over all tokens of selected [N, T] and human [N, T] rationales at once."""
    hits = (selected & human).sum()
    return _overlap(_share(hits, selected.sum()), _share(hits, human.sum()))


def token_macro(selected: np.ndarray, human: np.ndarray) -> Overlap:
    """Each example's by itself, then the means: F1 is the mean of the examples' F1.

    A rationale without a token has precision, recall and F1 of 0.
    """
    hits = (selected & human).sum(axis=1)
    precision = _share(hits, selected.sum(axis=1))
    recall = _share(hits, human.sum(axis=1))
    f1 = _share(2 * precision * recall, precision + recall)
    return Overlap(precision.mean(), recall.mean(), f1.mean())


def iou_f1(selected: np.ndarray, human: np.ndarray, threshold: float = 0.5) -> Overlap:
    """Of spans: one is right if it shares half of its union with a human one, or more.

    F1 of the mean precision and the mean recall, unlike `token_macro`; two selected
    spans may be right by the same human one. See ERASER, DeYoung et al. (arXiv
    1911.03429).
    """
    precisions, recalls = [], []
    for mine, theirs in zip(selected, human, strict=True):
        a, b = spans(mine), spans(theirs)
        hits = sum(any(_iou(x, y) >= threshold for y in b) for x in a)
        precisions.append(hits / len(a) if a else 0.0)
        recalls.append(hits / len(b) if b else 0.0)
    return _overlap(float(np.mean(precisions)), float(np.mean(recalls)))


def spans(row: np.ndarray) -> list[tuple[int, int]]:
    """The runs of True in a row [T]: the first position and one past the last."""
    edges = np.diff(np.concatenate([[False], row, [False]]).astype(int))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


class Auprc(NamedTuple):
    """Areas under the precision-recall curves, mean over the examples that have one."""

    trapezoid: float
    """As ERASER computes it; optimistic."""
    average_precision: float
    chance: float
    """The mean share of human tokens: what random scores would get."""
    lift: float
    """Average precision divided by chance."""
    n: int
    """Examples with a human token and another."""


def auprc(scores: np.ndarray, human: np.ndarray, valid: np.ndarray) -> Auprc:
    """Of scores [N, T] against human rationales [N, T] over the valid [N, T] tokens."""
    areas, steps, chances = [], [], []
    for s, h, v in zip(scores, human, valid, strict=True):
        s, h = s[v], h[v]
        if h.all() or not h.any():
            continue
        precision, recall = _curve(s, h)
        areas.append(np.trapezoid(precision, recall))
        steps.append((np.diff(recall) * precision[1:]).sum())
        chances.append(h.mean())
    if not areas:
        return Auprc(np.nan, np.nan, np.nan, np.nan, 0)
    ap, chance = float(np.mean(steps)), float(np.mean(chances))
    return Auprc(float(np.mean(areas)), ap, chance, ap / chance, len(areas))


class Auroc(NamedTuple):
    """Area under the ROC curve, mean over the examples that have one."""

    area: float
    """0.5 is chance, and what equal scores get."""
    n: int
    """Examples with a human token and another."""


def auroc(scores: np.ndarray, human: np.ndarray, valid: np.ndarray) -> Auroc:
    """Of scores [N, T] against human rationales [N, T] over the valid [N, T] tokens.

    Beside it belongs what needs no model: inverse document frequency
    (`ranking.document_frequency`), a lexicon, the position.
    """
    areas = []
    for s, h, v in zip(scores, human, valid, strict=True):
        s, h = s[v], h[v]
        if h.any() and not h.all():
            # The Mann-Whitney statistic by ranks, ties in the middle.
            ranks = scipy.stats.rankdata(s)[h].sum()
            a, b = h.sum(), (~h).sum()
            areas.append((ranks - a * (a + 1) / 2) / (a * b))
    return Auroc(float(np.mean(areas)) if areas else np.nan, len(areas))


def top_share(scores: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
    """The best `share` of the valid [N, T] tokens by scores [N, T], at least one.

    ERASER takes the mean share of the human rationales.
    """
    low = np.where(valid, scores, -np.inf)
    ranks = np.argsort(np.argsort(-low, axis=1, kind="stable"), axis=1, kind="stable")
    count = np.maximum(np.rint(share * valid.sum(axis=1)), 1)
    return valid & (ranks < count[:, None])


def _curve(scores: np.ndarray, human: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall, from nothing on, at each distinct score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(human[order])[last]
    precision, recall = hits / (last + 1), hits / human.sum()
    # The curve begins at recall 0 with a precision of 1, as in scikit-learn.
    return np.append(1.0, precision), np.append(0.0, recall)


def _iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    inside = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return inside / ((a[1] - a[0]) + (b[1] - b[0]) - inside)


def _share(part, whole):
    whole = np.asarray(whole, float)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _overlap(precision, recall) -> Overlap:
    f1 = _share(2 * precision * recall, precision + recall)
    return Overlap(float(precision), float(recall), float(f1))
