"""Models of the user's, to be explained: any function that gives probabilities.

It is asked once about every split, and its answers are kept with the run. A function
has no gradient to give, and words are not faded out but left out.
"""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxattn import callables, console
from jaxattn.attributions import MOST_BLANKED
from jaxattn.blackbox import BlackBox, answered, read, write
from jaxattn.config import Config
from jaxattn.data import Dataset
from jaxattn.data.dataset import Split
from jaxattn.data.sides import SIDES

LONGEST = 3600.0
"""Seconds that leaving out one position at a time may take."""
ALL_AT_ONCE = 20_000
"""Queries that are made up at a time."""


def explained(
    config: Config,
    dataset: Dataset,
    cache: Path | None,
    say: Callable[[str], None],
) -> tuple[Dataset, BlackBox]:
    """A data set with the model's answers as labels, and the model.

    Leave-one-out is asked where a method needs it. Raises: ValueError, one line,
    where the function is not there, fails, or gives no probabilities.
    """
    name = config.data.black_box
    function = callables.resolve(name)

    def ask(
        inputs: np.ndarray, lengths: np.ndarray, keep: np.ndarray, *advance: Callable
    ) -> np.ndarray:
        rows = shown(dataset, inputs, lengths, keep)
        return callables.ask(function, name, rows, *advance)

    leave_out = "leave_one_out" in config.methods
    asked = json.dumps([1, name, dataset.digest, leave_out])
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    path = None if cache is None else cache / "explain_own.npz"
    first = dataset.train
    few = shown(dataset, *(x[: callables.REPEATED] for x in _whole(first)))
    stored = read(path, fingerprint, say)
    if stored is not None:
        if callables.repeat(function, name, few, stored["train/targets"]) is not None:
            say(f"{name} answers otherwise than before: it is asked again")
            stored = None
    if stored is None:
        stored = _asked(name, ask, dataset, leave_out)
        row = callables.repeat(function, name, few, stored["train/targets"])
        if row is not None:
            raise ValueError(
                f"black box {name}: row {row} gets another answer when it is asked "
                "again, beside other rows: a model to explain must not be random, nor "
                "look at the rest of a batch (set it to evaluation)"
            )
        if path is not None:
            write(path, fingerprint, stored)
    classes = stored["train/targets"].shape[1]
    same = classes == len(dataset.classes)
    names = dataset.classes if same else tuple(f"class {i}" for i in range(classes))
    bare = {side: getattr(dataset, side)._replace(truth=None) for side in SIDES}
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
    splits = {side: getattr(dataset, side) for side in SIDES}
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
            targets = stored[f"{side}/targets"]
            left = _without_each(ask, split, targets, advance)
            stored[f"{side}/leave_one_out"] = left
    return stored


def _without_each(
    ask: Callable, split: Split, targets: np.ndarray, advance: Callable
) -> np.ndarray:
    """How much the probability of the answer falls without each position [N, T]."""
    n, positions = split.inputs.shape[:2]
    found = np.zeros((n, positions), np.float32)
    who, place = np.nonzero(np.arange(positions) < split.lengths[:, None])
    for start in range(0, len(who), ALL_AT_ONCE):
        i, t = who[start : start + ALL_AT_ONCE], place[start : start + ALL_AT_ONCE]
        keep = np.arange(positions) != t[:, None]
        chosen = targets[i].argmax(axis=1)
        left = ask(split.inputs[i], split.lengths[i], keep, advance)
        rows = np.arange(len(i))
        found[i, t] = targets[i, chosen] - left[rows, chosen]
    return found
