"""Which split each example is in, and whether anything is in two of them."""

import dataclasses
import hashlib
import logging
from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

log = logging.getLogger("jaxattn")
_SALT = "jaxattn split 1: "
SPLITS = ("train", "validation", "test")
ALIASES = {"val": "validation", "dev": "validation", "valid": "validation"}

ALIASES |= {split: split for split in SPLITS}


def document_of(snippet_id: str) -> str:
    """What is never divided: "amazon-3" for "amazon-3_7", else the id itself."""
    return snippet_id.partition("_")[0]


def split_of(snippet_id: str) -> str:
    """The split of a snippet: "train", "validation" or "test".

    A fixed function of the document's id alone, the same for every task. It never
    changes: results of different versions stay comparable.
    """
    return split_by(document_of(snippet_id))


def split_by(key: str) -> str:
    """The split, 80 / 10 / 10, that a hash of the key gives."""
    raw = hashlib.sha256((_SALT + key).encode()).digest()
    return SPLITS[max(int.from_bytes(raw[:8], "big") % 10 - 7, 0)]


LONGEST_NAME = 200
"""Characters of an id, a group or a label: a longer one is the wrong field."""


class Verdict(NamedTuple):
    """What was decided of the rows."""

    splits: np.ndarray
    """[N] int8, places in SPLITS; -1 for a row that is left out."""
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
        try:
            for what, value in (("id", row.id), ("group", row.group)):
                if value is not None:
                    check_name(what, value)
            given = -1 if row.split is None else _place_of(row.split)
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from None
        if self.given and (given < 0) != (self.given[0] < 0):
            pair = (row.where, self.where[0])
            one, other = pair if given < 0 else pair[::-1]
            raise ValueError(f"{one} has no split and {other} has one: all or none")
        own = row.id is not None
        self.given.append(given)
        self.drawn.append(SPLITS.index(split_by(row.group or row.id or text)))
        self.ids.append(
            row.id if own else row.where.rpartition(", ")[2].replace(" ", "-")
        )
        self.where.append(row.where)
        self.named.append(own)
        self.texts.append(hash(text))
        self.groups.append(hash(row.group) or 1 if row.group is not None else 0)


def check_name(what: str, value: str) -> None:
    """Raises ValueError for an id, group or label that can be none."""
    if not isinstance(value, str):
        raise ValueError(f"{what} {value!r}; allowed: a text")
    if (n := len(value)) > LONGEST_NAME:
        raise ValueError(f"{what} has {n:,} characters; allowed: {LONGEST_NAME}")
    if not value.isprintable():
        raise ValueError(f"{what} {value!r} holds what cannot be printed")


def _place_of(name: str) -> int:
    split = ALIASES.get(str(name).lower())
    if split is None:
        raise ValueError(f"split {name!r}; allowed: {', '.join(ALIASES)}")
    return SPLITS.index(split)


def settled(
    keys: Keys, labels: Iterable[int], names: list[str], source: str
) -> np.ndarray:
    """The split [N] of every row; what was decided is logged; see `judge`.

    Raises: ValueError, the first problem, where something is wrong with the whole.
    """
    verdict = judge(keys, labels, names, source)
    if verdict.problems:
        raise ValueError(verdict.problems[0])
    for line in verdict.notes:
        log.info(line)
    return verdict.splits


def judge(keys: Keys, labels: Iterable[int], names: list[str], source: str) -> Verdict:
    """The split of every row, all that is wrong with the whole, and what was decided.

    Args:
        labels: [N], places in `names`.
        source: where the rows come from, for messages.
    """
    if not keys.ids:
        return Verdict(np.zeros(0, np.int8), [f"{source}: no row to learn from"], [])
    problems: list[str] = []
    notes: list[str] = []
    given = np.frombuffer(keys.given, np.int8)
    drawn = np.frombuffer(keys.drawn, np.int8)
    splits = (drawn if given[0] < 0 else given).copy()
    if given[0] < 0:
        notes.append(
            "no split is given: a hash of each row's group, id or text divides them "
            "80 / 10 / 10"
        )
    elif not (given == 1).any() and {0, 2} <= set(given.tolist()):
        splits[(given == 0) & (drawn == 1)] = 1
        notes.append(
            f"no validation split is given: {(splits == 1).sum():,} rows of training, "
            "by a hash, become it"
        )
    named = np.frombuffer(keys.named, np.bool_)
    ids = np.array([hash(i) for i in keys.ids], np.int64)
    groups = np.frombuffer(keys.groups, np.int64)
    for what, hashes, which in (("ids", ids, named), ("groups", groups, groups != 0)):
        torn, rows = _torn(hashes, splits, which)
        if torn:
            example = _example(keys, rows, splits)
            problems.append(f"{torn:,} {what} are in two splits, as {example}")
    repeated = int(named.sum()) - len(np.unique(ids[named]))
    if repeated and not any(" ids " in problem for problem in problems):
        notes.append(f"{repeated:,} rows repeat the id of an earlier row")
    splits = _without_copies(keys, splits, problems, notes)
    last = _class_problem(keys, np.asarray(labels), splits, names, source)
    return Verdict(splits, [*problems, *([last] if last else [])], notes)


