import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import stack

from jaxattn.config import Config, Model, Optimizer, Weighting, replaced
from jaxattn.methods import weighting
from jaxattn.methods.table import METHODS
from jaxattn.nn.embedding import Inputs
from jaxattn.training import cell as cells_module
from jaxattn.training import step
from jaxattn.training.cell import Arrays, Task, make_cell, unpack

V, T, N = 64, 8, 512
WORD = 2
"""The label is 1 where this word occurs; ids from 4 on are noise."""


def make_split(n, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, V, (n, T))
    labels = np.arange(n) % 2
    lengths = rng.integers(4, T + 1, n)
    where = rng.integers(0, 4, n)
    tokens[np.arange(n), where] = np.where(labels, WORD, tokens[np.arange(n), where])
    tokens = np.where(np.arange(T) < lengths[:, None], tokens, 0)
    return Arrays(*map(jnp.uint8, (tokens, lengths, labels)))


TRAIN, VALIDATION = make_split(N, 0), make_split(256, 1)
STORED = TRAIN, VALIDATION, VALIDATION
CONFIG = Config(
    batch_size=32,
    epochs=16,
    model=Model(features=8, hidden=16),
    optimizer=Optimizer(learning_rate=2e-2),
)
SEEDS = 4
ROWS = [(m, seed) for m in ("joint", "mask_swap") for seed in range(SEEDS)]
LAST = len(ROWS) - 1
"""The cell that is made to diverge."""


def make_cells(*rows, examples=N):
    """Cells [rows], each row (method, seed) or (method, seed, learning rate)."""
    task, cells = Task(Inputs("tokens", V, T), 2, examples), []
    for method, seed, *rate in rows:
        config = CONFIG
        if rate:
            config = replaced(config, "optimizer.learning_rate", rate[0])
        cells.append(make_cell(config, METHODS[method], task, jax.random.key(seed)))
    # In one program with joint's: what it needs no more of costs nothing here.
    structure = METHODS[rows[-1][0]].structure
    return stack([cell.replace(structure=structure) for cell in cells])


def pick(tree, i):
    return jax.tree.map(lambda x: np.asarray(x[i]), tree)


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)


init = jax.jit(jax.vmap(step.init))
chunk = jax.jit(jax.vmap(step.chunk, (0, 0, None)))
train = jax.jit(jax.vmap(step.train, (0, None)))


def chunks(cells, n, state=None):
    """State after n chunks, and their curves [cells, n]."""
    state = init(cells) if state is None else state
    curves = []
    for _ in range(n):
        state, curve = chunk(cells, state, STORED)
        curves.append(curve)
    return state, jax.tree.map(lambda *x: np.stack(x, axis=1), *curves)


@pytest.fixture(scope="module")
def ordinary():
    """Cells, their states after two chunks, and the curves of these."""
    cells = make_cells(*ROWS)
    return cells, *chunks(cells, 2)


@pytest.fixture(scope="module")
def finished(ordinary):
    cells, state, curves = ordinary
    state, more = chunks(cells, CONFIG.epochs - 2, state)
    join = lambda a, b: np.concatenate([a, b], axis=1)  # noqa: E731
    return state, jax.tree.map(join, curves, more)


def test_one_program_equals_chunk_by_chunk(ordinary, finished):
    state, curves = finished
    whole, whole_curves = train(ordinary[0], STORED)
    made = state, curves
    chex.assert_trees_all_close((whole, whole_curves), made, rtol=1e-5, atol=1e-4)


