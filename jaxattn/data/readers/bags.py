"""Bags of instances, such as the patches of a slide: a table of labels, and HDF5 files.

The files of CLAM ('Data-efficient and weakly supervised computational pathology on
whole-slide images', Lu et al., 2021, arXiv 2004.09666), which serve any other
multiple-instance data, as those of ABMIL (arXiv 1802.04712). The features of a bag are
an array [instances, D] of its own HDF5 file; where the instances are from may stand
beside them, in an array of coordinates [instances, 2].
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.limits import check_fits, followed, room
from jaxattn.data.readers.options import Options, check_there, chosen
from jaxattn.data.rows import Row, in_order
from jaxattn.data.splits import SPLITS, Keys, settled
from jaxattn.data.text import MAX_LENGTH, Cut, check_whole
from jaxattn.system.errors import reason
from jaxattn.system.lines import records, suffix_of

log = logging.getLogger("jaxattn")
BLOCK = 32 << 20
"""Bytes read at a time."""
OTHERS = (".pt", ".pth", ".npy", ".npz")
AXES = ("instances", "features")

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


class Arrays(NamedTuple):
    """What the arrays of a bag's file are called."""

    features: str
    coords: str


class Bag(NamedTuple):
    """What a file says of its bag without being read."""

    path: Path
    instances: int
    width: int


def load(source: str, options: Options) -> Dataset:
    """The data set of `bags:FILE.csv`: vectors [N, T, D], T at most `options.length`.

    A larger bag is a random part of itself, the same every time. All slides of a
    patient are in one split; without a column of splits a hash of the patient decides.

    Args:
        source: with or without "bags:"; a table with a row per slide: slide_id, label,
            and if there are any case_id (or patient) and split. The features of a slide
            are in SLIDE_ID.h5, array "features" [n, D]; where they are from may be in
            "coords" [n, 2].
        options: data_dir is the folder of these files, or one with h5_files in it; None
            is where the table is. Fields give other names, as "label=grade"; roles are
            id, label, group, split, features and coords.
    """
    check_whole("length", options.length, MAX_LENGTH)
    path = Path(source.removeprefix("bags:")).expanduser()
    if suffix_of(path) not in (".csv", ".tsv"):
        raise ValueError(f"{source}: must be bags:FILE.csv or bags:FILE.tsv")
    if not path.is_file():
        raise ValueError(f"{source}: there is no file {path}")
    slides, arrays = _table(path, options)
    names = in_order({str(slide.label) for slide in slides})
    labels = np.array([names.index(str(slide.label)) for slide in slides], np.int32)
    keys = Keys()
    for slide in slides:
        keys.add(slide, str(slide.id))
    placed = settled(keys, labels, names, str(path))
    if all(slide.group is None for slide in slides):
        log.info(f"{path}: no column case_id or patient: every slide is a patient")
    root = path.parent if options.data_dir is None else Path(options.data_dir)
    bags = _measured(slides, root.expanduser(), arrays)
    most = _most(bags, options.length)
    splits, cut, order = {}, {}, []
    for number, name in enumerate(SPLITS):
        mine = np.flatnonzero(placed == number)
        sizes = np.array([bags[i].instances for i in mine])
        splits[name] = split = Split(
            np.zeros((len(mine), most, bags[0].width), np.float32),
            np.minimum(sizes, most).astype(np.int32),
            labels[mine],
            np.array([keys.ids[i] for i in mine]),
            places=np.full((len(mine), most, 2), np.nan, np.float32),
        )
        lost = np.maximum(sizes - most, 0)
        cut[name] = Cut(int((lost > 0).sum()), int(lost.sum()))
        order += [(split, row, bags[i]) for row, i in enumerate(mine)]
    for split, row, bag in followed(
        order, lambda n: f"read {n:,} of {len(bags):,} bags"
    ):
        kept = kept_of(split.ids[row], bag.instances, most)
        read_in = read(bag, arrays, kept)
        split.inputs[row, : len(kept)], split.places[row, : len(kept)] = read_in
    for name, split in splits.items():
        if not np.isfinite(split.places).any():
            splits[name] = split._replace(places=None)
    return assemble(path.stem, tuple(names), splits, cut=cut)


