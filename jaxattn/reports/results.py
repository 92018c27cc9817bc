"""Numbers by seed, and their means over seeds: `seeds.csv` and `results.csv`."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxattn.metrics.definitions import METRICS, PAIRED
from jaxattn.metrics.statistics import Interval, interval
from jaxattn.system.files import float32, read_csv, write_csv

Key = tuple[str, str, str, str, str]  # task, method, metric, variant, split

Nulls = Mapping[Any, float | str]


class Row(NamedTuple):
    """One number of one seed: a row of `seeds.csv`."""

    task: str
    method: str
    seed: int
    metric: str
    variant: str
    split: str
    value: float


class Result(NamedTuple):
    """One mean over seeds with interval and null (NaN: none): `results.csv`."""

    task: str
    method: str
    metric: str
    variant: str
    split: str
    n_seeds: int
    mean: float
    ci_low: float
    ci_high: float
    null: float
    unit: str
    direction: str
    statistic: str = "mean"
    """What stands in `mean`: the mean over seeds, or the interquartile mean (`iqm`)."""


def write_seeds(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Write `seeds.csv` in a fixed order, values as shortest float32 text.

    Tasks, methods and metrics keep the order of their first row; variants are in
    alphabetical order, seeds in numerical order. Raises ValueError where two rows
    name the same number, OSError where the file cannot be written.
    """
    write_csv(path, Row, _ordered(rows))


def write_results(path: str | os.PathLike[str], results: Iterable[Result]) -> None:
    """Write `results.csv`; raises OSError where the file cannot be written."""
    write_csv(path, Result, results)


def read_seeds(path: str | os.PathLike[str]) -> list[Row]:
    """Read `seeds.csv`; raises ValueError (malformed) or OSError."""
    return read_csv(path, Row)


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Read `results.csv`; raises ValueError (malformed) or OSError."""
    return read_csv(path, Result)


def summarise(
    rows: Iterable[Row],
    nulls: Nulls,
    statistic: str = "mean",
) -> list[Result]:
    """Means over seeds with intervals and nulls, in the order of `seeds.csv`.

    nulls: from (method, metric), or metric for all methods, to a number or to the
    name of what is its null in the same task, method and split: `majority`, or with a
    variant `leak_bits:permuted`; a null kept under one method only serves them all.
    statistic: mean or iqm.
    Values that are not finite are left out. Where `joint` is there, every other
    method gets paired differences such as `accuracy_vs_joint`. Raises ValueError for a
    metric that METRICS does not define or a number given twice.
    """
    cells: dict[Key, dict[int, float]] = {}
    for row in _ordered(rows):
        # From the rounded value, so that seeds.csv alone gives the same table.
        value = float(float32(row.value))
        key = (row.task, row.method, row.metric, row.variant, row.split)
        cells.setdefault(key, {})[row.seed] = value
    results: list[Result] = []
    for key, own in cells.items():
        task, method, metric, variant, split = key
        results.append(_result(key, interval(list(own.values()), statistic), statistic))
        joint = cells.get((task, "joint", metric, variant, split))
        if metric in PAIRED and method != "joint" and joint:
            seeds = [seed for seed in own if seed in joint]
            apart = [own[s] - joint[s] for s in seeds]
            key = (task, method, f"{metric}_vs_joint", variant, split)
            results.append(_result(key, interval(apart, statistic), statistic))
    nulls = {f"{metric}_vs_joint": 0.0 for metric in PAIRED} | dict(nulls)
    return [r._replace(null=_null(r, nulls, results)) for r in results]


def choose(
    results: Sequence[Result], task: str, method: str | None, name: str
) -> Result | None:
    """The result that `metric` or `metric:variant` names, None where there is none.

    Without a variant: the nameless one, else the first that is not `permuted`; the
    test split before the others. With method None, any one method.
    """
    metric, _, variant = name.partition(":")
    found = [
        r
        for r in results
        if r.task == task
        and r.metric == metric
        and (method is None or r.method == method)
        and (not variant or r.variant == variant)
    ]

    def rank(r: Result) -> tuple[bool, bool, bool]:
        return (r.split != "test", r.variant == "permuted", r.variant != "")

    return min(found, key=rank, default=None)


def _result(key: Key, interval: Interval, statistic: str) -> Result:
    metric = key[2]
    if metric not in METRICS:
        raise ValueError(
            f"unknown metric {metric!r}: define it in jaxattn/metrics/definitions.py, "
            f"which has {', '.join(METRICS)}"
        )
    mean, low, high, n = interval
    unit, direction, _ = METRICS[metric]
    # Nulls are means of other results: they come when all means are there.
    return Result(*key, n, mean, low, high, math.nan, unit, direction, statistic)


def _null(result: Result, nulls: Nulls, results: Sequence[Result]) -> float:
    null = nulls.get((result.method, result.metric), nulls.get(result.metric, math.nan))
    if not isinstance(null, str):
        return float(null)
    metric, _, variant = null.partition(":")
    if metric not in METRICS:
        raise ValueError(f"the null of {result.metric} is an unknown metric: {null!r}")
    words = frozenset(result.variant.split())
    if result.metric == metric and (not variant or variant in words):
        return math.nan
    same = [r for r in results if r.split == result.split]
    # The null of a variant, or of another setting, is first sought among its like.
    like = [r for r in same if frozenset(r.variant.split()) == words | {variant}]
    own = choose(like, result.task, result.method, metric) if variant else None
    if own is not None:
        return own.mean
    found = choose(same, result.task, result.method, null)
    if found is None and len({r.method for r in same if r.metric == metric}) == 1:
        found = choose(same, result.task, None, null)
    return math.nan if found is None else found.mean


def _ordered(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    tasks = {task: i for i, task in enumerate(dict.fromkeys(r.task for r in rows))}
    methods = {name: i for i, name in enumerate(dict.fromkeys(r.method for r in rows))}
    metrics = {name: i for i, name in enumerate(dict.fromkeys(r.metric for r in rows))}

    def key(r: Row) -> tuple[int, int, int, str, str, int]:
        places = (tasks[r.task], methods[r.method], metrics[r.metric])
        return (*places, r.variant, r.split, r.seed)

    rows.sort(key=key)
    for one, other in zip(rows, rows[1:], strict=False):
        if one[:-1] == other[:-1]:
            raise ValueError(f"two values for {', '.join(map(str, one[:-1]))}")
    return rows
