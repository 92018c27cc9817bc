"""Any prepared TFDS data set by its name: texts or images with a label.

Importing this module imports tensorflow_datasets; `jaxattn.data` does it late.
"""

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxattn.data.dataset import Dataset
from jaxattn.data.readers import builders, tfds_files
from jaxattn.data.readers.download import check_reachable
from jaxattn.data.readers.tfds_fields import KNOWN, flat, is_texts, known, named, values
from jaxattn.data.readers.tfds_images import from_images
from jaxattn.data.rows import Row, from_rows
from jaxattn.data.sources.snippets import one_line
from jaxattn.data.splits import ALIASES
from jaxattn.data.text import tokenize

Say = Callable[[str], None]


def load(
    source: str,
    length: int,
    min_count: int,
    data_dir: str | os.PathLike[str] | None = None,
    fields: Sequence[str] = (),
    download: bool = False,
    say: Say | None = None,
) -> Dataset:
    """The data set of `tfds:NAME[/CONFIG][:VERSION]`, prepared before.

    Texts become tokens; images in grey scalars [N, H*W], in colour vectors
    [N, H*W, channels], all in [0, 1]. An example without a label (-1) is left out;
    where that is the whole test split, validation takes its place.

    Args:
        source: with or without "tfds:".
        length, min_count: as of `jaxattn.data.load`; images have their own length.
        data_dir: where it is prepared; None is TFDS's usual place.
        fields: "label=stars" for each of the roles text, image, label, evidence (parts
            of the text, as texts), id and group; "text=a+b" joins two texts, "a/b" is
            a field within a field. Known for some data sets and guessed for others.
        download: whether it may be fetched and prepared where it is not there.
        say: called with one line for whatever was decided, and for progress.

    Raises: ValueError or OSError, one line, for what the user can put right.
    """
    name = source.removeprefix("tfds:")
    source = f"tfds:{name}"
    root = tfds_files.root_of(data_dir)
    say = say or (lambda line: None)
    builder = _builder(name, root, download, say)
    there = flat(builder.info.features)
    roles = named(source, builder, there, fields)
    configs = getattr(builder, "builder_configs", ())
    if len(configs) > 1 and "/" not in name:
        first = builder.builder_config.name
        say(f"{source} is {builder.name}/{first}, the first of {len(configs)}")
    if known(builder) is None:
        told = ", ".join(f"{role}={field}" for role, field in roles.items() if field)
        say(f"{source} is read with {told}")
    sides = _sides(source, list(builder.info.splits), say)
    sides = _labelled(source, builder, sides, roles["label"], say)
    short = re.sub(r"\W", "_", name.partition(":")[0])
    classes = getattr(there[roles["label"]], "names", None)
    if roles["image"]:
        return from_images(builder, short, sides, there, roles, say)
    rows = _rows(source, builder, sides, there, roles, say)
    return from_rows(rows, short, length, min_count, say, classes)


def _builder(name: str, root: Path, download: bool, say: Say) -> Any:
    builder = tfds_files.find(name, root, KNOWN)
    if tfds_files.is_prepared(builder):
        return builder
    own = builders.ours(builder.name, root)
    if own is not None and tfds_files.is_prepared(own):
        if own.name != builder.name:
            say(f"tfds:{name} is not prepared here: our own {own.name} is read instead")
        return own
    if not download:
        archive = own and own.ARCHIVE.source
        ours = own is not None and own.name == builder.name
        raise ValueError(tfds_files.unprepared(name, root, archive, ours))
    if own is not None:
        builders.prepare_ours(own, root, say)
        return own
    _prepare(name, builder, root, say)
    return builder


def _prepare(name: str, builder: Any, root: Path, say: Say) -> None:
    theirs = type(builder).__module__.startswith("tensorflow_datasets.")
    if theirs and importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"tfds:{name}: TFDS prepares it with TensorFlow, which is not installed: "
            f"pip install tensorflow, or run tfds build {name} --data_dir DIR where it "
            f"is, and copy DIR to {root}"
        )
    check_reachable(builder.url_infos or ())
    say(f"preparing {name} in {builder.data_path}")
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            file_format="array_record",
        )
    except Exception as error:
        # Whatever a builder does, and its download: there are hundreds of them.
        raise OSError(f"cannot prepare tfds:{name}: {one_line(error)}") from error


