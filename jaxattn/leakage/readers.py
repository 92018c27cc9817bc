"""Files that hold masks, labels and what belongs to them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.system.files import read_arrays
from jaxattn.system.lines import json_rows

SUFFIXES = (".npz", ".npy", ".jsonl", ".h5", ".hdf5")
MASK_KEYS = ("masks", "attention", "attentions", "attention_scores", "weights", "flat")


def read(path: Path, allow_pickle: bool = False) -> dict[str, Any]:
    """All arrays of a file by name, or of a folder of HDF5 files, one for each bag.

    A `.npy` file has one, called masks. Raises: ValueError, one line, for a file that
    cannot be read; OSError.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file")
    if path.suffix == ".jsonl":
        return _json_lines(path)
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    if path.suffix not in (".npz", ".npy"):
        allowed = ", ".join(SUFFIXES)
        raise ValueError(f"{path}: allowed are {allowed} and folders of .h5 files")
    try:
        arrays = read_arrays(path, allow_pickle=allow_pickle)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{path} holds pickled objects, and reading such a file runs code from it: "
            "save flat weights with offsets instead, or give --allow-pickle if you "
            "made it yourself"
        ) from None
    return {name or "masks": array for name, array in arrays.items()}


def fetch(where: str, beside: dict[str, Any], allow_pickle: bool = False) -> Any:
    """The array that FILE, FILE:ARRAY or ARRAY (one of those `beside`) names.

    Raises: ValueError, one line, naming the arrays there are; OSError.
    """
    if where in beside:
        return beside[where]
    path, name = split(where)
    if name is None and not path.exists() and not path.suffix:
        raise ValueError(
            f"{where}: neither a file nor an array of the masks' file "
            f"({', '.join(beside)})"
        )
    arrays = read(path, allow_pickle)
    if name is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    return pick(arrays, path, name, (path.stem,))


def split(where: str) -> tuple[Path, str | None]:
    """FILE:ARRAY as a path and a name, FILE as a path and None."""
    file, colon, name = where.rpartition(":")
    if colon and name and not Path(where).exists():
        return Path(file), name
    return Path(where), None


def pick(
    arrays: dict[str, Any], path: Path, name: str | None, known: Sequence[str] = ()
) -> Any:
    """The array called `name`, or the first of the names `known` that there is."""
    wanted = known if name is None else (name,)
    for each in wanted:
        if each in arrays:
            return arrays[each]
    there = ", ".join(arrays) or "none"
    if name is not None:
        raise ValueError(f"{path} has no array {name!r}: there are {there}")
    raise ValueError(f"{path}: which array? There are {there}: give {path}:ARRAY")


def labels_of_bags(path: Path, names: Sequence[str]) -> np.ndarray:
    """Labels in the last column of a CSV file, one for each of the bags' names."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    if not rows or any(len(row) < 2 for row in rows):
        raise ValueError(f"{path}: each line needs the name of a bag and its label")
    by_name = {row[0].strip(): row[-1].strip() for row in rows}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(names)} bags have no label, "
            f"{missing[0]} first"
        )
    return np.array([by_name[name] for name in names])


def _json_lines(path: Path) -> dict[str, Any]:
    found: dict[str, list] = {}
    for where, row in json_rows(path):
        row = {"masks": row} if isinstance(row, list) else row
        if not isinstance(row, dict) or (found and row.keys() != found.keys()):
            raise ValueError(f"{where}: not an object with the keys of the first row")
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    if not found:
        raise ValueError(f"{path} has no row")
    for name, values in found.items():
        if not isinstance(values[0], list):
            found[name] = np.array(values)  # type: ignore[assignment]
    return found


def _hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise ValueError(
            f"{path}: reading HDF5 needs h5py: pip install 'jaxattn[h5]'"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visit(names.append)
            return {
                name: data[()]
                for name in names
                if isinstance(data := file[name], h5py.Dataset)
            }
    except OSError as error:
        raise ValueError(f"{path}: not a whole HDF5 file: {error}") from None


def _folder(path: Path) -> dict[str, Any]:
    files = sorted([*path.glob("*.h5"), *path.glob("*.hdf5")])
    if not files:
        raise ValueError(f"{path}: there is no .h5 file in this folder")
    rows = []
    for file in files:
        held = _hdf5(file)
        weights = np.asarray(pick(held, file, None, MASK_KEYS)).reshape(-1)
        places = held.get("coords")
        if places is not None and len(places) == len(weights):
            # Patches in reading order, so that a position means a place.
            weights = weights[np.lexsort(np.asarray(places).T)]
        rows.append(weights)
    return {"masks": rows, "names": [file.stem for file in files]}
