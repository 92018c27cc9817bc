"""The embedded rated snippets as a TFDS data set, without TensorFlow.

This module imports tensorflow_datasets, so others import it late.
"""

import bz2
import contextlib
import hashlib
import importlib.resources
import io
import logging
import os
import random
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tensorflow_datasets.proto as tfds_proto
from tensorflow_datasets.core.constants import DATA_DIR

from jaxattn.data.sources import SOURCES
from jaxattn.system.errors import reason

log = logging.getLogger("jaxattn")

COUNT = 23_703

# Of what is read back. A change of the data needs a new VERSION and a new digest.
DIGEST = "1f66f24739592d0fc57a77290d5ffbcb2ceddc5a9cb351602403d7a60d426a84"
STALE_SECONDS = 3600
_proto: Any = tfds_proto.tf_example_pb2


class Snippets(NamedTuple):
    """The 23,703 snippets in the order of the source.

    ids: "movie-12", "tweet-12", "amazon-3_7" and "nyt-3_7" (document 3, sentence 7).
    ratings, spreads: [N] float32, mean (-4 to 4) and standard deviation over people.
    """

    ids: list[str]
    sources: list[str]
    texts: list[str]
    ratings: np.ndarray
    spreads: np.ndarray


def embedded_rows() -> Iterator[tuple[str, float, float, str]]:
    """(id, rating, spread, text) of each snippet shipped with the package."""
    file = importlib.resources.files("jaxattn.data") / "hutto" / "snippets.tsv.bz2"
    lines = bz2.decompress(file.read_bytes()).decode().split("\n")
    for line in lines[1:-1]:
        id_, rating, spread, text = line.split("\t")
        yield id_, float(rating), float(spread), text


class HuttoSnippets(tfds.core.GeneratorBasedBuilder):
    """Short texts from four sources, each rated by about 20 people (-4 to 4)."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "source": tfds.features.ClassLabel(names=list(SOURCES)),
                    "text": tfds.features.Text(),
                    "rating": np.float32,
                    "spread": np.float32,
                }
            ),
            homepage="https://pypi.org/project/vaderSentiment/3.3.2/",
            citation=(
                "C.J. Hutto and E.E. Gilbert (2014). VADER: A Parsimonious Rule-based "
                "Model for Sentiment Analysis of Social Media Text. ICWSM-14."
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"full": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, (id_, rating, spread, text) in enumerate(embedded_rows()):
            yield (
                key,
                {
                    "id": id_,
                    "source": id_.partition("-")[0],
                    "text": text,
                    "rating": rating,
                    "spread": spread,
                },
            )


def load_snippets(data_dir: str | os.PathLike[str] | None = None) -> Snippets:
    """Reads the snippets through TFDS, preparing them first where needed.

    Args:
        data_dir: folder for prepared data; None is TFDS's usual place
            (TFDS_DATA_DIR, else tensorflow_datasets in the home folder).

    Raises:
        ValueError: the prepared data are damaged; names the folder to delete.
        OSError: the folder cannot be written or read, or the disk is full.
    """
    folder = folder_of(data_dir)
    if not _exists(folder):
        log.info(f"preparing {COUNT:,} snippets in {folder}")
        _prepare(folder)
    return _read(folder)


def folder_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where the snippets are prepared, or would be; None is TFDS's usual place."""
    root = Path(os.path.abspath(os.path.expanduser(data_dir or DATA_DIR)))
    return root / HuttoSnippets.name / str(HuttoSnippets.VERSION)


def _exists(folder: Path) -> bool:
    try:
        folder.stat()
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


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


def _builder(folder: Path) -> Any:
    root = os.fspath(folder.parents[1])
    return HuttoSnippets(data_dir=root, file_format="array_record")


def _prepare(folder: Path) -> None:
    """Prepares the snippets in their folder, whole or not at all; raises OSError."""
    # TFDS draws the name of its temporary folder from `random`: two processes that
    # seeded it alike would write into the same one.
    state = random.getstate()
    random.seed()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with quiet():
            _builder(folder).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (OSError, RuntimeError) as error:
        # Another process may have been first; then its data are as good as ours.
        if _exists(folder):
            return
        raise OSError(
            f"cannot prepare the snippets in {folder}: {reason(error)}; "
            "free space there or choose another data_dir"
        ) from error
    finally:
        random.setstate(state)


def _remove_stale(folder: Path) -> None:
    # A killed process leaves its temporary folder; a running one is minutes old.
    oldest = time.time() - STALE_SECONDS
    for left in folder.parent.glob(f"incomplete.*_{folder.name}"):
        with contextlib.suppress(OSError):
            if max(p.stat().st_mtime for p in (left, *left.iterdir())) < oldest:
                shutil.rmtree(left, ignore_errors=True)


def _read(folder: Path) -> Snippets:
    damage = "its content is not what was prepared"
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        with quiet():
            source = _builder(folder).as_data_source("full", deserialize_method=raw)
            records = source.__getitems__(range(len(source)))
        ids, sources, texts, ratings, spreads = zip(*map(_parse, records), strict=True)
        snippets = Snippets(
            ids=list(ids),
            sources=list(sources),
            texts=list(texts),
            ratings=np.array(ratings, np.float32),
            spreads=np.array(spreads, np.float32),
        )
        if digest(snippets) == DIGEST:
            return snippets
    except PermissionError as error:
        raise OSError(f"cannot read {folder}: {reason(error)}") from error
    except Exception as error:
        # Damage shows as anything from a JSON error to Riegeli's RuntimeError.
        damage = reason(error)
    raise ValueError(
        f"damaged prepared data in {folder} ({damage}); delete that folder and run "
        "again"
    )


def _parse(record: bytes) -> tuple[str, str, str, float, float]:
    # Ten times faster than to let TFDS decode each example.
    example = _proto.Example.FromString(record).features.feature
    return (
        example["id"].bytes_list.value[0].decode(),
        SOURCES[example["source"].int64_list.value[0]],
        example["text"].bytes_list.value[0].decode(),
        example["rating"].float_list.value[0],
        example["spread"].float_list.value[0],
    )


def digest(snippets: Snippets) -> str:
    """sha256 (hex) of all that a `Snippets` holds."""
    state = hashlib.sha256()
    for column in (snippets.ids, snippets.sources, snippets.texts):
        state.update("\n".join(column).encode() + b"\0")
    for array in (snippets.ratings, snippets.spreads):
        state.update(array.astype("<f4").tobytes())
    return state.hexdigest()
