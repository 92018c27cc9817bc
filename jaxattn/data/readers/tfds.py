"""Any prepared TFDS data set by its name: texts or images with a label.

This module imports tensorflow_datasets, so others import it late.
"""

import importlib.util
import logging
import re
import socket
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import tfds_files
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
from jaxattn.system.errors import reason
from jaxattn.system.lines import decoded

log = logging.getLogger("jaxattn")


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
    builder = tfds_files.find(name, root, KNOWN)
    with quiet():
        prepared = builder.is_prepared()
    if not prepared:
        if not download:
            raise ValueError(tfds_files.unprepared(name, root))
        _prepare(name, builder, root)
    return builder


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
