"""All tasks, a row each; those that are generated have theirs in `SYNTHETIC`."""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

from jaxattn.data.dataset import Dataset
from jaxattn.data.sources.bags import load_bags
from jaxattn.data.sources.digits import load_patches, load_pixels
from jaxattn.data.sources.planted import load_planted
from jaxattn.data.sources.rated import load_rated
from jaxattn.data.sources.synthetic import SYNTHETIC, Synthetic
from jaxattn.data.text import MAX_LENGTH, check_whole
from jaxattn.system.errors import suggest

Load = Callable[[int, int, str | os.PathLike[str] | None], Dataset]


class Task(NamedTuple):
    """What a task asks, and of which examples."""

    text: str
    """What is asked, in a few words."""
    examples: int = 0
    """Of all splits; 0 where the user or another task decides it."""
    classes: int = 0
    load: Load | None = None
    """Of a stored task: the data set for (length, min_count, data_dir)."""
    explains: str = ""
    """The stored task whose black box is to be explained."""
    budget: int = 0
    """How many positions a subset has, unless the config says it."""


TASKS: dict[str, Task] = {
    "movie_sentiment": Task(
        "sign of a film review's rating by people, |rating| >= 0.5",
        10_072,
        2,
        functools.partial(load_rated, "movie_sentiment"),
    ),
    "sentiment": Task(
        "the same over reviews, editorials and tweets",
        19_459,
        2,
        functools.partial(load_rated, "sentiment"),
    ),
    "sources": Task(
        "film or product review, newspaper or tweet?",
        23_703,
        4,
        functools.partial(load_rated, "sources"),
    ),
    "planted": Task(
        "a review beside a neutral sentence; truth is known", 10_070, 2, load_planted
    ),
    "bags": Task(
        "a 9 among about ten digits? truth is known", 1_750, 2, lambda *_: load_bags()
    ),
    "digits_pixels": Task(
        "which digit, by 784 pixels", 5_000, 10, lambda *_: load_pixels()
    ),
    "digits_patches": Task(
        "which digit, by 49 patches of 16 pixels", 5_000, 10, lambda *_: load_patches()
    ),
    "explain_linear": Task(
        "the words that a linear black box uses", explains="movie_sentiment", budget=5
    ),
    "explain_cnn": Task(
        "those that a convolutional one uses", explains="movie_sentiment", budget=5
    ),
    "explain_gru": Task(
        "those that a recurrent one uses", explains="movie_sentiment", budget=5
    ),
    "explain_digits_pixels": Task(
        "the pixels that a black box uses",
        explains="digits_pixels",
        # 4 % of the pixels, as in the published run of REAL-X (arXiv 2103.01890).
        budget=31,
    ),
    "explain_digits_patches": Task(
        "the patches that it uses", explains="digits_patches", budget=4
    ),
    "own": Task("data of one's own, with --data"),
    "explain_own": Task("a model of one's own, with --data.black-box", budget=5),
}
"""Every task that is not generated; a row added here is a task like any other."""


def names() -> tuple[str, ...]:
    """The names of all tasks, generated ones included."""
    return (*TASKS, *SYNTHETIC)


def stored() -> tuple[str, ...]:
    """The names of the tasks that `load` loads."""
    return tuple(name for name, task in TASKS.items() if task.load is not None)


def row(task: str) -> Task | Synthetic:
    """The row of any task; ValueError, with the nearest name, where there is none."""
    if task not in names():
        raise ValueError(f"task {task!r}: {suggest(task, names())}")
    return TASKS[task] if task in TASKS else SYNTHETIC[task]


def load(
    task: str,
    length: int = 32,
    min_count: int = 2,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads a stored task, preparing the embedded snippets at first use.

    Args:
        task: the name of a stored task; `TASKS` says what each asks.
        length: tokens kept of each text, T; bags and digits have their own.
        min_count: a token rarer than this in the training split is "<unk>".
        data_dir: where the snippets are prepared; None is TFDS's usual place.

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
    own = TASKS[task].load if task in TASKS else None
    if own is None:
        raise ValueError(f"unknown task {task!r}: {suggest(task, stored())}")
    # A wrong length or min_count must not cost a preparation.
    check_whole("length", length, MAX_LENGTH)
    check_whole("min_count", min_count)
    return own(length, min_count, data_dir)


load_task = load
"""As the package itself calls it, `jaxattn.load_task`."""
