"""A task of real text whose evidence is known: a polar and a neutral sentence.

One half is a film review snippet, rated by people, the other a sentence from newspaper
editorials rated neutral; their order is drawn. The label is the sign of the review's
rating, so that the tokens of the review, and they alone, can be evidence.
"""

import hashlib
import os
from typing import NamedTuple

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.sources import POLAR
from jaxattn.data.splits import SPLITS, split_of
from jaxattn.data.text import Cut, build_vocabulary, encode, tokenize


class _Sentence(NamedTuple):
    id: str
    rating: float
    tokens: list[str]


def load_planted(
    length: int = 32, min_count: int = 2, data_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """Loads the task: token ids [N, T] with T = `length`, truth [N, T] the review's.

    Each half may have length // 2 tokens and what the other leaves of its own; the rest
    of it is cut. Each review occurs once; the neutral sentences, fewer, come in turn,
    about five times each, always from the split that the review is in. Hashes of the
    ids decide who meets whom and which half is first. No sentence of training is one of
    validation or test.
    """
    # Here, since it imports tensorflow_datasets.
    from jaxattn.data.sources.snippets import load_snippets

    if length < 2:
        raise ValueError(f"length is {length}; planted needs at least 2, one a half")
    snippets = load_snippets(data_dir)
    reviews: dict[str, list[_Sentence]] = {split: [] for split in SPLITS}
    neutral: dict[str, list[_Sentence]] = {split: [] for split in SPLITS}
    for id_, source, text, rating in zip(
        snippets.ids, snippets.sources, snippets.texts, snippets.ratings, strict=True
    ):
        polar = abs(float(rating)) >= POLAR
        if (source, polar) in (("movie", True), ("nyt", False)):
            rows = reviews if polar else neutral
            rows[split_of(id_)].append(_Sentence(id_, float(rating), tokenize(text)))

    # Two reviews are printed twice, in two splits.
    for rows in (reviews, neutral):
        held_out = {tuple(row.tokens) for split in SPLITS[1:] for row in rows[split]}
        rows["train"] = [x for x in rows["train"] if tuple(x.tokens) not in held_out]
    # Each sentence counts once: otherwise no rare word of a neutral one would be
    # "<unk>" in training, and many would in the test.
    known = (row.tokens for rows in (reviews, neutral) for row in rows["train"])
    vocabulary = build_vocabulary(known, min_count)
    splits: dict[str, Split] = {}
    cut: dict[str, Cut] = {}
    for name in SPLITS:
        splits[name], cut[name] = _pair(
            reviews[name], neutral[name], vocabulary, length
        )
    return assemble("planted", ("negative", "positive"), splits, vocabulary, cut)


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(parts).encode()).digest()[:8], "big")


def _pair(
    reviews: list[_Sentence],
    neutral: list[_Sentence],
    vocabulary: tuple[str, ...],
    length: int,
) -> tuple[Split, Cut]:
    fillers = sorted(neutral, key=lambda row: _hash("filler", row.id))
    documents, evidence, lost, ids, labels = [], [], [], [], []
    for i, review in enumerate(sorted(reviews, key=lambda x: _hash("review", x.id))):
        other = fillers[i % len(fillers)]
        a, b = shares(len(review.tokens), len(other.tokens), length)
        halves = [(review.tokens[:a], True), (other.tokens[:b], False)]
        if _hash("order", review.id, other.id) % 2:
            halves.reverse()
        documents.append([token for tokens, _ in halves for token in tokens])
        evidence.append([is_it for tokens, is_it in halves for _ in tokens])
        lost.append(len(review.tokens) + len(other.tokens) - a - b)
        ids.append(f"{review.id}+{other.id}")
        labels.append(int(review.rating > 0))
    tokens, lengths, _ = encode(documents, vocabulary, length)
    truth = np.zeros(tokens.shape, bool)
    for row, marks in zip(truth, evidence, strict=True):
        row[: len(marks)] = marks
    split = Split(
        tokens, lengths, np.array(labels, np.int32), np.array(ids), truth=truth
    )
    return split, Cut(examples=sum(n > 0 for n in lost), tokens=sum(lost))


def shares(a: int, b: int, length: int) -> tuple[int, int]:
    """How many of a and of b tokens are kept, together at most `length`.

    Each may have length // 2; the first also has the odd one, and either what the other
    leaves.
    """
    half = length // 2
    first = min(a, max(length - half, length - b))
    return first, min(b, length - first)
