"""The serialised examples of what TFDS has prepared, read without TensorFlow.

This module imports tensorflow_datasets, so others import it late.
"""

import contextlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
import tensorflow_datasets.proto as tfds_proto
from tensorflow_datasets.core.constants import DATA_DIR
from tensorflow_datasets.core.file_adapters import FileFormat

from jaxattn.system.errors import reason

_proto: Any = tfds_proto.tf_example_pb2
DOWNLOAD = tfds.download.DownloadConfig(try_download_gcs=False)
_HEAD, _CRC = 12, 4
"""Bytes in front of a record of a TFRecord file, its length among them, and behind."""
_CHUNK = 1000


def root_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data; None is TFDS's usual place."""
    return Path(os.path.abspath(os.path.expanduser(data_dir or DATA_DIR)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what TFDS says reaches the terminal."""
    # TFDS prints to stdout, draws tqdm bars on stderr and logs through absl, whose
    # handler may hold the real stderr.
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.disabled = before


@contextlib.contextmanager
def intact(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever fails within means that the prepared data in `folder` are damaged.

    Raises: ValueError, which names the folder; OSError where it may not be read.
    """
    try:
        yield
    except PermissionError as error:
        raise OSError(f"cannot read {folder}: {reason(error)}") from error
    except Exception as error:
        # Damage shows as anything from an OSError to Riegeli's RuntimeError.
        raise ValueError(
            f"damaged prepared data in {folder} ({reason(error)}); delete that folder "
            "and prepare it again"
        ) from error


def records(builder: Any, split: str) -> Iterator[bytes]:
    """The serialised examples of a split, in order, of array_record or TFRecord files.

    Raises: ValueError for damaged files, or a format that needs more than TFDS; names
    the folder.
    """
    folder, kind = builder.data_path, builder.info.file_format
    if kind not in (FileFormat.ARRAY_RECORD, FileFormat.TFRECORD):
        raise ValueError(
            f"{folder} holds {kind.value} files; allowed: array_record and tfrecord"
        )
    read = _array_records if kind is FileFormat.ARRAY_RECORD else _tfrecords
    done = 0
    with intact(folder):
        expected = builder.info.splits[split].num_examples
        for record in read(builder, split):
            # An array_record file cut off at 64 KB has all its records, but empty.
            if not record:
                raise ValueError(f"empty records in {split}")
            done += 1
            yield record
        if done != expected:
            raise ValueError(f"{done} of {expected} examples of {split}")


def _array_records(builder: Any, split: str) -> Iterator[bytes]:
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    with quiet():
        source = builder.as_data_source(split, deserialize_method=raw)
        total = len(source)
    for start in range(0, total, _CHUNK):
        yield from source.__getitems__(range(start, min(start + _CHUNK, total)))


def _tfrecords(builder: Any, split: str) -> Iterator[bytes]:
    part = builder.info.splits[split]
    for file, expected in zip(part.filepaths, part.shard_lengths, strict=True):
        own = read_tfrecord(file)
        if len(own) != expected:
            raise ValueError(f"{file}: {len(own)} records, {expected} expected")
        yield from own


def read_tfrecord(path: str | os.PathLike[str]) -> list[bytes]:
    """All records of a file, in order; their checksums are not checked.

    The format: length (8 bytes), its checksum (4), the record, its checksum (4).

    Raises: ValueError where the file ends within a record; OSError.
    """
    raw = Path(path).read_bytes()
    records, position = [], 0
    while position < len(raw):
        start = position + _HEAD
        if start > len(raw):
            break
        (size,) = struct.unpack_from("<Q", raw, position)
        position = start + size + _CRC
        records.append(raw[start : start + size])
    if position != len(raw):
        raise ValueError(f"{path}: cut off within record {max(len(records), 1)}")
    return records


def values(raw: bytes, fields: Iterable[str], where: str) -> dict[str, list]:
    """The values of some fields of a serialised example; ValueError where damaged.

    Ten times faster than to let TFDS decode the example.
    """
    try:
        example = _proto.Example.FromString(raw).features.feature
        kinds = {name: example[name].WhichOneof("kind") for name in fields}
        return {
            name: list(getattr(example[name], kind).value) if kind else []
            for name, kind in kinds.items()
        }
    except Exception as error:
        raise ValueError(f"{where}: damaged ({type(error).__name__})") from error
