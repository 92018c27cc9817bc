"""Do maps look as people marked the examples? Beside rankings that need no model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics import ranking
from jaxattn.metrics.ranking import auprc, auroc, average_precision, mass_on
from jaxattn.training.cell import Examples

EXAMPLES = 2048
"""Marked test examples that are asked about, the same for every method and seed."""
MARKED = 0.5
"""Graded evidence counts from here on."""


class Words(NamedTuple):
    """What is known of each token id [V]; both empty where inputs are no words."""

    rated: Array
    """Whether people rated it, as part of a lexicon."""
    counts: Array
    """In how many training texts it occurs."""


def words_of(train: Examples, lexicon: Array) -> Words:
    """What rankings without a model know of words; `lexicon` [V] are the rated ones."""
    counts = jnp.zeros(0)
    if lexicon.size:
        counts = ranking.document_frequency(train.inputs, train.valid, len(lexicon))
    return Words(lexicon, counts)


def rankings(words: Words, inputs: Array) -> dict[str, Array]:
    """Scores [T] by name of one example's inputs [T], without any model."""
    scores = {"position": -jnp.arange(len(inputs), dtype=jnp.float32)}
    if words.rated.size:
        scores["idf"] = -words.counts[inputs].astype(jnp.float32)
        scores["lexicon"] = words.rated[inputs].astype(jnp.float32)
    return scores


def marked(test: Examples, masks: Array, words: Words) -> dict[str, Array]:
    """How well masks [N, T] rank what people marked in the test split, and chance.

    Examples without a marked position, or without another one, are left out.
    """
    assert test.evidence is not None
    some = jnp.isfinite(test.evidence).any(axis=1)
    # A key of its own; those that nobody marked come last.
    drawn = jax.random.uniform(jax.random.key(2), some.shape)
    rows = jnp.argsort(jnp.where(some, drawn, 2.0))[:EXAMPLES]
    valid = test.valid[rows]

    def one(args):
        inputs, there, mask, marks, noise = args
        human = there & (marks >= MARKED)
        both = human.any() & (there & ~human).any()
        density = human.sum() / jnp.maximum(there.sum(), 1)
        scalars = {
            "human_ap:random": density,
            "human_auprc:random": auprc(noise, human, there),
            "human_mass": mass_on(mask, human),
            "human_mass:uniform": density,
        }
        others = {f":{name}": s for name, s in rankings(words, inputs).items()}
        for variant, scores in ({"": mask} | others).items():
            scalars |= {
                f"human_auroc{variant}": auroc(scores, human, there),
                f"human_ap{variant}": average_precision(scores, human, there),
                f"human_auprc{variant}": auprc(scores, human, there),
            }
        return {name: jnp.where(both, v, jnp.nan) for name, v in scalars.items()}

    noise = jax.random.uniform(jax.random.key(3), valid.shape)
    examples = (test.inputs[rows], valid, masks[rows], test.evidence[rows], noise)
    each = jax.lax.map(one, examples, batch_size=32)
    return {name: jnp.nanmean(values) for name, values in each.items()}


def rated(words: Words, inputs: Array, valid: Array, mask: Array) -> dict[str, Array]:
    """Does the mask [T] of one example rank first what people rated in a lexicon?"""
    positive = words.rated[inputs] & valid
    density = positive.sum() / jnp.maximum(valid.sum(), 1)
    precision = average_precision(mask, positive, valid)
    others = {f":{k}": s for k, s in rankings(words, inputs).items() if k != "lexicon"}
    scores = {"": mask} | others
    return {
        "lexicon_ap": jnp.where(positive.any(), precision, jnp.nan),
        "lexicon_ap:random": jnp.where(positive.any(), density, jnp.nan),
    } | {"lexicon_auroc" + k: auroc(s, positive, valid) for k, s in scores.items()}


def planted(words: Words, inputs: Array, valid: Array, truth: Array):
    """What rankings without a model find of the evidence `truth` [T]."""
    return {
        f"evidence_auroc:{name}": auroc(scores, truth, valid)
        for name, scores in rankings(words, inputs).items()
    }
