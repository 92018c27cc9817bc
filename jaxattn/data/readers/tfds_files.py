"""Data sets that TFDS has prepared, found and read without TensorFlow.

Importing this module imports tensorflow_datasets; `jaxattn.data` does it late.

Records of TFRecord files without TensorFlow, every checksum checked.
"""

import contextlib
import difflib
import functools
import os
import re
import shlex
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.constants import DATA_DIR
from tensorflow_datasets.core.file_adapters import FileFormat

from jaxattn.data import limits
from jaxattn.data.sources.snippets import one_line, quiet

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected

_HEAD, _CRC = 12, 4


@functools.cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
        table = (table >> np.uint32(1)) ^ odd
    return table


def masked_crcs(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Masked CRC-32C [N] uint32 of N pieces of `data` [bytes] uint8.

    All pieces advance together, a byte at a time: a loop over bytes in Python would
    take a minute for what takes a second here. The mask is TFRecord's: rotated right by
    15 bits, plus a constant.
    """
    table = _table()
    # Longest first, so that those not yet at their end are a prefix.
    order = np.argsort(-sizes, kind="stable")
    starts, sizes = starts[order], sizes[order]
    state = np.full(len(sizes), 0xFFFFFFFF, np.uint32)
    active = len(sizes)
    for step in range(int(sizes[0]) if len(sizes) else 0):
        while sizes[active - 1] <= step:
            active -= 1
        now = state[:active]
        byte = data[starts[:active] + step]
        state[:active] = table[(now ^ byte) & np.uint32(255)] ^ (now >> np.uint32(8))
    crc = np.empty_like(state)
    crc[order] = ~state
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(0xA282EAD8)


def read_tfrecord(path: str | os.PathLike[str]) -> list[bytes]:
    """All records of a file, in order.

    The format: length (8 bytes), its checksum (4), the record, its checksum (4).

    Raises:
        ValueError: the file ends within a record, or a checksum is wrong; names the
            record.
        OSError: it cannot be read.
    """
    raw = Path(path).read_bytes()
    data = np.frombuffer(raw, np.uint8)
    heads, sizes, position = [], [], 0
    while position + _HEAD <= len(raw):
        heads.append(position)
        sizes.append(struct.unpack_from("<Q", raw, position)[0])
        position += _HEAD + sizes[-1] + _CRC
    # Lengths first: a damaged one looks like a file that is cut off.
    wrong = _wrong(data, np.array(heads, np.int64), np.full(len(heads), 8))
    cut = position != len(raw)
    if cut and position > len(raw):
        heads, sizes = heads[:-1], sizes[:-1]
    starts = np.array(heads, np.int64) + _HEAD
    wrong += _wrong(data, starts, np.array(sizes, np.int64))
    if wrong:
        raise ValueError(f"{path}: record {min(wrong) + 1} is damaged (wrong checksum)")
    if cut:
        raise ValueError(f"{path}: cut off within record {len(heads) + 1}")
    return [raw[a : a + n] for a, n in zip(starts, sizes, strict=True)]


def _wrong(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> list[int]:
    after = starts + sizes
    stored = sum(data[after + i].astype(np.uint32) << (8 * i) for i in range(_CRC))
    return np.flatnonzero(masked_crcs(data, starts, sizes) != stored).tolist()


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
    done, due = 0, limits.clock()
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
