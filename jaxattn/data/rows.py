"""The rows that readers give, and the data set that is made of them."""

import dataclasses
import logging
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.limits import followed
from jaxattn.data.splits import SPLITS, Keys, check_name, settled
from jaxattn.data.text import MAX_LENGTH, PAD, UNKNOWN, Cut, check_whole, most_frequent

log = logging.getLogger("jaxattn")


class Row(NamedTuple):
    """One example as a reader gives it."""

    tokens: Sequence[str]
    label: str | int
    where: str
    """For messages, as "mydata.jsonl, row 3"; a row without an id becomes "row-3"."""
    evidence: Sequence[float] | None = None
    """One number from 0 to 1 per token; None where nobody marked the row."""
    split: str | None = None
    """train, validation (val, dev, valid) or test."""
    id: str | None = None
    group: str | None = None
    """Rows of a group stay in one split."""


def _numbering(*first: str) -> defaultdict[str, int]:
    """A dictionary that gives each new key the next number."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    for key in first:
        index[key]
    return index


@dataclasses.dataclass
class Gathered:
    """All rows so far, in flat arrays; tokens and labels by order of appearance."""

    classes: tuple[str, ...] | None = None
    """Names of the classes, where labels are their numbers."""
    index: defaultdict[str, int] = dataclasses.field(
        default_factory=lambda: _numbering(PAD, UNKNOWN)
    )
    names: defaultdict[str, int] = dataclasses.field(default_factory=_numbering)
    tokens: array = dataclasses.field(default_factory=lambda: array("I"))
    lengths: array = dataclasses.field(default_factory=lambda: array("I"))
    labels: array = dataclasses.field(default_factory=lambda: array("I"))
    marks: array = dataclasses.field(default_factory=lambda: array("f"))
    """Evidence of the rows that have some, one after another."""
    marked: array = dataclasses.field(default_factory=lambda: array("b"))
    empty: int = 0
    rows: Keys = dataclasses.field(default_factory=Keys)

    def add(self, row: Row) -> None:
        """Takes a row in; raises ValueError, and takes nothing, where it is wrong."""
        try:
            text = _text(row.tokens)
            label = self._label(row.label)
            if row.evidence is not None:
                _check_evidence(row.evidence, len(row.tokens))
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from None
        self.rows.add(row, text)
        n = len(row.tokens)
        self.labels.append(self.names[label])
        # An empty text is one unknown token, so that there is something to attend to.
        self.empty += not n
        self.tokens.extend(map(self.index.__getitem__, row.tokens if n else (UNKNOWN,)))
        self.lengths.append(n or 1)
        self.marked.append(row.evidence is not None)
        if row.evidence is not None:
            self.marks.extend(row.evidence if n else (0.0,))

    def _label(self, label: object) -> str:
        if isinstance(label, int | np.integer) and not isinstance(label, bool):
            if self.classes is None:
                return str(int(label))
            if 0 <= label < len(self.classes):
                return self.classes[label]
            raise ValueError(f"label {label}; there are {len(self.classes)} classes")
        if not isinstance(label, str):
            shown = repr(label)[:40]
            raise ValueError(f"label {shown}; allowed: a text or a whole number")
        if not label.strip():
            raise ValueError("no label")
        check_name("label", label)
        if self.classes is not None and label not in self.classes:
            raise ValueError(f"label {label!r}; allowed: {', '.join(self.classes)}")
        return label


def _text(tokens: Sequence[str]) -> str:
    """All tokens as one text, with a NUL between; ValueError where they are none."""
    try:
        text = "\0".join(tokens)
        text.encode()
    except TypeError:
        raise ValueError("tokens must be texts") from None
    except UnicodeEncodeError:
        raise ValueError("a character is broken (half of a surrogate pair)") from None
    if isinstance(tokens, str):
        raise ValueError("tokens are one text, not a list of them")
    if text.count("\0") >= max(len(tokens), 1):
        raise ValueError("a NUL character: no text has one")
    return text


def check_number_of(evidence: Sequence, n: int) -> None:
    """Raises ValueError unless evidence has a number for each of the `n` tokens."""
    if len(evidence) != n:
        raise ValueError(
            f"evidence has {len(evidence):,} numbers for {n:,} tokens: one for each is "
            "needed"
        )


def _check_evidence(evidence: Sequence[float], n: int) -> None:
    check_number_of(evidence, n)
    try:
        # NaN is not within 0 and 1.
        good = all(0 <= number <= 1 for number in evidence)
    except TypeError:
        good = False
    if not good:
        raise ValueError("evidence must be numbers from 0 to 1")


def from_rows(
    rows: Iterable[Row],
    name: str,
    length: int,
    min_count: int,
    classes: Sequence[str] | None = None,
    source: str = "",
) -> Dataset:
    """The data set of the rows, which are read once and as they come.

    Rows without a split are divided by a hash of their group, id or text, 80 / 10 / 10.
    Where only the validation split is missing, a tenth of training becomes it. A text
    that is in two splits stays in the later one. Words are counted in training. What
    was decided is logged.

    Args:
        length: tokens kept of each text, T.
        min_count: a token rarer than this in the training split is "<unk>".
        classes: their names, where the order is fixed or labels are numbers of them;
            otherwise they are sorted.
        source: where the rows come from, for messages; the digest does not cover it.

    Raises:
        ValueError: a row is wrong, an id or a group is in two splits, a split is empty,
            or there are fewer than two classes, or about as many as rows.
    """
    check_whole("length", length, MAX_LENGTH)
    check_whole("min_count", min_count)
    gathered = Gathered(None if classes is None else tuple(classes))
    for row in followed(rows, "{:,} rows read".format):
        gathered.add(row)
    names = list(gathered.names)
    placed = settled(gathered.rows, gathered.labels, names, source or name)
    if gathered.empty:
        log.info(
            f"{gathered.empty:,} texts without any token became a single {UNKNOWN}"
        )
    return _dataset(gathered, placed, name, length, min_count)


def in_order(names: Iterable[str]) -> list[str]:
    """Class names sorted, by their size where all are whole numbers."""
    names = list(names)
    try:
        return sorted(names, key=lambda name: (int(name), name))
    except ValueError:
        return sorted(names)


def _dataset(
    gathered: Gathered, placed: np.ndarray, name: str, length: int, min_count: int
) -> Dataset:
    flat = np.frombuffer(gathered.tokens, np.uint32)
    lengths = np.frombuffer(gathered.lengths, np.uint32).astype(np.int64)
    words = list(gathered.index)
    training = np.repeat(placed == 0, lengths)
    counts = np.bincount(flat[training], None, len(words))
    counts[:2] = 0
    seen = {words[i]: int(counts[i]) for i in np.flatnonzero(counts)}
    vocabulary = most_frequent(seen, min_count)
    new_id = {token: i for i, token in enumerate(vocabulary)}
    unknown = new_id[UNKNOWN]
    # A token that is spelt like padding is none.
    new_ids = np.array(
        [unknown if i < 2 else new_id.get(w, unknown) for i, w in enumerate(words)],
        np.min_scalar_type(len(vocabulary) - 1),
    )
    classes = list(gathered.classes or in_order(gathered.names))
    new_label = np.array([classes.index(n) for n in gathered.names], np.int32)
    labels = new_label[np.frombuffer(gathered.labels, np.uint32)]
    marked = np.frombuffer(gathered.marked, np.bool_)
    marks = np.frombuffer(gathered.marks, np.float32)
    marked_tokens = np.repeat(marked, lengths)
    kept = np.minimum(lengths, length)
    # The place of each token in its own row.
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    within = np.arange(len(flat)) - starts < length
    splits, cut, lost = {}, {}, 0.0
    for number, split in enumerate(SPLITS):
        mine = placed == number
        tokens = np.repeat(mine, lengths)
        filled = np.arange(length) < kept[mine, None]
        inputs = np.zeros(filled.shape, new_ids.dtype)
        inputs[filled] = new_ids[flat[tokens & within]]
        evidence = None
        if marked.any():
            evidence = np.full(filled.shape, np.nan, np.float32)
            own = marks[(tokens & within)[marked_tokens]]
            evidence[filled & marked[mine, None]] = own
            lost += marks[(tokens & ~within)[marked_tokens]].sum()
        splits[split] = Split(
            inputs,
            kept[mine].astype(np.int32),
            labels[mine],
            np.array([gathered.rows.ids[i] for i in np.flatnonzero(mine)]),
            evidence=evidence,
        )
        more = lengths[mine] - kept[mine]
        cut[split] = Cut(int((more > 0).sum()), int(more.sum()))
    if lost:
        log.info(
            f"{lost / marks.sum():.1%} of the evidence lies behind the first {length} "
            "tokens: lost"
        )
    return assemble(name, tuple(classes), splits, vocabulary, cut)
