"""What a model answers once something is changed by hand, on a cell of four words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.config import Config, Data, Model
from jaxattn.methods.table import METHODS
from jaxattn.metrics.attention_tests import without
from jaxattn.metrics.divergence import tvd
from jaxattn.metrics.ranking import kendall_tau_b
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.training import step as steps
from jaxattn.training.cell import Task, make_cell
from jaxattn.training.evaluation import attention
from jaxattn.training.evaluation.interventions import (
    One,
    attend,
    attributions,
    fading,
    removal,
    under,
)

VALID = jnp.arange(6) < 4
STEP = 1e-2
# Nothing fades, padding does, all does, a word does; then one word each, up and down.
SHARES = jnp.stack([VALID | True, VALID, VALID & False, jnp.ones(6).at[0].set(0.1)])
SHARES = jnp.concatenate([SHARES, *(1 + s * jnp.eye(6)[:4] for s in (STEP, -STEP))])
CASES = {
    "tokens": {},
    "vectors": {"query": "bigru"},
    "convolution": {"predictor": "cnn", "normalizer": "sparsemax"},
    "recurrent": {"predictor": "recurrent", "normalizer": "softmax"},
}


@functools.cache
def make(case):
    """A cell that is not trained, and one example of it."""
    config = Config(
        batch_size=8,
        data=Data(length=6),
        model=Model(values="inputs", features=4, hidden=4, **CASES[case]),
    )
    kind, size = ("vectors", 3) if case == "vectors" else ("tokens", 20)
    task = Task(Inputs(kind, size, 6), 2, 64)
    cell = make_cell(config, METHODS["joint"], task, jax.random.key(0))
    # Larger, so that answers are not all one half.
    params = jax.tree.map(lambda p: 3 * p, jax.jit(steps.init)(cell).params)
    x = jnp.array([3, 7, 7, 9, 0, 0])
    if case == "vectors":
        x = jax.random.normal(jax.random.key(5), (6, 3))
    one = One(x, VALID, jnp.zeros(6), jnp.zeros(6), jax.random.key(1))
    return cell, params, one._replace(mask=jax.jit(attend)(cell, params, one, VALID))


def all_answers(cell, params, one):
    whole = under(cell, params, one, VALID, one.mask)
    chosen, words = whole.argmax(), nn_model.embedded(cell.model, params, *one[:2])

    def moved(shift):
        return under(cell, params, one, VALID, one.mask, shift)[chosen]

    return {
        "whole": whole,
        "chosen": chosen,
        "mask": attend(cell, params, one, VALID, jnp.zeros((6, 4))),
        "faded": jax.vmap(fading(cell, params, one))(SHARES),
        "held": jax.vmap(fading(cell, params, one, held=True))(SHARES),
        "anew": jax.vmap(removal(cell, params, one))(jnp.stack([VALID | True, VALID])),
        "scores": attributions(cell, params, one),
        "by_hand": (jax.grad(moved)(0 * words[1]) * words[1]).sum(axis=1),
        "words": words,
    }


@functools.cache
def answers(case):
    """Compiled once: everything that is asked of an example."""
    return jax.tree.map(np.asarray, jax.jit(all_answers)(*make(case)))


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_changed_and_padding_change_nothing(case):
    made = answers(case)
    for same in (*made["faded"][:2], *made["held"][:1], *made["anew"]):
        np.testing.assert_allclose(same, made["whole"], atol=1e-6)
    np.testing.assert_allclose(made["mask"], make(case)[2].mask, atol=1e-6)
    for scores in made["scores"]:
        assert np.all(scores[4:] == 0)


@pytest.mark.parametrize("case", CASES)
def test_integrated_gradients_add_up_to_the_change_of_the_answer(case):
    # Completeness: Sundararajan et al. (arXiv 1703.01365), proposition 1.
    made = answers(case)
    change = float((made["faded"][0] - made["faded"][2])[made["chosen"]])
    total = made["scores"].integrated.sum()
    assert abs(change) > 0.02
    # A sum over 16 points, and sparsemax has corners.
    assert total == pytest.approx(change, abs=0.05 * abs(change) + 0.01)


def test_gradients_are_those_by_hand_and_of_finite_differences():
    """Gradient times input is the gradient times the embedding."""
    made = answers("tokens")
    np.testing.assert_allclose(made["scores"].held, made["by_hand"], atol=1e-6)
    slopes = (made["faded"][4:8] - made["faded"][8:])[:, made["chosen"]] / (2 * STEP)
    np.testing.assert_allclose(made["scores"].through[:4], slopes, rtol=0, atol=2e-3)


def test_embeddings_are_the_rows_of_the_tables():
    _, params, one = make("tokens")
    halves = [params[half]["words"] for half in ("selector", "predictor")]
    for table, vectors in zip(halves, answers("tokens")["words"], strict=True):
        np.testing.assert_array_equal(vectors, table["embedding"][one.inputs])


def test_without_attention_held_words_fade_in_both_halves():
    free, held = answers("tokens")["faded"][3], answers("tokens")["held"][3]
    assert np.abs(free - held).max() > 1e-4


def test_leave_one_out_computes_attention_anew():
    cell, params, one = make("tokens")
    whole = answers("tokens")["whole"]

    def falls(place):
        mask = without(one.mask, jnp.arange(6) == place)
        held = under(cell, params, one, VALID, mask)
        anew = removal(cell, params, one)(jnp.arange(6) != place)
        return [tvd(whole, x) for x in (anew, held)]

    made = jax.jit(attention._agreement)(cell, params, one)
    anew, held = (
        float(kendall_tau_b(one.mask, fall, VALID))
        for fall in jax.jit(jax.vmap(falls))(jnp.arange(6))
    )
    assert anew != held
    assert made["leave_one_out_tau"] == pytest.approx(anew, abs=1e-6)
    assert made["leave_one_out_tau:attention_fixed"] == pytest.approx(held)
