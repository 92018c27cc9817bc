"""Tasks that ask something of the rated snippets: the rating's sign, or the source."""

import os

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.sources import POLAR, SOURCES
from jaxattn.data.splits import SPLITS, split_of
from jaxattn.data.text import Cut, build_vocabulary, encode, tokenize


def load_rated(
    name: str,
    length: int,
    min_count: int,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads "movie_sentiment", "sentiment" (of all sources) or "sources"."""
    # Here, since it imports tensorflow_datasets.
    from jaxattn.data.sources.snippets import load_snippets

    documents: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for id_, source, text, rating in zip(*load_snippets(data_dir)[:4], strict=True):
        if name == "sources":
            label = SOURCES.index(source)
        elif abs(rating) >= POLAR and (name == "sentiment" or source == "movie"):
            label = int(rating > 0)
        else:
            continue
        split = split_of(id_)
        documents[split].append(tokenize(text))
        labels[split].append(label)
        ids[split].append(id_)
    vocabulary = build_vocabulary(documents["train"], min_count)
    splits: dict[str, Split] = {}
    cut: dict[str, Cut] = {}
    for split in SPLITS:
        tokens, lengths, cut[split] = encode(documents[split], vocabulary, length)
        own = np.array(labels[split], np.int32)
        splits[split] = Split(tokens, lengths, own, np.array(ids[split]))
    classes = SOURCES if name == "sources" else ("negative", "positive")
    return assemble(name, classes, splits, vocabulary, cut)
