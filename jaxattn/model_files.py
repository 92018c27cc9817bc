"""The files of trained models, of which a later version reads those of this one.

models/TASK.json               format, classes, words, what each method is made of
       TASK/METHOD/SEED.npz    float32 by path, as predictor/head/output/kernel
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
"""A higher one is of a later version of jaxattn."""
FOLDER = "models"


def folder_of(run: Path) -> Path:
    """The folder of a run's models; raises ValueError where there is none to use."""
    if not run.is_dir():
        what = "is a file, not the folder of a run" if run.exists() else "is missing"
        raise ValueError(f"{run} {what}: name a folder that jaxattn.train wrote")
    begun = (run / "config.json").exists()
    if begun and not (run / "results.csv").exists():
        raise ValueError(
            f"{run} holds no finished run: run its command again, which goes on where "
            "it stopped"
        )
    folder = run / FOLDER
    if any(folder.glob("*.json")):
        return folder
    if begun:
        raise ValueError(
            f"{run} keeps no parameters: it was run with --model-gigabytes 0 or by an "
            "older version; run its command again with another --workdir"
        )
    raise ValueError(f"{run} holds no run: there are no models in it")


def described(path: Path) -> dict[str, Any]:
    """What a `TASK.json` says; raises ValueError, also for a later format."""
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
        version = found["format"]
        if not isinstance(version, int):
            raise ValueError
        if version <= FORMAT and not found["methods"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged or cut off") from None
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, and this jaxattn reads up to {FORMAT}: it "
            "was written by a later version; update jaxattn"
        )
    return found


def files_of(folder: Path, asked: int | Sequence[int] | None) -> dict[int, Path]:
    """The files of parameters by seed; raises ValueError where one is missing."""
    found = {int(p.stem): p for p in folder.glob("*.npz") if p.stem.isdecimal()}
    if not found:
        raise ValueError(f"{folder}: no parameters were kept there")
    seeds = [asked] if isinstance(asked, int | np.integer) else asked or sorted(found)
    for seed in seeds:
        if seed not in found:
            kept = ", ".join(map(str, sorted(found)))
            raise ValueError(f"seed {seed}: {folder} has {kept}")
    return {seed: found[seed] for seed in seeds}


def read(path: Path, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of one seed by path, of the shapes that its model wants.

    Raises: ValueError for a file that is damaged or of another model.
    """
    try:
        # Opened here: numpy leaves a file that it cannot read open.
        with open(path, "rb") as file, np.load(file) as stored:
            found = {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or cut off: {brief(error)}") from None
    for name in [*wanted, *found]:
        there = found[name].shape if name in found else None
        if there != wanted.get(name):
            raise ValueError(
                f"{path} does not fit its model: {name} is {there or 'missing'} there, "
                f"expected {wanted.get(name, 'nothing')}"
            )
    return found


def brief(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
