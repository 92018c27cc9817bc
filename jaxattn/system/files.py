"""Files of text and tables, written whole or not at all."""

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

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
    types = _types(kind)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(types)
    for row in rows:
        fields = zip(types.values(), row, strict=True)
        writer.writerow(str(float32(v) if t is float else t(v)) for t, v in fields)
    write_text(path, file.getvalue())


def read_csv(path: str | os.PathLike[str], kind: type[Record]) -> list[Record]:
    """Read the named tuples back; raises ValueError (malformed file) or OSError."""
    types = _types(kind)
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
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


def float32(value: float) -> np.float32:
    """The nearest float32, the precision of every number kept; too large: infinite."""
    with np.errstate(over="ignore"):
        return np.float32(value)


def _types(kind: type[tuple]) -> dict[str, Callable[[Any], Any]]:
    return kind.__annotations__


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and of jax
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
