"""Rebuilds the embedded snippets and lexicon from the archive they come from.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python launch/rebuild_snippets.py vaderSentiment-3.3.2.tar.gz

The result is the same byte for byte. Not needed to use the package.
"""

import argparse
import bz2
import hashlib
import io
import os
import re
import sys
import tarfile
from pathlib import Path

from jaxattn.system.files import replace_file

ARCHIVE_BYTES = 2_466_783

ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"

FOLDER = Path(__file__).parents[1] / "jaxattn" / "data" / "hutto"

_TOP = "vaderSentiment-3.3.2"

_INNER = "hutto_ICWSM_2014"

_FILES = {
    "movie": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweet": "tweets",
}

_ESCAPE = re.compile(r"&(?:amp|lt|gt|quot|#\d{1,4});")

_NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"'}


def unescape(text: str) -> str:
    """Undoes the HTML escapes of the source files, until none is left.

    Every ampersand of the source is escaped, some of them twice ("at &amp;#38; t").
    `html.unescape` is not used since it also reads escapes without a semicolon.
    """
    while (
        plain := _ESCAPE.sub(
            lambda m: _NAMED.get(m.group()) or chr(int(m.group()[2:-1])), text
        )
    ) != text:
        text = plain
    return text


def _rows(raw: bytes) -> list[list[str]]:
    # One of the files starts with a byte order mark; all end lines with CR LF.
    text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    return [line.split("\t") for line in text.split("\n") if line]


def _compress(header: str, rows: list[tuple[str, ...]]) -> bytes:
    if any(c in cell for row in rows for cell in row for c in "\t\r\n"):
        raise ValueError("a cell holds a tab or a line break: it cannot go into TSV")
    lines = [header, *("\t".join(row) for row in rows)]
    # bzip2 has no time stamp, and its encoder has not changed for decades, which
    # cannot be said of zlib (zlib-ng) or liblzma.
    return bz2.compress(("\n".join(lines) + "\n").encode(), 9)


def rebuild(archive: str | os.PathLike[str]) -> dict[str, bytes]:
    """Makes the embedded files, name -> bytes, from the source archive.

    Raises:
        OSError: the archive cannot be read.
        ValueError: it is not the archive of vaderSentiment 3.3.2, or is cut off.
    """
    raw = Path(archive).read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != ARCHIVE_SHA256:
        cut = "cut off" if len(raw) < ARCHIVE_BYTES else "changed or another file"
        raise ValueError(
            f"{archive}: not the source archive of vaderSentiment 3.3.2 ({cut}: "
            f"{len(raw)} bytes, expected {ARCHIVE_BYTES}; sha256 {digest}, expected "
            f"{ARCHIVE_SHA256}); download it again"
        )
    with tarfile.open(fileobj=io.BytesIO(raw)) as outer:

        def member(tar: tarfile.TarFile, name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None, name
            return file.read()

        lexicon = member(outer, f"{_TOP}/vaderSentiment/vader_lexicon.txt")
        inner = member(outer, f"{_TOP}/additional_resources/{_INNER}.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
            snippets = []
            for source, name in _FILES.items():
                path = f"{_INNER}/{name}"
                truth = _rows(member(tar, f"{path}_GroundTruth.txt"))
                ratings = _rows(member(tar, f"{path}_anonDataRatings.txt"))
                # Joined by id: the two amazon files differ in order.
                spread = {row[0]: row[2] for row in ratings}
                snippets += [
                    (f"{source}-{id_}", rating, spread[id_], unescape(text))
                    for id_, rating, text in truth
                ]
    words = [(word, rating, sd) for word, rating, sd, _ in _rows(lexicon)]
    return {
        "lexicon.tsv.bz2": _compress("token\trating\tspread", words),
        "snippets.tsv.bz2": _compress("id\trating\tspread\ttext", snippets),
    }


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes each file whole or not at all; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with replace_file(folder / name) as file:
            file.write(content)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Rebuild the embedded snippets and lexicon.",
    )
    parser.add_argument("archive", help="vaderSentiment-3.3.2.tar.gz, from PyPI")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder (default: the package's)"
    )
    chosen = parser.parse_args(arguments)
    try:
        files = rebuild(chosen.archive)
        write(chosen.output, files)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, content in files.items():
        print(f"{hashlib.sha256(content).hexdigest()}  {chosen.output / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