def _table(path: Path, options: Options) -> tuple[list[Row], Arrays]:
    """A row without tokens for each slide, and what the arrays are called."""
    named = chosen(str(path), options.fields, ROLES)
    given = {word.partition("=")[0] for word in options.fields}
    slides: dict[str, Row] = {}
    for record in records(path):
        where = f"{path}, row {record.row}"
        if record.wrong:
            raise ValueError(f"{where}: {record.wrong}")
        cells = {name.strip(): cell.strip() for name, cell in record.fields.items()}
        cells.pop("", None)  # an index that pandas wrote
        if not slides:
            if "group" not in given and named["group"] not in cells:
                named["group"] = "patient" if "patient" in cells else named["group"]
            for role in COLUMNS:
                if role in ("id", "label") or (role in given and named[role]):
                    check_there(str(path), role, named[role], cells)
        cell = {role: cells.get(named[role], "") for role in COLUMNS}
        for role in COLUMNS:
            if not cell[role] and (role in ("id", "label") or named[role] in cells):
                raise ValueError(f"{where}: no {named[role]}")
        if Path(cell["id"]).name != cell["id"]:
            raise ValueError(f"{where}: {named['id']} {cell['id']!r} is no file name")
        # The tables of CLAM name files with their suffix now and then.
        id_ = cell["id"].removesuffix(".h5").removesuffix(".svs")
        if id_ in slides:
            raise ValueError(f"{where}: slide {id_!r} is in {slides[id_].where} too")
        split, group = cell["split"] or None, cell["group"] or None
        slides[id_] = Row((), cell["label"], where, None, split, id_, group)
    if not slides:
        raise ValueError(f"{path} has no row")
    return list(slides.values()), Arrays(named["features"], named["coords"])


def _measured(slides: list[Row], root: Path, arrays: Arrays) -> list[Bag]:
    folders = [root, root / "h5_files", root / "features"]
    bags: list[Bag] = []
    for slide in followed(slides, lambda n: f"looked at {n:,} of {len(slides):,} bags"):
        path = find(str(slide.id), folders, slide.where)
        bags.append(measure(path, arrays))
        if bags[-1].width != bags[0].width:
            raise ValueError(
                f"{path}: {bags[-1].width:,} features an instance; {bags[0].path} has "
                f"{bags[0].width:,}"
            )
    return bags


def find(slide: str, folders: list[Path], where: str) -> Path:
    """The HDF5 file of a slide in the first folder that has one."""

    def there(places: list[Path], suffixes: Sequence[str]) -> Path | None:
        paths = (place / f"{slide}{suffix}" for place in places for suffix in suffixes)
        return next(filter(Path.is_file, paths), None)

    if path := there(folders, (".h5", ".hdf5")):
        return path
    if path := there([*folders, *(f.parent / "pt_files" for f in folders)], OTHERS):
        read = "torch.load(f)" if path.suffix.startswith(".pt") else "np.load(f)"
        raise ValueError(
            f"{where}: {path} is no HDF5 file: write one, h5py.File('{slide}.h5', 'w')"
            f"['features'] = {read}, an array [instances, features]"
        )
    looked = ", ".join(map(str, folders))
    raise ValueError(
        f"{where}: no {slide}.h5 in {looked}; --data-dir says where the features are"
    )


def measure(path: Path, arrays: Arrays) -> Bag:
    """The size of a bag; ValueError where the file holds none of the right kind."""
    with _opened(path) as file:
        features = _array(file, path, arrays.features, AXES)
        shape = features.shape
        told = f"{path}: {arrays.features} {list(shape)} of {features.dtype}"
        for n, missing in zip(shape, AXES, strict=True):
            if not n:
                raise ValueError(f"{told}: a bag without {missing}")
        if arrays.coords in file:
            _array(file, path, arrays.coords, (shape[0], 2))
        return Bag(path, *map(int, shape))


