"""The fixed split of the embedded snippets, and of rows that come without one.

Which split each row is in, and whether anything stands in two of them.
"""

import dataclasses
import hashlib
from array import array
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

_SALT = "jaxattn split 1: "

SIDES = ("train", "validation", "test")


def document_of(snippet_id: str) -> str:
    """What is never divided by the split: "amazon-3" for "amazon-3_7", else the id."""
    return snippet_id.partition("_")[0]


def side_of(snippet_id: str) -> str:
    """The split of a snippet, "train", "validation" or "test" (80 / 10 / 10).

    A fixed function of the document's id alone, the same for every task. It never
    changes: results of different versions stay comparable.
    """
    return side_by(document_of(snippet_id))


def side_by(key: str) -> str:
    """The split that a key falls in: "train", "validation" or "test", 80 / 10 / 10."""
    raw = hashlib.sha256((_SALT + key).encode()).digest()
    return SIDES[max(int.from_bytes(raw[:8], "big") % 10 - 7, 0)]


ALIASES = {"val": "validation", "dev": "validation", "valid": "validation"}

ALIASES |= {side: side for side in SIDES}

LONGEST_NAME = 200
"""Characters of an id, a group or a label: a longer one is the wrong field."""


class Verdict(NamedTuple):
    """What was decided of the rows."""

    sides: np.ndarray
    """[N] int8, places in SIDES; -1 for a row that is left out."""
    problems: list[str]
    notes: list[str]


@dataclasses.dataclass
class Keys:
    """What tells rows apart, a row each; texts and groups as 64-bit hashes."""

    ids: list[str] = dataclasses.field(default_factory=list)
    where: list[str] = dataclasses.field(default_factory=list)
    named: array = dataclasses.field(default_factory=lambda: array("b"))
    """Whether the row has an id of its own."""
    texts: array = dataclasses.field(default_factory=lambda: array("q"))
    groups: array = dataclasses.field(default_factory=lambda: array("q"))
    """0 where a row has none."""
    given: array = dataclasses.field(default_factory=lambda: array("b"))
    """The split that the row names, -1 where it names none."""
    drawn: array = dataclasses.field(default_factory=lambda: array("b"))
    """The split that its hash gives."""

    def add(self, row: Any, text: str) -> None:
        """Takes the keys of a row; raises ValueError for one that is wrong."""
        for what, value in (("id", row.id), ("group", row.group)):
            if value is not None:
                check_name(row.where, what, value)
        given = -1
        if row.split is not None:
            split = ALIASES.get(str(row.split).lower())
            if split is None:
                raise ValueError(
                    f"{row.where}: split {row.split!r}; allowed: {', '.join(ALIASES)}"
                )
            given = SIDES.index(split)
        if self.given and (given < 0) != (self.given[0] < 0):
            one, other = (row.where, self.where[0])
            one, other = (one, other) if given < 0 else (other, one)
            raise ValueError(f"{one} has no split and {other} has one: all or none")
        own = row.id is not None
        self.given.append(given)
        self.drawn.append(SIDES.index(side_by(row.group or row.id or text)))
        self.ids.append(
            row.id if own else row.where.rpartition(", ")[2].replace(" ", "-")
        )
        self.where.append(row.where)
        self.named.append(own)
        self.texts.append(hash(text))
        self.groups.append(hash(row.group) or 1 if row.group is not None else 0)


