"""Which reader a source of the user's own data goes to."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxattn.data import own
from jaxattn.data.dataset import Dataset
from jaxattn.data.lines import header_of, suffix_of

FORMS = (
    "FILE.jsonl, FILE.json, FILE.csv or FILE.tsv (also .gz), a folder in ERASER's "
    "form, tfds:NAME, imdb:PATH, ag_news:PATH, bags:FILE.csv"
)


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
    kind, colon, _ = source.partition(":")
    more = (data_dir, fields, download, say)
    if colon and kind == "tfds":
        from jaxattn.data import tfds_door

        return tfds_door.load(source, length, min_count, *more)
    if colon and kind in ("imdb", "ag_news"):
        from jaxattn.data import archives

        return archives.load(source, length, min_count, *more)
    if colon and kind == "bags":
        from jaxattn.data import slides

        return slides.load(source, length, min_count, *more)
    path = Path(source)
    if path.is_dir():
        from jaxattn.data import eraser

        return eraser.load(source, length, min_count, *more)
    kind = suffix_of(path)
    if kind not in own.FILES:
        raise ValueError(f"data {source!r}: allowed: {FORMS}")
    if kind in (".csv", ".tsv") and path.is_file() and "slide" in header_of(path):
        from jaxattn.data import slides

        return slides.load(source, length, min_count, *more)
    return own.load(source, length, min_count, *more, tokenizer)
