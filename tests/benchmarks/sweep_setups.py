"""What `sweep.py` measures: default configs of the library, trained by `joint`."""

from typing import NamedTuple

SEEDS = 16
ENSEMBLE = 8
"""Seeds side by side in one process of PyTorch's `vmap`."""
COUNTS = (1, 4, 16, 64, 256)
GROWING = ("probe", "reviews, bag", "Syn4, batch 128")


class Setup(NamedTuple):
    config: str
    """A file of configs/, or empty for L2X's published set-up on Syn4."""
    family: str
    """Of the models: `text`, `bags` or `tabular`."""
    query: str = "bag"
    batch: int = 128


SETUPS = {
    "probe": Setup("probe", "text"),
    "reviews, bag": Setup("reviews", "text"),
    "reviews, GRU": Setup("reviews", "text", "gru"),
    "reviews, transformer": Setup("reviews", "text", "transformer"),
    "Syn4, batch 128": Setup("", "tabular"),
    "Syn4, batch 1,000": Setup("", "tabular", batch=1000),
    "bags": Setup("bags", "bags"),
}
SIDES = {
    "eager": "(a) PyTorch eager",
    "func": "(b) torch.func",
    "compile": "(b) torch.compile",
    "one": "(c) JAX, one seed at a time",
    "ours": f"(d) jaxattn, {SEEDS} seeds",
}
