"""Any prepared TFDS data set by its name: texts or images with a label.

This module imports tensorflow_datasets, so others import it late.
"""

import contextlib
import importlib.util
import logging
import re
import shlex
import socket
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers.options import Options
from jaxattn.data.readers.tfds_fields import (
    KNOWN,
    Source,
    flat,
    kind_of,
    known,
    named,
    one,
)
from jaxattn.data.readers.tfds_images import from_images
from jaxattn.data.rows import Row, from_rows
from jaxattn.data.splits import ALIASES
from jaxattn.data.text import tokenize
from jaxattn.data.tfds_records import DOWNLOAD, quiet, records, root_of, values
from jaxattn.system.errors import nearest, reason
from jaxattn.system.lines import decoded

log = logging.getLogger("jaxattn")
_NAME = re.compile(r"[A-Za-z]\w*(/[\w+.-]+)?(:\d+\.\d+\.\d+)?")


def load(source: str, options: Options) -> Dataset:
    """The data set of `tfds:NAME[/CONFIG][:VERSION]`, prepared before.

    Texts become tokens; images in grey scalars [N, H*W], in colour vectors
    [N, H*W, channels], all in [0, 1]. An example without a label (-1) is left out;
    where that is the whole test split, validation takes its place.

    Args:
        source: with or without "tfds:".
        options: fields are "label=stars" for each of the roles text, image, label,
            evidence (parts of the text, as texts), id and group; "text=a+b" joins two
            texts, "a/b" is a field within a field. They are known for some data sets
            and guessed for others. Images have their own length.
    """
    name = source.removeprefix("tfds:")
    source = f"tfds:{name}"
    root = root_of(options.data_dir)
    builder = _builder(name, root, options.download)
    there = flat(builder.info.features)
    roles = named(source, builder, there, options.fields)
    configs = getattr(builder, "builder_configs", ())
    if len(configs) > 1 and "/" not in name:
        first = builder.builder_config.name
        log.info(f"{source} is {builder.name}/{first}, the first of {len(configs)}")
    if known(builder) is None:
        told = ", ".join(f"{role}={field}" for role, field in roles.items() if field)
        log.info(f"{source} is read with {told}")
    splits = _splits(source, list(builder.info.splits))
    read = Source(source, builder, splits, there, roles)
    read = read._replace(splits=_labelled(read))
    short = re.sub(r"\W", "_", name.partition(":")[0])
    if roles["image"]:
        return from_images(read, short)
    classes = getattr(there[roles["label"]], "names", None)
    return from_rows(_rows(read), short, options.length, options.min_count, classes)


