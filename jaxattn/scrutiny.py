"""Is attention over one's own words faithful, robust, plausible? For trained cells.

What `--metrics` chooses, on a few hundred test examples that are the same for every
method and seed. Attention explains the class that the model itself predicts. Removing a
word means that neither selector nor predictor sees it: attention is computed anew.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn import forward
from jaxattn.forward import Arrays, Cell, Static
from jaxattn.metrics import attention, erasure
from jaxattn.metrics.agreement import kendall_tau_b
from jaxattn.metrics.ranking import auroc
from jaxattn.nn import model as nn_model

EXAMPLES = 256
ADVERSARIES = 32
"""Examples for which another attention is sought: some 200 gradients each."""
ERASER = erasure.VARIANTS["eraser"]


class One(NamedTuple):
    """One example under a trained cell, and what its answer rests on."""

    inputs: Array
    valid: Array
    mask: Array
    noise: Array
    """Random scores [T], the null of every ranking."""
    key: Array


def applies(static: Static) -> bool:
    """Whether masks are attention over one's own words or instances, summing to 1."""
    own = static.structure.scores == "selector"
    return own and forward.simplex(static) and static.config.model.values == "inputs"


def prices(length: int) -> dict[str, str]:
    """What each group costs beyond an evaluation, in words, for `length` positions."""
    sets = 2 + 2 * len(ERASER.fractions)
    passes = 2 * (sets + 2 * (length + 1))
    return {
        "faithfulness": f"{passes} passes for each of {EXAMPLES} examples",
        "attention": f"{100 + 3 * length} passes for each of {EXAMPLES} examples and "
        f"400 gradients for {ADVERSARIES}",
    }


def measure(
    static: Static, cell: Cell, state: Any, test: Arrays, masks: Array, lexicon: Array
) -> dict[str, Array]:
    """The chosen groups on test examples with masks [N, P]; `lexicon` [V] are words
    that people rated, empty where inputs are no words."""
    n = len(masks)
    # A key of its own, so that all cells are asked about the same examples.
    rows = jax.random.permutation(jax.random.key(0), n)[:EXAMPLES]
    few = jax.tree.map(lambda x: x[rows], (test.inputs, test.lengths, test.labels))
    inputs, valid, _ = forward.unpack(Arrays(*few))
    keys = jax.random.split(jax.random.key(1), len(rows))
    noise = jax.vmap(lambda k: jax.random.uniform(k, valid.shape[1:]))(keys)
    ones = One(inputs, valid, masks[rows], noise, keys)
    chosen = static.config.metrics
    found: dict[str, Array] = {}
    if "agreement" in chosen:
        found |= _mean(lambda one: _agreement(static, cell, state.params, one), ones)
    if "plausibility" in chosen and lexicon.size:
        found |= _mean(lambda one: _plausibility(lexicon, test, one), ones)
    if "faithfulness" in chosen:
        found |= _mean(lambda one: _faithfulness(static, cell, state.params, one), ones)
    if "attention" in chosen:
        found |= _mean(lambda one: _attention(static, state.params, one), ones)
        some = jax.tree.map(lambda x: x[:ADVERSARIES], ones)
        found |= _mean(lambda one: _adversary(static, state.params, one), some)
    return found


def _mean(measure_one, ones: One) -> dict[str, Array]:
    """Means over the examples in which a number is defined."""
    each = jax.lax.map(measure_one, ones, batch_size=32)
    return {name: jnp.nanmean(values) for name, values in each.items()}


def _whole_model(static: Static, cell: Cell, params: Any, one: One):
    """(keep [T]) -> probabilities [C], attention computed anew over what is kept."""

    def answer(keep: Array) -> Array:
        valid = one.valid & keep
        scores = nn_model.scores(static.model, params["selector"], one.inputs, valid)
        mask = forward.own_mask(static, cell, one.key, scores, valid, training=False)
        return _under(static, params, one, valid, mask)

    return answer


