"""Rows of people's own files: which field is what, and what is wrong with each row."""

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import prepared_file
from jaxattn.data.readers.evidence import Alignment, Offsets, to_tokens
from jaxattn.data.readers.fields import chosen
from jaxattn.data.readers.lines import Record, header_of, records, suffix_of
from jaxattn.data.readers.tokenizer import OWN, Tokenizer, tokenizer_of
from jaxattn.data.rows import Row, from_rows

FILES = (".jsonl", ".json", ".csv", ".tsv")

ROLES = ("text", "tokens", "label", "evidence", "split", "id", "group")

RATIONALE = "rationale"
"""Another usual name of the field of evidence."""


@dataclasses.dataclass
class Reading:
    """A file, how it is read, and what was found out on the way."""

    path: Path
    fields: dict[str, str]
    """The field of each role; "" where it is to be passed over."""
    named: frozenset[str] = frozenset()
    """Roles whose field the user named: it must exist."""
    tokenizer: Tokenizer = OWN
    aligned: Alignment = dataclasses.field(default_factory=Alignment)
    seen: dict[str, None] = dataclasses.field(default_factory=dict)
    """All fields met so far."""
    table: bool = False
    """Whether all fields are texts, as in CSV."""

    def sentences(self) -> list[str]:
        """What is to be said after all rows were read, a line each."""
        used = {*self.fields.values()}
        if self.fields["evidence"] == "evidence" and "evidence" not in self.seen:
            used.add(RATIONALE)
        left = [name for name in self.seen if name not in used]
        told = f"fields not used: {', '.join(left[:10])}{' ...' * (len(left) > 10)}"
        return [*([told] if left else []), *self.aligned.sentences()]


def reading(path: Path, fields: Sequence[str] = (), tokenizer: str = "") -> Reading:
    """How to read a file: `fields` are ROLE=FIELD, as "label=stars"; "split=" none.

    Raises: ValueError or OSError, one line, for a role, field or tokenizer that is not
    there, or a file of another kind.
    """
    if suffix_of(path) not in FILES:
        raise ValueError(
            f"data {str(path)!r}: its name must end in {', '.join(FILES)}, or that and "
            ".gz"
        )
    named = chosen(path.name, fields, {role: role for role in ROLES})
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise OSError(f"data file {path} {what}")
    parts = [word.partition("=") for word in fields]
    found = Reading(path, named, frozenset(role for role, _, name in parts if name))
    found.table = suffix_of(path) in (".csv", ".tsv")
    if found.table:
        _check_header(found, header_of(path))
    return dataclasses.replace(found, tokenizer=tokenizer_of(tokenizer))


def _check_header(found: Reading, header: list[str]) -> None:
    for role in found.named:
        if found.fields[role] not in header:
            raise ValueError(_absent(found, role, header))
    for roles in (("text", "tokens"), ("label",)):
        if not any(found.fields[role] in header for role in roles):
            raise ValueError(_absent(found, roles[0], header))


def _absent(found: Reading, role: str, there: Any) -> str:
    there = [str(name) for name in there]
    names = (", ".join(name[:40] for name in there[:20]) or "none") + " ..." * (
        len(there) > 20
    )
    name = found.fields[role]
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    hint = f"--fields {role}={near[0] if near else 'FIELD'}"
    return f"{found.path.name}: no field {name!r} ({role}); there are: {names}; {hint}"


def rows(found: Reading) -> Iterator[Row | str]:
    """The rows of a file one at a time; a line of text for one that is wrong.

    Raises: ValueError or OSError, one line, where nothing at all can be read.
    """
    empty = True
    for record in records(found.path):
        empty = False
        where = f"{found.path.name}, row {record.row}"
        try:
            yield _row(found, record, where)
        except ValueError as error:
            yield f"{where}: {error}"
    if empty:
        raise ValueError(f"{found.path} has no row")
    for role in found.named:
        if found.fields[role] not in found.seen:
            raise ValueError(_absent(found, role, found.seen))


