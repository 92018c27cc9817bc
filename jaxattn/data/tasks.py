"""The tasks over the embedded snippets, and the fixed split."""

import difflib
import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxattn.data.dataset import Cut, Dataset, Split, digest_of
from jaxattn.data.text import (
    MAX_LENGTH,
    build_vocabulary,
    check_whole,
    encode,
    kinds,
    lexicon_ratings,
    tokenize,
)

_SALT = "jaxattn split 1: "
_SIDES = ("train", "validation", "test")


class Task(NamedTuple):
    """What a task asks. `label` maps (source, mean rating) to a class or to None."""

    classes: tuple[str, ...]
    label: Callable[[str, float], int | None]
    description: str


def _sign(rating: float) -> int | None:
    return None if abs(rating) < 0.5 else int(rating > 0)


_POLARITY = ("negative", "positive")
_SOURCES = ("movie", "amazon", "nyt", "tweet")

TASKS: dict[str, Task] = {
    "movie_sentiment": Task(
        _POLARITY,
        lambda source, rating: _sign(rating) if source == "movie" else None,
        "sign of the mean rating of a film review snippet, |rating| >= 0.5",
    ),
    "sentiment": Task(
        _POLARITY,
        lambda source, rating: _sign(rating),
        "sign of the mean rating, all sources, |rating| >= 0.5",
    ),
    "sources": Task(
        _SOURCES,
        lambda source, rating: _SOURCES.index(source),
        "where the snippet comes from, whatever its rating",
    ),
}


def document_of(snippet_id: str) -> str:
    """What is never divided by the split: "amazon-3" for "amazon-3_7", else the id."""
    return snippet_id.partition("_")[0]


def side_of(snippet_id: str) -> str:
    """The split of a snippet, "train", "validation" or "test" (80 / 10 / 10).

    A fixed function of the document's id alone, the same for every task. It never
    changes: results of different versions stay comparable.
    """
    raw = hashlib.sha256((_SALT + document_of(snippet_id)).encode()).digest()
    return _SIDES[max(int.from_bytes(raw[:8], "big") % 10 - 7, 0)]


def load(
    task: str,
    length: int = 32,
    min_count: int = 2,
    data_dir: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Loads a task, preparing the embedded snippets at first use.

    Args:
        task: a name of `TASKS`:
            "movie_sentiment": 0 negative, 1 positive (10,072 examples; share of the
            largest class of the test split: 0.510, positive);
            "sentiment": the same over all sources (19,459; 0.530, positive);
            "sources": 0 movie, 1 amazon, 2 nyt, 3 tweet (23,703; 0.475, movie).
        length: tokens kept of each text, T.
        min_count: a token rarer than this in the training split is "<unk>".
        data_dir: where the snippets are prepared; None is TFDS's usual place.
        say: called with one line when there is something to wait for.

    Raises:
        ValueError: unknown task, bad length or min_count, damaged prepared data.
        OSError: data_dir cannot be written or read.
    """
    if task not in TASKS:
        near = difflib.get_close_matches(str(task), TASKS, n=2, cutoff=0.5)
        hint = f"; perhaps you meant {' or '.join(map(repr, near))}" if near else ""
        raise ValueError(f"unknown task {task!r}{hint}; allowed: {', '.join(TASKS)}")
    # A wrong length or min_count must not cost a preparation.
    check_whole("length", length, MAX_LENGTH)
    check_whole("min_count", min_count)
    # Here, since it imports tensorflow_datasets.
    from jaxattn.data.snippets import load_snippets

    chosen = TASKS[task]
    snippets = load_snippets(data_dir, say)
    sides: dict[str, list[tuple[str, int, list[str]]]] = {side: [] for side in _SIDES}
    for id_, source, text, rating in zip(
        snippets.ids, snippets.sources, snippets.texts, snippets.ratings, strict=True
    ):
        label = chosen.label(source, float(rating))
        if label is not None:
            sides[side_of(id_)].append((id_, label, tokenize(text)))

    vocabulary = build_vocabulary((row[2] for row in sides["train"]), min_count)
    splits: dict[str, Split] = {}
    cut: dict[str, Cut] = {}
    for side, rows in sides.items():
        tokens, lengths, cut[side] = encode([r[2] for r in rows], vocabulary, length)
        labels = np.array([row[1] for row in rows], np.int32)
        ids = np.array([row[0] for row in rows])
        splits[side] = Split(tokens, lengths, labels, ids)
    kind, lexicon = kinds(vocabulary), lexicon_ratings(vocabulary)
    arrays = (kind, lexicon, *(a for side in _SIDES for a in splits[side]))
    return Dataset(
        name=task,
        classes=chosen.classes,
        vocabulary=vocabulary,
        kind=kind,
        lexicon=lexicon,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        cut=cut,
        digest=digest_of(task, chosen.classes, vocabulary, arrays),
    )
