"""IMDB and AG News from the archives their authors publish, without TensorFlow.

IMDB: 'Learning Word Vectors for Sentiment Analysis' by Maas et al. (ACL 2011); the
archive's file names hold the 1 to 10 rating, which TFDS's imdb_reviews leaves out.
AG News: the CSV files of 'Character-level Convolutional Networks for Text
Classification' by Zhang et al. (arXiv 1509.01626).
"""

import csv
import gzip
import html
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxattn.data.dataset import Dataset
from jaxattn.data.limits import followed
from jaxattn.data.readers.options import Options, check_there, chosen
from jaxattn.data.rows import Row, from_rows
from jaxattn.data.text import tokenize
from jaxattn.system.lines import decoded

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
PARTS = ("title", "description")
_REVIEW = re.compile(r"(?:.*/)?(train|test)/(pos|neg)/(\d+)_(\d+)\.txt")
_FILMS = re.compile(r"(?:.*/)?(train|test)/urls_(pos|neg)\.txt")
_TABLE = re.compile(r"(?:.*/)?(train|test)\.csv")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_HALF_ENTITY = re.compile(r"(?<![&\w])#(\d{2,4});")


def without_breaks(text: str) -> str:
    """IMDB's texts have HTML line breaks, which are no words."""
    return _BREAK.sub(" ", text)


def without_remains(text: str) -> str:
    """AG News has halves of HTML entities ("#39;") and backslashes for line breaks."""
    whole = _HALF_ENTITY.sub(r"&#\1;", text.replace("\\", " "))
    return html.unescape(whole)


def members(path: Path, wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted files of a folder or, streamed, of a `.tar.gz`."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path.parent).as_posix()
            if wanted(name) and file.is_file():
                yield name, file.read_bytes()
        return
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    try:
        # Not tarfile's own "r|gz": it takes the end of a file that is cut off for the
        # end of the archive, and never looks at the checksum.
        with gzip.open(path) as raw:
            with tarfile.open(fileobj=raw, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and wanted(member.name):
                        file = tar.extractfile(member)
                        assert file is not None, member.name
                        yield member.name, file.read()
            while raw.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(
            f"{path}: not a whole .tar.gz archive ({error}); fetch it again"
        ) from error


def read_imdb(path: Path, label: str = "label") -> Iterator[Row]:
    """All labelled reviews of aclImdb_v1.tar.gz or its folder, in a fixed order.

    Labels are neg and pos, or with `label` "rating" 1 to 10. Reviews of a film, where
    the archive says it, are a group.
    """
    reviews: list[tuple[str, str, str, int, int, str]] = []
    films: dict[tuple[str, str], list[str]] = {}
    files = members(path, lambda n: _REVIEW.fullmatch(n) or _FILMS.fullmatch(n))
    for name, raw in followed(files, lambda n: f"read {n:,} files of {path.name}"):
        text = decoded(raw, f"{path}, {name}")
        if listed := _FILMS.fullmatch(name):
            films[listed[1], listed[2]] = text.split()
            continue
        match = _REVIEW.fullmatch(name)
        assert match is not None, name
        split, kind, number, rating = *match.groups()[:2], int(match[3]), int(match[4])
        if not 1 <= rating <= 10:
            raise ValueError(f"{path}, {name}: rating {rating}; allowed: 1 to 10")
        id_ = f"{split}-{kind}-{number:05d}"
        reviews.append((id_, split, kind, number, rating, without_breaks(text)))
    if not reviews:
        raise ValueError(
            f"{path}: no review in it; expected files like aclImdb/train/pos/123_9.txt"
        )
    for id_, split, kind, number, rating, text in sorted(reviews):
        # http://www.imdb.com/title/tt0453418/usercomments; no film is in both splits.
        urls = films.get((split, kind), [])[number : number + 1]
        names = [re.sub(r".*/title/([^/]+).*", r"\1", url) for url in urls]
        group = f"{split}/{names[0]}" if names else None
        given = rating if label == "rating" else kind
        yield Row(tokenize(text), given, f"{path}, {id_}", None, split, id_, group)


def read_ag_news(path: Path, parts: Sequence[str]) -> Iterator[Row]:
    """All articles of a .tar.gz or folder with train.csv and test.csv, or of one CSV.

    A line is class (1 to 4), title, description; a header is passed over. `parts` are
    those that are read, "title" and "description".
    """
    if path.suffix == ".csv" and path.is_file():
        tables = [(path.name, path.read_bytes())]
    else:
        tables = sorted(members(path, _TABLE.fullmatch))
    n = 0
    for name, raw in tables:
        # One table alone has no split yet, whatever it is called.
        match = _TABLE.fullmatch(name) if len(tables) > 1 else None
        split = match and match[1]
        file = str(path) if path.name == name else f"{path}, {name}"
        articles = _articles(file, decoded(raw, file, "utf-8-sig"))
        for n, (where, label, texts) in enumerate(articles, 1):
            text = without_remains(" ".join(texts[part] for part in parts))
            id_ = f"{split or 'row'}-{n}"
            yield Row(tokenize(text), label, where, None, split, id_)
    if not n:
        raise ValueError(f"{path}: no article in it; expected train.csv and test.csv")


def _articles(file: str, text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Place, topic, and title and description of every row of a table."""
    if text.count('"') % 2:
        raise ValueError(f"{file}: cut off, a quotation mark is not closed")
    for row, cells in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
        where = f"{file}, row {row}"
        if len(cells) != 3:
            raise ValueError(
                f"{where}: {len(cells)} cells; expected class, title, text"
            )
        topic = cells[0].strip()
        if row == 1 and not topic.isdigit():
            continue  # a header, which the copies on other sites have
        if topic not in ("1", "2", "3", "4"):
            raise ValueError(f"{where}: class {cells[0]!r}; allowed: 1, 2, 3, 4")
        yield where, TOPICS[int(topic) - 1], dict(zip(PARTS, cells[1:], strict=True))


def load(source: str, options: Options) -> Dataset:
    """The data set of `imdb:PATH` or `ag_news:PATH`, an archive or its unpacked folder.

    Args:
        source: PATH may also be one CSV file of AG News; a relative one is also looked
            for in `options.data_dir`.
        options: fields are, for imdb, label: "label" (neg, pos) or "rating" (1 to 10);
            for ag_news, text: "title+description", "title" or "description".
    """
    kind, _, given = source.partition(":")
    if not given:
        raise ValueError(f"{source}: must be {kind}:PATH, an archive or a folder")
    path = Path(given).expanduser()
    if not path.exists() and options.data_dir is not None:
        other = Path(options.data_dir) / path
        path = other if other.exists() else path
    imdb = kind == "imdb"
    usual = {"text": "text" if imdb else "+".join(PARTS), "label": "label"}
    named = chosen(source, options.fields, usual)
    parts = named["text"].split("+")
    for part in parts:
        check_there(source, "text", part, ["text"] if imdb else PARTS)
    labels = ["label", "rating"] if imdb else ["label"]
    check_there(source, "label", named["label"], labels)
    rows = read_imdb(path, named["label"]) if imdb else read_ag_news(path, parts)
    classes = None if imdb else TOPICS
    return from_rows(rows, kind, options.length, options.min_count, classes)
