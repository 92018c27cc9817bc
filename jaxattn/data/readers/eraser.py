"""Folders of the ERASER benchmark: documents, labels and what people marked in them.

The format of 'ERASER: A Benchmark to Evaluate Rationalized NLP Models' by DeYoung et
al. (arXiv 1911.03429): docs/ with a file each (or docs.jsonl), whose tokens are what
white space divides, and train.jsonl, val.jsonl and test.jsonl.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers.options import Options, check_there, chosen
from jaxattn.data.rows import Row, from_rows
from jaxattn.system.lines import decoded, json_rows

log = logging.getLogger("jaxattn")
FILES = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
BETWEEN = "<sep>"
"""The token between the query and a document, and between documents."""
ROLES = {"label": "classification", "query": "query"}


def load(source: str, options: Options) -> Dataset:
    """The data set of a folder with docs/ and train.jsonl, val.jsonl, test.jsonl.

    The text of a row is its query, if rows differ in it, then its documents; tokens are
    those of the files, lower-cased, so that the places of the evidence hold. The
    evidence of a row is the union of its pieces; of the query it is 0.

    Args:
        source: the folder.
        options: fields are "label=classification" and "query=query" unless given;
            "query=" leaves the query out.
    """
    folder = Path(source).expanduser()
    named = chosen(source, options.fields, ROLES)
    files = {split: folder / name for split, name in FILES.items()}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise ValueError(
            f"{source}: no {' and no '.join(missing)}; a folder in ERASER's form has "
            "docs/, train.jsonl, val.jsonl and test.jsonl"
        )
    documents = reader(folder)
    if named["query"] and not _queries_differ(files, named["query"]):
        named["query"] = ""
    rows = _rows(files, documents, named)
    return from_rows(rows, folder.resolve().name, options.length, options.min_count)


def reader(folder: Path) -> Callable[[str], list[str] | None]:
    """What gives the tokens of a document by its name, None where there is none."""
    if (folder / "docs").is_dir():
        root = (folder / "docs").resolve()

        @functools.lru_cache(maxsize=256)
        def read(name: str) -> list[str] | None:
            path = (root / name).resolve()
            # A name is data: it must not lead out of the folder.
            if not path.is_relative_to(root) or not path.is_file():
                return None
            return decoded(path.read_bytes(), path).lower().split()

        return read
    table = folder / "docs.jsonl"
    if not table.is_file():
        raise ValueError(f"{folder}: neither a folder docs nor a file docs.jsonl in it")
    texts: dict[str, str] = {}
    for where, record in _records(table):
        name, text = record.get("docid"), record.get("document")
        if not isinstance(name, str) or not isinstance(text, str):
            raise ValueError(f"{where}: expected docid and document, both texts")
        texts[name] = text
    return lambda name: texts[name].lower().split() if name in texts else None


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, record in json_rows(path):
        if not isinstance(record, dict):
            raise ValueError(f"{where}: not a JSON object")
        yield where, record


def _queries_differ(files: dict[str, Path], field: str) -> bool:
    rows = (record for path in files.values() for _, record in _records(path))
    queries = (row.get(field) or "" for row in rows)
    first = next(queries, "")
    return any(query != first for query in queries)


def _rows(
    files: dict[str, Path],
    documents: Callable[[str], list[str] | None],
    named: dict[str, str],
) -> Iterator[Row]:
    unmarked = unplaced = 0
    for split, path in files.items():
        for where, record in _records(path):
            name = record.get("annotation_id")
            if not isinstance(name, str) or not name:
                raise ValueError(f"{where}: no annotation_id")
            check_there(where, "label", named["label"], record)
            label = record[named["label"]]
            label = str(label).lower() if isinstance(label, bool) else label
            query = record.get(named["query"]) if named["query"] else None
            given = _pieces(record, where)
            pieces = [p for p in given if _place(p) != (-1, -1)]
            unplaced += len(given) - len(pieces)
            unmarked += not pieces
            tokens = [*str(query).lower().split(), BETWEEN] if query else []
            starts: dict[str, tuple[int, int]] = {}
            for document in _named_documents(record, given, name, documents, where):
                text = documents(document)
                if text is None:
                    raise ValueError(f"{where}: there is no document {document!r}")
                tokens += [BETWEEN] if starts else []
                starts[document] = (len(tokens), len(text))
                tokens += text
            evidence = [0.0] * len(tokens)
            for piece in pieces:
                start, end = _within(piece, *starts[piece["docid"]], where)
                evidence[start:end] = [1.0] * (end - start)
            yield Row(tokens, label, where, evidence if pieces else None, split, name)
    if unmarked:
        log.info(f"nothing is marked in {unmarked:,} rows: they have no evidence")
    if unplaced:
        log.info(f"{unplaced:,} pieces of evidence have no place: left out")


def _pieces(record: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The pieces of evidence of a row, of all groups."""
    groups = record.get("evidences") or []
    wrong = f"{where}: evidences must be a list of lists of objects with a docid"
    if not isinstance(groups, list):
        raise ValueError(wrong)
    pieces: list[dict[str, Any]] = []
    for group in groups:
        pieces += group if isinstance(group, list) else [group]
    for piece in pieces:
        if not isinstance(piece, dict) or not isinstance(piece.get("docid"), str):
            raise ValueError(wrong)
    return pieces


def _named_documents(
    record: dict[str, Any],
    pieces: list[dict[str, Any]],
    name: str,
    documents: Callable[[str], list[str] | None],
    where: str,
) -> list[str]:
    """The documents of a row, each once: those it lists, then those of its evidence."""
    listed = record.get("docids") or []
    if not isinstance(listed, list) or not all(isinstance(n, str) for n in listed):
        raise ValueError(f"{where}: docids must be a list of texts")
    named = list(dict.fromkeys([*listed, *(piece["docid"] for piece in pieces)]))
    if not named:
        # Without any evidence, a document that is a row of its own bears its name.
        if documents(name) is None:
            raise ValueError(
                f"{where}: neither docids nor evidences name a document, and none is "
                f"called {name!r}"
            )
        named = [name]
    return named


def _place(piece: dict[str, Any]) -> tuple[Any, Any]:
    return piece.get("start_token", -1), piece.get("end_token", -1)


def _within(piece: dict[str, Any], start: int, size: int, where: str) -> list[int]:
    """First token of a piece and the one behind it; its document begins at `start`."""
    first, last = _place(piece)
    whole = type(first) is type(last) is int
    if not whole or not 0 <= first < last <= size:
        raise ValueError(
            f"{where}: evidence from token {first} to {last} of {piece['docid']!r}, "
            f"which has {size:,}"
        )
    return [start + first, start + last]
