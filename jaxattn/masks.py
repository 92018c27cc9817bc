"""Masks on disk, and what the numbers in them stand for."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.data.digits import GRIDS
from jaxattn.files import replace_file, write_text
from jaxattn.source import Source, majority
from jaxattn.sweep import Outcome


def write_masks(folder: Path, source: Source, methods: dict[str, Outcome]) -> None:
    """Writes a file for each method: its masks of the test split, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    common: dict[str, np.ndarray] = {}
    if source.dataset is not None:
        test = source.dataset.test
        kind = "tokens" if source.dataset.vocabulary else "inputs"
        common = {"labels": test.labels, "lengths": test.lengths, "ids": test.ids}
        # Images would be stored once for each method; their ids say which they are.
        common |= {"tokens": test.inputs} if kind == "tokens" else {}
        common |= {} if test.truth is None else {"truth": test.truth}
        if test.evidence is not None:
            common["evidence"] = test.evidence.astype(np.float16)
    for method, outcome in methods.items():
        seeds = np.array([seed for _, seed in outcome.cells])
        arrays: Any = {"alive": outcome.alive, "seeds": seeds}
        with replace_file(folder / f"{method}.npz") as file:
            np.savez_compressed(file, **(arrays | common | outcome.examples))


def write_names(folder: Path, source: Source) -> None:
    """What numbers in `masks` stand for: classes, words, people's ratings, images."""
    folder.mkdir(parents=True, exist_ok=True)
    stored, shares = source.dataset, majority(source, "train")
    names: dict[str, Any] = {"classes": source.classes}
    if stored is not None and shares is not None:
        rated = np.flatnonzero(np.isfinite(stored.lexicon))
        names |= {
            "train_shares": shares.tolist(),
            "vocabulary": stored.vocabulary,
            "ratings": {int(i): round(float(stored.lexicon[i]), 4) for i in rated},
            "grid": GRIDS.get(stored.name.removeprefix("explain_")),
        }
    write_text(folder / f"{source.task}.json", json.dumps(names))
    if stored is not None and not stored.vocabulary:
        # Images, once for all methods; a byte holds all that one of 256 greys says.
        images = np.round(255 * stored.test.inputs).astype(np.uint8)
        with replace_file(folder / f"{source.task}.npz") as file:
            np.savez_compressed(file, images=images)
