"""Is attention over an example's own words faithful, robust, plausible?

What `--metrics` chooses, on a few hundred test examples that are the same for every
method and seed. Attention explains the class that the model itself predicts.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import Config
from jaxattn.metrics import attention_tests
from jaxattn.metrics.attention_tests import infidelity, max_sensitivity
from jaxattn.metrics.divergence import tvd
from jaxattn.metrics.ranking import kendall_tau_b
from jaxattn.nn import model as nn_model
from jaxattn.training.cell import Cell, Examples
from jaxattn.training.evaluation import adversary, faithfulness, plausibility
from jaxattn.training.evaluation.faithfulness import ERASER, FERRET
from jaxattn.training.evaluation.interventions import (
    One,
    attend,
    attributions,
    fading,
    removal,
    under,
)

EXAMPLES = 256
ADVERSARIES = 32
"""Examples for which another attention is sought: some 200 gradients each."""
FALLS = 32
"""Random sets of words that are removed to see whether weights foretell the fall."""
NEIGHBOURS = 10
"""Points around an example's embeddings at which attention is computed again."""


def applies(cell: Cell) -> bool:
    """Whether masks are attention over one's own words or instances, summing to 1."""
    own = cell.structure.scores == "selector"
    return own and cell.simplex and cell.config.model.values == "inputs"


def prices(config: Config, length: int) -> dict[str, str]:
    """What each expensive group costs beyond an evaluation, in words.

    The seconds are those of configs/reviews.py, measured on two cores.
    """
    sets = 2 + 2 * len(ERASER.fractions) + 2 + 2 * len(FERRET.fractions)
    removals = 2 * (sets + 3 * (length + 1))
    each = f"passes for each of {EXAMPLES} examples"
    rates = len(adversary.RATES)
    return {
        "faithfulness": f"{removals} {each} (reviews: 0.4 s)",
        "attention": f"{100 + 3 * length} {each}, 400 gradients for {ADVERSARIES} "
        "(reviews: 0.3 s)",
        "robustness": f"{FALLS + NEIGHBOURS} {each} (reviews: 0.2 s)",
        "adversary": f"{rates} trainings more of {config.epochs} epochs "
        "(reviews: 2 s an epoch)",
    }


