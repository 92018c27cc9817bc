"""Small pictures as data that a page carries with it."""

import base64
import io
import math

import matplotlib.image
import numpy as np


def square(pixels: np.ndarray) -> str:
    """Grey pixels [side * side] of 0 to 255 as the source of an image."""
    side = math.isqrt(pixels.size)
    return grey(pixels.reshape(side, -1) if side else pixels[None])


def image(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """An image from pixels [positions], or from patches [positions, size * size].

    Of three colours the grey that is their mean.
    """
    if pixels.ndim == 1:
        return pixels.reshape(grid)
    if pixels.shape[1] == 3:
        return pixels.mean(axis=1).reshape(grid)
    size = math.isqrt(pixels.shape[1])
    patches = pixels.reshape(*grid, size, size)
    return patches.transpose(0, 2, 1, 3).reshape(grid[0] * size, grid[1] * size)


def grey(pixels: np.ndarray) -> str:
    """Pixels [rows, columns] of 0 to 255 as the source of an image."""
    return _source(pixels, "gray", 255)


def coloured(values: np.ndarray) -> str:
    """Values [rows, columns] of at least 0, the largest darkest, NaN nothing at all."""
    return _source(values, "Blues", max(float(np.nanmax(values)), 1e-12))


def _source(values: np.ndarray, colours: str, most: float) -> str:
    file = io.BytesIO()
    matplotlib.image.imsave(
        file, values, cmap=colours, vmin=0, vmax=most, format="png",
        metadata={"Software": "jaxattn"},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