def _sides(source: str, splits: Sequence[str], say: Say) -> dict[str, str | None]:
    """The split of ours of each split that is read; None where we divide it."""
    found: dict[str, str | None] = {n: ALIASES[n] for n in splits if n in ALIASES}
    taken = found.values()
    left = [name for name in splits if name not in found]
    if "train" not in taken and len(splits) > 1:
        raise ValueError(f"{source}: no split train; there are: {', '.join(splits)}")
    if not found or len(found) == 1:
        return {splits[0] if not found else next(iter(found)): None}
    if left:
        say(f"{source}: not read: {', '.join(left)}")
    return found


def _labelled(
    source: str, builder: Any, sides: dict[str, str | None], label: str, say: Say
) -> dict[str, str | None]:
    """The same splits, but for a test split whose labels are held back (all -1)."""
    feature = flat(builder.info.features)[label]
    tests = [name for name, side in sides.items() if side == "test"]
    if not tests or not isinstance(feature, tfds.features.ClassLabel):
        return sides
    examples = (raw for name in tests for raw in tfds_files.records(builder, name))
    if any(values(raw, [label], source)[label] != [-1] for raw in examples):
        return sides
    kept = {name: side for name, side in sides.items() if side != "test"}
    if set(kept.values()) == {"train"}:
        say(f"{source}: test has no labels and is left out; train is divided")
        return {name: None for name in kept}
    say(f"{source}: test has no labels: validation is read in its place")
    return {n: "test" if side == "validation" else side for n, side in kept.items()}


def _rows(
    source: str,
    builder: Any,
    sides: Mapping[str, str | None],
    there: Mapping[str, Any],
    roles: Mapping[str, str],
    say: Say,
) -> Iterator[Row]:
    own = known(builder)
    clean = own.clean if own else str
    texts = roles["text"].split("+")
    wanted = [*texts, *(roles[r] for r in ("label", "evidence", "id", "group"))]
    wanted = list(filter(None, wanted))
    coded = isinstance(there[roles["label"]], tfds.features.ClassLabel)
    unlabelled = parts = missed = 0
    for split, side in sides.items():
        for number, raw in enumerate(tfds_files.records(builder, split), 1):
            where = f"{source}, {split} {number}"
            got = {
                name: [_decoded(v, where) for v in held]
                for name, held in values(raw, wanted, where).items()
            }
            label = _one(got, roles["label"], where)
            if coded and label == -1:
                unlabelled += 1
                continue
            tokens: list[str] = []
            for name in texts:
                if is_texts(there[name]):
                    tokens += [token.lower() for token in got[name]]
                else:
                    tokens += tokenize(clean(_one(got, name, where)))
            evidence = None
            marked = [tokenize(clean(part)) for part in got.get(roles["evidence"], ())]
            if any(marked):
                evidence, lost = located(tokens, marked)
                parts, missed = parts + len(marked), missed + lost
            yield Row(
                tokens,
                label,
                where,
                evidence,
                side,
                str(_one(got, roles["id"], where)) if roles["id"] else None,
                str(_one(got, roles["group"], where) or "") or None
                if roles["group"]
                else None,
            )
    if unlabelled:
        say(f"{source}: left out {unlabelled:,} examples without a label")
    if missed:
        say(f"{source}: {missed:,} of {parts:,} parts marked as evidence are not found")


def _decoded(value: Any, where: str) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not a text in UTF-8") from None


def _one(got: Mapping[str, list], name: str, where: str) -> Any:
    if len(got[name]) != 1:
        raise ValueError(f"{where}: {name} has {len(got[name])} values instead of one")
    return got[name][0]


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
        found = whole.find(text, since.get(text, 0)) if part else -1
        missed += found < 0
        if found >= 0:
            since[text] = found + 1
            start = whole.count("\0", 0, found)
            evidence[start : start + len(part)] = [1.0] * len(part)
    return evidence, missed
