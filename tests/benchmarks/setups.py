"""What is measured: published set-ups on Syn4, their data and their matrix products.

L2X is Chen et al. (arXiv 1802.07814), INVASE is Yoon, Jordon and van der Schaar (ICLR
2019). On every side alike, batch normalisation and the L2 penalty on the weights are
left out and the activation is ReLU.
"""

from typing import NamedTuple

import numpy as np

FEATURES, CLASSES, DRAWS, TEMPERATURE = 11, 2, 4, 0.1
PENALTY = 0.1
LEARNING_RATE = 1e-3
EXAMPLES = 20_000
SEEDS = 16
SELECTOR, PREDICTOR = 100, 200


class Setup(NamedTuple):
    method: str
    """`l2x` or `invase`."""
    batch: int
    lane: int
    """Seeds side by side on one device."""

    @property
    def steps(self) -> int:
        """In one epoch, the unit of all measurements."""
        return EXAMPLES // self.batch


SETUPS = {
    "L2X, batch 128": Setup("l2x", 128, 8),
    "L2X, batch 1,000": Setup("l2x", 1000, 1),
    "INVASE, batch 128": Setup("invase", 128, 8),
    "INVASE, batch 1,000": Setup("invase", 1000, 1),
}


def widths(method: str) -> dict[str, tuple[int, ...]]:
    """Layer widths of each network, input and output included."""
    networks = {
        "selector": (FEATURES, SELECTOR, SELECTOR, FEATURES),
        "predictor": (FEATURES, PREDICTOR, PREDICTOR, CLASSES),
    }
    if method == "invase":
        networks["baseline"] = networks["predictor"]
    return networks


def flops(setup: Setup) -> int:
    """Of the matrix products that one step of one seed needs; nothing else counts.

    Each layer has three: forwards, to its weights, to its inputs. The last is needless
    where the inputs are data: everywhere in the first layer, but for L2X's predictor,
    through whose inputs the selector learns.
    """
    total = 0
    for name, layers in widths(setup.method).items():
        products = [a * b for a, b in zip(layers, layers[1:], strict=False)]
        total += 6 * sum(products)
        if not (setup.method == "l2x" and name == "predictor"):
            total -= 2 * products[0]
    return total * setup.batch


def syn4(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [EXAMPLES, FEATURES] and labels [EXAMPLES] of INVASE's Syn4."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((EXAMPLES, FEATURES)).astype(np.float32)
    a, b = x[:, 0] * x[:, 1], (x[:, 2:6] ** 2).sum(axis=1) - 4
    p = 1 / (1 + np.exp(np.where(x[:, 10] < 0, a, b)))
    return x, (rng.random(EXAMPLES) < p).astype(np.int32)
