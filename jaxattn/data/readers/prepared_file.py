"""Data of the user's own in one .npz file, so that the next run starts at once."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.data import rows, splits, text
from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.readers import evidence, tokenizer
from jaxattn.data.readers.options import Options
from jaxattn.data.splits import SPLITS
from jaxattn.data.text import Cut
from jaxattn.system import lines
from jaxattn.system.files import read_arrays, write_arrays

log = logging.getLogger("jaxattn")
FORMAT = 1
_CODE = (evidence, lines, rows, splits, text, tokenizer)
_ARRAYS = ("inputs", "lengths", "labels", "ids")
_OPTIONAL = ("truth", "targets", "evidence", "places")


def settings_of(options: Options) -> dict[str, Any]:
    """What prepared data depend on beside their content."""
    return {
        "length": options.length,
        "min_count": options.min_count,
        "fields": sorted(options.fields),
        "tokenizer": options.tokenizer,
    }


def folder_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where prepared files are kept: beside what TFDS prepares."""
    usual = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(os.path.expanduser(data_dir or usual)) / "jaxattn_own"


def place_of(path: Path, options: Options, tokenizer: Path | None) -> Path:
    """Where a file is kept: by its content, the settings, the tokenizer, and our code.

    Args:
        tokenizer: the file that the tokenizer was read from.
    """
    parts = [json.dumps([FORMAT, settings_of(options)])]
    files = [path, *([tokenizer] if tokenizer else [])]
    files += [Path(module.__file__ or "") for module in _CODE]
    for file in files:
        with open(file, "rb") as opened:
            parts.append(hashlib.file_digest(opened, "sha256").hexdigest())
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
    return folder_of(options.data_dir) / f"{key}.npz"


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """A list of what is logged meanwhile, but for progress."""
    said: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        if not hasattr(record, "progress"):
            said.append(record.getMessage())
        return True

    level = log.level
    log.addFilter(note)
    log.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield said
    finally:
        log.setLevel(level)
        log.removeFilter(note)


def save(path: Path, dataset: Dataset, options: Options, said: Sequence[str]) -> None:
    """Writes a data set, whole or not at all; raises OSError."""
    about = {
        "format": FORMAT,
        "settings": settings_of(options),
        "said": said,
        "name": dataset.name,
        "classes": dataset.classes,
        "vocabulary": dataset.vocabulary,
        "cut": dataset.cut,
        "digest": dataset.digest,
        "grid": dataset.grid,
    }
    raw = np.frombuffer(json.dumps(about).encode(), np.uint8)
    arrays = {"about": raw}
    for split in SPLITS:
        for name in (*_ARRAYS, *_OPTIONAL):
            array = getattr(getattr(dataset, split), name)
            if array is not None:
                arrays[f"{split}_{name}"] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def load(path: Path, options: Options) -> Dataset:
    """The data set of a file that `save` wrote; logs again what was logged then.

    Raises:
        ValueError: the file is damaged, or was prepared with other settings.
        OSError: it cannot be read.
    """
    damaged = ValueError(f"{path} is no prepared file or damaged; prepare it again")
    try:
        stored = read_arrays(path)
        about = json.loads(stored["about"].tobytes())
        of_another = about["format"] != FORMAT
        settings = dict(about["settings"])
    except (KeyError, TypeError, ValueError):
        raise damaged from None
    if of_another:
        raise ValueError(f"{path} is of another version; prepare it again")
    _compare(path, settings, options)
    try:
        dataset = assemble(
            about["name"],
            tuple(about["classes"]),
            {split: _split(stored, split) for split in SPLITS},
            tuple(about["vocabulary"]),
            {split: Cut(*numbers) for split, numbers in about["cut"].items()},
            about["grid"] and tuple(about["grid"]),
        )
    except (KeyError, TypeError, ValueError):
        raise damaged from None
    if dataset.digest != about["digest"]:
        raise damaged
    for line in about["said"]:
        log.info(line)
    return dataset


def _split(stored: dict[str, np.ndarray], split: str) -> Split:
    more = {name: stored.get(f"{split}_{name}") for name in _OPTIONAL}
    return Split(*(stored[f"{split}_{name}"] for name in _ARRAYS), **more)  # type: ignore[arg-type]


def _compare(path: Path, settings: dict[str, Any], options: Options) -> None:
    for name, value in settings_of(options).items():
        of_source = name in ("fields", "tokenizer")
        # Those belong to the file it was made from.
        if value != settings.get(name) and (value or not of_source):
            flag = f"--{'' if of_source else 'data.'}{name}".replace("_", "-")
            raise ValueError(
                f"{path} was prepared with {name} {settings.get(name)}, not {value}: "
                f"change {flag}, or prepare it again"
            )