def _earlier(hashes: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's key [N], and which keys [N] are in a later split too."""
    _, keys = np.unique(hashes, return_inverse=True)
    last = np.zeros(keys.max(initial=-1) + 1, np.int8)
    np.maximum.at(last, keys, splits)
    return keys, splits < last[keys]


def _torn(
    hashes: np.ndarray, splits: np.ndarray, which: np.ndarray
) -> tuple[int, np.ndarray]:
    """How many keys are in several splits, and the rows of the first of them."""
    places = np.flatnonzero(which)
    keys, earlier = _earlier(hashes[places], splits[places])
    torn = np.unique(keys[earlier])
    rows = np.isin(keys, torn)
    return len(torn), places[keys == keys[rows.argmax()]] if len(torn) else places[:0]


def _example(keys: Keys, rows: np.ndarray, splits: np.ndarray) -> str:
    """Where one row of each of two splits is."""
    _, first = np.unique(splits[rows], return_index=True)
    told = [f"{keys.where[rows[i]]} ({SPLITS[splits[rows[i]]]})" for i in first[:2]]
    return " and ".join(told)


def _without_copies(
    keys: Keys, splits: np.ndarray, problems: list[str], notes: list[str]
) -> np.ndarray:
    """-1 for each row whose text is in a later split too: the test stays whole."""
    texts, left_out = _earlier(np.frombuffer(keys.texts, np.int64), splits)
    n = int(left_out.sum())
    if not n:
        return splits
    same = np.flatnonzero(texts == texts[left_out.argmax()])
    example = _example(keys, same, splits)
    train = splits == 0
    share = left_out[train].sum() / max(train.sum(), 1)
    if share > 0.5:
        problems.append(
            f"{share:.0%} of the texts of training are in validation or test too, as "
            f"{example}: these are no separate splits"
        )
        return splits
    notes.append(
        f"{n:,} row{'s' * (n > 1)} left out whose text is in a later split too, as "
        f"{example}"
    )
    return np.where(left_out, np.int8(-1), splits)


def _class_problem(
    keys: Keys, labels: np.ndarray, splits: np.ndarray, names: list[str], source: str
) -> str:
    """What is wrong with the classes, "" where nothing is."""
    sizes = {name: int((splits == i).sum()) for i, name in enumerate(SPLITS)}
    missing = [name for name, n in sizes.items() if not n]
    if missing:
        told = ", ".join(f"{n:,} {name}" for name, n in sizes.items())
        return (
            f"{source}: no row of {' or '.join(missing)} ({told}): give more rows, or "
            "a split in each"
        )
    if len(names) < 2:
        alike = f"all {len(labels):,} rows have the label {names[0]!r}"
        return f"{source}: {alike}: at least two classes are needed"
    if len(names) > sizes["train"] / 2:
        return (
            f"{source}: {len(names):,} classes for {sizes['train']:,} training rows, "
            "fewer than two rows a class: is that the field of the label?"
        )
    never = np.flatnonzero(np.bincount(labels[splits == 0], minlength=len(names)) == 0)
    if not len(never):
        return ""
    row = np.flatnonzero((labels == never[0]) & (splits >= 0))[0]
    return (
        f"{keys.where[row]}: label {names[never[0]]!r} has no row of training, where "
        f"it could be learned ({len(never):,} such classes)"
    )
