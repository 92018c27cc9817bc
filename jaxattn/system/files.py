"""Files of text, tables and arrays, written whole or not at all."""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from jaxattn.system.errors import reason
from jaxattn.system.lines import decoded

Record = TypeVar("Record", bound=tuple)


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` once all of it is written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all; raises OSError."""
    with replace_file(path) as file:
        file.write(text.encode())


def append_json(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line; NaN and infinities become null."""
    line = json.dumps(plain(record), allow_nan=False)
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def write_csv(
    path: str | os.PathLike[str], kind: type[Record], rows: Iterable[Record]
) -> None:
    """Write named tuples of one kind as CSV, floats as the shortest float32 text."""
    types: dict[str, Callable[[Any], Any]] = kind.__annotations__
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(types)
    for row in rows:
        fields = zip(types.values(), row, strict=True)
        writer.writerow(str(float32(v) if t is float else t(v)) for t, v in fields)
    write_text(path, file.getvalue())


def read_csv(path: str | os.PathLike[str], kind: type[Record]) -> list[Record]:
    """Read the named tuples back; raises ValueError (malformed file) or OSError."""
    types: dict[str, Callable[[Any], Any]] = kind.__annotations__
    text = decoded(Path(path).read_bytes(), path)
    if not text.endswith("\n"):
        raise ValueError(f"{path}: cut off, the last line has no end: write it again")
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Record] = []
    try:
        if next(table) != list(types):
            raise ValueError(f"the header must be {','.join(types)}")
        for line in table:
            if len(line) != len(types):
                raise ValueError(f"{len(line)} fields instead of {len(types)}")
            fields = zip(types.values(), line, strict=True)
            rows.append(kind(*(t(v) for t, v in fields)))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {table.line_num}: {error}") from None
    return rows


DIGEST = "digest"
"""The name under which an archive of arrays keeps the digest over the others."""


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], salt: str | None = None
) -> None:
    """Write named arrays as .npz, whole or not at all; raises OSError.

    Args:
        salt: what the arrays were made from; with it, "" included, a digest over this
            text and all arrays is written, which `read_arrays` checks.
    """
    named = {name: np.asarray(array) for name, array in arrays.items()}
    if salt is not None:
        named[DIGEST] = np.array(_digest(named, salt))
    with replace_file(path) as file:
        np.savez(file, **named)  # type: ignore[arg-type]


def read_arrays(
    path: str | os.PathLike[str], salt: str | None = None, allow_pickle: bool = False
) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz by name; that of a .npy is called "".

    Args:
        salt: what the arrays must have been written with; None checks no digest.
        allow_pickle: whether arrays may hold Python objects, which run code.

    Raises:
        ValueError: one line that names the file, where it is damaged, cut off or was
            written with another salt.
        OSError: the file cannot be opened.
    """
    # Opened here: numpy leaves a file open that it cannot read.
    with open(path, "rb") as file:
        try:
            stored = np.load(file, allow_pickle=allow_pickle)
            if isinstance(stored, np.ndarray):
                return {"": stored}
            arrays = {name: stored[name] for name in stored.files}
            if salt is not None and str(arrays.pop(DIGEST)) != _digest(arrays, salt):
                raise ValueError("it is not what was saved")
            return arrays
        # A damaged archive raises nearly anything: BadZipFile, zlib.error, EOFError,
        # KeyError, ValueError, RuntimeError, NotImplementedError and OSError at least.
        except Exception as error:
            raise ValueError(f"{path} is damaged: {reason(error)}") from error


def _digest(arrays: Mapping[str, np.ndarray], salt: str) -> str:
    state = hashlib.sha256(salt.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {value.dtype.str} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def float32(value: float) -> np.float32:
    """The nearest float32, the precision of every number kept; too large: infinite."""
    with np.errstate(over="ignore"):
        return np.float32(value)


def plain(value: Any) -> Any:
    """What JSON can hold: lists for arrays, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and of jax
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