def _under(static: Static, params: Any, one: One, valid: Array, mask: Array) -> Array:
    logits = nn_model.logits(static.model, params["predictor"], one.inputs, valid, mask)
    return jax.nn.softmax(logits)


def _agreement(static, cell, params, one) -> dict[str, Array]:
    """Kendall's tau-b with gradients and leave-one-out, as in Jain & Wallace
    (arXiv 1902.10186), and of these two with one another: the ceiling."""
    fixed = _under(static, params, one, one.valid, one.mask)
    chosen = fixed.argmax()

    def faded(share):
        return _under(static, params, one, one.valid, one.mask * share)[chosen]

    places = jnp.arange(len(one.mask))
    gradient = jnp.abs(jax.grad(faded)(jnp.ones_like(one.mask)))

    def held(place):
        mask = attention.without(one.mask, places == place)
        return attention.tvd(fixed, _under(static, params, one, one.valid, mask))

    anew = _whole_model(static, cell, params, one)

    def dropped(place):
        return attention.tvd(fixed, anew(places != place))

    by_held, by_dropped = jax.vmap(held)(places), jax.vmap(dropped)(places)

    def tau(a, b):
        return kendall_tau_b(a, b, one.valid)

    return {
        "gradient_tau": tau(one.mask, gradient),
        "leave_one_out_tau": tau(one.mask, by_dropped),
        "leave_one_out_tau:attention_fixed": tau(one.mask, by_held),
        "ceiling_tau": tau(gradient, by_dropped),
    }


def _plausibility(lexicon, test, one) -> dict[str, Array]:
    """AUROC for words that people rated, beside two rankings without a model."""
    rated = lexicon[one.inputs] & one.valid
    # How often a word occurs in the test texts stands for how common it is.
    tokens = test.inputs.reshape(-1).astype(jnp.int32)
    counts = jnp.bincount(tokens, length=len(lexicon))
    rare = -counts[one.inputs].astype(jnp.float32)
    early = -jnp.arange(len(one.mask), dtype=jnp.float32)
    return {
        "lexicon_auroc": auroc(one.mask, rated, one.valid),
        "lexicon_auroc:rarity": auroc(rare, rated, one.valid),
        "lexicon_auroc:position": auroc(early, rated, one.valid),
    }


def _faithfulness(static, cell, params, one) -> dict[str, Array]:
    predict = _whole_model(static, cell, params, one)
    found = {}
    for variant, scores in (("", one.mask), (":random", one.noise)):
        removal = erasure.remove(predict, scores, one.valid, ERASER)
        values = {
            "comprehensiveness": erasure.comprehensiveness(removal),
            "sufficiency": erasure.sufficiency(removal),
        }
        for name, each in values.items():
            found[name + variant] = erasure.aopc(each, removal, ERASER)
        found["deletion_area" + variant] = erasure.deletion(predict, scores, one.valid)
        found["insertion_area" + variant] = erasure.insertion(
            predict, scores, one.valid
        )
    return found


def _attention(static, params, one) -> dict[str, Array]:
    def predict(mask):
        return _under(static, params, one, one.valid, mask)

    chosen = predict(one.mask).argmax()
    gradient = jax.grad(lambda m: predict(m)[chosen])(one.mask)
    rankings = {
        "": one.mask,
        ":gradient": gradient,
        ":product": gradient * one.mask,
        ":random": one.noise,
    }
    found = {
        "decision_flip" + variant: attention.decision_flip(
            predict, one.mask, ranking, one.valid
        )
        for variant, ranking in rankings.items()
    }
    single = attention.single_weight(one.key, predict, one.mask, one.valid)
    return found | {
        "single_weight_js": single.difference,
        "permuted_tvd": attention.permuted(one.key, predict, one.mask, one.valid),
    }


def _adversary(static, params, one) -> dict[str, Array]:
    def predict(mask):
        return _under(static, params, one, one.valid, mask)

    found = attention.adversarial(
        one.key, predict, one.mask, one.valid, starts=2, steps=200
    )
    return {"adversarial_jsd": found.jsd}
