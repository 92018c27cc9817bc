"""Masks of any framework as one array, with what had to be assumed about them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SMALLEST = 50
"""Fewer examples say nothing about a leak."""


class Masks(NamedTuple):
    """Weights of all examples as arrays of one shape."""

    every: np.ndarray
    """All weights of an example in one row, [N, P]: heads one after another."""
    mean: np.ndarray
    """Their mean over heads [N, T]; the same where there is one."""
    lengths: np.ndarray
    assumed: tuple[str, ...]
    """What had to be assumed about the input, in sentences."""
    warned: tuple[str, ...]


def to_array(value: Any) -> Any:
    """An array of whatever can be one: numpy, JAX, a live PyTorch tensor, lists.

    Raises: ValueError for a tensor that does not give its numbers away.
    """
    if not hasattr(value, "detach"):
        return np.asarray(value)
    try:
        # One that still needs its gradient does not give them.
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()  # numpy has no such type
        return np.asarray(value)
    except (TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"a tensor that cannot be read: {reason}") from None


def masks_of(
    given: Any,
    *,
    lengths: Any = None,
    offsets: Any = None,
    kind: str = "auto",
    row: str = "mean",
    classes: int = 0,
) -> Masks:
    """Masks [N, T], [N, heads, T] or [N, heads, T, T], padded or ragged, as one array.

    Ragged ones are a list of rows, or flat weights with `offsets` [N + 1]. `kind` is
    auto, weights or scores (which a softmax makes weights of); `row` says which queries
    of [N, heads, T, T] count: mean, cls (the first) or all. Raises: ValueError, one
    line, for anything that is no set of masks.
    """
    assumed: list[str] = []
    warned: list[str] = []
    if offsets is not None:
        given = _split(to_array(given), to_array(offsets))
    array, counted = _even(given)
    if array.ndim == 4:
        array, said = _row(array, row)
        assumed.append(said)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"masks have shape {list(array.shape)}: allowed are [N, T], [N, heads, T], "
            "[N, heads, T, T] and rows of different lengths"
        )
    if array.ndim == 3:
        heads = array.shape[1]
        assumed.append(f"{heads} heads; together for the leak, their mean for channels")
        if heads == classes:
            warned.append(
                f"as many heads as classes ({heads}): if it is one map a class, pass "
                "the one that people are shown; the predicted class's map tells the "
                "prediction by construction"
            )
    else:
        array = array[:, None]
    n, heads, width = array.shape
    if n < SMALLEST:
        raise ValueError(f"{n} masks: at least {SMALLEST} are needed")
    if width == 0:
        raise ValueError("masks have no position: nothing to read")
    if lengths is not None:
        counted = _lengths(to_array(lengths), n, width)
        assumed.append("lengths as given; what lies behind them is padding")
    within = np.arange(width) < (width if counted is None else counted[:, None, None])
    within = np.broadcast_to(within, array.shape)
    _finite(array, within)
    array = np.where(within, array, 0)
    if counted is None:
        counted = _without_padding(array)
        if (counted < width).any():
            assumed.append(
                "zeros at the end of a row are padding; give lengths if they are not"
            )
    array, said = _weights(array, counted, kind)
    assumed.append(said)
    flat = int((np.ptp(array.reshape(n, -1), axis=1) == 0).sum())
    if 0 < flat < n:
        assumed.append(f"{flat:,} masks are constant")
    every = array.reshape(n, heads * width).astype(np.float32, copy=False)
    mean = every if heads == 1 else array.mean(axis=1).astype(np.float32)
    return Masks(every, mean, counted, tuple(assumed), tuple(warned))


def labels_of(given: Any, n: int, what: str = "labels") -> tuple[np.ndarray, list[str]]:
    """Labels [N] from 0 and their names; raises ValueError for what is no class."""
    array = to_array(given)
    if array.ndim != 1:
        raise ValueError(
            f"{what} have shape {list(array.shape)}: one axis [N] is needed"
        )
    if len(array) != n:
        raise ValueError(f"{len(array):,} {what} for {n:,} masks: give one for each")
    if array.dtype.kind not in "iubUS":
        raise ValueError(
            f"{what} are {array.dtype}: give whole numbers or names of classes"
        )
    names, inverse = np.unique(array, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"{what} have one class only ({names[0]}): there is nothing to tell"
        )
    if len(names) > n // 10:
        raise ValueError(
            f"{what} have {len(names):,} classes for {n:,} masks: too few masks a class"
        )
    return inverse.astype(np.int32), [str(name) for name in names]


def _split(flat: np.ndarray, offsets: np.ndarray) -> Sequence[np.ndarray]:
    good = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
    if not good or (np.diff(offsets) < 0).any() or offsets[0] != 0:
        raise ValueError("offsets must be whole numbers that rise from 0, [N + 1]")
    if flat.ndim != 1 or offsets[-1] != len(flat):
        raise ValueError(
            f"offsets end at {offsets[-1]:,} and there are {flat.size:,} flat weights"
        )
    return np.split(flat, offsets[1:-1])


def _even(given: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """One array, padded with zeros, and the lengths where rows had their own."""
    ragged = isinstance(given, list | tuple)
    if not ragged:
        given = to_array(given)
        ragged = given.dtype == object and given.ndim == 1
    if ragged:
        rows = [to_array(row) for row in given]
        if not rows:
            raise ValueError("there is no mask at all")
        for i, one in enumerate(rows):
            if one.ndim != rows[0].ndim or one.ndim not in (1, 2):
                raise ValueError(
                    f"mask {i} has shape {list(one.shape)}: allowed are [T] and "
                    "[heads, T], the same for all"
                )
            if one.shape[:-1] != rows[0].shape[:-1]:
                raise ValueError(
                    f"mask {i} has {one.shape[0]} heads and mask 0 has "
                    f"{rows[0].shape[0]}: all need as many"
                )
            _numeric(one)
        lengths = np.array([one.shape[-1] for one in rows])
        if (lengths == 0).any():
            i = int((lengths == 0).argmax())
            raise ValueError(f"mask {i} is empty: leave such examples out")
        array = np.zeros((len(rows), *rows[0].shape[:-1], lengths.max()))
        for target, one in zip(array, rows, strict=True):
            target[..., : one.shape[-1]] = one
        return array, lengths if np.ptp(lengths) else None
    _numeric(given)
    return given, None


def _numeric(array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"masks hold {array.dtype}: they must be numbers")


def _row(array: np.ndarray, row: str) -> tuple[np.ndarray, str]:
    n, heads, queries, width = array.shape
    if row == "mean":
        return array.mean(axis=2), f"mean over the {queries} queries"
    if row == "cls":
        return array[:, :, 0], "the first query (CLS) of each head"
    if row == "all":
        flat = array.reshape(n, heads * queries, width)
        return flat, f"all {queries} queries of {heads} heads"
    raise ValueError(f"row = {row!r}: choose from mean, cls, all")


def _lengths(lengths: np.ndarray, n: int, width: int) -> np.ndarray:
    if lengths.shape != (n,) or lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths must be {n:,} whole numbers, one for each mask")
    wrong = (lengths < 1) | (lengths > width)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"length {lengths[i]} of mask {i}: allowed are 1 to {width} positions"
        )
    return lengths.astype(np.int64)


def _finite(array: np.ndarray, within: np.ndarray) -> None:
    bad = np.any(~np.isfinite(array) & within, axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"weights that are not finite in {_rows(bad)}; if that is padding, give "
            "lengths"
        )


def _rows(bad: np.ndarray) -> str:
    where = np.flatnonzero(bad)
    first = ", ".join(map(str, where[:5])) + (", ..." if len(where) > 5 else "")
    return f"{len(where):,} of {len(bad):,} rows ({first})"


def _without_padding(array: np.ndarray) -> np.ndarray:
    used = (array != 0).any(axis=1)
    last = used.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.where(used.any(axis=1), last, used.shape[1])


def _weights(array, lengths, kind: str) -> tuple[np.ndarray, str]:
    if kind not in ("auto", "weights", "scores"):
        raise ValueError(f"kind = {kind!r}: choose from auto, weights, scores")
    negative = (array < 0).any(axis=(1, 2))
    if kind == "weights" and negative.any():
        raise ValueError(
            f"negative weights in {_rows(negative)}; if they are scores, say so with "
            "kind scores"
        )
    if kind == "scores" or (kind == "auto" and negative.any()):
        within = np.arange(array.shape[2]) < lengths[:, None, None]
        low = np.where(within, array, -np.inf)
        shifted = np.exp(low - low.max(axis=2, keepdims=True))
        why = "as told" if kind == "scores" else "some are negative"
        return (
            shifted / shifted.sum(axis=2, keepdims=True),
            f"scores ({why}); a softmax made weights of them",
        )
    sums = array.sum(axis=2)
    if np.allclose(sums, 1, atol=0.01):
        return array, "weights; every row sums to 1"
    top = array.max()
    if top > 1:
        return array / top, f"weights up to {top:g}, divided by that; rows sum to any"
    return array, "weights in [0, 1], each by itself: rows do not sum to 1"


def one_each(given: Any, n: int, what: str) -> np.ndarray:
    """An array [n]; raises ValueError where it is none."""
    array = to_array(given)
    if array.shape != (n,):
        raise ValueError(
            f"{what} have shape {list(array.shape)}: one for each of {n:,} masks is "
            "needed"
        )
    return array


def tokens_of(given: Any, masks: Masks) -> np.ndarray:
    """Tokens [N, T] as text, empty where there is padding."""
    n, width = masks.mean.shape
    rows = list(given)
    if len(rows) != n:
        raise ValueError(f"{len(rows):,} rows of tokens for {n:,} masks: one for each")
    array = np.full((n, width), "", dtype=object)
    for i, (row, length) in enumerate(zip(rows, masks.lengths, strict=True)):
        row = [str(word) for word in row]
        if len(row) not in (width, length):
            raise ValueError(
                f"row {i} has {len(row)} tokens and its mask {length} positions"
            )
        array[i, :length] = row[:length]
    return array.astype(str)
