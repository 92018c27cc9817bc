"""Lines and records of the files that people have, whatever is wrong with them."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

LONGEST = 2**24
"""Bytes of a line; a longer one is no example."""
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)


class Record(NamedTuple):
    """One record of a file, or what is wrong with it."""

    row: int
    """Line of a JSON file; record of a table, whose header is row 1."""
    fields: dict[str, Any]
    wrong: str = ""


def records(path: Path) -> Iterator[Record]:
    """The records of FILE.jsonl, .json, .csv or .tsv, each also .gz, one at a time.

    A record that cannot be read is given as such, and reading goes on.
    Raises: ValueError or OSError, one line, where nothing at all can be read.
    """
    return _table(path) if suffix_of(path) in (".csv", ".tsv") else _json(path)


def suffix_of(path: Path) -> str:
    """The suffix in lower case and without .gz: ".jsonl" of "a.JSONL.gz"."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def header_of(path: Path) -> list[str]:
    """The field names of a table; raises ValueError or OSError where there are none."""
    try:
        return next(_reader((text for _, text in rows(path)), path), [])
    except csv.Error as error:
        raise ValueError(f"{path}, row 1: no {_kind(path)} ({error})") from None


def _reader(texts: Iterator[str], path: Path) -> Any:
    csv.field_size_limit(LONGEST)  # else 128 KiB
    delimiter = "\t" if suffix_of(path) == ".tsv" else ","
    return csv.reader(texts, delimiter=delimiter, strict=True)


def _kind(path: Path) -> str:
    return suffix_of(path)[1:].upper()


def rows(path: str | Path) -> Iterator[tuple[str, str]]:
    """Where it is ("FILE, row 3") and the text of every line of a file or of "-".

    Blank last lines are none. Raises: as `json_rows` does.
    """
    blank: list[tuple[str, str]] = []
    for number, text, wrong in _lines(path):
        where = f"{_name(path)}, row {number}"
        if wrong:
            raise ValueError(f"{where}: {wrong}")
        blank.append((where, text))
        if text.strip():
            yield from blank
            blank.clear()


def json_rows(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Where it is ("FILE, row 3") and the value of every line of a file of JSON lines.

    Blank lines are left out. "-" is standard input.

    Raises: ValueError, one line, for the first line that is no JSON, an empty file or a
        damaged one; OSError.
    """
    return ((w, json_value(w, text)) for w, text in rows(path) if text.strip())


def json_value(where: str, text: str) -> Any:
    """The value of one line of JSON; ValueError, which says `where`, if it is none."""
    try:
        return parsed(text)
    except ValueError as error:
        # The last line of a file that was cut off has no end.
        cut = "" if text.endswith("\n") else "; the file may be cut off"
        raise ValueError(f"{where}: {error}{cut}") from None


def decoded(raw: bytes, where: object, encoding: str = "utf-8") -> str:
    """The text of some bytes; ValueError, which says `where`, if they are none."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not a text in UTF-8") from None


def _name(path: str | Path) -> str:
    return "standard input" if path == "-" else str(path)


def parsed(text: str) -> Any:
    """The value of a text of JSON; ValueError, one line, where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON that can be read ({error})") from None


def _lines(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Number, from 1, text with its end, and what makes it none, of every line."""
    number = 0
    try:
        with _opened(path) as file:
            while raw := file.readline(LONGEST):
                number += 1
                if number == 1:
                    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        raise ValueError(f"{_name(path)} is UTF-16: save it as UTF-8")
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                text, wrong = "", ""
                if len(raw) == LONGEST and raw[-1:] != b"\n":
                    wrong = f"longer than {LONGEST >> 20} MiB: no example is"
                    while (more := file.readline(_CHUNK)) and more[-1:] != b"\n":
                        pass
                elif b"\0" in raw:
                    wrong = "a NUL byte: no text has one"
                else:
                    try:
                        text = raw.decode()
                    except UnicodeDecodeError as error:
                        wrong = (
                            f"not UTF-8 (byte 0x{raw[error.start]:02x} at column "
                            f"{error.start + 1}): save the file as UTF-8"
                        )
                yield number, text, wrong
    except _DAMAGE as error:
        raise ValueError(
            f"{_name(path)}, row {number + 1}: the gzip file is damaged ({error})"
        ) from None


def _opened(path: str | Path) -> BinaryIO:
    if path == "-":
        raw = sys.stdin.buffer.read()
        raw = gzip.decompress(raw) if raw[:2] == _GZIP else raw
        file: BinaryIO = io.BytesIO(raw)
    else:
        file = open(path, "rb")
        raw = file.peek(2)
        if raw[:2] == _GZIP:  # not by its name: many are renamed
            file.close()
            file = gzip.open(path)  # type: ignore[assignment]
    if not raw:
        file.close()
        raise ValueError(f"{_name(path)} is empty")
    return file


def _json(path: Path) -> Iterator[Record]:
    first = True
    for number, text, wrong in _lines(path):
        text = text.strip()
        if first and text[:1] == "[":
            yield from _array(path)
            return
        first = first and not text
        if text:
            try:
                yield _record(number, parsed(text))
            except ValueError as error:
                wrong = str(error)
        if wrong:
            yield Record(number, {}, wrong)


def _record(number: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(number, value)
    return Record(number, {}, f"a JSON {type(value).__name__}, not an object")


def _array(path: Path) -> Iterator[Record]:
    """The objects of one JSON array; its rows are counted from 1."""
    try:
        with _opened(path) as file:
            raw = file.read(16 * LONGEST + 1)
    except _DAMAGE as error:
        raise ValueError(f"{path}: the gzip file is damaged ({error})") from None
    if len(raw) > 16 * LONGEST:
        raise ValueError(
            f"{path} is one JSON array over {16 * LONGEST >> 20} MiB: write an object "
            f"a line, as with jq -c '.[]' {path.name}"
        )
    try:
        array = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON array: {error}") from None
    for number, value in enumerate(array, 1):
        yield _record(number, value)


def _table(path: Path) -> Iterator[Record]:
    broken: list[str] = []

    def texts() -> Iterator[str]:
        for number, text, wrong in _lines(path):
            if wrong:
                broken.append(f"line {number}: {wrong}")
            else:
                yield text

    reader = _reader(texts(), path)
    header: list[str] = []
    number = 0
    while True:
        cells = None
        try:
            cells = next(reader, None)
            done = cells is None
        except csv.Error as error:
            done = False
            broken.append(f"no {_kind(path)} ({error})")
        for wrong in broken:
            number += 1
            yield Record(number, {}, wrong)
        broken.clear()
        if done:
            return
        number += cells is not None
        if cells is not None and not header:
            header = cells
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise ValueError(f"{path}: the header names {', '.join(twice)} twice")
        elif cells and len(cells) == len(header):
            yield Record(number, dict(zip(header, cells, strict=True)))
        elif cells:
            wrong = f"{len(cells)} fields, and the header has {len(header)}"
            yield Record(number, {}, wrong)
