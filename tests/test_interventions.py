"""What a model answers once something is changed by hand, on a cell of four words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.config import Config, Data, Model
from jaxattn.methods.table import METHODS
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.training import step as steps
from jaxattn.training.cell import Task, make_cell
from jaxattn.training.evaluation.interventions import (
    One,
    attend,
    attributions,
    fading,
    removal,
    under,
)

VALID = jnp.arange(6) < 4


def make(kind="tokens", **model):
    """A cell that is not trained, and one example of it."""
    config = Config(
        batch_size=8,
        data=Data(length=6),
        model=Model(values="inputs", features=4, hidden=4, **model),
    )
    size = 20 if kind == "tokens" else 3
    inputs = Inputs(kind, size, 6)
    task = Task(inputs, 2, 64)
    cell = make_cell(config, METHODS["joint"], task, jax.random.key(0))
    params = steps.init(cell).params
    # Larger, so that answers are not all one half.
    params = jax.tree.map(lambda p: 3 * p, params)
    x = jnp.array([3, 7, 7, 9, 0, 0])
    if kind == "vectors":
        x = jax.random.normal(jax.random.key(5), (6, 3))
    one = One(x, VALID, jnp.zeros(6), jnp.zeros(6), jax.random.key(1))
    return cell, params, one._replace(mask=attend(cell, params, one, VALID))


CASES = [
    make(),
    make("vectors", query="gru"),
    make(predictor="cnn", normalizer="sparsemax"),
    make(predictor="recurrent", normalizer="softmax", query="bigru"),
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_changed_changes_nothing(case):
    cell, params, one = case
    whole = under(cell, params, one, VALID, one.mask)
    everything = jnp.ones(6)
    for held in (True, False):
        same = fading(cell, params, one, held)(everything)
        np.testing.assert_allclose(same, whole, atol=1e-6)
    same = removal(cell, params, one)(jnp.ones(6, bool))
    np.testing.assert_allclose(same, whole, atol=1e-6)
    nothing = jnp.zeros((6, 4))
    np.testing.assert_allclose(
        attend(cell, params, one, VALID, nothing), one.mask, atol=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_padding_can_fade_and_go_without_a_trace(case):
    cell, params, one = case
    for change in (
        fading(cell, params, one),
        removal(cell, params, one),
    ):
        np.testing.assert_allclose(change(VALID), change(VALID | True), atol=1e-6)
    for scores in attributions(cell, params, one):
        assert np.all(np.asarray(scores)[4:] == 0)


@pytest.mark.parametrize("case", CASES)
def test_integrated_gradients_add_up_to_the_change_of_the_answer(case):
    # Completeness: Sundararajan et al. (arXiv 1703.01365), proposition 1.
    cell, params, one = case
    chosen = under(cell, params, one, VALID, one.mask).argmax()
    faded = fading(cell, params, one)
    change = float(faded(jnp.ones(6))[chosen] - faded(jnp.zeros(6))[chosen])
    total = attributions(cell, params, one).integrated.sum()
    assert abs(change) > 0.02
    # A sum over 16 points, and sparsemax has corners.
    assert total == pytest.approx(change, abs=0.05 * abs(change) + 0.01)


def test_gradient_times_input_is_the_gradient_times_the_embedding():
    cell, params, one = CASES[0]
    _, words = nn_model.embedded(cell.model, params, one.inputs, VALID)
    chosen = under(cell, params, one, VALID, one.mask).argmax()

    def moved(shift):
        return under(cell, params, one, VALID, one.mask, shift)[chosen]

    slope = jax.grad(moved)(jnp.zeros_like(words))
    found = attributions(cell, params, one)
    np.testing.assert_allclose(found.held, (slope * words).sum(axis=1), atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    cell, params, one = CASES[0]
    chosen = under(cell, params, one, VALID, one.mask).argmax()
    faded = fading(cell, params, one)
    step = 1e-2
    for place in range(4):
        h = step * jnp.eye(6)[place]
        by_hand = float((faded(1 + h) - faded(1 - h))[chosen]) / (2 * step)
        found = attributions(cell, params, one).through[place]
        assert found == pytest.approx(by_hand, abs=2e-3)


def test_embeddings_are_the_rows_of_the_tables():
    cell, params, one = CASES[0]
    found = nn_model.embedded(cell.model, params, one.inputs, VALID)
    for half, vectors in zip(("selector", "predictor"), found, strict=True):
        table = params[half]["words"]["embedding"]
        np.testing.assert_array_equal(vectors, table[one.inputs])


def test_without_attention_held_words_fade_in_both_halves():
    cell, params, one = CASES[0]
    share = jnp.array([0.1, 1, 1, 1, 1, 1])
    free = fading(cell, params, one)(share)
    held = fading(cell, params, one, held=True)(share)
    assert np.abs(free - held).max() > 1e-4
