"""Which reader a source of the user's own data goes to."""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import prepared_file, tables
from jaxattn.data.readers.lines import header_of, suffix_of

DOORS = {
    "tfds": "tfds_door",
    "imdb": "archives",
    "ag_news": "archives",
    "bags": "slides",
}
"""What stands before the colon of a source, and the module that reads it."""

FORMS = (
    "FILE.jsonl, FILE.json, FILE.csv or FILE.tsv (also .gz), a folder in ERASER's "
    "form, tfds:NAME, imdb:PATH, ag_news:PATH, bags:FILE.csv, or what "
    "`jaxattn data prepare` wrote"
)


def door_of(source: str) -> str | None:
    """The module that reads a source; None for a file that this one sees to."""
    kind, colon, _ = source.partition(":")
    path = Path(source).expanduser()
    if colon and kind in DOORS:
        return DOORS[kind]
    if path.is_dir():
        return "eraser"
    if suffix_of(path) in (".csv", ".tsv") and path.is_file():
        return "slides" if "slide" in header_of(path) else None
    return None


def load_own(
    source: str,
    length: int = 32,
    min_count: int = 2,
    data_dir: str | os.PathLike[str] | None = None,
    fields: Sequence[str] = (),
    download: bool = False,
    say: Callable[[str], None] | None = None,
    tokenizer: str = "",
) -> Dataset:
    """Loads data of one's own.

    Args:
        source: FILE.jsonl, .json, .csv or .tsv, each also .gz; a folder in ERASER's
            form; "tfds:NAME", "imdb:PATH", "ag_news:PATH"; "bags:FILE.csv".
        fields: "label=stars" reads the label from the field "stars".
        download: whether anything may be fetched from the network.
        tokenizer: "module:function" or a tokenizer.json; for text in files.

    Raises: ValueError or OSError, one line.
    """
    door, path = door_of(source), Path(source).expanduser()
    if door is not None:
        if tokenizer:
            raise ValueError(f"tokenizer {tokenizer!r}: {source} has one of its own")
        # Here, since they import what most runs do not need.
        module = importlib.import_module(f"jaxattn.data.{door}")
        more = (data_dir, fields, download, say)
        return module.load(source, length, min_count, *more)
    if path.suffix == ".npz":
        return prepared_file.load(path, length, min_count, fields, tokenizer, say)
    if suffix_of(path) not in tables.FILES:
        raise ValueError(f"data {source!r}: allowed: {FORMS}")
    return tables.load(path, length, min_count, data_dir, fields, say, tokenizer)
