"""Images of a TFDS data set as one position per pixel.

This module imports tensorflow_datasets, so others import it late.
"""

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

from jaxattn.data.dataset import Dataset, Split, assemble
from jaxattn.data.limits import check_fits, followed
from jaxattn.data.readers.tfds_fields import Source, one
from jaxattn.data.rows import Row, in_order
from jaxattn.data.splits import SPLITS, Keys, settled
from jaxattn.data.text import MAX_LENGTH


def from_images(source: Source, name: str) -> Dataset:
    """Grey images as scalars [N, H*W], colour as vectors [N, H*W, 3], in [0, 1]."""
    image, label = source.roles["image"], source.roles["label"]
    height, width, channels = shape = _shape(source.name, source.there[image])
    sizes = source.builder.info.splits
    expected = sum(sizes[split].num_examples for split in source.splits)
    positions = height * width
    # The bytes, the numbers made of them, and a copy on the device.
    check_fits(
        9 * expected * positions * channels,
        f"{source.name}: {expected:,} images of {positions} pixels",
        "choose a smaller data set",
    )
    pixels = np.zeros((expected, positions, channels), np.uint8)
    keys, labels = Keys(), []
    examples = followed(source.examples(image), "{:,} images read".format)
    for where, ours, got in examples:
        raw = got[image][0] if got[image] else b""
        pixels[len(labels)] = _pixels(raw, where, shape)
        # Of two splits that share an image, the later one keeps it.
        digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
        keys.add(Row((), "", where, split=ours), digest)
        value = one(got, label, where)
        labels.append(value if source.coded() else str(value))
    coded = source.there[label].names if source.coded() else None
    names = list(coded or in_order(set(labels)))
    numbers = np.array([n if coded else names.index(n) for n in labels], np.int32)
    placed = settled(keys, numbers, names, source.name)
    made = {}
    for place, split in enumerate(SPLITS):
        mine = np.flatnonzero(placed == place)
        inputs = pixels[mine].astype(np.float32) / 255
        made[split] = Split(
            inputs[..., 0] if channels == 1 else inputs,
            np.full(len(mine), positions, np.int32),
            numbers[mine],
            np.array([keys.ids[i] for i in mine]),
        )
    return assemble(name, tuple(names), made, grid=(height, width))


def _shape(name: str, feature: Any) -> tuple[int, int, int]:
    shape = tuple(feature.shape)
    if feature.np_dtype != np.uint8 or None in shape:
        raise ValueError(
            f"{name}: images {list(shape)} of {np.dtype(feature.np_dtype).name}; "
            "allowed: bytes (uint8), all of one size"
        )
    height, width, channels = shape
    if height * width > MAX_LENGTH:
        raise ValueError(
            f"{name}: images of {height} x {width} are {height * width:,} "
            f"positions; allowed: {MAX_LENGTH}"
        )
    return height, width, channels


def _pixels(raw: bytes, where: str, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(raw)) as image:
            array = np.asarray(image)
    except Exception as error:
        # What Pillow raises for a damaged file depends on the format.
        raise ValueError(f"{where}: not a whole image ({error})") from error
    if array.size != np.prod(shape) or array.shape[:2] != shape[:2]:
        raise ValueError(f"{where}: image {list(array.shape)}, not {list(shape)}")
    return array.reshape(shape[0] * shape[1], shape[2])
