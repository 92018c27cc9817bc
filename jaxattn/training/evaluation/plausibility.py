"""Do maps look as people marked the examples? Beside rankings that need no model."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics.ranking import (
    auprc,
    auroc,
    average_precision,
    document_frequency,
    mass_on,
)
from jaxattn.training import cell
from jaxattn.training.cell import Arrays

EXAMPLES = 2048
"""Marked test examples that are asked about, the same for every method and seed."""

MARKED = 0.5
"""Graded evidence counts from here on."""


def measure(
    train: Arrays, test: Arrays, masks: Array, rated: Array
) -> dict[str, Array]:
    """How well masks [N, T] rank what people marked in the test split, and chance.

    `rated` [V] are words of the lexicon, empty where inputs are no words. Examples
    without a marked position, or without another one, are left out.
    """
    assert test.evidence is not None
    some = jnp.isfinite(test.evidence).any(axis=1)
    # A key of its own; those that nobody marked come last.
    drawn = jax.random.uniform(jax.random.key(2), some.shape)
    rows = jnp.argsort(jnp.where(some, drawn, 2.0))[:EXAMPLES]
    inputs, valid, _ = cell.unpack(
        test._replace(
            inputs=test.inputs[rows],
            lengths=test.lengths[rows],
            labels=test.labels[rows],
        )
    )
    counts = jnp.zeros(0)
    if rated.size:
        texts, there, _ = cell.unpack(train)
        counts = document_frequency(texts, there, len(rated))

    def one(args):
        tokens, there, mask, marks, noise = args
        human = there & (marks >= MARKED)
        rankings = {"": mask, ":position": -jnp.arange(len(mask), dtype=jnp.float32)}
        if rated.size:
            rankings[":idf"] = -counts[tokens].astype(jnp.float32)
            rankings[":lexicon"] = rated[tokens].astype(jnp.float32)
        both = human.any() & (there & ~human).any()
        density = human.sum() / jnp.maximum(there.sum(), 1)
        found = {
            "human_ap:random": density,
            "human_auprc:random": auprc(noise, human, there),
            "human_mass": mass_on(mask, human),
            "human_mass:uniform": density,
        }
        for name, scores in rankings.items():
            found |= {
                f"human_auroc{name}": auroc(scores, human, there),
                f"human_ap{name}": average_precision(scores, human, there),
                f"human_auprc{name}": auprc(scores, human, there),
            }
        return {name: jnp.where(both, value, jnp.nan) for name, value in found.items()}

    noise = jax.random.uniform(jax.random.key(3), valid.shape)
    examples = (inputs, valid, masks[rows], test.evidence[rows], noise)
    each = jax.lax.map(one, examples, batch_size=32)
    return {name: jnp.nanmean(values) for name, values in each.items()}
