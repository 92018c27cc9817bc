"""Which examples judge which, and in what ways the labels may be exchanged."""

import numpy as np


def assign(
    rng: np.random.Generator, labels: np.ndarray, groups: np.ndarray | None, folds: int
) -> np.ndarray:
    """A fold [N] for each example, each class spread evenly; no group is ever split.

    Raises: ValueError where a class would be missing from what a fold is fitted to.
    """
    classes = int(labels.max()) + 1
    unit = np.arange(len(labels)) if groups is None else groups
    names, inverse = np.unique(unit, return_inverse=True)
    counts = np.zeros((len(names), classes), int)
    np.add.at(counts, (inverse, labels), 1)
    filled = np.zeros((folds, classes), int)
    place = np.zeros(len(names), int)
    # Large ones first, each to the fold that has least of what it brings.
    order = rng.permutation(len(names))
    for i in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        load = (filled * counts[i]).sum(axis=1), filled.sum(axis=1)
        place[i] = np.lexsort(load[::-1])[0]
        filled[place[i]] += counts[i]
    left = filled.sum(axis=0) - filled
    for k, c in zip(*np.nonzero(left == 0), strict=True):
        what = "examples" if groups is None else "groups"
        raise ValueError(
            f"class {c} occurs in too few {what}: fold {k} of {folds} would be fitted "
            "without it; join classes or leave that one out"
        )
    return place[inverse]


def exchanged(
    rng: np.random.Generator,
    labels: np.ndarray,
    times: int,
    fold: np.ndarray,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Labels [times, N] exchanged at random, within each `fold` [N] and of `strata`.

    Within folds, because folds have equal shares of the classes: labels without that
    balance would be harder to tell for no other reason. Where every one of the
    `groups` [N] has one label only, whole groups are exchanged; otherwise the examples
    within each group are.
    """
    strata = _crossed(fold, np.zeros(len(labels), int) if strata is None else strata)
    if groups is None:
        return labels[orders_within(rng, strata, times)]
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    if (labels[first][inverse] == labels).all():
        return labels[first][orders_within(rng, strata[first], times)][:, inverse]
    return labels[orders_within(rng, _crossed(strata, inverse), times)]


def _crossed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unique(np.stack([a, b]), axis=1, return_inverse=True)[1].reshape(-1)


def orders_within(
    rng: np.random.Generator, strata: np.ndarray, times: int
) -> np.ndarray:
    """Random orders [times, N] of the examples within each of the `strata` [N]."""
    by_stratum = np.argsort(strata, kind="stable")
    orders = np.empty((times, len(strata)), int)
    for order in orders:
        # Sorting noise within strata is a random order of each.
        order[by_stratum] = np.lexsort((rng.random(len(strata)), strata))
    return orders


def length_strata(lengths: np.ndarray, most: int = 10) -> np.ndarray:
    """A stratum [N] for each length [N]: lengths themselves, or tenths of them."""
    if len(np.unique(lengths)) <= most:
        return np.unique(lengths, return_inverse=True)[1]
    edges = np.quantile(lengths, np.linspace(0, 1, most + 1)[1:-1])
    return np.searchsorted(np.unique(edges), lengths, side="right")
