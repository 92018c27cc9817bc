"""What is measured where the right explanation of each example is known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics.leak import leak
from jaxattn.metrics.ranking import (
    auroc,
    average_precision,
    control_hit,
    exact_set,
    fdr,
    mass_on,
    median_rank,
    pointing_game,
    tpr,
)
from jaxattn.nn import model as nn_model
from jaxattn.nn.normalizers import renormalise
from jaxattn.training.cell import (
    Arrays,
    Cell,
    Evaluation,
    Static,
    accuracy,
    simplex,
    unpack,
)


def measure(
    static: Static,
    cell: Cell,
    state: Any,
    test: Arrays,
    found: Evaluation,
    key: Array,
    leak_examples: int,
) -> dict[str, Array]:
    """How well masks show the evidence, and what predictors make of the evidence."""
    _, valid, labels = unpack(test)
    usable = jax.vmap(lambda v: nn_model.candidates(static.model, v))(valid)
    more = usable.shape[1] - valid.shape[1]
    truth = jnp.pad(jnp.asarray(test.truth), ((0, 0), (0, more)))
    flat = simplex(static)
    right = true_masks(truth, usable, flat)
    shuffled = jax.vmap(shuffle)(
        jax.random.split(key, len(labels)), found.masks, usable
    )
    predictor, evaluator = state.params["predictor"], state.params["evaluator"]

    def judged(params, masks):
        return accuracy(static, params, test, masks)

    scalars = {
        "true_mask_accuracy": judged(predictor, right),
        "evalx_accuracy:true_mask": judged(evaluator, right),
    }
    ranked = found.masks if flat else found.scores
    scalars |= _ranked(ranked, truth, usable)
    if flat:
        has = truth.any(axis=1)
        mass = jax.vmap(mass_on)(found.masks, truth)
        share = truth.sum(axis=1) / jnp.maximum(usable.sum(axis=1), 1)
        scalars |= {
            "evidence_mass": _mean_where(mass, has),
            "evidence_mass:uniform": _mean_where(share, has),
        }
    else:
        selected = found.masks > 0
        scalars |= {
            "tpr": jax.vmap(tpr)(selected, truth).mean(),
            "fdr": jax.vmap(fdr)(selected, truth).mean(),
            "exact_set_rate": jax.vmap(exact_set)(selected, truth).mean(),
            "selected_count": selected.sum(axis=1).mean(),
            "tpr:shuffled": jax.vmap(tpr)(shuffled > 0, truth).mean(),
            "fdr:shuffled": jax.vmap(fdr)(shuffled > 0, truth).mean(),
            "exact_set_rate:shuffled": jax.vmap(exact_set)(shuffled > 0, truth).mean(),
            "median_rank": jax.vmap(median_rank)(found.scores, truth, usable).mean(),
            "median_rank:random": ((usable.sum(axis=1) + 1) / 2).mean(),
            "control_rate": _control(cell, selected),
            "control_rate:shuffled": _control(cell, shuffled > 0),
        }
    n = leak_examples
    alone = leak(key, right[:n], labels[:n], static.classes, permutations=1)
    pair = jnp.concatenate([right[:n], found.masks[:n]], axis=1)
    both = leak(key, pair, labels[:n], static.classes, permutations=1)
    # The same folds and permutations in both, so that their noise cancels.
    scalars |= {
        "extra_leak_bits": both.bits - alone.bits,
        "extra_leak_bits:permuted": both.null_bits - alone.null_bits,
        "true_mask_leak_bits": alone.bits,
    }
    return scalars


def _control(cell: Cell, selected: Array) -> Array:
    """Share of examples whose control feature is selected; NaN without one."""
    hit = jax.vmap(lambda s: control_hit(s, cell.control))(selected).mean()
    return jnp.where(jnp.asarray(cell.control) < 0, jnp.nan, hit)


def true_masks(truth: Array, usable: Array, simplex: bool) -> Array:
    """The right masks [N, P] for evidence [N, P]: equal weights on all of it.

    An example without evidence gets the uniform mask where masks must sum to 1.
    """
    truth = (truth & usable).astype(jnp.float32)
    return jax.vmap(renormalise)(truth, usable) if simplex else truth


def shuffle(key: Array, mask: Array, usable: Array) -> Array:
    """The same weights on other usable positions, drawn at random."""
    order = jnp.argsort(jnp.where(usable, jax.random.uniform(key, mask.shape), 2.0))
    # Usable positions come first in both, in random and in their own order.
    places = jnp.argsort(jnp.where(usable, 0, 1), stable=True)
    return jnp.zeros_like(mask).at[places].set(mask[order])


def _ranked(ranked: Array, truth: Array, usable: Array) -> dict[str, Array]:
    area = jax.vmap(auroc)(ranked, truth, usable)
    precision = jax.vmap(average_precision)(ranked, truth, usable)
    top = jax.vmap(pointing_game)(ranked, truth, usable)
    has = truth.any(axis=1)
    density = truth.sum(axis=1) / jnp.maximum(usable.sum(axis=1), 1)
    return {
        "evidence_auroc": _mean_where(area, jnp.isfinite(area)),
        "evidence_ap": _mean_where(precision, has),
        "evidence_ap:random": _mean_where(density, has),
        "pointing_game": _mean_where(top, has),
        "pointing_game:random": _mean_where(density, has),
    }


def _mean_where(values: Array, where: Array) -> Array:
    kept = jnp.where(where, values, 0).sum()
    return jnp.where(where.any(), kept / jnp.maximum(where.sum(), 1), jnp.nan)
