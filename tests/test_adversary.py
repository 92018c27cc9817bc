"""The model-level adversary, where it is known what can be left and what cannot."""

import jax
import jax.numpy as jnp
import pytest

from jaxattn.config import Config, Data, Model, Optimizer
from jaxattn.methods.table import METHODS
from jaxattn.nn.embedding import Inputs
from jaxattn.training import step
from jaxattn.training.cell import Arrays, Task, evaluate, make_cell, unpack
from jaxattn.training.evaluation import adversary

N, T, CUE = 256, 6, 3


def examples(key, twice) -> Arrays:
    """Texts of noise; token 1 or 2 at one place, 12 or 13 at the next, is the label."""
    a, b = jax.random.split(key)
    labels = jax.random.bernoulli(a, 0.5, (N,)).astype(jnp.int32)
    tokens = jax.random.randint(b, (N, T), 3, 12)
    tokens = tokens.at[:, CUE].set(1 + labels)
    again = jnp.where(twice, 12 + labels, tokens[:, CUE + 1])
    return Arrays(tokens.at[:, CUE + 1].set(again), jnp.full(N, T), labels)


@pytest.fixture(scope="module")
def measured():
    """Numbers by name: where one word tells the label, and where two do."""
    config = Config(
        batch_size=32,
        epochs=25,
        data=Data(length=T),
        model=Model(values="inputs", normalizer="softmax", features=8, hidden=8),
        optimizer=Optimizer(learning_rate=1e-2),
    )
    task = Task(Inputs("tokens", 14, T), 2, N)
    cell = make_cell(config, METHODS["joint"], task, jax.random.key(0))

    def one(twice):
        splits = tuple(examples(jax.random.key(i), twice) for i in range(3))
        state, _ = step.train(cell, splits)
        train, _, test = map(unpack, splits)
        hits = evaluate(cell, state.params, jax.random.key(1), test).hits
        return hits.mean(), adversary.measure(cell, state.params, train, test)

    hits, numbers = jax.jit(jax.vmap(one))(jnp.array([False, True]))
    assert (hits > 0.95).all()  # else there is nothing to leave
    return [{name: float(x[i]) for name, x in numbers.items()} for i in range(2)]


def test_attention_that_nobody_needs_can_be_left(measured):
    made = measured[1]
    # Either word tells the label: the answers stay, attention goes from the one most
    # attended to the other.
    far = f"rate {adversary.RATES[-1]:g}"
    assert made[f"model_adversary_tvd:{far}"] < 0.05
    assert made["model_adversary_jsd"] == made[f"model_adversary_jsd:{far}"]
    assert made["model_adversary_jsd"] > made["model_adversary_jsd:rate 0"] + 0.1


def test_attention_that_is_needed_costs_the_answers(measured):
    made = measured[0]
    far = f"rate {adversary.RATES[-1]:g}"
    assert made[f"model_adversary_jsd:{far}"] > 0.3
    assert made[f"model_adversary_tvd:{far}"] > 0.2
    assert made[f"model_adversary_accuracy:{far}"] < 0.8
    assert made["model_adversary_tvd:rate 0"] < 0.1