def measure(
    cell: Cell,
    params: Any,
    splits: tuple[Examples, Examples],
    masks: Array,
    lexicon: Array,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The chosen groups on test examples, for masks [N, P] of the test split.

    `lexicon` are the words [V] that people rated, empty where inputs are no words.
    Returns numbers by name, and `gradient` [E, T] of the examples `gradient_rows` [E].
    """
    train, test = splits
    # A key of its own, so that all cells are asked about the same examples.
    rows = jax.random.permutation(jax.random.key(0), len(masks))[:EXAMPLES]
    keys = jax.random.split(jax.random.key(1), len(rows))
    inputs, valid = test.inputs[rows], test.valid[rows]
    noise = jax.vmap(lambda k: jax.random.uniform(k, valid.shape[1:]))(keys)
    ones = One(inputs, valid, masks[rows], noise, keys)
    chosen, words = cell.config.metrics, plausibility.words_of(train, lexicon)
    scalars: dict[str, Array] = {}
    kept: dict[str, Array] = {}
    if "agreement" in chosen:
        each = _each(partial(_agreement, cell, params), ones)
        kept = {"gradient": each.pop("gradient"), "gradient_rows": rows}
        scalars |= {name: jnp.nanmean(values) for name, values in each.items()}
    if "plausibility" in chosen and test.evidence is not None:
        scalars |= plausibility.marked(test, masks, words)
    if "plausibility" in chosen and lexicon.size:
        scalars |= _mean(lambda one: plausibility.rated(words, *one[:3]), ones)
        if test.truth is not None:
            seen = inputs, valid, test.truth[rows]
            scalars |= _mean(lambda one: plausibility.planted(words, *one), seen)
    if "faithfulness" in chosen:
        falls = _mean(partial(faithfulness.measure, cell, params), ones)
        scalars |= faithfulness.normalised(falls)
    if "attention" in chosen:
        scalars |= _mean(partial(_attention_tests, cell, params), ones)
        some = jax.tree.map(lambda x: x[:ADVERSARIES], ones)
        scalars |= _mean(partial(_adversarial_attention, cell, params), some)
    if "robustness" in chosen:
        scalars |= _mean(partial(_robustness, cell, params), ones)
    if "adversary" in chosen:
        scalars |= adversary.measure(cell, params, train, test)
    return scalars, kept


def _each(measure_one, examples: Any) -> dict[str, Array]:
    return jax.lax.map(measure_one, examples, batch_size=32)


def _mean(measure_one, examples: Any) -> dict[str, Array]:
    """Means over the examples in which a number is defined."""
    each = _each(measure_one, examples)
    return {name: jnp.nanmean(values) for name, values in each.items()}


def _agreement(cell, params, one) -> dict[str, Array]:
    """Kendall's tau-b with gradients and leave-one-out, as in Jain & Wallace
    (arXiv 1902.10186), and of these two with one another: the ceiling."""
    whole = under(cell, params, one, one.valid, one.mask)
    places, anew = jnp.arange(len(one.mask)), removal(cell, params, one)

    def falls(place):
        mask = attention_tests.without(one.mask, places == place)
        held = under(cell, params, one, one.valid, mask)
        return tvd(whole, held), tvd(whole, anew(places != place))

    by_held, by_dropped = jax.vmap(falls)(places)
    gradients = jax.tree.map(jnp.abs, attributions(cell, params, one))

    def tau(a, b):
        return kendall_tau_b(a, b, one.valid)

    return {
        "gradient_tau": tau(one.mask, gradients.held),
        "gradient_tau:through_attention": tau(one.mask, gradients.through),
        "gradient_tau:norm": tau(one.mask, gradients.norm),
        "gradient_tau:integrated": tau(one.mask, gradients.integrated),
        "leave_one_out_tau": tau(one.mask, by_dropped),
        "leave_one_out_tau:attention_fixed": tau(one.mask, by_held),
        "ceiling_tau": tau(gradients.held, by_dropped),
        "ceiling_tau:integrated": tau(gradients.integrated, by_dropped),
        "gradient": gradients.held,
    }


def _attention_tests(cell, params, one) -> dict[str, Array]:
    predict = partial(under, cell, params, one, one.valid)
    chosen = predict(one.mask).argmax()
    gradient = jax.grad(lambda m: predict(m)[chosen])(one.mask)
    rankings = {
        "": one.mask,
        ":gradient": gradient,
        ":product": gradient * one.mask,
        ":random": one.noise,
    }
    flip = partial(attention_tests.decision_flip, predict, one.mask, valid=one.valid)
    given = one.key, predict, one.mask, one.valid
    return {"decision_flip" + k: flip(ranking) for k, ranking in rankings.items()} | {
        "single_weight_js": attention_tests.single_weight(*given),
        "permuted_tvd": attention_tests.permuted(*given),
    }


def _adversarial_attention(cell, params, one) -> dict[str, Array]:
    predict = partial(under, cell, params, one, one.valid)
    other = attention_tests.adversarial(
        one.key, predict, one.mask, one.valid, starts=2, steps=200
    )
    return {"adversarial_jsd": other.jsd}


def _robustness(cell, params, one) -> dict[str, Array]:
    """Do weights foretell what the removal of random words does, and stay put?"""
    faded = fading(cell, params, one)
    whole = faded(jnp.ones_like(one.mask))
    chosen = whole.argmax()
    size_key, set_key, ball_key = jax.random.split(one.key, 3)
    # Sets of every size: the share of words that goes is itself drawn.
    share = jax.random.uniform(size_key, (FALLS, 1))
    gone = jax.random.uniform(set_key, (FALLS, len(one.mask))) < share
    gone = jnp.where(one.valid, gone, False).astype(jnp.float32)
    falls = whole[chosen] - jax.lax.map(lambda g: faded(1 - g)[chosen], gone)
    selectors, _ = nn_model.embedded(cell.model, params, one.inputs, one.valid)
    moved = partial(attend, cell, params, one, one.valid)
    centre = jnp.zeros_like(selectors)
    noise = jnp.where(one.valid, one.noise, 0)
    return {
        "infidelity": infidelity(gone, falls, one.mask, rescaled=True),
        "infidelity:random": infidelity(gone, falls, noise, rescaled=True),
        "max_sensitivity": max_sensitivity(ball_key, moved, centre, samples=NEIGHBOURS),
    }
