"""Numbers of each seed that need the examples of all seeds, made once all are trained.

They say how far a seed's masks are from those of other seeds, and whether its instance
weights can be trusted.
"""

import numpy as np

from jaxattn.experiment.wave import Outcome
from jaxattn.metrics import weights as instance_weights
from jaxattn.metrics.divergence import entropy, jsd

MOST_OTHERS = 15
"""Seeds that each seed's masks are compared with."""
CUTS = (0, 1, 5)
"""Percentiles at which weights are cut, at both ends."""


def by_seed(
    outcome: Outcome, labels: np.ndarray | None, words: bool
) -> dict[str, np.ndarray]:
    """Metrics [seeds] of one method; keys are `metric` or `metric:variant`.

    `labels` [N] are of the examples, unless each seed has its own. With `words`,
    positions mean the same for every seed, and so do the examples.
    """
    numbers: dict[str, np.ndarray] = {}
    if words and len(outcome.cells) > 1:
        numbers["seed_jsd"] = seed_jsd(outcome.examples["masks"], outcome.alive)
    if "instance_weights" in outcome.examples:
        made, masks = outcome.examples["instance_weights"], outcome.examples["masks"]
        own = outcome.examples.get("labels")
        rows = [
            _trust(made[i], masks[i], labels if own is None else own[i], alive)
            for i, alive in enumerate(outcome.alive)
        ]
        numbers |= {k: np.array([row[k] for row in rows]) for k in rows[0]}
    return numbers


def seed_jsd(masks: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Mean JSD in nats of each seed's masks [S, N, P] from other seeds', [S].

    NaN for seeds that are not `alive` [S], which are nobody's other, or alone. Seeds
    are compared with at most 15 that follow them, in a ring.
    """
    kept = np.flatnonzero(alive)
    apart = np.full(len(alive), np.nan)
    steps = range(1, min(len(kept) - 1, MOST_OTHERS) + 1)
    for i, seed in enumerate(kept):
        others = [kept[(i + step) % len(kept)] for step in steps]
        if others:
            own = masks[seed]
            apart[seed] = np.mean([float(jsd(own, masks[o]).mean()) for o in others])
    return apart


def summaries(masks: np.ndarray) -> np.ndarray:
    """What a mask [P] looks like, [N, 3]: entropy, largest weight, mean position."""
    total = np.maximum(masks.sum(axis=1, keepdims=True), 1e-12)
    shares = masks / total
    places = shares @ np.arange(masks.shape[1])
    columns = entropy(shares), masks.max(axis=1), places
    return np.stack(columns, axis=1)


def _trust(weights, masks, labels, alive) -> dict[str, float]:
    """Of untruncated weights P(y) / P(y given m) [N]."""
    x = summaries(masks)
    nothing = np.ones_like(weights)
    numbers = {
        "pareto_k": instance_weights.pareto_k(weights),
        "imbalance": instance_weights.imbalance(x, labels, weights).max(),
        "imbalance:unweighted": instance_weights.imbalance(x, labels, nothing).max(),
    }
    for percentile in CUTS:
        cut = instance_weights.cut_at(weights, percentile)
        variant = f":cut at {percentile} %" if percentile else ""
        numbers[f"weight_mean{variant}"] = float(cut.mean())
        numbers[f"largest_weight_share{variant}"] = float(cut.max() / cut.sum())
        if percentile:
            numbers[f"ess_share{variant}"] = instance_weights.ess_share(cut)
    return numbers if alive else dict.fromkeys(numbers, np.nan)
