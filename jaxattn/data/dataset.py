"""What every task gives: token arrays, labels and what is known of each token."""

import hashlib
from typing import NamedTuple

import numpy as np

from jaxattn.data.splits import SPLITS
from jaxattn.data.text import Cut, kinds, lexicon_ratings


class Split(NamedTuple):
    """One part of a data set; all arrays are numpy and share N.

    inputs: token ids [N, T] of the smallest unsigned type that holds the vocabulary
        (0 = padding), or vectors [N, T, D] or scalars [N, T] of a float type.
    lengths: [N] int32, positions that are there, 1 to T; padding comes after them.
    labels: [N] int32.
    ids: [N] unicode.
    truth: [N, T] bool, positions that are evidence for the label, where it is known.
    targets: [N, classes] float32, soft labels, where there are any.
    attributions: [N, T] float32 by name, scores of other explanations.
    evidence: [N, T] float32, 0 to 1: how far people marked each token as evidence for
        the label; NaN in rows that nobody marked, and in padding.
    places: [N, T, 2] float32, x and y of each instance on the plane that a bag comes
        from; NaN where that is not known.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    truth: np.ndarray | None = None
    targets: np.ndarray | None = None
    attributions: dict[str, np.ndarray] | None = None
    evidence: np.ndarray | None = None
    places: np.ndarray | None = None

    def arrays(self) -> tuple[np.ndarray, ...]:
        """All arrays that decide numbers, in a fixed order; attributions by name."""
        more = [a for a in (self.truth, self.targets) if a is not None]
        if self.attributions:
            names = sorted(self.attributions)
            more += [np.array(names), *(self.attributions[name] for name in names)]
        more += [] if self.evidence is None else [self.evidence]
        return (*self[:4], *more)


class Dataset(NamedTuple):
    """A task with its three splits and its vocabulary (empty without tokens).

    vocabulary: token id -> string; id 0 is "<pad>", id 1 is "<unk>".
    kind: [V] uint8; 0 special, 1 word, 2 punctuation.
    lexicon: [V] float32; human rating -4 to 4, NaN where the lexicon has no entry.
    cut: per split ("train", "validation", "test"), what the fixed length cost.
    digest: sha256 (hex) over everything that decides the numbers of a run.
    grid: rows and columns, where positions are places of an image.
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
    grid: tuple[int, int] | None = None


def digest_of(
    name: str,
    classes: tuple[str, ...],
    vocabulary: tuple[str, ...],
    arrays: tuple[np.ndarray, ...],
) -> str:
    """sha256 (hex) over names, shapes, types and contents; the same on any machine."""
    state = hashlib.sha256()

    def add(raw: bytes | memoryview) -> None:
        # The length in front keeps ("ab", "c") apart from ("a", "bc").
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)

    for part in (name, "\n".join(classes), "\n".join(vocabulary)):
        add(part.encode())
    for array in arrays:
        # Without a copy: bags take what memory there is.
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        add(f"{little.dtype.str} {little.shape}".encode())
        add(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def assemble(
    name: str,
    classes: tuple[str, ...],
    splits: dict[str, Split],
    vocabulary: tuple[str, ...] = (),
    cut: dict[str, Cut] | None = None,
    grid: tuple[int, int] | None = None,
) -> Dataset:
    """The data set of three splits ("train", "validation", "test"), with its digest.

    Data without tokens have no vocabulary, and kind [0], lexicon [0] and cut are empty.
    """
    known = kinds(vocabulary), lexicon_ratings(vocabulary)
    arrays = tuple(array for split in SPLITS for array in splits[split].arrays())
    digest = digest_of(
        name, classes, vocabulary, (known if vocabulary else ()) + arrays
    )
    parts = splits["train"], splits["validation"], splits["test"]
    return Dataset(name, classes, vocabulary, *known, *parts, cut or {}, digest, grid)
