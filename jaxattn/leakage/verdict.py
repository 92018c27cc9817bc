"""What an audit's numbers mean, in words."""

from collections.abc import Mapping

import numpy as np

from jaxattn.leakage.significance import Finding

ALPHA = 0.05
NOTABLE = 0.01
"""Bits below which a certain leak is called small."""
FEW = 50
"""A class of fewer masks makes wide intervals."""


def verdict(leak: Finding, label_bits: float) -> tuple[str, str]:
    """leak, none or inconclusive, and a sentence."""
    share = leak.bits / label_bits
    if leak.p <= ALPHA and leak.bits > 0:
        size = "a small part" if leak.bits < NOTABLE else f"{share:.1%}"
        return "leak", (
            f"The masks alone tell {size} of the label: {leak.bits:.3f} of "
            f"{label_bits:.3f} bits. A predictor may be reading it."
        )
    if leak.detectable > max(NOTABLE, 0.05 * label_bits):
        return "inconclusive", (
            f"No leak was found, but one below {leak.detectable:.3f} bits would not "
            "have been: more examples are needed."
        )
    return "none", (
        f"No leak was found; one of {leak.detectable:.3f} bits or more would have been."
    )


def warnings(
    answers: Mapping[str, Finding],
    channel_p: Mapping[str, float],
    classes: Mapping[str, int],
) -> list[str]:
    """What a reader must know before believing the numbers."""
    warned = []
    small = min(classes, key=classes.__getitem__)
    if classes[small] < FEW:
        warned.append(
            f"only {classes[small]} masks of class {small}: little is certain"
        )
    if channel_p.get("length", 1.0) <= ALPHA:
        warned.append(
            "length tells the label, and any mask tells the length: see the bits "
            "beyond length"
        )
    if "prediction" in answers and answers["prediction"].low > answers["masks"].high:
        warned.append(
            "masks tell the prediction more than the label: they may have been chosen "
            "by it (a map of the predicted class), which leaks it by construction"
        )
    return warned


def stuck(labels: np.ndarray, exchanged: np.ndarray) -> str | None:
    """A warning where exchanging within groups leaves most labels [N] as they were."""
    share = np.bincount(labels) / len(labels)
    moved = (exchanged != labels).mean() / (1 - (share**2).sum())
    if moved > 0.5:
        return None
    return (
        f"labels hardly vary within groups: exchanging moves {moved:.0%} of what it "
        "could, and a leak may be overlooked"
    )
