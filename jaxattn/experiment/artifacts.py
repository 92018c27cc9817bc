"""What a run keeps of its models: masks, parameters, and what the numbers stand for.

The report reads `masks/` and `data/`, and `jaxattn.inference` reads `models/`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from jaxattn.config import Config, labels_of
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source, majority
from jaxattn.experiment.wave import Outcome
from jaxattn.inference import FOLDER, FORMAT
from jaxattn.methods.table import FULL_TEXT
from jaxattn.nn import model as nn_model
from jaxattn.system.files import replace_file, write_arrays, write_text


def write_masks(folder: Path, source: Source, methods: dict[str, Outcome]) -> None:
    """Writes a file for each method: its masks of the test split, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    common: dict[str, np.ndarray] = {}
    if source.dataset is not None:
        test = source.dataset.test
        common = {"labels": test.labels, "lengths": test.lengths, "ids": test.ids}
        # Images would be stored once for each method; their ids say which they are.
        words = test.inputs if source.dataset.vocabulary else None
        evidence = None if test.evidence is None else test.evidence.astype(np.float16)
        some = {"tokens": words, "truth": test.truth, "evidence": evidence}
        some["places"] = test.places
        common |= {name: array for name, array in some.items() if array is not None}
    for method, outcome in methods.items():
        seeds = np.array([seed for _, seed in outcome.cells])
        arrays: Any = {"alive": outcome.alive, "seeds": seeds}
        with replace_file(folder / f"{method}.npz") as file:
            np.savez_compressed(file, **(arrays | common | outcome.examples))


def write_names(folder: Path, source: Source) -> None:
    """What numbers in `masks` stand for: classes, words, people's ratings, images."""
    folder.mkdir(parents=True, exist_ok=True)
    stored, shares = source.dataset, majority(source, "train")
    validation = majority(source, "validation")
    names: dict[str, Any] = {"classes": source.classes}
    if stored is not None and shares is not None and validation is not None:
        rated = np.flatnonzero(np.isfinite(stored.lexicon))
        names |= {
            "train_shares": shares.tolist(),
            "validation_majority": float(validation.max()),
            "vocabulary": stored.vocabulary,
            "ratings": {int(i): round(float(stored.lexicon[i]), 4) for i in rated},
            "grid": stored.grid,
        }
    write_text(folder / f"{source.task}.json", json.dumps(names))
    if stored is None or stored.vocabulary:
        return
    greys = stored.test.inputs
    if greys.min() >= 0 and greys.max() <= 1:  # else features of another kind
        # Images, once for all methods; a byte holds all that one of 256 greys says.
        images = np.round(255 * greys).astype(np.uint8)
        with replace_file(folder / f"{source.task}.npz") as file:
            np.savez_compressed(file, images=images)


MOST_GIGABYTES = 1.0


class Room(NamedTuple):
    """What of a run's parameters is kept: `models/` is bounded."""

    seeds: frozenset[int]
    """Of every method: the first ones."""
    bytes: int


def room(programs: list[Program], gigabytes: float) -> Room:
    """The seeds whose parameters take at most so much room, over all methods."""
    sizes = [len(p.settings) * nn_model.size(p.cell.model) for p in programs]
    each = 4 * sum(sizes)
    seeds = sorted({seed for program in programs for _, seed in program.cells})
    n = int(min(len(seeds), gigabytes * 1e9 // each))
    return Room(frozenset(seeds[:n]), n * each)


def told(room: Room, seeds: int, gigabytes: float) -> str:
    """In a sentence what is kept, and why not more."""
    size = f"{room.bytes / 1e6:,.1f} MB"
    if len(room.seeds) == seeds:
        return f"models: {size} of parameters are kept, of all seeds"
    limit = f"--model-gigabytes {gigabytes:g}"
    if not room.seeds:
        return f"models: no parameters are kept ({limit})"
    return (
        f"models: {size} of parameters are kept, of the first {len(room.seeds)} of "
        f"{seeds} seeds ({limit})"
    )


def describe(folder: Path, config: Config, programs: list[Program]) -> None:
    """Writes `models/TASK.json`: what the models of each task are made of."""
    folder = folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    order = [*labels_of(config.methods, config.also), FULL_TEXT]
    for task, source in {p.source.task: p.source for p in programs}.items():
        methods = {
            label: {
                "model": dataclasses.asdict(cell.config.model),
                "scores": cell.structure.scores,
                "uniform": cell.method.uniform,
            }
            for program in programs
            for label, cell in program.settings.items()
            if program.source.task == task
        }
        text = {
            "format": FORMAT,
            "task": task,
            "inputs": source.inputs._asdict(),
            "classes": source.classes,
            "tokenizer": config.data.tokenizer,
            "methods": {label: methods[label] for label in order if label in methods},
            "vocabulary": () if source.dataset is None else source.dataset.vocabulary,
        }
        write_text(folder / f"{task}.json", json.dumps(text) + "\n")


def keep(folder: Path, task: str, outcome: Outcome, seeds: frozenset[int]) -> None:
    """Writes the parameters of a finished wave; of seeds that diverged, none."""
    if not outcome.params:
        return
    flat: dict[str, Any] = flatten_dict(outcome.params, sep="/")
    for i, (label, seed) in enumerate(outcome.cells):
        path = folder / FOLDER / task / label / f"{seed}.npz"
        if seed in seeds and outcome.alive[i]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {name: x[i] for name, x in flat.items()})
