"""Functions of the user's: found by name, asked in parts, every answer checked."""

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.config import suggest
from jaxattn.leakage.intake import to_array

PART = 1000
"""Rows of one call."""
REPEATED = 16
"""Rows that are asked twice: they must get the same answers."""


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
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise ValueError(
                f"black box {name}: no module {error.name} in the current folder or "
                "among the installed ones"
            ) from None
        raise ValueError(f"black box {name}: {_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"black box {name}: its module fails: {_told(error)}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            names = [n for n in dir(found) if not n.startswith("_")]
            near = difflib.get_close_matches(part, names, n=1)
            names = [*near, *(n for n in names if n not in near)]
            raise ValueError(
                f"black box {name}: no {part}; {suggest(part, names[:20])}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"black box {name}: {path} is no function")
    return found


def ask(
    function: Callable[[Any], Any],
    name: str,
    rows: Sequence[str] | np.ndarray,
    advance: Callable[[int, int], Any] = lambda parts, rows: None,
) -> np.ndarray:
    """Probabilities [N, classes] of texts or of an array [N, ...], part by part.

    Raises: ValueError, one line, for an answer that is none: another shape, numbers
    that are not finite, rows that do not sum to 1, an exception of the function.
    """
    found: list[np.ndarray] = []
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        one = _checked(function, name, part, start)
        if found and one.shape[1] != found[0].shape[1]:
            raise ValueError(
                f"black box {name} gave {one.shape[1]} classes for rows from {start}, "
                f"and {found[0].shape[1]} before"
            )
        found.append(one)
        advance(len(part), len(part))
    return np.concatenate(found)


def _checked(function: Callable, name: str, part: Any, start: int) -> np.ndarray:
    where = f"black box {name}, rows {start} to {start + len(part) - 1}"
    try:
        given = function(part)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{where}: {_told(error)}") from error
    try:
        answers = np.asarray(to_array(given), np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: no array of numbers: {_told(error)}") from None
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
        few = rows[first:REPEATED:2]
        if not len(few):
            continue
        again, before = _checked(function, name, few, 0), answers[first:REPEATED:2]
        if again.shape != before.shape:
            return first
        apart = np.abs(again - before).max(axis=1) > 1e-3
        if apart.any():
            return first + 2 * int(apart.argmax())
    return None


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text[:200]}" if text else kind
