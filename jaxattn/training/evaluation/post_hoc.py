"""Explanations of a model that was trained before: how faithful, how plausible."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics.ranking import top_k_overlap
from jaxattn.training.cell import EVALUATOR, Cell, Evaluation, Examples
from jaxattn.training.evaluation.evidence import shuffled


def measure(
    cell: Cell, test: Examples, own: Evaluation, contentless: Array, black_box: Any
) -> dict[str, Array]:
    """How faithful selections are to the black box, and how plausible they look.

    Post-hoc accuracy is that of 'Learning to Explain' by Chen et al. (arXiv
    1802.07814): the original model on the selected input, the rest blanked. Of a model
    that is not ours it is measured afterwards (`jaxattn.experiment.after_training`).

    Args:
        cell: the cell; `cell.black_box` answers for the model that is explained.
        test: the test split.
        own: what the cell makes of it.
        contentless: punctuation and stop words [V]; empty where inputs are no tokens.
        black_box: parameters of the model that is explained.
    """
    selected = (own.masks > 0) & test.valid
    answer, lengths = cell.black_box, test.valid.sum(axis=1)
    count = selected.sum(axis=1)
    scalars = {"selected_count": count.mean()}
    if answer is not None:

        def post_hoc(keep: Array) -> Array:
            def one(args):
                x, length, label, k = args
                return answer(black_box, x, length, k).argmax() == label

            rows = test.inputs, lengths.astype(jnp.int32), test.labels, keep
            return jax.lax.map(one, rows, batch_size=256).mean()

        scalars["post_hoc_accuracy"] = post_hoc(selected)
        other = as_many(cell.key, selected, test.valid)
        scalars["post_hoc_accuracy:shuffled"] = post_hoc(other)
    chance = (count / jnp.maximum(lengths, 1)).mean()
    for name, scores in (test.attributions or {}).items():
        ranked = jnp.where(test.valid, scores, -jnp.inf)
        overlap = jax.vmap(top_k_overlap)(selected, ranked, count).mean()
        scalars[f"{name}_overlap"] = overlap
        scalars[f"{name}_overlap:random"] = chance
    if contentless.size:
        empty = contentless[test.inputs] & test.valid
        share = (empty & selected).sum(axis=1) / jnp.maximum(count, 1)
        scalars["contentless_share"] = share.mean()
        scalars["contentless_share:random"] = (
            empty.sum(axis=1) / jnp.maximum(lengths, 1)
        ).mean()
    return scalars


def as_many(key: Array, selected: Array, valid: Array) -> Array:
    """As many valid positions [N, T] as are `selected` [N, T], drawn at random.

    `key` is the cell's.
    """
    key = jax.random.fold_in(key, EVALUATOR)
    return shuffled(key, selected.astype(jnp.float32), valid) > 0
