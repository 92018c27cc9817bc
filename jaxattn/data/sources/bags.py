"""Bags of digits for multiple-instance learning: is there a 9 among them?

The MNIST-bags of 'Attention-based Deep Multiple Instance Learning' by Ilse et al.
(arXiv 1802.04712), with 5,000 images. A bag is drawn from all images of its split until
it has the label it is to have, so that half of the bags hold a 9 and their nines are as
many as chance gives. The size is drawn first and tells nothing of the label.
"""

import statistics
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.sources.digits import read_digits, scaled, split_of
from jaxattn.data.text import check_whole

TARGET = 9
MEAN, SPREAD, LEAST, MOST = 10, 2, 3, 20
"""Of bag sizes, in instances; normal, rounded, then held within LEAST and MOST."""
BAGS: Mapping[str, int] = MappingProxyType(
    {"train": 1000, "validation": 250, "test": 500}
)


def load_bags(bags: Mapping[str, int] = BAGS) -> Dataset:
    """Task "bags": vectors [N, 20, 784] in [0, 1]; truth [N, 20] marks each 9.

    No image occurs in two splits and none twice in a bag; in the default sizes a
    training image is in 2.5 bags on average, one of the other splits in 5 or 10.

    Args:
        bags: how many bags "train", "validation" and "test" have, each at least 2; with
            an odd number, one more without a 9.
    """
    if set(bags) != set(BAGS):
        raise ValueError(f"bags names {', '.join(bags)}; expected {', '.join(BAGS)}")
    for split, n in bags.items():
        check_whole(f"bags of {split}", n)
        if n < 2:
            raise ValueError(f"bags of {split} is {n}; allowed: at least one per class")
    images, digits = read_digits()
    vectors = scaled(images).reshape(len(images), -1)
    splits = {}
    for number, (split, places) in enumerate(split_of(digits).items()):
        source = np.random.PCG64([TARGET, number])
        labels, drawn = _draw(source, bags[split], digits, places)
        splits[split] = _fill(split, labels, drawn, vectors, digits)
    return assemble("bags", ("no 9", "a 9"), splits)


def _uniform(source: np.random.PCG64, n: int) -> np.ndarray:
    # Numpy promises the same raw numbers in every version, but not the same choices.
    return ((source.random_raw(n) >> np.uint64(11)) + 0.5) * 2.0**-53


def _draw(
    source: np.random.PCG64, n: int, digits: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    labels = (np.argsort(_uniform(source, n), kind="stable") % 2).astype(np.int32)
    normal = statistics.NormalDist(MEAN, SPREAD)
    drawn = []
    for label in labels:
        size = round(normal.inv_cdf(float(_uniform(source, 1)[0])))
        size = min(max(size, LEAST), MOST)
        while True:
            bag = places[(_uniform(source, size) * len(places)).astype(np.int64)]
            if len(set(bag)) == size and (digits[bag] == TARGET).any() == label:
                break
        drawn.append(bag)
    return labels, drawn


def _fill(
    split: str,
    labels: np.ndarray,
    drawn: list[np.ndarray],
    vectors: np.ndarray,
    digits: np.ndarray,
) -> Split:
    n = len(drawn)
    inputs = np.zeros((n, MOST, vectors.shape[1]), np.float32)
    truth = np.zeros((n, MOST), bool)
    for i, bag in enumerate(drawn):
        inputs[i, : len(bag)] = vectors[bag]
        truth[i, : len(bag)] = digits[bag] == TARGET
    lengths = np.array([len(bag) for bag in drawn], np.int32)
    ids = np.array([f"{split}-bag-{i}" for i in range(n)])
    return Split(inputs, lengths, labels, ids, truth=truth)
