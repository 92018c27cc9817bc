"""Is attention over one's own words faithful, robust, plausible? For trained cells.

What `--metrics` chooses, on a few hundred test examples that are the same for every
method and seed. Attention explains the class that the model itself predicts.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.config import Config
from jaxattn.metrics import attention_tests
from jaxattn.metrics.attention_tests import infidelity, max_sensitivity
from jaxattn.metrics.divergence import tvd
from jaxattn.metrics.ranking import (
    auroc,
    average_precision,
    document_frequency,
    kendall_tau_b,
)
from jaxattn.nn import model as nn_model
from jaxattn.training.cell import Arrays, Cell, Static, simplex, unpack
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


def applies(static: Static) -> bool:
    """Whether masks are attention over one's own words or instances, summing to 1."""
    own = static.structure.scores == "selector"
    return own and simplex(static) and static.config.model.values == "inputs"


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
    static: Static,
    cell: Cell,
    state: Any,
    train: Arrays,
    test: Arrays,
    masks: Array,
    lexicon: Array,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The chosen groups on test examples with masks [N, P]; `lexicon` [V] are words
    that people rated, empty where inputs are no words.

    Numbers by name, and `gradient` [E, T] of the examples `gradient_rows` [E] that were
    asked about.
    """
    n = len(masks)
    # A key of its own, so that all cells are asked about the same examples.
    rows = jax.random.permutation(jax.random.key(0), n)[:EXAMPLES]
    few = jax.tree.map(lambda x: x[rows], test._replace(targets=None))
    inputs, valid, _ = unpack(few)
    keys = jax.random.split(jax.random.key(1), len(rows))
    noise = jax.vmap(lambda k: jax.random.uniform(k, valid.shape[1:]))(keys)
    ones = One(inputs, valid, masks[rows], noise, keys)
    params, chosen = state.params, static.config.metrics
    found: dict[str, Array] = {}
    kept: dict[str, Array] = {}
    if "agreement" in chosen:
        each = _each(lambda one: _agreement(static, cell, params, one), ones)
        kept = {"gradient": each.pop("gradient"), "gradient_rows": rows}
        found |= {name: jnp.nanmean(values) for name, values in each.items()}
    if "plausibility" in chosen and test.evidence is not None:
        found |= plausibility.measure(train, test, masks, lexicon)
    if "plausibility" in chosen and lexicon.size:
        texts, there, _ = unpack(train)
        counts = document_frequency(texts, there, len(lexicon))
        found |= _mean(lambda one: _plausibility(lexicon, counts, one), ones)
        if few.truth is not None:
            found |= _mean(
                lambda pair: _baselines(lexicon, counts, *pair), (ones, few.truth)
            )
    if "faithfulness" in chosen:
        falls = _mean(lambda one: faithfulness.measure(static, cell, params, one), ones)
        found |= faithfulness.normalised(falls)
    if "attention" in chosen:
        found |= _mean(lambda one: _attention(static, params, one), ones)
        some = jax.tree.map(lambda x: x[:ADVERSARIES], ones)
        found |= _mean(lambda one: _adversary(static, params, one), some)
    if "robustness" in chosen:
        found |= _mean(lambda one: _robustness(static, cell, params, one), ones)
    if "adversary" in chosen:
        found |= adversary.measure(static, cell, params, train, test)
    return found, kept


def _each(measure_one, examples: Any) -> dict[str, Array]:
    return jax.lax.map(measure_one, examples, batch_size=32)


def _mean(measure_one, examples: Any) -> dict[str, Array]:
    """Means over the examples in which a number is defined."""
    each = _each(measure_one, examples)
    return {name: jnp.nanmean(values) for name, values in each.items()}


def _agreement(static, cell, params, one) -> dict[str, Array]:
    """Kendall's tau-b with gradients and leave-one-out, as in Jain & Wallace
    (arXiv 1902.10186), and of these two with one another: the ceiling."""
    whole = under(static, params, one, one.valid, one.mask)
    places = jnp.arange(len(one.mask))

    def held(place):
        mask = attention_tests.without(one.mask, places == place)
        return tvd(whole, under(static, params, one, one.valid, mask))

    anew = removal(static, cell, params, one)

    def dropped(place):
        return tvd(whole, anew(places != place))

    by_held, by_dropped = jax.vmap(held)(places), jax.vmap(dropped)(places)
    gradients = jax.tree.map(jnp.abs, attributions(static, cell, params, one))

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


def _plausibility(lexicon, counts, one) -> dict[str, Array]:
    """Does attention rank first what people rated, beside rankings without a model?"""
    rated = lexicon[one.inputs] & one.valid
    some = rated.any()
    density = rated.sum() / jnp.maximum(one.valid.sum(), 1)
    precision = average_precision(one.mask, rated, one.valid)
    return {
        "lexicon_auroc": auroc(one.mask, rated, one.valid),
        "lexicon_ap": jnp.where(some, precision, jnp.nan),
        "lexicon_ap:random": jnp.where(some, density, jnp.nan),
    } | {
        f"lexicon_auroc:{name}": auroc(scores, rated, one.valid)
        for name, scores in _rankings(counts, one).items()
    }


def _baselines(lexicon, counts, one, truth) -> dict[str, Array]:
    """What rankings without a model find of the evidence."""
    rankings = _rankings(counts, one)
    rankings["lexicon"] = lexicon[one.inputs].astype(jnp.float32)
    return {
        f"evidence_auroc:{name}": auroc(scores, truth, one.valid)
        for name, scores in rankings.items()
    }


def _rankings(counts, one) -> dict[str, Array]:
    return {
        "idf": -counts[one.inputs].astype(jnp.float32),
        "position": -jnp.arange(len(one.mask), dtype=jnp.float32),
    }


def _attention(static, params, one) -> dict[str, Array]:
    def predict(mask):
        return under(static, params, one, one.valid, mask)

    chosen = predict(one.mask).argmax()
    gradient = jax.grad(lambda m: predict(m)[chosen])(one.mask)
    rankings = {
        "": one.mask,
        ":gradient": gradient,
        ":product": gradient * one.mask,
        ":random": one.noise,
    }
    found = {
        "decision_flip" + variant: attention_tests.decision_flip(
            predict, one.mask, ranking, one.valid
        )
        for variant, ranking in rankings.items()
    }
    single = attention_tests.single_weight(one.key, predict, one.mask, one.valid)
    return found | {
        "single_weight_js": single.difference,
        "permuted_tvd": attention_tests.permuted(one.key, predict, one.mask, one.valid),
    }


def _adversary(static, params, one) -> dict[str, Array]:
    def predict(mask):
        return under(static, params, one, one.valid, mask)

    found = attention_tests.adversarial(
        one.key, predict, one.mask, one.valid, starts=2, steps=200
    )
    return {"adversarial_jsd": found.jsd}


def _robustness(static, cell, params, one) -> dict[str, Array]:
    """Do weights foretell what the removal of random words does, and stay put?"""
    faded = fading(static, cell, params, one)
    whole = faded(jnp.ones_like(one.mask))
    chosen = whole.argmax()
    size_key, set_key, ball_key = jax.random.split(one.key, 3)
    # Sets of every size: the share of words that goes is itself drawn.
    share = jax.random.uniform(size_key, (FALLS, 1))
    gone = jax.random.uniform(set_key, (FALLS, len(one.mask))) < share
    gone = jnp.where(one.valid, gone, False).astype(jnp.float32)
    falls = whole[chosen] - jax.lax.map(lambda g: faded(1 - g)[chosen], gone)
    selectors, _ = nn_model.embedded(static.model, params, one.inputs, one.valid)

    def moved(shift):
        return attend(static, cell, params, one, one.valid, shift)

    return {
        "infidelity": infidelity(gone, falls, one.mask, rescaled=True),
        "infidelity:random": infidelity(
            gone, falls, jnp.where(one.valid, one.noise, 0), rescaled=True
        ),
        "max_sensitivity": max_sensitivity(
            ball_key, moved, jnp.zeros_like(selectors), samples=NEIGHBOURS
        ),
    }