def check_name(where: str, what: str, value: str) -> None:
    """Raises ValueError for an id, group or label that can be none."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: {what} {value!r}; allowed: a text")
    if len(value) > LONGEST_NAME:
        raise ValueError(
            f"{where}: {what} has {len(value):,} characters; allowed: {LONGEST_NAME}"
        )
    if not value.isprintable():
        raise ValueError(f"{where}: {what} {value!r} holds what cannot be printed")


def settled(
    keys: Keys,
    labels: Iterable[int],
    names: list[str],
    source: str,
    say: Callable[[str], None],
) -> np.ndarray:
    """The split [N] of every row, and says what was decided; see `judge`.

    Raises ValueError, the first of them, where something is wrong with the whole.
    """
    verdict = judge(keys, labels, names, source)
    if verdict.problems:
        raise ValueError(verdict.problems[0])
    for line in verdict.notes:
        say(line)
    return verdict.sides


def judge(keys: Keys, labels: Iterable[int], names: list[str], source: str) -> Verdict:
    """The split of every row, all that is wrong with the whole, and what was decided.

    Args:
        labels: [N], places in `names`.
        source: where the rows come from, for messages.
    """
    problems: list[str] = []
    notes: list[str] = []
    if not keys.ids:
        return Verdict(np.zeros(0, np.int8), [f"{source}: no row to learn from"], [])
    given = np.frombuffer(keys.given, np.int8)
    drawn = np.frombuffer(keys.drawn, np.int8)
    sides = (drawn if given[0] < 0 else given).copy()
    if given[0] < 0:
        notes.append(
            "no split is given: a hash of each row's group, id or text divides them "
            "80 / 10 / 10"
        )
    elif not (given == 1).any() and {0, 2} <= set(given.tolist()):
        sides[(given == 0) & (drawn == 1)] = 1
        notes.append(
            f"no validation split is given: {(sides == 1).sum():,} rows of training, "
            "by a hash, become it"
        )
    _ids(keys, sides, problems, notes)
    groups = np.frombuffer(keys.groups, np.int64)
    torn, first = _torn(groups, sides, groups != 0)
    if torn:
        problems.append(
            f"{torn:,} groups are in two splits, as {_named(keys, first, sides)}"
        )
    sides = _texts(keys, sides, problems, notes)
    _classes(np.asarray(labels), sides, names, keys, source, problems)
    return Verdict(sides, problems, notes)


def _torn(
    hashes: np.ndarray, sides: np.ndarray, which: np.ndarray
) -> tuple[int, np.ndarray]:
    """How many keys are in several splits, and the rows of the first of them."""
    places = np.flatnonzero(which)
    _, inverse = np.unique(hashes[places], return_inverse=True)
    low = np.full(inverse.max(initial=-1) + 1, 127, np.int8)
    high = np.full(len(low), -1, np.int8)
    np.minimum.at(low, inverse, sides[places])
    np.maximum.at(high, inverse, sides[places])
    torn = (low < high)[inverse]
    if not torn.any():
        return 0, places[:0]
    return int((low < high).sum()), places[inverse == inverse[torn.argmax()]]


def _named(keys: Keys, rows: np.ndarray, sides: np.ndarray) -> str:
    """One row of each of two splits, told by where they are."""
    _, first = np.unique(sides[rows], return_index=True)
    told = [f"{keys.where[rows[i]]} ({SIDES[sides[rows[i]]]})" for i in first[:2]]
    return " and ".join(told)


def _ids(keys: Keys, sides: np.ndarray, problems: list[str], notes: list[str]) -> None:
    named = np.frombuffer(keys.named, np.bool_)
    hashes = np.array([hash(i) for i in keys.ids], np.int64)
    torn, rows = _torn(hashes, sides, named)
    if torn:
        problems.append(
            f"{torn:,} ids are in two splits, as {keys.ids[rows[0]]!r} in "
            f"{_named(keys, rows, sides)}"
        )
    twice = int(named.sum()) - len(np.unique(hashes[named]))
    if twice and not torn:
        notes.append(f"{twice:,} rows repeat the id of an earlier row")


def _texts(
    keys: Keys, sides: np.ndarray, problems: list[str], notes: list[str]
) -> np.ndarray:
    """The splits without rows whose text is in a later one: the test stays whole."""
    texts = np.frombuffer(keys.texts, np.int64)
    _, inverse = np.unique(texts, return_inverse=True)
    last = np.zeros(inverse.max() + 1, np.int8)
    np.maximum.at(last, inverse, sides)
    left_out = sides < last[inverse]
    n = int(left_out.sum())
    if not n:
        return sides
    first = np.flatnonzero(left_out)[0]
    same = np.flatnonzero(inverse == inverse[first])
    example = _named(keys, same, sides)
    train = sides == 0
    share = left_out[train].sum() / max(train.sum(), 1)
    if share > 0.5:
        problems.append(
            f"{share:.0%} of the texts of training are in validation or test too, as "
            f"{example}: these are no separate splits"
        )
        return sides
    notes.append(
        f"{n:,} row{'s' * (n > 1)} left out whose text is in a later split too, as "
        f"{example}"
    )
    return np.where(left_out, np.int8(-1), sides)


def _classes(
    labels: np.ndarray,
    sides: np.ndarray,
    names: list[str],
    keys: Keys,
    source: str,
    problems: list[str],
) -> None:
    sizes = {split: int((sides == i).sum()) for i, split in enumerate(SIDES)}
    missing = [split for split, n in sizes.items() if not n]
    if missing:
        told = ", ".join(f"{n:,} {split}" for split, n in sizes.items())
        problems.append(
            f"{source}: no row of {' or '.join(missing)} ({told}): give more rows, or "
            "a split in each"
        )
        return
    count = np.bincount(labels[sides == 0], minlength=len(names))
    if len(names) < 2:
        problems.append(
            f"{source}: all {len(labels):,} rows have the label {names[0]!r}: at least "
            "two classes are needed"
        )
    elif len(names) > sizes["train"] / 2:
        problems.append(
            f"{source}: {len(names):,} classes for {sizes['train']:,} training rows, "
            "fewer than two rows a class: is that the field of the label?"
        )
    else:
        never = np.flatnonzero(count == 0)
        if len(never):
            row = np.flatnonzero((labels == never[0]) & (sides >= 0))
            problems.append(
                f"{keys.where[row[0]]}: label {names[never[0]]!r} has no row of "
                f"training, where it could be learned ({len(never):,} such classes)"
            )