def _row(found: Reading, record: Record, where: str) -> Row:
    if record.wrong:
        raise ValueError(record.wrong)
    fields, given = found.fields, record.fields
    found.seen |= dict.fromkeys(given)
    text, tokens = given.get(fields["text"]), given.get(fields["tokens"])
    if tokens is not None:
        if found.tokenizer is not OWN:
            raise ValueError("it has tokens already: leave the tokenizer out")
        tokens = _tokens(tokens, found.table)
    elif not isinstance(text, str):
        if text is not None:
            raise ValueError(f"text is {type(text).__name__}, not a text")
        raise ValueError(_none_of(found, "text", given))
    else:
        tokens = found.tokenizer.tokens(text)
    label: Any = given.get(fields["label"])
    if isinstance(label, bool):
        label = str(label).lower()
    if label is None:
        raise ValueError(_none_of(found, "label", given))
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # as pandas writes it
    evidence = _evidence_in(found, given)
    if evidence is not None:

        def characters() -> tuple[int, Offsets]:
            if text is None or given.get(fields["tokens"]) is not None:
                raise ValueError(
                    "character spans (start, end) are of a text without tokens; spans "
                    "of tokens are start_token and end_token, or [start, end]"
                )
            return len(text), found.tokenizer.offsets(text)

        evidence = to_tokens(evidence, len(tokens), characters, found.aligned, where)
    return Row(
        tokens,
        cast(Any, label),  # checked with the rest of the row
        where,
        evidence,
        _name(given.get(fields["split"]), "split"),
        _name(given.get(fields["id"]), "id"),
        _name(given.get(fields["group"]), "group"),
    )


def _none_of(found: Reading, role: str, given: dict[str, Any]) -> str:
    name = found.fields[role]
    if name in given:
        return f"no {role}: {name} is null"
    return _absent(found, role, given).partition(": ")[2]


def _tokens(given: Any, table: bool) -> list[str]:
    if table:
        given = _parsed(given, "tokens") if given[:1] == "[" else given.split()
    if not isinstance(given, list):
        raise ValueError(f"tokens is {type(given).__name__}, not a list of texts")
    return given


def _evidence_in(found: Reading, given: dict[str, Any]) -> Any:
    name = found.fields["evidence"]
    evidence = given.get(name)
    if name == "evidence" and "evidence" not in found.named:
        other = given.get(RATIONALE)
        if evidence is not None and other is not None:
            raise ValueError(
                "both evidence and rationale: choose, --fields evidence=NAME"
            )
        evidence = other if evidence is None else evidence
    if not isinstance(evidence, str):
        return evidence
    evidence = evidence.strip()
    if not evidence:
        return None
    if evidence[0] in "[{":
        return _parsed(evidence, "evidence")
    try:
        return [float(number) for number in evidence.split()]
    except ValueError:
        raise ValueError(
            f"evidence {evidence[:40]!r}: allowed: numbers with spaces between, or JSON"
        ) from None


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no JSON ({error})") from None


def _name(value: Any, what: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{what} is {type(value).__name__}; allowed: a text")


def load(
    path: Path,
    length: int,
    min_count: int,
    data_dir: str | os.PathLike[str] | None = None,
    fields: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
    tokenizer: str = "",
) -> Dataset:
    """The data set of a file, or what `prepare` kept of it.

    Raises: ValueError or OSError, one line, for the first thing that is wrong.
    """
    found = reading(path, fields, tokenizer)
    if prepared_file.folder_of(data_dir).is_dir():
        there = place_of(found, length, min_count, data_dir, fields, tokenizer)
        if there.is_file():
            if say:
                say(f"prepared before: {there}")
            return prepared_file.load(there, length, min_count, fields, tokenizer, say)
    return made(found, length, min_count, say)


def place_of(
    found: Reading,
    length: int,
    min_count: int,
    data_dir: str | os.PathLike[str] | None,
    fields: Sequence[str],
    tokenizer: str,
) -> Path:
    """Where `prepare` keeps a file, by its content and these settings."""
    settings = prepared_file.settings_of(length, min_count, fields, tokenizer)
    key = prepared_file.key_of(found.path, settings, found.tokenizer.file)
    return prepared_file.folder_of(data_dir) / f"{key}.npz"


def made(
    found: Reading,
    length: int,
    min_count: int,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """The data set of a file, read now; raises as `load` does."""

    def good() -> Iterator[Row]:
        for row in rows(found):
            if isinstance(row, str):
                raise ValueError(row)
            yield row
        if say:
            for line in found.sentences():
                say(line)

    try:
        return from_rows(good(), "own", length, min_count, say, source=found.path.name)
    except ValueError as error:
        check = f"jaxattn data check {found.path} lists all problems"
        raise ValueError(f"{error}; {check}") from None
