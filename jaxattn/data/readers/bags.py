"""Features of a bag's instances in an HDF5 file, read no further than they are kept.

Bags of instances, such as the patches of a slide: CSV of labels, HDF5 of features.

The files of CLAM ('Data-efficient and weakly supervised computational pathology on
whole-slide images', Lu et al., 2021, arXiv 2004.09666), which serve any other
multiple-instance data, as those of ABMIL (arXiv 1802.04712).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.data import limits
from jaxattn.data.dataset import Cut, Dataset, Split, assemble
from jaxattn.data.limits import check_fits, room
from jaxattn.data.readers.fields import check_there, chosen
from jaxattn.data.readers.lines import records, suffix_of
from jaxattn.data.rows import Row, in_order
from jaxattn.data.splits import SIDES, Keys, settled
from jaxattn.data.text import MAX_LENGTH, check_whole

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


ROLES = {
    "id": "slide_id",
    "label": "label",
    "group": "case_id",
    "split": "split",
    "features": "features",
    "coords": "coords",
}

COLUMNS = ("id", "label", "group", "split")
"""Roles that are columns of the table; the others are arrays of the files."""

Say = Callable[[str], None]


class Slide(NamedTuple):
    """A row of the table."""

    id: str
    label: str
    patient: str | None
    split: str | None
    where: str


def load(
    source: str,
    length: int,
    min_count: int,
    data_dir: str | os.PathLike[str] | None = None,
    fields: Sequence[str] = (),
    download: bool = False,
    say: Say | None = None,
) -> Dataset:
    """The data set of `bags:FILE.csv`: vectors [N, T, D], T at most `length`.

    A larger bag is a random part of itself, the same every time. All slides of a
    patient are in one split; without a column of splits a hash of the patient decides.

    Args:
        source: with or without "bags:"; a table with a row per slide: slide_id, label,
            and if there are any case_id (or patient) and split. The features of a slide
            are in SLIDE_ID.h5, array "features" [n, D]; where they are from may be in
            "coords" [n, 2].
        data_dir: the folder of these files, or one with h5_files in it; None is where
            the table is.
        fields: other names, as "label=grade"; roles are id, label, group, split,
            features and coords.
        say: called with one line for whatever was decided, and for progress.

    Raises: ValueError or OSError, one line, for what the user can put right.
    """
    del min_count, download
    check_whole("length", length, MAX_LENGTH)
    say = say or (lambda line: None)
    table = Path(source.removeprefix("bags:")).expanduser()
    if suffix_of(table) not in (".csv", ".tsv"):
        raise ValueError(f"{source}: must be bags:FILE.csv or bags:FILE.tsv")
    if not table.is_file():
        raise ValueError(f"{source}: there is no file {table}")
    slides, named = _table(table, fields)
    sides, names = _divided(slides, str(table), say)
    h5py_module()
    root = table.parent if data_dir is None else Path(data_dir).expanduser()
    folders = [root, root / "h5_files", root / "features"]
    bags = _measured(slides, folders, named, say)
    return _filled(table.stem, slides, bags, sides, names, named, length, say)


def _table(path: Path, fields: Sequence[str]) -> tuple[list[Slide], dict[str, str]]:
    named = chosen(str(path), fields, ROLES)
    given = {word.partition("=")[0] for word in fields}
    slides: list[Slide] = []
    for record in records(path):
        where = f"{path}, row {record.row}"
        if record.wrong:
            raise ValueError(f"{where}: {record.wrong}")
        cells = {name.strip(): cell.strip() for name, cell in record.fields.items()}
        cells.pop("", None)  # an index that pandas wrote
        if not slides:
            _check_columns(path, named, given, cells)
        cell = {role: cells.get(named[role], "") for role in COLUMNS}
        if not cell["id"]:
            raise ValueError(f"{where}: no {named['id']}")
        if Path(cell["id"]).name != cell["id"]:
            raise ValueError(f"{where}: {named['id']} {cell['id']!r} is no file name")
        for role in ("group", "split"):
            if named[role] in cells and not cell[role]:
                raise ValueError(f"{where}: no {named[role]}")
        # The tables of CLAM name files with their suffix now and then.
        id_ = cell["id"].removesuffix(".h5").removesuffix(".svs")
        slides.append(
            Slide(
                id_, cell["label"], cell["group"] or None, cell["split"] or None, where
            )
        )
    if not slides:
        raise ValueError(f"{path} has no row")
    twice = {s.id: s.where for s in slides}
    if len(twice) < len(slides):
        first = next(s for s in slides if twice[s.id] != s.where)
        raise ValueError(
            f"{twice[first.id]}: slide {first.id!r} is in {first.where} too"
        )
    return slides, named


def _check_columns(
    path: Path, named: dict[str, str], given: set[str], cells: dict[str, str]
) -> None:
    if "group" not in given and named["group"] not in cells and "patient" in cells:
        named["group"] = "patient"
    for role in COLUMNS:
        if role in ("id", "label") or (role in given and named[role]):
            check_there(str(path), role, named[role], cells)


def _divided(
    slides: list[Slide], source: str, say: Say
) -> tuple[np.ndarray, list[str]]:
    """The split of each slide [N], a place in SIDES, and the names of the classes."""
    keys = Keys()
    for slide in slides:
        row = Row(
            (), slide.label, slide.where, None, slide.split, slide.id, slide.patient
        )
        if not slide.label:
            raise ValueError(f"{slide.where}: no label")
        keys.add(row, slide.id)
    names = in_order({slide.label for slide in slides})
    labels = [names.index(slide.label) for slide in slides]
    sides = settled(keys, labels, names, source, say)
    if all(slide.patient is None for slide in slides):
        say(f"{source}: no column case_id or patient: every slide is a patient")
    return sides, names


def _measured(
    slides: list[Slide], folders: list[Path], named: dict[str, str], say: Say
) -> list[Bag]:
    bags: list[Bag] = []
    for slide in _followed(slides, "looked at", say):
        path = find(slide.id, folders, slide.where)
        bags.append(measure(path, named["features"], named["coords"]))
        if bags[-1].width != bags[0].width:
            raise ValueError(
                f"{path}: {bags[-1].width:,} features an instance; {bags[0].path} has "
                f"{bags[0].width:,}"
            )
    return bags


def _followed(slides: list[Slide], done: str, say: Say) -> Iterator[Slide]:
    due = limits.clock()
    for number, slide in enumerate(slides, 1):
        yield slide
        if due():
            say(f"{done} {number:,} of {len(slides):,} bags")


def kept_of(slide: str, instances: int, most: int) -> np.ndarray:
    """Which instances [T] of a bag are kept, ascending; the same on any machine."""
    if instances <= most:
        return np.arange(instances)
    raw = hashlib.sha256(f"bag {slide}".encode()).digest()
    # Numpy promises the same raw numbers in every version, but not the same choices.
    drawn = np.random.PCG64(int.from_bytes(raw[:16], "big")).random_raw(instances)
    return np.sort(np.argsort(drawn, kind="stable")[:most])


def _filled(
    name: str,
    slides: list[Slide],
    bags: list[Bag],
    sides: np.ndarray,
    names: list[str],
    named: dict[str, str],
    length: int,
    say: Say,
) -> Dataset:
    sizes = np.array([bag.instances for bag in bags])
    width, most = bags[0].width, min(length, int(sizes.max()))
    _said_of_sizes(sizes, width, most, say)
    # The numbers, and a copy on the device.
    each = 2 * 4 * len(bags) * width
    fitting = room() // each
    check_fits(
        each * most,
        f"{len(bags):,} bags of {most:,} x {width:,} numbers",
        f"give --data.length {fitting}" if fitting else "give fewer bags",
    )
    count = [int((sides == side).sum()) for side in range(len(SIDES))]
    inputs = [np.zeros((n, most, width), np.float32) for n in count]
    places = [np.full((n, most, 2), np.nan, np.float32) for n in count]
    filled = [0] * len(SIDES)
    for number, slide in enumerate(_followed(slides, "read", say)):
        side = sides[number]
        kept = kept_of(slide.id, int(sizes[number]), most)
        found, at = read(bags[number], named["features"], named["coords"], kept)
        inputs[side][filled[side], : len(kept)] = found
        places[side][filled[side], : len(kept)] = at
        filled[side] += 1
    splits, cut = {}, {}
    for side, split in enumerate(SIDES):
        mine = np.flatnonzero(sides == side)
        labels = [names.index(slides[i].label) for i in mine]
        splits[split] = Split(
            inputs[side],
            np.minimum(sizes[mine], most).astype(np.int32),
            np.array(labels, np.int32),
            np.array([slides[i].id for i in mine]),
            places=places[side] if np.isfinite(places[side]).any() else None,
        )
        lost = np.maximum(sizes[mine] - most, 0)
        cut[split] = Cut(int((lost > 0).sum()), int(lost.sum()))
    return assemble(name, tuple(names), splits, cut=cut)


def _said_of_sizes(sizes: np.ndarray, width: int, most: int, say: Say) -> None:
    say(
        f"{len(sizes):,} bags of {sizes.min():,} to {sizes.max():,} instances (median "
        f"{int(np.median(sizes)):,}) with {width:,} features"
    )
    if sizes.max() > most:
        lost = np.maximum(sizes - most, 0).sum() / sizes.sum()
        say(
            f"{int((sizes > most).sum()):,} bags have more than {most:,} instances: a "
            f"random part of each is kept, always the same; {lost:.1%} of all "
            "instances are lost (--data.length keeps more)"
        )
