"""Data sets that TFDS has prepared, found and read without TensorFlow.

Importing this module imports tensorflow_datasets; `jaxattn.data` does it late.
"""

import contextlib
import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.constants import DATA_DIR
from tensorflow_datasets.core.file_adapters import FileFormat

from jaxattn.data import progress
from jaxattn.data.snippets import one_line, quiet
from jaxattn.data.tfrecord import read_tfrecord

_NAME = re.compile(r"[A-Za-z]\w*(/[\w+.-]+)?(:\d+\.\d+\.\d+)?")
_CHUNK = 1000

Say = Callable[[str], None] | None


def root_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data; None is TFDS's usual place."""
    return Path(os.path.abspath(os.path.expanduser(data_dir or DATA_DIR)))


def find(name: str, root: Path, known: Iterable[str] = ()) -> Any:
    """The builder of NAME[/CONFIG][:VERSION], prepared or not; asks no network.

    `known` are more names to suggest. Raises: ValueError, with the nearest names, where
    there is no such data set, configuration or version.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"tfds:{name}: must be tfds:NAME, /CONFIG and :VERSION may follow"
        )
    try:
        with quiet():
            return tfds.builder(name, data_dir=root)
    except registered.DatasetNotFoundError:
        raise ValueError(_unknown(name, root, known)) from None
    except Exception as error:
        # From a class of its own per mistake: ValueError, AssertionError and others.
        raise ValueError(_misnamed(name, root, error)) from error


def _unknown(name: str, root: Path, known: Iterable[str]) -> str:
    base = re.split("[/:]", name)[0]
    full = {n: n for n in (*registered.list_imported_builders(), *_in(root))}
    # "sst2" is a configuration: it must find "glue/sst2".
    full |= {n.partition("/")[2]: n for n in known if "/" in n}
    near = difflib.get_close_matches(base.lower(), full, n=3, cutoff=0.6)
    near += [n for n in full if base.lower() in n and n not in near]
    hint = perhaps([full[n] for n in near[:3]])
    return f"tfds:{name}: TFDS has no data set {base!r}{hint}{_there(root)}"


def perhaps(names: Sequence[str]) -> str:
    """A clause that suggests names, where there are any."""
    return f"; perhaps you meant {' or '.join(names)}" if names else ""


def _misnamed(name: str, root: Path, error: Exception) -> str:
    base, _, rest = name.partition("/")
    base = base.partition(":")[0]
    wrong = rest.partition(":")[0]
    configs: list[str] = []
    with contextlib.suppress(Exception):  # a data set known from its files alone
        configs = list(tfds.builder_cls(base).builder_configs)
    if wrong and configs and wrong not in configs:
        near = difflib.get_close_matches(wrong, configs, n=3, cutoff=0.5)
        hint = perhaps(near) or f"; it has {', '.join(configs[:10])}"
        return f"tfds:{name}: {base} has no configuration {wrong!r}{hint}"
    # TFDS puts the call in front of what is wrong with it.
    reason = " ".join(str(error).rpartition('}": ')[2].split())
    return f"tfds:{name}: {reason[:200]}{_there(root, base)}"


def _in(root: Path, name: str = "*") -> dict[str, list[str]]:
    """What is prepared in a folder: name -> "config/version" or "version"."""
    found: dict[str, list[str]] = {}
    for depth in ("*", "*/*"):
        for info in sorted(root.glob(f"{name}/{depth}/dataset_info.json")):
            base, *rest = info.parent.relative_to(root).parts
            if not any(part.startswith("incomplete.") for part in rest):
                found.setdefault(base, []).append("/".join(rest))
    return found


def _there(root: Path, name: str = "*") -> str:
    found = [
        f"{base}/{rest}" for base, all_ in _in(root, name).items() for rest in all_
    ]
    if not found and name != "*":
        return ""
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"; prepared in {root}: {', '.join(found[:5]) or 'nothing'}{more}"


def is_prepared(builder: Any) -> bool:
    """Whether the data are there; asks no network."""
    with quiet():
        return builder.is_prepared()


def unprepared(name: str, root: Path, archive: str | None, ours: bool) -> str:
    """What to do about a data set that is not prepared, in one line.

    Args:
        archive: what --data would be for the archive, where we read it.
        ours: whether it is known to this package alone.
    """
    base = re.split("[/:]", name)[0]
    ways = [f"give that, or the archive as --data {archive}"] if archive else []
    if not ours:
        folder = shlex.quote(str(root))
        ways += [
            f"run, where TensorFlow is installed, tfds build {name} --data_dir {folder}"
        ]
    return (
        f"tfds:{name} is not prepared in {root}, and nothing is downloaded unless "
        f"--download is given: {', or '.join(ways)}{_there(root, base)}"
    )


def records(builder: Any, split: str, say: Say = None) -> Iterator[bytes]:
    """The serialised examples of a split, in order, of array_record or TFRecord files.

    Raises: ValueError for damaged files, or a format that needs more than TFDS; names
    the folder.
    """
    folder = builder.data_path
    kind = builder.info.file_format
    if kind not in (FileFormat.ARRAY_RECORD, FileFormat.TFRECORD):
        raise ValueError(
            f"{folder} holds {kind.value} files; allowed: array_record and tfrecord"
        )
    part = builder.info.splits[split]
    read = _array_records if kind is FileFormat.ARRAY_RECORD else _tfrecords
    done, due = 0, progress.clock()
    try:
        for chunk in read(builder, split):
            # An array_record file cut off at 64 KB has all its records, but empty.
            if not all(chunk):
                raise ValueError(f"empty records in {split}")
            done += len(chunk)
            yield from chunk
            if say is not None and due():
                say(f"read {done:,} of {part.num_examples:,} examples of {split}")
        if done != part.num_examples:
            raise ValueError(f"{done} of {part.num_examples} examples of {split}")
    except PermissionError as error:
        raise OSError(f"cannot read {folder}: {one_line(error)}") from error
    except Exception as error:
        # Damage shows as anything from an OSError to Riegeli's RuntimeError.
        raise ValueError(
            f"damaged prepared data in {folder} ({one_line(error)}): delete that "
            "folder and prepare it again"
        ) from error


def _array_records(builder: Any, split: str) -> Iterator[list[bytes]]:
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    with quiet():
        source = builder.as_data_source(split, deserialize_method=raw)
        total = len(source)
    for start in range(0, total, _CHUNK):
        yield source.__getitems__(range(start, min(start + _CHUNK, total)))


def _tfrecords(builder: Any, split: str) -> Iterator[list[bytes]]:
    part = builder.info.splits[split]
    for file, expected in zip(part.filepaths, part.shard_lengths, strict=True):
        found = read_tfrecord(file)
        if len(found) != expected:
            raise ValueError(f"{file}: {len(found)} records, {expected} expected")
        yield found
