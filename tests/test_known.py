"""What is measured where the truth is known, on cells whose answer is known, too."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.config import Config, Data, Model, Optimizer
from jaxattn.methods.table import METHODS
from jaxattn.metrics.leak import leak
from jaxattn.nn.embedding import Inputs
from jaxattn.nn.masks import on_valid, others
from jaxattn.training import step
from jaxattn.training.cell import (
    TEST,
    Arrays,
    Task,
    accuracy,
    candidates_of,
    evaluate,
    make_cell,
    splits_of,
    unpack,
)
from jaxattn.training.evaluation import evidence, measure

CONFIG = Config(
    batch_size=128,
    epochs=2,
    data=Data(examples=256, test_examples=512),
    model=Model(
        values="inputs",
        query="none",
        selector="tabular",
        normalizer="gates",
        predictor="tabular",
        temperature=0.5,
        hidden=16,
    ),
    optimizer=Optimizer(learning_rate=1e-2),
)
INPUTS = Inputs("scalars", 1, 11, fixed=True)
splits = jax.jit(splits_of)
NOTHING = measure.Vocabulary(*[jnp.zeros(0, bool)] * 3)


def cell_of(method, seed=0, which=3):
    task = Task(INPUTS, 2, 256, which=which, control=10, family="syn", evaluated=True)
    return make_cell(CONFIG, METHODS[method], task, jax.random.key(seed))


@functools.cache
def trained(method):
    return jax.jit(step.train)(cell_of(method), ())


@pytest.mark.parametrize("method", ["joint", "invase", "realx", "instance_weighting"])
def test_every_way_to_learn_moves_the_selector_and_stays_finite(method):
    state, curves = trained(method)
    begin = jax.jit(step.init)(cell_of(method))
    assert bool(state.alive)
    for half, params in state.params.items():
        moved = jax.tree.map(lambda a, b: (a != b).any(), begin.params[half], params)
        assert any(jax.tree.leaves(moved)), half
    assert all(np.isfinite(c).all() for c in curves.values())


def test_the_evaluator_of_a_seed_is_the_same_for_every_method():
    """It sees random masks only, so that no selector can have taught it a code."""
    one = trained("joint")[0].params["evaluator"]
    for method in ("invase", "realx", "instance_weighting"):
        other = trained(method)[0].params["evaluator"]
        chex.assert_trees_all_close(one, other, rtol=1e-7, atol=1e-5)


def test_a_baseline_is_there_only_where_it_is_used():
    assert "baseline" in trained("invase")[0].params
    assert "baseline" not in trained("realx")[0].params


def test_splits_differ_between_seeds_and_not_between_methods():
    train, validation, test = splits(cell_of("joint"), ())
    again, *_ = splits(cell_of("realx"), ())
    other, *_ = splits(cell_of("joint", seed=1), ())
    np.testing.assert_array_equal(train.inputs, again.inputs)
    assert not np.isclose(train.inputs, other.inputs).any()
    firsts = [x.inputs[:100] for x in (train, validation, test)]
    assert not np.isclose(firsts[0], firsts[1]).any()
    assert not np.isclose(firsts[0], firsts[2]).any()
    assert [len(x.labels) for x in (train, validation, test)] == [256, 128, 512]


def test_fresh_data_are_new_in_every_epoch():
    fresh = Config(data=Data(examples=64, test_examples=8, fresh=True))
    cell = cell_of("joint").replace(config=fresh)
    one, two = (splits(cell, (), epoch) for epoch in (0, 1))
    assert not np.isclose(one[0].inputs, two[0].inputs).any()
    np.testing.assert_array_equal(one[2].inputs, two[2].inputs)


@functools.cache
def measured(method="joint"):
    made = jax.jit(measure.measure)(
        cell_of(method), trained(method)[0], (), NOTHING, ()
    )
    return jax.tree.map(np.asarray, made)


def test_recovery_is_what_masks_and_truth_say():
    made = measured()
    truth, labels = made.examples["truth"], made.examples["labels"]
    masks = made.examples["masks"] == 1
    assert masks.shape == (512, 11) and (masks == made.examples["masks"]).all()
    expected = {
        "tpr": ((masks & truth).sum(1) / truth.sum(1)).mean(),
        "fdr": ((masks & ~truth).sum(1) / np.maximum(masks.sum(1), 1)).mean(),
        "control_rate": masks[:, 10].mean(),
        "selected_count": masks.sum(1).mean(),
        "majority": np.bincount(labels).max() / len(labels),
    }
    for name, value in expected.items():
        assert made.scalars[name] == pytest.approx(value, abs=1e-5)
    assert np.isfinite(made.scalars["extra_leak_bits"])


def test_extra_bits_have_the_null_of_exchanged_labels():
    made, cell = measured(), cell_of("joint")
    kept = made.examples
    key = jax.random.split(jax.random.fold_in(cell.key, TEST), 4)[3]
    right = kept["truth"].astype(np.float32)
    pair = np.concatenate([right, kept["masks"]], axis=1)
    labels = jnp.array(kept["labels"])
    probe = jax.jit(lambda x: leak(key, x, labels, 2, permutations=1))
    alone, both = probe(right), probe(pair)
    null = float(both.null_bits - alone.null_bits)
    assert made.scalars["extra_leak_bits:permuted"] == pytest.approx(null, abs=1e-3)


def test_foreign_values_stand_under_masks_cut_to_their_own_padding():
    n, rng = 512, np.random.default_rng(0)
    model = Model(values="inputs", features=4, hidden=4)
    config = Config(batch_size=8, data=Data(length=6), model=model)
    task = Task(Inputs("tokens", 20, 6), 2, n)
    cell = make_cell(config, METHODS["joint"], task, jax.random.key(0))
    lengths = rng.integers(1, 7, n)
    tokens = np.where(np.arange(6) < lengths[:, None], rng.integers(1, 20, (n, 6)), 0)
    split = Arrays(*map(jnp.uint8, (tokens, lengths, np.arange(n) % 2)))
    state = jax.jit(step.init)(cell)
    # So large that the answers differ.
    params = jax.tree.map(lambda p: p + 3 * rng.normal(size=p.shape), state.params)
    params = jax.tree.map(jnp.float32, params)
    state = state._replace(params=params)
    made = jax.jit(measure.measure)(cell, state, (split,) * 3, NOTHING, ())
    test = unpack(split)
    own_key, _, value_key, _ = jax.random.split(jax.random.fold_in(cell.key, TEST), 4)
    masks = jax.jit(evaluate)(cell, params, own_key, test).masks
    who = others(value_key, n)
    other = test._replace(inputs=test.inputs[who], valid=test.valid[who])
    theirs = on_valid(masks, candidates_of(cell, other.valid), simplex=True)
    right = float(jax.jit(accuracy)(cell, params["predictor"], other, theirs))
    assert made.scalars["foreign_values_accuracy"] == pytest.approx(right, abs=1e-3)


def test_true_masks_are_the_evidence():
    truth = jnp.array([[True, True, False, False], [False] * 4])
    candidates = jnp.array([[True] * 4, [True, True, False, False]])
    gates = evidence.true_masks(truth, candidates, simplex=False)
    np.testing.assert_array_equal(gates, [[1, 1, 0, 0], [0, 0, 0, 0]])
    shares = evidence.true_masks(truth, candidates, simplex=True)
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]])


def test_shuffling_keeps_weights_and_padding():
    mask = jnp.array([0.5, 0.3, 0.2, 0.0, 0.0, 0.0])
    candidates = jnp.array([True, True, True, True, False, False])
    masks, candidates = (jnp.tile(x, (500, 1)) for x in (mask, candidates))
    made = np.asarray(evidence.shuffled(jax.random.key(0), masks, candidates))
    assert not made[:, 4:].any()
    np.testing.assert_allclose(
        np.sort(made[:, :4]), np.tile([0, 0.2, 0.3, 0.5], (500, 1))
    )
    np.testing.assert_allclose(made[:, :4].mean(axis=0), 0.25, atol=0.04)
