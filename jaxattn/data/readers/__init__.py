"""Readers of the user's own data, and which of them a source goes to.

All of them raise ValueError or OSError, one line that names the file and the row, for
what the user can put right.
"""

import importlib
from pathlib import Path

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import prepared_file, tables
from jaxattn.data.readers.options import Options
from jaxattn.system.lines import header_of, suffix_of

READERS = {"tfds": "tfds", "imdb": "archives", "ag_news": "archives", "bags": "bags"}
"""What stands before the colon of a source, and the module here that reads it."""
FORMS = (
    "FILE.jsonl, FILE.json, FILE.csv or FILE.tsv (also .gz), a folder in ERASER's "
    "form, tfds:NAME, imdb:PATH, ag_news:PATH, bags:FILE.csv, or what "
    "`jaxattn data prepare` wrote"
)


def reader_of(source: str) -> str | None:
    """Name of the module that reads a source, or None for plain files."""
    kind, colon, _ = source.partition(":")
    path = Path(source).expanduser()
    if colon and kind in READERS:
        return READERS[kind]
    if path.is_dir():
        return "eraser"
    if suffix_of(path) in (".csv", ".tsv") and path.is_file():
        return "bags" if "slide" in header_of(path) else None
    return None


def load_own(source: str, options: Options | None = None) -> Dataset:
    """Loads the user's own data; what was decided on the way is logged.

    Args:
        source: FILE.jsonl, .json, .csv or .tsv, each also .gz; a folder in ERASER's
            form; "tfds:NAME", "imdb:PATH", "ag_news:PATH"; "bags:FILE.csv"; FILE.npz of
            `jaxattn data prepare`.

    Raises: ValueError or OSError, one line, for what the user can put right.
    """
    options = options or Options()
    name, path = reader_of(source), Path(source).expanduser()
    if name is not None:
        if options.tokenizer:
            raise ValueError(
                f"tokenizer {options.tokenizer!r}: {source} has one of its own"
            )
        # Here, since they import what most runs do not need.
        module = importlib.import_module(f"jaxattn.data.readers.{name}")
        return module.load(source, options)
    if path.suffix == ".npz":
        return prepared_file.load(path, options)
    if suffix_of(path) not in tables.FILES:
        raise ValueError(f"data {source!r}: allowed: {FORMS}")
    return tables.load(path, options)
