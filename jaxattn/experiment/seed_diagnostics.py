"""Numbers of each seed that are made from the examples kept of it, once all is run.

How far a seed's masks are from those of other seeds, and whether instance weights can
be trusted.
"""

import numpy as np
from scipy.special import rel_entr, xlogy

from jaxattn.experiment.wave import Outcome
from jaxattn.metrics import weights as trust

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
    found: dict[str, np.ndarray] = {}
    if words and len(outcome.cells) > 1:
        found["seed_jsd"] = seed_jsd(outcome.examples["masks"], outcome.alive)
    if "instance_weights" in outcome.examples:
        made, masks = outcome.examples["instance_weights"], outcome.examples["masks"]
        own = outcome.examples.get("labels")
        rows = [
            _trust(made[i], masks[i], labels if own is None else own[i], alive)
            for i, alive in enumerate(outcome.alive)
        ]
        found |= {k: np.array([row[k] for row in rows]) for k in rows[0]}
    return found


def seed_jsd(masks: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Mean JSD in nats of each seed's masks [S, N, P] from other seeds', [S].

    NaN for seeds that are not `alive` [S], which are nobody's other, or alone. Seeds
    are compared with at most 15 that follow them, in a ring.
    """
    kept = np.flatnonzero(alive)
    found = np.full(len(alive), np.nan)
    steps = range(1, min(len(kept) - 1, MOST_OTHERS) + 1)
    for i, seed in enumerate(kept):
        others = [kept[(i + step) % len(kept)] for step in steps]
        if others:
            own = masks[seed]
            found[seed] = np.mean([_jsd(own, masks[other]) for other in others])
    return found


def _jsd(a: np.ndarray, b: np.ndarray) -> float:
    middle = (a + b) / 2
    both = rel_entr(a, middle).sum(axis=1) + rel_entr(b, middle).sum(axis=1)
    return float(both.mean() / 2)


def summaries(masks: np.ndarray) -> np.ndarray:
    """What a mask [P] looks like, [N, 3]: entropy, largest weight, mean position."""
    total = np.maximum(masks.sum(axis=1, keepdims=True), 1e-12)
    shares = masks / total
    places = shares @ np.arange(masks.shape[1])
    columns = -xlogy(shares, shares).sum(axis=1), masks.max(axis=1), places
    return np.stack(columns, axis=1)


def _trust(weights, masks, labels, alive) -> dict[str, float]:
    """Of untruncated weights P(y) / P(y given m) [N]."""
    x = summaries(masks)
    nothing = np.ones_like(weights)
    tables = trust.truncations(weights, CUTS)
    found = {
        "pareto_k": trust.pareto_k(weights),
        "imbalance": trust.imbalance(x, labels, weights).max(),
        "imbalance:unweighted": trust.imbalance(x, labels, nothing).max(),
    }
    for row in tables:
        variant = f":cut at {row.low:g} %" if row.low else ""
        found[f"weight_mean{variant}"] = row.mean
        found[f"largest_weight_share{variant}"] = row.largest_share
        if row.low:
            found[f"ess_share{variant}"] = row.ess_share
    if not alive:
        found = dict.fromkeys(found, np.nan)
    return found
