"""Prepared data of one's own in one .npz file, so that the next run starts at once."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.data import rows, text
from jaxattn.data import splits as splits_module
from jaxattn.data.dataset import Cut, Dataset, Split, assemble
from jaxattn.data.readers import evidence, lines, tokenizer
from jaxattn.data.splits import SIDES
from jaxattn.system.files import replace_file

FORMAT = 1

_PROGRESS = re.compile(r"[\d,]+ rows read")

_CODE = (evidence, lines, rows, splits_module, text, tokenizer)

_OPTIONAL = ("truth", "targets", "evidence", "places")


def settings_of(
    length: int, min_count: int, fields: Sequence[str], tokenizer: str
) -> dict[str, Any]:
    """What prepared data depend on beside their content."""
    return {
        "length": length,
        "min_count": min_count,
        "fields": sorted(fields),
        "tokenizer": tokenizer,
    }


def folder_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where prepared files are kept: beside what TFDS prepares."""
    usual = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(os.path.expanduser(data_dir or usual)) / "jaxattn_own"


def key_of(path: Path, settings: dict[str, Any], tokenizer: Path | None) -> str:
    """What tells prepared data: content, settings, tokenizer's file, and our code."""
    parts = [json.dumps([FORMAT, settings])]
    files = [path, *([tokenizer] if tokenizer else [])]
    files += [Path(module.__file__ or "") for module in _CODE]
    for file in files:
        with open(file, "rb") as opened:
            parts.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def recorded(say: Callable[[str], None]) -> tuple[Callable[[str], None], list[str]]:
    """The same `say`, and the list of what it said but for progress."""
    said: list[str] = []

    def both(line: str) -> None:
        if not _PROGRESS.fullmatch(line):
            said.append(line)
        say(line)

    return both, said


def save(
    path: Path, dataset: Dataset, settings: dict[str, Any], said: Sequence[str]
) -> None:
    """Writes a data set, whole or not at all; raises OSError."""
    about = {
        "format": FORMAT,
        "settings": settings,
        "said": said,
        "name": dataset.name,
        "classes": dataset.classes,
        "vocabulary": dataset.vocabulary,
        "cut": dataset.cut,
        "digest": dataset.digest,
        "grid": dataset.grid,
    }
    raw = np.frombuffer(json.dumps(about).encode(), np.uint8)
    arrays: dict[str, Any] = {"about": raw, "kind": dataset.kind}
    arrays["lexicon"] = dataset.lexicon
    for side in SIDES:
        split = getattr(dataset, side)
        for name in ("inputs", "lengths", "labels", "ids", *_OPTIONAL):
            if getattr(split, name) is not None:
                arrays[f"{side}_{name}"] = getattr(split, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as file:
        np.savez(file, **arrays)


def load(
    path: Path,
    length: int,
    min_count: int,
    fields: Sequence[str] = (),
    tokenizer: str = "",
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """The data set of a file that `save` wrote; says again what was said then.

    Raises: ValueError for a damaged file, or one prepared with other settings; OSError.
    """
    damaged = f"{path} is no prepared file or damaged; prepare it again"
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            about = json.loads(stored["about"].tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"{path} is of another version; prepare it again")
            _compare(path, about["settings"], length, min_count, fields, tokenizer)
            splits = {side: _split(stored, side) for side in SIDES}
            words = tuple(about["vocabulary"])
            known = (stored["kind"], stored["lexicon"]) if words else (None, None)
            dataset = assemble(
                about["name"],
                tuple(about["classes"]),
                splits,
                words,
                *known,
                {side: Cut(*numbers) for side, numbers in about["cut"].items()},
                about["grid"] and tuple(about["grid"]),
            )
    except (KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(damaged) from error
    except json.JSONDecodeError as error:
        raise ValueError(damaged) from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(damaged) from error
    if dataset.digest != about["digest"]:
        raise ValueError(damaged)
    if say is not None:
        for line in about["said"]:
            say(line)
    return dataset


def _split(stored: Any, side: str) -> Split:
    names = ("inputs", "lengths", "labels", "ids")
    more = {
        name: stored[f"{side}_{name}"]
        for name in _OPTIONAL
        if f"{side}_{name}" in stored.files
    }
    return Split(*(stored[f"{side}_{name}"] for name in names), **more)


def _compare(
    path: Path,
    old: dict[str, Any],
    length: int,
    min_count: int,
    fields: Sequence[str],
    tokenizer: str,
) -> None:
    asked = settings_of(length, min_count, fields, tokenizer)
    for name, value in asked.items():
        # Fields and tokenizer belong to the file it was made from.
        if value != old[name] and not (name in ("fields", "tokenizer") and not value):
            flag = f"--{'' if name in ('fields', 'tokenizer') else 'data.'}{name}"
            raise ValueError(
                f"{path} was prepared with {name} {old[name]}, not {value}: change "
                f"{flag.replace('_', '-')}, or prepare it again"
            )