def test_curves_are_one_number_an_epoch(finished):
    state, curves = finished
    names = {"train_nll", "train_accuracy", "validation_nll", "validation_accuracy"}
    assert set(curves) == names
    for name, curve in curves.items():
        assert curve.shape == (len(ROWS), CONFIG.epochs) and np.isfinite(curve).all()
        assert (curve > 0).all() and (name.endswith("nll") or (curve <= 1).all())
    assert (state.step == CONFIG.epochs * (N // CONFIG.batch_size)).all()
    assert state.alive.all()


def test_the_same_key_twice_is_bitwise_equal(ordinary):
    cells, state, curves = ordinary
    again, curves_again = chunks(cells, 2)
    assert same(again, state) and same(curves, curves_again)


def test_another_key_changes_its_own_cell_only(ordinary):
    _, state, _ = ordinary
    other, _ = chunks(make_cells(*ROWS[:-1], ("mask_swap", 99)), 2)
    assert not same(pick(other.params, LAST), pick(state.params, LAST))
    for i in range(LAST):
        assert same(pick(other, i), pick(state, i))


def test_the_state_is_all_there_is_to_go_on_from(ordinary):
    cells, state, _ = ordinary
    middle, _ = chunks(cells, 1)
    copied = jax.tree.map(lambda x: jnp.array(np.array(x)), middle)
    rest, _ = chunks(cells, 1, copied)
    assert same(rest, state)


def stopped(state):
    """What must not move in a cell that is frozen: everything but the step."""
    return pick(state._replace(step=state.step * 0), LAST)


def test_a_cell_that_diverges_freezes_and_harms_nobody(ordinary):
    _, state, curves = ordinary
    cells = make_cells(*ROWS[:-1], ("mask_swap", 3, 1e30))
    first, before = chunks(cells, 1)
    last, after = chunks(cells, 1, first)
    for s in (first, last):
        assert list(s.alive) == [True] * LAST + [False]
    assert same(stopped(last), stopped(first))
    for i in range(LAST):
        assert same(pick(last, i), pick(state, i))
        assert same(pick(before, i), {k: v[i, :1] for k, v in curves.items()})
        assert same(pick(after, i), {k: v[i, 1:] for k, v in curves.items()})


def test_a_frozen_cell_never_comes_back(ordinary):
    """... though the loss of the parameters that it stopped at is finite."""
    cells, *_ = ordinary
    begin = init(cells)
    begin = begin._replace(alive=begin.alive.at[LAST].set(False))
    last, curves = chunks(cells, 1, begin)
    assert np.isfinite(curves["train_nll"][LAST])
    assert list(last.alive) == [True] * LAST + [False]
    assert same(stopped(last), stopped(begin))


@pytest.mark.parametrize("half", ["selector", "predictor"])
def test_not_a_number_in_the_parameters_freezes_the_cell(half, ordinary):
    cells, state, _ = ordinary
    begin = init(cells)
    broken = jax.tree.map(lambda x: x.at[LAST].set(jnp.nan), begin.params[half])
    begin = begin._replace(params=begin.params | {half: broken})
    last, _ = chunks(cells, 2, begin)
    assert list(last.alive) == [True] * LAST + [False]
    assert same(stopped(last)._replace(alive=0), stopped(begin)._replace(alive=0))
    for i in range(LAST):
        assert same(pick(last, i), pick(state, i))


def test_joint_passes_the_label_through_masks_over_default_tokens(finished):
    accuracy = finished[1]["validation_accuracy"][:SEEDS, -1]
    assert (accuracy > 0.9).all(), accuracy


def test_mask_swap_leaves_nothing_to_be_read(finished):
    accuracy = finished[1]["validation_accuracy"][SEEDS:, -1]
    assert (accuracy < 0.65).all(), accuracy


def test_a_diverging_cell_keeps_its_estimator_too():
    cells = make_cells(("instance_weighting", 0), ("instance_weighting", 1, 1e30))
    first, curves = chunks(cells, 1)
    last, _ = chunks(cells, 1, first)
    assert list(first.alive) == list(last.alive) == [True, False]
    assert same(pick(last.estimator, 1), pick(first.estimator, 1))
    assert not same(pick(last.estimator, 0), pick(first.estimator, 0))
    share, overlap = curves["ess_share"][0], curves["overlap_share"][0]
    assert 0 < share <= 1 + 1e-5 and 0 <= overlap <= 1
    assert 0 < curves["smallest_probability"][0] < 1


def test_each_epoch_sees_the_examples_once_in_a_new_order(monkeypatch):
    n = 100  # 3 batches of 32; the label is the number of the example
    split = jax.tree.map(lambda x: x[:n], TRAIN)._replace(labels=jnp.arange(n))

    def note(cell, state, batch):
        pair = jnp.stack([batch.examples.labels, batch.fold])
        seen = state.average.at[state.step].set(pair)
        nothing = {"nll": jnp.float32(0), "accuracy": jnp.float32(0)}
        return state._replace(step=state.step + 1, average=seen), nothing

    monkeypatch.setattr(step, "step", note)
    cell = jax.tree.map(lambda x: x[0], make_cells(ROWS[0], examples=n))
    state = jax.eval_shape(lambda: step.init(cell))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    state = state._replace(average=jnp.zeros((6, 2, 32), int))
    one = jax.jit(lambda s: step.chunk(cell, s, (split, split, split))[0])
    numbers_, folds = np.moveaxis(np.asarray(one(one(state)).average), 1, 0)
    epochs = numbers_.reshape(2, 96)
    for epoch in epochs:
        assert len(set(epoch)) == 96
    assert (epochs[0] != epochs[1]).mean() > 0.9
    # An example stays in its half for good: that is what cross-fitting means.
    np.testing.assert_array_equal(folds, numbers_ % 2)


def test_every_use_of_a_key_has_a_number_of_its_own():
    uses = "INIT STEP ORDER VALIDATION TEST ESTIMATOR DATA EVALUATOR ADVERSARY".split()
    assert len({getattr(cells_module, use) for use in uses}) == len(uses)


def test_make_cell_refuses_a_split_smaller_than_one_batch():
    with pytest.raises(ValueError, match="batch_size = 32.*only 31 examples"):
        make_cells(ROWS[0], examples=31)


def test_unpack_marks_the_tokens_that_are_there():
    tokens, valid, labels, *_ = unpack(VALIDATION)
    assert tokens.dtype == labels.dtype == jnp.int32
    np.testing.assert_array_equal(valid.sum(axis=1), VALIDATION.lengths)
    assert valid[:, 0].all() and (tokens[~valid] == 0).all()


CLASSES = 3
ESTIMATOR = Weighting(hidden=16, learning_rate=1e-2, updates=1)
learn_ = jax.jit(functools.partial(weighting.update, ESTIMATOR))
posterior_ = jax.jit(weighting.log_posterior)


def coded_masks(n, seed, wrong=0.0):
    """Masks [n, 4] that name the label [n]; a share of the labels is drawn anew."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CLASSES, n)
    scores = rng.normal(size=(n, 4)) + 6 * np.eye(4)[codes]
    masks = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = np.where(rng.random(n) < wrong, rng.integers(0, CLASSES, n), codes)
    return masks.astype("f4"), labels.astype(np.int32)


def test_overlap_asks_for_every_label():
    p = np.array([[0.5, 0.4, 0.1], [0.985, 0.005, 0.01], [0.03, 0.9, 0.07]])
    found = weighting.overlap(np.log(p))
    assert float(found["smallest_probability"]) == pytest.approx(0.005, rel=1e-4)
    assert float(found["overlap_share"]) == pytest.approx(2 / 3)


@pytest.fixture(scope="module")
def untrained():
    init = jax.jit(lambda k: weighting.init(ESTIMATOR, k, 4, CLASSES))
    return init(jax.random.key(0))


def fitted(state, wrong, steps=300):
    masks, labels = coded_masks(steps * 64, 1, wrong)
    fold = np.arange(64) % 2

    def one(state, batch):
        return weighting.update(ESTIMATOR, state, *batch, fold), None

    batches = (masks.reshape(steps, 64, 4), labels.reshape(steps, 64))
    return jax.jit(lambda s: jax.lax.scan(one, s, batches)[0])(state)


def test_an_untrained_estimator_says_that_all_classes_are_alike(untrained):
    masks, _ = coded_masks(64, 0)
    found = posterior_(untrained, masks, np.arange(64) % 2)
    np.testing.assert_allclose(np.exp(found), 1 / CLASSES, atol=1e-6)


@pytest.mark.parametrize("wrong", [0.0, 0.6])
def test_the_estimator_learns_the_planted_posterior(wrong, untrained):
    state = fitted(untrained, wrong)
    masks, labels = coded_masks(64, 7)  # fresh ones; the label is the code itself
    for fold in (np.zeros(64), np.ones(64)):
        found = np.exp(posterior_(state, masks, fold.astype(int)))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        own = found[np.arange(64), labels]
        # A label drawn anew hits the code once in three times.
        assert own.mean() == pytest.approx(1 - wrong * 2 / 3, abs=0.08)


@pytest.mark.parametrize("fold", [0, 1])
def test_no_network_learns_from_the_examples_it_judges(fold, untrained):
    masks, labels = coded_masks(64, 2)
    net, before = learn_(untrained, masks, labels, np.full(64, fold))[0], untrained[0]
    assert same(pick(net, fold), pick(before, fold))
    assert not same(pick(net, 1 - fold), pick(before, 1 - fold))
    judged = posterior_((net, None), masks, np.full(64, fold))
    np.testing.assert_allclose(np.exp(judged), 1 / CLASSES, atol=1e-6)


def test_what_is_in_a_fold_never_changes_the_network_that_judges_it(untrained):
    (masks, labels), fold = coded_masks(64, 2), np.arange(64) % 2
    net = learn_(untrained, masks, labels, fold)[0]
    other = np.where(fold == 0, (labels + 1) % CLASSES, labels)
    turned = np.where(fold[:, None] == 0, masks[:, ::-1], masks)
    changed = learn_(untrained, turned, other, fold)[0]
    assert same(pick(changed, 0), pick(net, 0))
    assert not same(pick(changed, 1), pick(net, 1))


def test_each_example_is_judged_by_the_network_of_its_fold(untrained):
    masks, labels = coded_masks(64, 2)
    fold = np.arange(64) % 2
    state = learn_(untrained, masks, labels, np.zeros(64, int))  # moves network 1 only
    found = np.exp(posterior_(state, masks, fold))
    np.testing.assert_allclose(found[fold == 0], 1 / CLASSES, atol=1e-6)
    assert np.abs(found[fold == 1] - 1 / CLASSES).max() > 1e-3
