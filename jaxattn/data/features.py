"""Features of a bag's instances in an HDF5 file, read no further than they are kept."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BLOCK = 32 << 20
"""Bytes read at a time."""
OTHERS = (".pt", ".pth", ".npy", ".npz")


class Bag(NamedTuple):
    """What a file says of its bag without being read."""

    path: Path
    instances: int
    width: int


def h5py_module() -> Any:
    """The package h5py; ValueError, with the command, where it is not installed."""
    try:
        import h5py
    except ImportError:
        raise ValueError(
            "features of bags are read with h5py, which is not installed: "
            "pip install 'jaxattn[h5]'"
        ) from None
    return h5py


def find(slide: str, folders: list[Path], where: str) -> Path:
    """The HDF5 file of a slide in the first folder that has one.

    Raises: ValueError where there is none; says how to convert one of another kind.
    """
    for folder in folders:
        for suffix in (".h5", ".hdf5"):
            path = folder / f"{slide}{suffix}"
            if path.is_file():
                return path
    for folder in (*folders, *(f.parent / "pt_files" for f in folders)):
        for suffix in OTHERS:
            path = folder / f"{slide}{suffix}"
            if path.is_file():
                read = "torch.load(f)" if suffix.startswith(".pt") else "np.load(f)"
                raise ValueError(
                    f"{where}: {path} is no HDF5 file: write one, "
                    f"h5py.File('{slide}.h5', 'w')['features'] = {read}, an array "
                    "[instances, features]"
                )
    looked = ", ".join(map(str, folders))
    raise ValueError(
        f"{where}: no {slide}.h5 in {looked}; --data-dir says where the features are"
    )


def measure(path: Path, name: str, places: str) -> Bag:
    """The size of a bag; raises ValueError where the file holds none of the right kind.

    Args:
        name: of the array of features [instances, features].
        places: of the array of coordinates [instances, 2]; it may be missing.
    """
    with _opened(path) as file:
        features = _array(file, path, name)
        shape = features.shape
        if len(shape) != 2:
            raise ValueError(
                f"{path}: {name} has the shape {list(shape)}; allowed: "
                "[instances, features]"
            )
        if not shape[0]:
            raise ValueError(f"{path}: a bag with no instance ({name} {list(shape)})")
        if not shape[1]:
            raise ValueError(
                f"{path}: instances without features ({name} {list(shape)})"
            )
        if features.dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name} holds {features.dtype}; allowed: numbers")
        if places in file:
            found = _array(file, path, places)
            if found.shape != (shape[0], 2) or found.dtype.kind not in "fiu":
                raise ValueError(
                    f"{path}: {places} has the shape {list(found.shape)} of "
                    f"{found.dtype}; allowed: {[shape[0], 2]} of numbers"
                )
        return Bag(path, *map(int, shape))


def read(
    bag: Bag, name: str, places: str, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features [T, D] float32 of the instances `kept` [T], and where they are [T, 2].

    `kept` ascends. Instances with coordinates come in reading order, so that a position
    means a place; without any, places are NaN.
    Never more than a block of the file is in memory.

    Raises: ValueError for damaged files and features that are not finite.
    """
    found = np.empty((len(kept), bag.width), np.float32)
    with _opened(bag.path) as file:
        features = file[name]
        rows = max(BLOCK // max(features.dtype.itemsize * bag.width, 1), 1)
        try:
            for start in range(0, bag.instances, rows):
                first, last = np.searchsorted(kept, [start, start + rows])
                if first < last:
                    block = features[start : start + rows]
                    with np.errstate(over="ignore"):
                        found[first:last] = block[kept[first:last] - start]
            order, at = np.arange(len(kept)), np.full((len(kept), 2), np.nan)
            if places in file:
                at = file[places][()][kept]
                order = np.lexsort((at[:, 0], at[:, 1]))
        except OSError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{bag.path}: damaged ({reason})") from error
    wrong = ~np.isfinite(found).all(axis=1)
    if wrong.any():
        row = int(kept[np.flatnonzero(wrong)[0]])
        raise ValueError(
            f"{bag.path}: {name} of instance {row} is not finite as float32 "
            f"({int(wrong.sum()):,} of {len(kept):,} instances read)"
        )
    return found[order], at[order].astype(np.float32)


def _opened(path: Path) -> Any:
    try:
        return h5py_module().File(path, "r")
    except PermissionError:
        raise
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole HDF5 file ({reason})") from error


def _array(file: Any, path: Path, name: str) -> Any:
    h5py = h5py_module()
    if name not in file or not isinstance(file[name], h5py.Dataset):
        there = [key for key, item in file.items() if isinstance(item, h5py.Dataset)]
        raise ValueError(
            f"{path}: no array {name!r}; there are: {', '.join(there) or 'none'}"
        )
    return file[name]
