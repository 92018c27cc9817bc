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
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxattn.data.dataset import Dataset
from jaxattn.data.limits import followed
from jaxattn.data.readers.options import Options, check_there, chosen
from jaxattn.data.rows import Row, from_rows
from jaxattn.data.text import tokenize

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
_REVIEW = re.compile(r"(?:.*/)?(train|test)/(pos|neg)/(\d+)_(\d+)\.txt")
_FILMS = re.compile(r"(?:.*/)?(train|test)/urls_(pos|neg)\.txt")
_TABLE = re.compile(r"(?:.*/)?(train|test)\.csv")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_HALF_ENTITY = re.compile(r"(?<![&\w])#(\d{2,4});")


class Review(NamedTuple):
    """A film review of the IMDB archive."""

    id: str
    split: str
    label: str
    rating: int
    """1 to 10: neg has 1 to 4, pos 7 to 10."""
    text: str
    film: str | None
    """What its reviews share; None where the archive does not say."""


class Article(NamedTuple):
    """A news item of AG News."""

    id: str
    split: str | None
    label: str
    title: str
    description: str
    where: str


def without_breaks(text: str) -> str:
    """IMDB's texts have HTML line breaks, which are no words."""
    return _BREAK.sub(" ", text)


def without_remains(text: str) -> str:
    """AG News has halves of HTML entities ("#39;") and backslashes for line breaks."""
    whole = _HALF_ENTITY.sub(r"&#\1;", text.replace("\\", " "))
    return html.unescape(whole)


def members(path: Path, wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted files of a folder or, streamed, of a `.tar.gz`.

    Raises: ValueError where it is no gzipped tar, or cut off or damaged; OSError.
    """
    if path.is_dir():
        for folder, inner, files in os.walk(path):
            inner.sort()
            for file in sorted(files):
                name = (Path(folder) / file).relative_to(path.parent).as_posix()
                if wanted(name):
                    yield name, (Path(folder) / file).read_bytes()
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


def read_imdb(path: Path) -> list[Review]:
    """All labelled reviews of aclImdb_v1.tar.gz or its folder, in a fixed order.

    Raises: ValueError where there are none or one is no text; OSError.
    """
    reviews: list[Review] = []
    films: dict[tuple[str, str], list[str]] = {}
    files = members(path, lambda n: _REVIEW.fullmatch(n) or _FILMS.fullmatch(n))
    for name, raw in followed(files, lambda n: f"read {n:,} files of {path.name}"):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path}, {name}: not a text in UTF-8") from None
        if listed := _FILMS.fullmatch(name):
            films[listed[1], listed[2]] = text.split()
            continue
        match = _REVIEW.fullmatch(name)
        assert match is not None, name
        split, label, number, rating = match.groups()
        if not 1 <= int(rating) <= 10:
            raise ValueError(f"{path}, {name}: rating {rating}; allowed: 1 to 10")
        id_ = f"{split}-{label}-{int(number):05d}"
        text = without_breaks(text)
        reviews.append(Review(id_, split, label, int(rating), text, None))
    if not reviews:
        raise ValueError(
            f"{path}: no review in it; expected files like aclImdb/train/pos/123_9.txt"
        )
    return [_with_film(review, films) for review in sorted(reviews)]


def _with_film(review: Review, films: dict[tuple[str, str], list[str]]) -> Review:
    listed = films.get((review.split, review.label), [])
    number = int(review.id.rpartition("-")[2])
    if number >= len(listed):
        return review
    # http://www.imdb.com/title/tt0453418/usercomments; train and test share no film.
    film = re.sub(r".*/title/([^/]+).*", r"\1", listed[number])
    return review._replace(film=f"{review.split}/{film}")


def read_ag_news(path: Path) -> list[Article]:
    """All articles of a .tar.gz or folder with train.csv and test.csv, or of one CSV.

    A line is class (1 to 4), title, description; a header is passed over.

    Raises: ValueError with the row, where a file is no such table or cut off; OSError.
    """
    if path.suffix == ".csv" and path.is_file():
        tables = [(path.name, path.read_bytes())]
    else:
        tables = sorted(members(path, _TABLE.fullmatch))
    articles: list[Article] = []
    for name, raw in tables:
        # One table alone has no split yet, whatever it is called.
        split = _TABLE.fullmatch(name) if len(tables) > 1 else None
        articles += _articles(path, name, split and split[1], raw)
    if not articles:
        raise ValueError(f"{path}: no article in it; expected train.csv and test.csv")
    return articles


def _articles(path: Path, name: str, split: str | None, raw: bytes) -> list[Article]:
    file = str(path) if path.name == name else f"{path}, {name}"
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not a text file in UTF-8") from None
    if text.count('"') % 2:
        raise ValueError(f"{file}: cut off, a quotation mark is not closed")
    articles = []
    for row, cells in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
        if row == 1 and len(cells) == 3 and not cells[0].strip().isdigit():
            continue  # a header, which the copies on other sites have
        where = f"{file}, row {row}"
        if len(cells) != 3:
            raise ValueError(
                f"{where}: {len(cells)} cells; expected class, title, text"
            )
        if cells[0].strip() not in ("1", "2", "3", "4"):
            raise ValueError(f"{where}: class {cells[0]!r}; allowed: 1, 2, 3, 4")
        title, description = map(without_remains, cells[1:])
        label = TOPICS[int(cells[0]) - 1]
        id_ = f"{split or 'row'}-{len(articles) + 1}"
        articles.append(Article(id_, split, label, title, description, where))
    return articles


def load(source: str, options: Options) -> Dataset:
    """The data set of `imdb:PATH` or `ag_news:PATH`, an archive or its unpacked folder.

    Args:
        source: PATH may also be one CSV file of AG News; a relative one is also looked
            for in `options.data_dir`.
        options: fields are, for imdb, label: "label" (neg, pos) or "rating" (1 to 10);
            for ag_news, text: "title+description", "title" or "description".

    Raises: ValueError or OSError, one line, for what the user can put right.
    """
    kind, _, given = source.partition(":")
    if not given:
        raise ValueError(f"{source}: must be {kind}:PATH, an archive or a folder")
    path = Path(given).expanduser()
    if not path.exists() and options.data_dir is not None:
        other = Path(options.data_dir) / path
        path = other if other.exists() else path
    if kind == "imdb":
        rows, classes = _imdb_rows(source, path, options), None
    else:
        rows, classes = _ag_news_rows(source, path, options), TOPICS
    return from_rows(rows, kind, options.length, options.min_count, classes)


def _imdb_rows(source: str, path: Path, options: Options) -> Iterator[Row]:
    named = chosen(source, options.fields, {"text": "text", "label": "label"})
    check_there(source, "text", named["text"], ["text"])
    check_there(source, "label", named["label"], ["label", "rating"])
    for review in read_imdb(path):
        yield Row(
            tokens=tokenize(review.text),
            label=review.rating if named["label"] == "rating" else review.label,
            where=f"{path}, {review.id}",
            split=review.split,
            id=review.id,
            group=review.film,
        )


def _ag_news_rows(source: str, path: Path, options: Options) -> Iterator[Row]:
    usual = {"text": "title+description", "label": "label"}
    named = chosen(source, options.fields, usual)
    for name in named["text"].split("+"):
        check_there(source, "text", name, ["title", "description"])
    check_there(source, "label", named["label"], ["label"])
    for article in read_ag_news(path):
        parts = [getattr(article, name) for name in named["text"].split("+")]
        yield Row(
            tokens=tokenize(" ".join(parts)),
            label=article.label,
            where=article.where,
            split=article.split,
            id=article.id,
        )
