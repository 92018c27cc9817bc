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
    `contentless` [V] are punctuation and stop words, empty where inputs are no tokens;
    `black_box` are parameters of the model that is explained, `cell.black_box`.
    """
    selected = (own.masks > 0) & test.valid
    lengths, count = test.valid.sum(axis=1), selected.sum(axis=1)
    scalars = {"selected_count": count.mean()}

    answer: Any = cell.black_box

    def hit(args):
        x, length, label, keep = args
        return answer(black_box, x, length, keep).argmax() == label

    if answer is not None:
        other = as_many(cell.key, selected, test.valid)
        for variant, keep in (("", selected), (":shuffled", other)):
            rows = test.inputs, lengths.astype(jnp.int32), test.labels, keep
            hits = jax.lax.map(hit, rows, batch_size=256)
            scalars["post_hoc_accuracy" + variant] = hits.mean()
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
        there = empty.sum(axis=1) / jnp.maximum(lengths, 1)
        scalars["contentless_share:random"] = there.mean()
    return scalars


def as_many(key: Array, selected: Array, valid: Array) -> Array:
    """As many valid positions [N, T] as are `selected` [N, T], drawn at random.

    `key` is the cell's.
    """
    key = jax.random.fold_in(key, EVALUATOR)
    return shuffled(key, selected.astype(jnp.float32), valid) > 0
