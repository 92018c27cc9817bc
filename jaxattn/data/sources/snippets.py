"""The embedded rated snippets as a TFDS data set, without TensorFlow.

This module imports tensorflow_datasets, so others import it late.
"""

import contextlib
import hashlib
import logging
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxattn.data.sources import SOURCES
from jaxattn.data.text import embedded
from jaxattn.data.tfds_records import DOWNLOAD, intact, quiet, records, root_of, values
from jaxattn.system.errors import reason

log = logging.getLogger("jaxattn")
COUNT = 23_703

# Of what is read back. A change of the data needs a new VERSION and a new digest.
DIGEST = "1f66f24739592d0fc57a77290d5ffbcb2ceddc5a9cb351602403d7a60d426a84"
STALE_SECONDS = 3600
_FIELDS = ("id", "source", "text", "rating", "spread")


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
    for id_, rating, spread, text in embedded("snippets"):
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
            row = (id_, id_.partition("-")[0], text, rating, spread)
            yield key, dict(zip(_FIELDS, row, strict=True))


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
    if not folder.exists():
        log.info(f"preparing {COUNT:,} snippets in {folder}")
        _prepare(folder)
    return _read(folder)


def folder_of(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where the snippets are prepared, or would be; None is TFDS's usual place."""
    name, version = HuttoSnippets.name, str(HuttoSnippets.VERSION)
    return root_of(data_dir) / name / version


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
            _builder(folder).download_and_prepare(download_config=DOWNLOAD)
    except (OSError, RuntimeError) as error:
        # Another process may have been first; then its data are as good as ours.
        if folder.exists():
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
    with intact(folder):
        builder = _builder(folder)
    raw = list(records(builder, "full"))
    with intact(folder):
        rows = [values(record, _FIELDS, "") for record in raw]
        columns = {name: [row[name][0] for row in rows] for name in _FIELDS}
        snippets = Snippets(
            ids=[id_.decode() for id_ in columns["id"]],
            sources=[SOURCES[source] for source in columns["source"]],
            texts=[text.decode() for text in columns["text"]],
            ratings=np.array(columns["rating"], np.float32),
            spreads=np.array(columns["spread"], np.float32),
        )
        if digest(snippets) != DIGEST:
            raise ValueError("its content is not what was prepared")
    return snippets


def digest(snippets: Snippets) -> str:
    """sha256 (hex) of all that a `Snippets` holds."""
    state = hashlib.sha256()
    for column in (snippets.ids, snippets.sources, snippets.texts):
        state.update("\n".join(column).encode() + b"\0")
    for array in (snippets.ratings, snippets.spreads):
        state.update(array.astype("<f4").tobytes())
    return state.hexdigest()
