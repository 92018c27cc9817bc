"""Numbers of seeds, and their means: `seeds.csv` and `results.csv`."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import DIFFERENCE
from jaxattn.metrics.statistics import Interval, interval
from jaxattn.system.files import float32, read_csv, write_csv

Key = tuple[str, str, str, str, str]  # task, method, metric, variant, split


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

    Raises ValueError where two rows name the same number, or OSError.
    """
    write_csv(path, Row, _ordered(rows))


def write_results(path: str | os.PathLike[str], results: Iterable[Result]) -> None:
    """Write `results.csv`; raises OSError where the file cannot be written."""
    write_csv(path, Result, results)


def read_seeds(path: str | os.PathLike[str]) -> list[Row]:
    """Read `seeds.csv`; raises ValueError (malformed) or OSError."""
    return _with_current_names(read_csv(path, Row))


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Read `results.csv`; raises ValueError (malformed) or OSError."""
    return _with_current_names(read_csv(path, Result))


Named = TypeVar("Named", Row, Result)


def _with_current_names(rows: list[Named]) -> list[Named]:
    """Rows of an older run under today's names of its metrics."""
    for i, row in enumerate(rows):
        name = f"{row.metric}:{row.variant}"
        metric, _, variant = definitions.current_name(name).partition(":")
        if metric != row.metric:
            rows[i] = row._replace(metric=metric, variant=variant)
    return rows


def summarise(rows: Iterable[Row], statistic: str = "mean") -> list[Result]:
    """Means over seeds (or `iqm`, interquartile means) with intervals and nulls.

    Where `joint` is there, every other method gets the paired differences that the
    registry of metrics asks for, such as `accuracy_vs_joint`. Numbers that are not
    finite are left out. Raises ValueError where a metric is not defined, or a number
    is given twice.
    """
    cells: dict[Key, dict[int, float]] = {}
    for row in _ordered(rows):
        # From the rounded value, so that seeds.csv alone gives the same table.
        value = float(float32(row.value))
        key = (row.task, row.method, row.metric, row.variant, row.split)
        cells.setdefault(key, {})[row.seed] = value
    paired = set(definitions.shown("paired"))
    results: list[Result] = []
    for key, own in cells.items():
        task, method, metric, variant, split = key
        results.append(_result(key, interval(list(own.values()), statistic), statistic))
        joint = cells.get((task, "joint", metric, variant, split))
        if metric in paired and method != "joint" and joint:
            apart = [own[seed] - joint[seed] for seed in own if seed in joint]
            key = (task, method, metric + DIFFERENCE, variant, split)
            results.append(_result(key, interval(apart, statistic), statistic))
    return [r._replace(null=_null(r, results)) for r in results]


def choose(
    results: Sequence[Result], task: str, method: str | None, name: str
) -> Result | None:
    """The result that `metric` or `metric:variant` names, None where there is none.

    Without a variant: the nameless one, else the first that is not `permuted`; the
    test split before the others. With method None, any one method.
    """
    metric, _, variant = name.partition(":")
    candidates = [
        r
        for r in results
        if r.task == task
        and r.metric == metric
        and (method is None or r.method == method)
        and (not variant or r.variant == variant)
    ]

    def rank(r: Result) -> tuple[bool, bool, bool]:
        return (r.split != "test", r.variant == "permuted", r.variant != "")

    return min(candidates, key=rank, default=None)


def measured(
    results: Sequence[Result], task: str, method: str | None, name: str
) -> Result | None:
    """What `choose` gives where it is a number, else None."""
    result = choose(results, task, method, name)
    return result if result and math.isfinite(result.mean) else None


def interval_text(mean: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval, where it has one; `sign` "+" writes signs.

    >>> interval_text(0.5, 0.41, 0.6), interval_text(0.5, 0.5, 0.5, "+")
    ('0.500 [0.410, 0.600]', '+0.500')
    """
    if not low < high:
        return f"{mean:{sign}.3f}"
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def told(result: Result, sign: str = "") -> str:
    """A mean over seeds with its interval as text."""
    return interval_text(result.mean, result.ci_low, result.ci_high, sign)


def ends(result: Result) -> tuple[float, float]:
    """The interval of a mean; of one seed, which has none, the mean itself."""
    low, high = result.ci_low, result.ci_high
    return (
        low if math.isfinite(low) else result.mean,
        high if math.isfinite(high) else result.mean,
    )


def _result(key: Key, interval: Interval, statistic: str) -> Result:
    metric = definitions.metric(key[2])
    mean, low, high, n = interval
    # Nulls are means of other results: they come when all means are there.
    rest = (math.nan, metric.unit, metric.direction, statistic)
    return Result(*key, n, mean, low, high, *rest)


def _null(result: Result, results: Sequence[Result]) -> float:
    null = definitions.metric(result.metric).null
    if not isinstance(null, str):
        return math.nan if null is None else float(null)
    metric, _, variant = null.partition(":")
    metric = metric or result.metric
    words = frozenset(result.variant.split())
    if metric == result.metric and variant in words:
        return math.nan
    same = [r for r in results if r.split == result.split]
    # The null of a variant, or of another setting, is first sought among its like.
    like = [r for r in same if frozenset(r.variant.split()) == words | {variant}]
    own = choose(like, result.task, result.method, metric) if variant else None
    name = f"{metric}:{variant}" if variant else metric
    own = own or choose(same, result.task, result.method, name)
    if own is None and len({r.method for r in same if r.metric == metric}) == 1:
        own = choose(same, result.task, None, name)
    return math.nan if own is None else own.mean


def _ordered(rows: Iterable[Row]) -> list[Row]:
    """Tasks, methods and metrics as they first come; variants by name, then seeds."""
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