def _builder(name: str, root: Path, download: bool) -> Any:
    """The builder of NAME[/CONFIG][:VERSION], whose data are prepared.

    It asks no network, unless `download` says so and they are not prepared.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"tfds:{name}: must be tfds:NAME, /CONFIG and :VERSION may follow"
        )
    try:
        with quiet():
            builder = tfds.builder(name, data_dir=root)
    except registered.DatasetNotFoundError:
        raise ValueError(_unknown(name, root)) from None
    except Exception as error:
        # From a class of its own per mistake: ValueError, AssertionError and others.
        raise ValueError(_misnamed(name, root, error)) from error
    with quiet():
        prepared = builder.is_prepared()
    if not prepared:
        if not download:
            raise ValueError(_unprepared(name, root))
        _prepare(name, builder, root)
    return builder


def _unknown(name: str, root: Path) -> str:
    base = re.split("[/:]", name)[0]
    there = [prepared.partition("/")[0] for prepared in _in(root)]
    full = {n: n for n in (*registered.list_imported_builders(), *there)}
    # "sst2" is a configuration: it must find "glue/sst2".
    full |= {n.partition("/")[2]: n for n in KNOWN if "/" in n}
    near = nearest(base.lower(), full, n=3)
    near += [n for n in full if base.lower() in n and n not in near]
    hint = _perhaps([full[n] for n in near[:3]])
    return f"tfds:{name}: TFDS has no data set {base!r}{hint}{_there(root)}"


def _perhaps(names: list[str]) -> str:
    return f"; perhaps you meant {' or '.join(names)}" if names else ""


def _misnamed(name: str, root: Path, error: Exception) -> str:
    base, _, rest = name.partition("/")
    base = base.partition(":")[0]
    wrong = rest.partition(":")[0]
    configs: list[str] = []
    with contextlib.suppress(Exception):  # a data set known from its files alone
        configs = list(tfds.builder_cls(base).builder_configs)
    if wrong and configs and wrong not in configs:
        near = nearest(wrong, configs, n=3, cutoff=0.5)
        hint = _perhaps(near) or f"; it has {', '.join(configs[:10])}"
        return f"tfds:{name}: {base} has no configuration {wrong!r}{hint}"
    # TFDS puts the call in front of what is wrong with it.
    text = reason(str(error).rpartition('}": ')[2])
    return f"tfds:{name}: {text}{_there(root, base)}"


def _in(root: Path, name: str = "*") -> list[str]:
    """What is prepared in a folder, as "name/config/version" or "name/version"."""
    depths = (f"{name}/{depth}/dataset_info.json" for depth in ("*", "*/*"))
    infos = [info for depth in depths for info in sorted(root.glob(depth))]
    names = [info.parent.relative_to(root).as_posix() for info in infos]
    return [name for name in names if "/incomplete." not in name]


def _there(root: Path, name: str = "*") -> str:
    there = _in(root, name)
    if not there and name != "*":
        return ""
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return f"; prepared in {root}: {', '.join(there[:5]) or 'nothing'}{more}"


ARCHIVES = {
    "imdb_reviews": "imdb:aclImdb_v1.tar.gz",
    "ag_news_subset": "ag_news:ag_news_csv.tar.gz",
}
"""What --data may be for the archive that such a data set is made from."""


def _unprepared(name: str, root: Path) -> str:
    """What to do about a data set that is not prepared, in one line."""
    base, folder = re.split("[/:]", name)[0], shlex.quote(str(root))
    archive = ARCHIVES.get(base)
    other = f"give its archive as --data {archive}, or " if archive else ""
    return (
        f"tfds:{name} is not prepared in {root}, and nothing is downloaded unless "
        f"--download is given: {other}run, where TensorFlow is installed, tfds build "
        f"{name} --data_dir {folder}{_there(root, base)}"
    )


def _prepare(name: str, builder: Any, root: Path) -> None:
    theirs = type(builder).__module__.startswith("tensorflow_datasets.")
    if theirs and importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"tfds:{name}: TFDS prepares it with TensorFlow, which is not installed: "
            f"pip install tensorflow, or run tfds build {name} --data_dir DIR where it "
            f"is, and copy DIR to {root}"
        )
    check_reachable(builder.url_infos or ())
    log.info(f"preparing {name} in {builder.data_path}")
    try:
        builder.download_and_prepare(
            download_config=DOWNLOAD, file_format="array_record"
        )
    except Exception as error:
        # Whatever a builder does, and its download: there are hundreds of them.
        raise OSError(f"cannot prepare tfds:{name}: {reason(error)}") from error


def check_reachable(urls: Iterable[str]) -> None:
    """Raises OSError where the host of a url has no address.

    TFDS itself tries for more than three minutes before it says so. Behind a proxy
    nothing can be said beforehand.
    """
    if urllib.request.getproxies():
        return
    for host in sorted({urlsplit(url).hostname or "" for url in urls} - {""}):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise OSError(
                f"cannot reach {host} ({error}): is there a network?"
            ) from error


def _splits(source: str, names: Sequence[str]) -> dict[str, str | None]:
    """The split of ours for each one that is read; None where we divide it."""
    known: dict[str, str | None] = {n: ALIASES[n] for n in names if n in ALIASES}
    left = [name for name in names if name not in known]
    if "train" not in known.values() and len(names) > 1:
        raise ValueError(f"{source}: no split train; there are: {', '.join(names)}")
    if len(known) < 2:
        return {next(iter(known), names[0]): None}
    if left:
        log.info(f"{source}: not read: {', '.join(left)}")
    return known


def _labelled(read: Source) -> dict[str, str | None]:
    """The same splits, but for a test split whose labels are held back (all -1)."""
    tests = {name: ours for name, ours in read.splits.items() if ours == "test"}
    if not tests or not read.coded():
        return read.splits
    label = read.roles["label"]
    examples = (raw for name in tests for raw in records(read.builder, name))
    if any(values(raw, [label], read.name)[label] != [-1] for raw in examples):
        return read.splits
    kept = {name: ours for name, ours in read.splits.items() if ours != "test"}
    if set(kept.values()) == {"train"}:
        log.info(f"{read.name}: test has no labels and is left out; train is divided")
        return dict.fromkeys(kept)
    log.info(f"{read.name}: test has no labels: validation is read in its place")
    return {n: "test" if ours == "validation" else ours for n, ours in kept.items()}


def _rows(read: Source) -> Iterator[Row]:
    own, roles = known(read.builder), read.roles
    clean = own.clean if own else str
    texts = roles["text"].split("+")
    parts = missed = 0
    wanted = (*texts, *(roles[role] for role in ("evidence", "id", "group")))
    for where, ours, got in read.examples(*wanted):
        tokens: list[str] = []
        for name in texts:
            if kind_of(read.there[name]) == "texts":
                tokens += [decoded(token, where).lower() for token in got[name]]
            else:
                tokens += tokenize(clean(one(got, name, where)))
        evidence = None
        pieces = [decoded(piece, where) for piece in got.get(roles["evidence"], ())]
        marked = [tokenize(clean(piece)) for piece in pieces]
        if any(marked):
            evidence, lost = located(tokens, marked)
            parts, missed = parts + len(marked), missed + lost
        label = one(got, roles["label"], where)
        id_ = str(one(got, roles["id"], where)) if roles["id"] else None
        group = str(one(got, roles["group"], where) or "") if roles["group"] else ""
        yield Row(tokens, label, where, evidence, ours, id_, group or None)
    if missed:
        log.info(
            f"{read.name}: {missed:,} of {parts:,} parts marked as evidence are not "
            "found"
        )


def located(
    tokens: Sequence[str], parts: Sequence[Sequence[str]]
) -> tuple[list[float], int]:
    """Evidence [T], 1 in the parts of a text, and how many parts are not in it.

    A part that the text has several times is its first place, one that is marked
    several times its first places.
    """
    whole = "\0" + "\0".join(tokens) + "\0"
    evidence, missed = [0.0] * len(tokens), 0
    since: dict[str, int] = {}
    for part in parts:
        text = "\0" + "\0".join(part) + "\0"
        place = whole.find(text, since.get(text, 0)) if part else -1
        missed += place < 0
        if place >= 0:
            since[text] = place + 1
            start = whole.count("\0", 0, place)
            evidence[start : start + len(part)] = [1.0] * len(part)
    return evidence, missed
