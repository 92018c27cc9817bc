"""What every task gives: token arrays, labels and what is known of each token."""

import hashlib
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """One part of a data set; all arrays are numpy and share N.

    tokens: [N, T], the smallest unsigned type that holds the vocabulary, 0 = padding.
    lengths: [N] int32, tokens kept, 1 to T.
    labels: [N] int32.
    ids: [N] unicode.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


class Cut(NamedTuple):
    """What padding to a fixed length cost one split."""

    examples: int  # examples that lost tokens
    tokens: int  # tokens lost


class Dataset(NamedTuple):
    """A task with its three splits and its vocabulary.

    vocabulary: token id -> string; id 0 is "<pad>", id 1 is "<unk>".
    kind: [V] uint8; 0 special, 1 word, 2 punctuation.
    lexicon: [V] float32; human rating -4 to 4, NaN where the lexicon has no entry.
    cut: per split ("train", "validation", "test"), what the fixed length cost.
    digest: sha256 (hex) over everything that decides the numbers of a run.
    """

    name: str
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]
    kind: np.ndarray
    lexicon: np.ndarray
    train: Split
    validation: Split
    test: Split
    cut: dict[str, Cut]
    digest: str


def digest_of(
    name: str,
    classes: tuple[str, ...],
    vocabulary: tuple[str, ...],
    arrays: tuple[np.ndarray, ...],
) -> str:
    """sha256 (hex) over names, shapes, types and contents; the same on any machine."""
    state = hashlib.sha256()

    def add(raw: bytes) -> None:
        # The length in front keeps ("ab", "c") apart from ("a", "bc").
        state.update(len(raw).to_bytes(8, "little") + raw)

    for part in (name, "\n".join(classes), "\n".join(vocabulary)):
        add(part.encode())
    for array in arrays:
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        add(f"{little.dtype.str} {little.shape}".encode())
        add(little.tobytes())
    return state.hexdigest()
