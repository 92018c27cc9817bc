"""All that is wrong with a file of the user's own, learned by reading it once."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxattn.data.limits import followed
from jaxattn.data.readers.options import Options
from jaxattn.data.readers.tables import Table, rows, table_of
from jaxattn.data.rows import Gathered, in_order
from jaxattn.data.splits import SPLITS, judge
from jaxattn.data.text import MAX_LENGTH, check_whole

NAMED = 5
"""Rows named of each kind of problem."""
_WHERE = re.compile(r"(?s)(.*), row (\d+): (.*)")
_VARIES = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|0x[0-9a-f]+|[\d.,]*\d")


class Kind(NamedTuple):
    """Rows with one kind of problem."""

    example: str
    """What is wrong with the first of them."""
    rows: list[int]
    """The first NAMED; a row stands once, under the first thing wrong with it."""
    n: int


class Check(NamedTuple):
    """What a file holds."""

    read: int
    good: int
    kinds: list[Kind]
    problems: list[str]
    """Of the file as a whole."""
    notes: list[str]
    classes: list[tuple[str, list[int]]]
    """Name, and how many rows each split has; the commonest first."""
    splits: list[int]
    lengths: list[int]
    """Tokens a text: median, 95 % of them at most, the longest."""
    cut: float
    """Share of the texts that are longer than `length`."""
    marked: list[int]
    """Rows of each split with evidence."""
    evidence: float
    """Share of the evidence in the tokens of those rows."""

    @property
    def clean(self) -> bool:
        return not (self.kinds or self.problems)


def check(path: Path, options: Options) -> Check:
    """Reads a whole file and says what a run would refuse, and what it would decide."""
    check_whole("length", options.length, MAX_LENGTH)
    table, gathered = table_of(path, options), Gathered()
    wrong: dict[str, Kind] = {}
    read = 0
    for row in followed(rows(table), "{:,} rows read".format):
        read += 1
        try:
            if isinstance(row, str):
                raise ValueError(row)
            gathered.add(row)
        except ValueError as error:
            _note(wrong, str(error))
    return _summed(table, gathered, read, list(wrong.values()), options.length)


def _note(wrong: dict[str, Kind], message: str) -> None:
    match = _WHERE.match(message)
    row, text = (int(match[2]), match[3]) if match else (0, message)
    kind = _VARIES.sub("#", text)
    old = wrong.get(kind, Kind(text, [], 0))
    old.rows.extend([row] if len(old.rows) < NAMED else [])
    wrong[kind] = old._replace(n=old.n + 1)


def _summed(
    table: Table, gathered: Gathered, read: int, kinds: list[Kind], length: int
) -> Check:
    good, names = len(gathered.rows.ids), list(gathered.names)
    lengths = np.frombuffer(gathered.lengths, np.uint32)
    marked = np.frombuffer(gathered.marked, np.bool_)
    labels = np.frombuffer(gathered.labels, np.uint32)
    verdict = judge(gathered.rows, labels, names, table.path.name)
    notes = [*table.notes(), *verdict.notes, *_odd_names(names)]
    if gathered.empty:
        notes.append(f"{gathered.empty:,} texts have no token")
    if good:
        notes += _contradictions(gathered, labels)
    inside = [verdict.splits == i for i in range(len(SPLITS))]
    classes = []
    for name in in_order(names):
        mine = labels == gathered.names[name]
        classes.append((name, [int((mine & split).sum()) for split in inside]))
    tokens = lengths[marked].sum()
    return Check(
        read=read,
        good=good,
        kinds=kinds,
        problems=verdict.problems,
        notes=notes,
        classes=sorted(classes, key=lambda c: -sum(c[1])),
        splits=[int(split.sum()) for split in inside],
        lengths=[int(np.quantile(lengths, q)) for q in (0.5, 0.95, 1)] if good else [],
        cut=float((lengths > length).mean()) if good else 0.0,
        marked=[int((split & marked).sum()) for split in inside] if good else [],
        evidence=float(np.sum(gathered.marks) / tokens) if tokens else 0.0,
    )


def _odd_names(names: list[str]) -> list[str]:
    """Classes that may be one, spelt in two ways."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.strip().casefold(), []).append(name)
    return [
        f"labels {' and '.join(map(repr, same))} are different classes"
        for same in alike.values()
        if len(same) > 1
    ]


def _contradictions(gathered: Gathered, labels: np.ndarray) -> list[str]:
    texts = np.frombuffer(gathered.rows.texts, np.int64)
    order = np.lexsort((labels, texts))
    same = texts[order][1:] == texts[order][:-1]
    unlike = same & (labels[order][1:] != labels[order][:-1])
    notes = []
    if same.any():
        notes.append(f"{same.sum():,} rows repeat the text of another row")
    if unlike.any():
        first = unlike.argmax()
        one, other = (gathered.rows.where[order[first + i]] for i in (0, 1))
        other = other.rpartition(", ")[2]
        notes.append(f"{unlike.sum():,} texts have two labels, as {one} and {other}")
    return notes
