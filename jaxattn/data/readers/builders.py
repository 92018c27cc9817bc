"""IMDB with its ratings and AG News as TFDS data sets, prepared without TensorFlow.

TFDS's own builders of the two, imdb_reviews and ag_news_subset, unpack with TensorFlow.
Importing this module imports tensorflow_datasets.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxattn.data.readers import archives
from jaxattn.data.readers.download import Archive, fetch
from jaxattn.data.sources.snippets import prepare

_Examples = Iterator[tuple[str, dict[str, Any]]]


class ImdbRated(tfds.core.GeneratorBasedBuilder):
    """Film reviews with their rating (1 to 10) and film (Maas et al., ACL 2011)."""

    VERSION = tfds.core.Version("1.0.0")
    ARCHIVE = Archive(
        "aclImdb_v1.tar.gz",
        "imdb:aclImdb_v1.tar.gz",
        "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        84_125_825,
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    )
    path: Path
    """Of the archive; to be set before it is prepared."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["neg", "pos"]),
                    "rating": np.int32,
                    "film": tfds.features.Text(),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        reviews = archives.read_imdb(self.path)
        return {side: self._generate_examples(reviews, side) for side in _SIDES}

    def _generate_examples(
        self, reviews: list[archives.Review], side: str
    ) -> _Examples:
        for review in reviews:
            if review.split == side:
                yield (
                    review.id,
                    {
                        "id": review.id,
                        "text": review.text,
                        "label": review.label,
                        "rating": review.rating,
                        "film": review.film or "",
                    },
                )


class AgNews(tfds.core.GeneratorBasedBuilder):
    """News items of four topics (Zhang et al., arXiv 1509.01626)."""

    VERSION = tfds.core.Version("1.0.0")
    ARCHIVE = Archive(
        "ag_news_csv.tar.gz",
        "ag_news:ag_news_csv.tar.gz",
        "https://drive.google.com/uc?export=download&id=0Bz8a_Dbh9QhbUDNpeUdjb0wxRms",
        11_784_327,
        "4e2fc37d369e6e317a8b62d0d2f11d379f8c3dde60c07c35a46b069a246498ad",
    )
    path: Path
    """Of the archive; to be set before it is prepared."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "title": tfds.features.Text(),
                    "description": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(archives.TOPICS)),
                }
            ),
            supervised_keys=("description", "label"),
            homepage="https://arxiv.org/abs/1509.01626",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        articles = archives.read_ag_news(self.path)
        return {side: self._generate_examples(articles, side) for side in _SIDES}

    def _generate_examples(
        self, articles: list[archives.Article], side: str
    ) -> _Examples:
        for article in articles:
            if article.split == side:
                yield (
                    article.id,
                    {
                        "id": article.id,
                        "title": article.title,
                        "description": article.description,
                        "label": article.label,
                    },
                )


_SIDES = ("train", "test")

OURS = {"imdb_reviews": ImdbRated, "ag_news_subset": AgNews}
"""What stands in for a data set of TFDS that was not prepared."""


def ours(name: str, root: Path) -> Any:
    """Our builder for a data set of TFDS, or for itself; None where there is none."""
    both = OURS | {kind.name: kind for kind in OURS.values()}
    kind: Any = both.get(name)
    return kind and kind(data_dir=str(root), file_format="array_record")


def prepare_ours(
    builder: Any, root: Path, say: Callable[[str], None] | None = None
) -> None:
    """Fetches the archive and prepares the data set; raises ValueError or OSError."""
    builder.path = fetch(builder.ARCHIVE, root / "downloads", say)
    if say is not None:
        say(f"preparing {builder.name} in {builder.data_path}")
    prepare(builder, Path(builder.data_path), builder.name)
