"""Models of the user's, to be explained: any function that gives probabilities.

It is imported by name and asked once about every split, in parts; every answer is
checked, and all of them are kept with the run. A function has no gradient to give, and
words are not faded out but left out.
"""

import importlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.config import Config
from jaxattn.data.dataset import Dataset, Split
from jaxattn.data.splits import SPLITS
from jaxattn.experiment.black_box import MOST_BLANKED, BlackBox, answered, kept_or_made
from jaxattn.leakage.masks import to_array
from jaxattn.system import console
from jaxattn.system.errors import nearest, reason, suggest

logger = logging.getLogger("jaxattn")
PART = 1000
"""Rows of one call."""
REPEATED = 16
"""Rows that are asked twice: they must get the same answers."""
LONGEST = 3600.0
"""Seconds that leaving out one position at a time may take."""
ALL_AT_ONCE = 20_000
"""Queries that are made up at a time."""


def resolve(name: str) -> Callable[[Any], Any]:
    """The function MODULE:FUNCTION; the current folder is searched first.

    FUNCTION may have dots, as `pipeline.predict_proba`. Raises: ValueError, one line,
    where there is no such module or function, or the module fails.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise ValueError(
            f"black box {name!r} is not of the form MODULE:FUNCTION, as mymodel:predict"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise ValueError(
                f"black box {name}: no module {error.name} in the current folder or "
                "among the installed ones"
            ) from None
        raise ValueError(f"black box {name}: {reason(error, kind=True)}") from error
    except (Exception, SystemExit) as error:
        why = reason(error, kind=True)
        raise ValueError(f"black box {name}: its module fails: {why}") from error
    for part in path.split("."):
        if not hasattr(function, part):
            names = [n for n in dir(function) if not n.startswith("_")]
            names = list(dict.fromkeys([*nearest(part, names), *names]))[:20]
            raise ValueError(f"black box {name}: no {part}; {suggest(part, names)}")
        function = getattr(function, part)
    if not callable(function):
        raise ValueError(f"black box {name}: {path} is no function")
    return function


def answers_of(
    function: Callable[[Any], Any],
    name: str,
    rows: Sequence[str] | np.ndarray,
    advance: Callable[[int], Any] = lambda rows: None,
) -> np.ndarray:
    """Probabilities [N, classes] of texts or of an array [N, ...], part by part.

    Raises: ValueError, one line, for an answer that is none: another shape, numbers
    that are not finite, rows that do not sum to 1, an exception of the function.
    """
    answers: list[np.ndarray] = []
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        answers.append(_checked(function, name, part, start))
        given, before = answers[-1].shape[1], answers[0].shape[1]
        if given != before:
            raise ValueError(
                f"black box {name} gave {given} classes for rows from {start}, "
                f"and {before} before"
            )
        advance(len(part))
    return np.concatenate(answers)


def _checked(function: Callable, name: str, part: Any, start: int) -> np.ndarray:
    where = f"black box {name}, rows {start} to {start + len(part) - 1}"
    try:
        given = function(part)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{where}: {reason(error, kind=True)}") from error
    try:
        answers = np.asarray(to_array(given), np.float64)
    except (TypeError, ValueError) as error:
        why = reason(error, kind=True)
        raise ValueError(f"{where}: no array of numbers: {why}") from None
    if answers.ndim != 2 or len(answers) != len(part) or answers.shape[1] < 2:
        raise ValueError(
            f"{where}: shape {list(answers.shape)}, expected [{len(part)}, classes]: "
            "the probability of every class, as predict_proba gives it"
        )
    wrong = ~np.isfinite(answers).all(axis=1)
    if wrong.any():
        raise ValueError(f"{where}: row {start + wrong.argmax()} is not finite")
    sums = answers.sum(axis=1)
    wrong = (np.abs(sums - 1) > 1e-3) | (answers < -1e-6).any(axis=1)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"{where}: row {start + i} is no distribution (sum {sums[i]:.4g}, smallest "
            f"{answers[i].min():.4g}): give probabilities, not scores"
        )
    answers = np.clip(answers, 0, None)
    return (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32)


def repeat(
    function: Callable[[Any], Any], name: str, rows: Any, answers: np.ndarray
) -> int | None:
    """The first of a few rows that gets another answer than before; None if none."""
    # Every other one, so that they stand beside other rows than before.
    for first in (0, 1):
        few, before = rows[first:REPEATED:2], answers[first:REPEATED:2]
        if not len(few):
            continue
        again = _checked(function, name, few, 0)
        if again.shape != before.shape:
            return first
        apart = np.abs(again - before).max(axis=1) > 1e-3
        if apart.any():
            return first + 2 * int(apart.argmax())
    return None


def explained(
    config: Config, dataset: Dataset, cache: Path | None
) -> tuple[Dataset, BlackBox]:
    """A data set with the model's answers as labels, and the model.

    Leave-one-out is asked where a method needs it. Raises: ValueError, one line,
    where the function is not there, fails, or gives no probabilities.
    """
    name = config.data.black_box
    function = resolve(name)

    def ask(inputs: Any, lengths: Any, keep: Any, *advance: Callable) -> np.ndarray:
        rows = shown(dataset, inputs, lengths, keep)
        return answers_of(function, name, rows, *advance)

    leave_out = "leave_one_out" in config.methods
    few = shown(dataset, *(x[:REPEATED] for x in _whole(dataset.train)))

    def make() -> dict[str, np.ndarray]:
        made = _asked(name, ask, dataset, leave_out)
        row = repeat(function, name, few, made["train/targets"])
        if row is not None:
            raise ValueError(
                f"black box {name}: row {row} gets another answer when it is asked "
                "again, beside other rows: a model to explain must not be random, nor "
                "look at the rest of a batch (set it to evaluation)"
            )
        return made

    def holds(stored: dict[str, np.ndarray]) -> bool:
        same = repeat(function, name, few, stored["train/targets"]) is None
        if not same:
            logger.info(f"{name} answers otherwise than before: it is asked again")
        return same

    made_from = [1, name, dataset.digest, leave_out]
    stored = kept_or_made(cache and cache / "explain_own.npz", made_from, make, holds)
    classes = stored["train/targets"].shape[1]
    same = classes == len(dataset.classes)
    names = dataset.classes if same else tuple(f"class {i}" for i in range(classes))
    bare = {side: getattr(dataset, side)._replace(truth=None) for side in SPLITS}
    known = dataset._replace(classes=names, **bare)
    made = answered(known, f"explain_{dataset.name}", stored)
    hits = (made.test.labels == dataset.test.labels).mean() if same else np.nan
    return made, BlackBox(None, (), float(hits), ask)


def shown(
    dataset: Dataset, inputs: np.ndarray, lengths: np.ndarray, keep: np.ndarray
) -> list[str] | np.ndarray:
    """What a function is given of examples [N, ...] of which `keep` [N, T] is seen.

    Texts are the words as the selector sees them, with spaces between, those that are
    not kept left out; in arrays [N, T] or [N, T, D] they are 0, as padding is.
    """
    seen = keep & (np.arange(inputs.shape[1]) < lengths[:, None])
    if not dataset.vocabulary:
        return np.where(seen if inputs.ndim == 2 else seen[..., None], inputs, 0)
    words = np.array(dataset.vocabulary, object)
    return [" ".join(words[row[k]]) for row, k in zip(inputs, seen, strict=True)]


def _whole(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.inputs, split.lengths, np.ones(split.inputs.shape[:2], bool)


def _asked(
    name: str, ask: Callable, dataset: Dataset, leave_out: bool
) -> dict[str, np.ndarray]:
    """Answers, and where asked for leave-one-out, of every split."""
    began, stored = time.monotonic(), {}
    splits = {side: getattr(dataset, side) for side in SPLITS}
    rows = sum(len(split.labels) for split in splits.values())
    with console.bar(f"asking {name}", rows, "queries", note="") as advance:
        for side, split in splits.items():
            stored[f"{side}/targets"] = ask(*_whole(split), advance)
    given = {answers.shape[1] for answers in stored.values()}
    if len(given) > 1:
        raise ValueError(
            f"black box {name} gives {given} classes: it must be one number"
        )
    if len(np.unique(stored["train/targets"].argmax(axis=1))) < 2:
        raise ValueError(
            f"black box {name} answers the same class for every training example: "
            "there is nothing to explain"
        )
    if not leave_out:
        return stored
    each = (time.monotonic() - began) / rows
    more = sum(int(split.lengths.sum()) for split in splits.values())
    if dataset.train.inputs.shape[1] > MOST_BLANKED or each * more > LONGEST:
        raise ValueError(
            f"method leave_one_out would ask {name} {more:,} times, about "
            f"{console.clock(each * more)}: leave it out of --methods"
        )
    with console.bar(f"leave_one_out of {name}", more, "queries", note="") as advance:
        for side, split in splits.items():
            # How much the probability of the answer falls without each position.
            targets = stored[f"{side}/targets"]
            places = np.arange(split.inputs.shape[1])
            falls = np.zeros(split.inputs.shape[:2], np.float32)
            every = np.argwhere(places < split.lengths[:, None])
            for start in range(0, len(every), ALL_AT_ONCE):
                i, t = every[start : start + ALL_AT_ONCE].T
                keep, chosen = places != t[:, None], targets[i].argmax(axis=1)
                left = ask(split.inputs[i], split.lengths[i], keep, advance)
                falls[i, t] = targets[i, chosen] - left[np.arange(len(i)), chosen]
            stored[f"{side}/leave_one_out"] = falls
    return stored
