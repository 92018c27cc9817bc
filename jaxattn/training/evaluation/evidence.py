"""What is measured where the right explanation of each example is known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics import ranking
from jaxattn.metrics.leak import leak
from jaxattn.nn.normalizers import renormalise
from jaxattn.training.cell import Cell, Evaluation, Examples, accuracy, candidates_of

RECOVERY = {"tpr": ranking.tpr, "fdr": ranking.fdr, "exact_set_rate": ranking.exact_set}


def measure(
    cell: Cell,
    params: Any,
    test: Examples,
    own: Evaluation,
    key: Array,
    leak_examples: int,
) -> dict[str, Array]:
    """How well masks show the evidence, and what predictors make of the evidence.

    `own` is what the cell makes of the test split, whose `truth` is known; the leak's
    probe is fitted to the first `leak_examples`.
    """
    candidates = candidates_of(cell, test.valid)
    more = candidates.shape[1] - test.valid.shape[1]
    truth = jnp.pad(jnp.asarray(test.truth), ((0, 0), (0, more)))
    right = true_masks(truth, candidates, cell.simplex)
    scalars = {
        "true_mask_accuracy": accuracy(cell, params["predictor"], test, right),
        "evalx_accuracy:true_mask": accuracy(cell, params["evaluator"], test, right),
    }
    scalars |= _ranked(own.masks if cell.simplex else own.scores, truth, candidates)
    if cell.simplex:
        mass = jax.vmap(ranking.mass_on)(own.masks, truth)
        scalars |= {
            "evidence_mass": _mean_where(mass, truth.any(axis=1)),
            "evidence_mass:uniform": _density(truth, candidates),
        }
    else:
        ranks = jax.vmap(ranking.median_rank)(own.scores, truth, candidates)
        scalars |= {
            "selected_count": (own.masks > 0).sum(axis=1).mean(),
            "median_rank": ranks.mean(),
            "median_rank:random": ((candidates.sum(axis=1) + 1) / 2).mean(),
        }
        other = shuffled(key, own.masks, candidates)
        for variant, masks in (("", own.masks), (":shuffled", other)):
            selected = masks > 0
            for name, of in RECOVERY.items():
                scalars[name + variant] = jax.vmap(of)(selected, truth).mean()
            # NaN where no feature is the control.
            hits = jax.vmap(ranking.control_hit, (0, None))(selected, cell.control)
            none = jnp.asarray(cell.control) < 0
            scalars["control_rate" + variant] = jnp.where(none, jnp.nan, hits.mean())
    n, labels = leak_examples, test.labels
    alone = leak(key, right[:n], labels[:n], cell.classes, permutations=1)
    pair = jnp.concatenate([right[:n], own.masks[:n]], axis=1)
    both = leak(key, pair, labels[:n], cell.classes, permutations=1)
    # The same folds and permutations in both, so that their noise cancels.
    scalars |= {
        "extra_leak_bits": both.bits - alone.bits,
        "extra_leak_bits:permuted": both.null_bits - alone.null_bits,
        "true_mask_leak_bits": alone.bits,
    }
    return scalars


def true_masks(truth: Array, candidates: Array, simplex: bool) -> Array:
    """The right masks [N, P] for evidence [N, P]: equal weights on all of it.

    An example without evidence gets the uniform mask where masks must sum to 1.
    """
    truth = (truth & candidates).astype(jnp.float32)
    return jax.vmap(renormalise)(truth, candidates) if simplex else truth


def shuffled(key: Array, masks: Array, candidates: Array) -> Array:
    """The same weights [N, P] on other candidates [N, P], drawn at random."""

    def one(key, mask, candidates):
        noise = jax.random.uniform(key, mask.shape)
        order = jnp.argsort(jnp.where(candidates, noise, 2.0))
        # Candidates come first in both, in random and in their own order.
        places = jnp.argsort(jnp.where(candidates, 0, 1), stable=True)
        return jnp.zeros_like(mask).at[places].set(mask[order])

    return jax.vmap(one)(jax.random.split(key, len(masks)), masks, candidates)


def _ranked(scores: Array, truth: Array, candidates: Array) -> dict[str, Array]:
    area = jax.vmap(ranking.auroc)(scores, truth, candidates)
    precision = jax.vmap(ranking.average_precision)(scores, truth, candidates)
    top = jax.vmap(ranking.pointing_game)(scores, truth, candidates)
    has, density = truth.any(axis=1), _density(truth, candidates)
    return {
        "evidence_auroc": _mean_where(area, jnp.isfinite(area)),
        "evidence_ap": _mean_where(precision, has),
        "evidence_ap:random": density,
        "pointing_game": _mean_where(top, has),
        "pointing_game:random": density,
    }


def _density(truth: Array, candidates: Array) -> Array:
    """Mean share of the candidates that is evidence, where there is evidence."""
    share = truth.sum(axis=1) / jnp.maximum(candidates.sum(axis=1), 1)
    return _mean_where(share, truth.any(axis=1))


def _mean_where(values: Array, where: Array) -> Array:
    kept = jnp.where(where, values, 0).sum()
    return jnp.where(where.any(), kept / jnp.maximum(where.sum(), 1), jnp.nan)
