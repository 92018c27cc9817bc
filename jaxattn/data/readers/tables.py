"""Files of the user's own: which field is what, and what is wrong with each row."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import prepared_file
from jaxattn.data.readers.evidence import Alignment, Offsets, to_tokens
from jaxattn.data.readers.options import Options, absent, chosen
from jaxattn.data.readers.tokenizer import OWN, Tokenizer, tokenizer_of
from jaxattn.data.rows import Row, from_rows
from jaxattn.system.lines import Record, header_of, parsed, records, suffix_of

log = logging.getLogger("jaxattn")
FILES = (".jsonl", ".json", ".csv", ".tsv")
ROLES = ("text", "tokens", "label", "evidence", "split", "id", "group")
RATIONALE = "rationale"
"""Another usual name of the field of evidence."""


@dataclasses.dataclass
class Table:
    """A file, how it is read, and what was noticed on the way."""

    path: Path
    fields: dict[str, str]
    """The field of each role; "" where it is to be ignored."""
    named: frozenset[str] = frozenset()
    """Roles whose field the user named: it must exist."""
    tokenizer: Tokenizer = OWN
    aligned: Alignment = dataclasses.field(default_factory=Alignment)
    seen: dict[str, None] = dataclasses.field(default_factory=dict)
    """All fields met so far."""

    @property
    def texts(self) -> bool:
        """Whether all fields are texts, as in CSV."""
        return suffix_of(self.path) in (".csv", ".tsv")

    def notes(self) -> list[str]:
        """What is to be said after all rows were read, a line each."""
        used = {*self.fields.values()}
        if self.fields["evidence"] == "evidence" and "evidence" not in self.seen:
            used.add(RATIONALE)
        left = [name for name in self.seen if name not in used]
        told = f"fields not used: {', '.join(left[:10])}{' ...' * (len(left) > 10)}"
        return [*([told] if left else []), *self.aligned.sentences()]


def table_of(path: Path, options: Options) -> Table:
    """How to read a file."""
    if suffix_of(path) not in FILES:
        raise ValueError(
            f"data {str(path)!r}: its name must end in {', '.join(FILES)}, or that and "
            ".gz"
        )
    fields = chosen(path.name, options.fields, {role: role for role in ROLES})
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise OSError(f"data file {path} {what}")
    parts = [word.partition("=") for word in options.fields]
    named = frozenset(role for role, _, name in parts if name)
    table = Table(path, fields, named, tokenizer_of(options.tokenizer))
    if table.texts:
        header = header_of(path)
        for roles in (*((role,) for role in named), ("text", "tokens"), ("label",)):
            if not any(fields[role] in header for role in roles):
                why = absent(roles[0], fields[roles[0]], header)
                raise ValueError(f"{path.name}: {why}")
    return table


def rows(table: Table) -> Iterator[Row | str]:
    """The rows of a file one at a time; what is wrong, for one that is wrong."""
    empty = True
    for record in records(table.path):
        empty = False
        where = f"{table.path.name}, row {record.row}"
        try:
            yield _row(table, record, where)
        except ValueError as error:
            yield f"{where}: {error}"
    if empty:
        raise ValueError(f"{table.path} has no row")
    for role in table.named:
        if table.fields[role] not in table.seen:
            why = absent(role, table.fields[role], table.seen)
            raise ValueError(f"{table.path.name}: {why}")


def _row(table: Table, record: Record, where: str) -> Row:
    if record.wrong:
        raise ValueError(record.wrong)
    table.seen |= dict.fromkeys(record.fields)
    given: dict[str, Any] = {
        role: record.fields.get(name) for role, name in table.fields.items()
    }
    text = given["text"]
    has_tokens = given["tokens"] is not None
    for role in ("label",) if has_tokens else ("text", "label"):
        if given[role] is None:
            name = table.fields[role]
            null = f"no {role}: {name} is null"
            why = null if name in record.fields else absent(role, name, record.fields)
            raise ValueError(why)
    if not has_tokens and not isinstance(text, str):
        raise ValueError(f"text is {type(text).__name__}, not a text")
    if has_tokens and table.tokenizer is not OWN:
        raise ValueError("it has tokens already: leave the tokenizer out")
    if has_tokens:
        tokens = _tokens(given["tokens"], table.texts)
    else:
        tokens = table.tokenizer.tokens(text)

    def characters() -> tuple[int, Offsets]:
        if text is None or has_tokens:
            raise ValueError(
                "character spans (start, end) are of a text without tokens; spans of "
                "tokens are start_token and end_token, or [start, end]"
            )
        return len(text), table.tokenizer.offsets(text)

    evidence = _evidence(table, record, given["evidence"])
    if evidence is not None:
        evidence = to_tokens(evidence, len(tokens), characters, table.aligned, where)
    names = (_name(given[role], role) for role in ("split", "id", "group"))
    return Row(tokens, _label(given["label"]), where, evidence, *names)


def _label(given: Any) -> Any:
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float) and given.is_integer():
        return int(given)  # as pandas writes it
    return given


def _tokens(given: Any, texts: bool) -> list[str]:
    if texts:
        given = _parsed(given, "tokens") if given[:1] == "[" else given.split()
    if not isinstance(given, list):
        raise ValueError(f"tokens is {type(given).__name__}, not a list of texts")
    return given


def _evidence(table: Table, record: Record, given: Any) -> Any:
    if table.fields["evidence"] == "evidence" and "evidence" not in table.named:
        other = record.fields.get(RATIONALE)
        if given is not None and other is not None:
            raise ValueError(
                "both evidence and rationale: choose, --fields evidence=NAME"
            )
        given = other if given is None else given
    if not isinstance(given, str):
        return given
    given = given.strip()
    if not given:
        return None
    if given[0] in "[{":
        return _parsed(given, "evidence")
    try:
        return [float(number) for number in given.split()]
    except ValueError:
        raise ValueError(
            f"evidence {given[:40]!r}: allowed: numbers with spaces between, or JSON"
        ) from None


def _parsed(text: str, what: str) -> Any:
    try:
        return parsed(text)
    except ValueError as error:
        raise ValueError(f"{what} is {error}") from None


def _name(value: Any, what: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{what} is {type(value).__name__}; allowed: a text")
    return str(value)


def load(path: Path, options: Options) -> Dataset:
    """The data set of a file, or what `prepare` kept of it."""
    table = table_of(path, options)
    if prepared_file.folder_of(options.data_dir).is_dir():
        place = prepared_file.place_of(path, options, table.tokenizer.file)
        if place.is_file():
            log.info(f"prepared before: {place}")
            return prepared_file.load(place, options)
    return read(table, options)


def read(table: Table, options: Options) -> Dataset:
    """The data set of a file, read now; raises as `load` does."""

    def good() -> Iterator[Row]:
        for row in rows(table):
            if isinstance(row, str):
                raise ValueError(row)
            yield row
        for line in table.notes():
            log.info(line)

    length, least = options.length, options.min_count
    try:
        return from_rows(good(), "own", length, least, source=table.path.name)
    except ValueError as error:
        raise ValueError(
            f"{error}; jaxattn data check {table.path} lists all problems"
        ) from None