def _most(bags: list[Bag], length: int) -> int:
    """How many instances each bag may have; ValueError where memory is too small."""
    sizes = np.array([bag.instances for bag in bags])
    width, most = bags[0].width, min(length, int(sizes.max()))
    log.info(
        f"{len(sizes):,} bags of {sizes.min():,} to {sizes.max():,} instances (median "
        f"{int(np.median(sizes)):,}) with {width:,} features"
    )
    if sizes.max() > most:
        lost = np.maximum(sizes - most, 0).sum() / sizes.sum()
        log.info(
            f"{int((sizes > most).sum()):,} bags have more than {most:,} instances: a "
            f"random part of each is kept, always the same; {lost:.1%} of all "
            "instances are lost (--data.length keeps more)"
        )
    # The numbers, and a copy on the device.
    each = 2 * 4 * len(bags) * width
    fitting = room() // each
    check_fits(
        each * most,
        f"{len(bags):,} bags of {most:,} x {width:,} numbers",
        f"give --data.length {fitting}" if fitting else "give fewer bags",
    )
    return most


def kept_of(slide: str, instances: int, most: int) -> np.ndarray:
    """Which instances [T] of a bag are kept, ascending; the same on any machine."""
    if instances <= most:
        return np.arange(instances)
    raw = hashlib.sha256(f"bag {slide}".encode()).digest()
    # Numpy promises the same raw numbers in every version, but not the same choices.
    drawn = np.random.PCG64(int.from_bytes(raw[:16], "big")).random_raw(instances)
    return np.sort(np.argsort(drawn, kind="stable")[:most])


def read(bag: Bag, arrays: Arrays, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [T, D] float32 of the instances `kept` [T], and where they are [T, 2].

    `kept` ascends. Instances with coordinates come in reading order, so that a position
    means a place; without any, places are NaN. Never more than a block of the file is
    in memory.
    """
    values = np.empty((len(kept), bag.width), np.float32)
    with _opened(bag.path) as file:
        features = file[arrays.features]
        rows = max(BLOCK // max(features.dtype.itemsize * bag.width, 1), 1)
        try:
            for start in range(0, bag.instances, rows):
                first, last = np.searchsorted(kept, [start, start + rows])
                if first < last:
                    block = features[start : start + rows]
                    with np.errstate(over="ignore"):
                        values[first:last] = block[kept[first:last] - start]
            order, at = np.arange(len(kept)), np.full((len(kept), 2), np.nan)
            if arrays.coords in file:
                at = file[arrays.coords][()][kept]
                order = np.lexsort((at[:, 0], at[:, 1]))
        except OSError as error:
            raise ValueError(f"{bag.path}: damaged ({reason(error)})") from error
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        row = int(kept[wrong.argmax()])
        raise ValueError(
            f"{bag.path}: {arrays.features} of instance {row} is not finite as float32 "
            f"({int(wrong.sum()):,} of {len(kept):,} instances read)"
        )
    return values[order], at[order].astype(np.float32)


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise ValueError(
            "features of bags are read with h5py, which is not installed: "
            "pip install 'jaxattn[h5]'"
        ) from None
    try:
        return h5py.File(path, "r")
    except PermissionError:
        raise
    except OSError as error:
        raise ValueError(f"{path}: not a whole HDF5 file ({reason(error)})") from error


def _array(file: Any, path: Path, name: str, shape: tuple[int | str, int | str]) -> Any:
    """An array of numbers; where `shape` has a name, the axis may have any size."""
    if name not in file or not hasattr(file[name], "shape"):
        there = [key for key, item in file.items() if hasattr(item, "shape")]
        raise ValueError(
            f"{path}: no array {name!r}; there are: {', '.join(there) or 'none'}"
        )
    array = file[name]
    fits = [n == m or n in AXES for n, m in zip(shape, array.shape, strict=False)]
    if array.ndim != 2 or not all(fits) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {name} {list(array.shape)} of {array.dtype}; allowed: "
            f"[{shape[0]}, {shape[1]}] of numbers"
        )
    return array
