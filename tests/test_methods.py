import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import FOLD, at_random, stack, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattn.config import Config, Model, RandomMasks
from jaxattn.methods import losses, weighting
from jaxattn.methods.table import METHODS, Numbers, Structure
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.nn.masks import foreign_masks, others, random_scores
from jaxattn.nn.normalizers import softmax
from jaxattn.training import step as steps
from jaxattn.training.cell import Task, evaluate, unpack
from jaxattn.training.cell import make_cell as cell_from

B, T, V, STEPS = 8, 4, 12, 42
PHASE1 = 21  # odd: half of it is no whole number
CONFIG = Config(
    batch_size=B,
    epochs=STEPS,
    model=Model(values="inputs", normalizer="softmax", features=4, hidden=6),
    random_masks=RandomMasks(pretraining_share=PHASE1 / STEPS),
)


STORED = texts()
EXAMPLES = unpack(STORED)
BATCH = steps.Batch(EXAMPLES, FOLD, np.array([0.5, 0.5]))


def make_cell(method, seed=0):
    task = Task(Inputs("tokens", V, T), 2, B)
    return cell_from(CONFIG, METHODS[method], task, jax.random.key(seed))


def mixing(method):
    """A cell of the program that shows the predictor other masks, for any method."""
    return make_cell(method).replace(structure=Structure(mixed=True))


PLAIN = [
    m for m in METHODS if METHODS[m].structure in (Structure(), Structure(mixed=True))
]


def every_step(cell, params=None):
    """States [1 + STEPS] of one cell, the first before any step."""

    def one(state, _):
        new, _ = steps.step(cell, state, BATCH)
        return new, new

    first = steps.init(cell)
    if params is not None:
        first = first._replace(params=params)
    _, states = jax.lax.scan(one, first, None, STEPS)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states)


@pytest.fixture(scope="module")
def plain_runs():
    """Compiled once: one vmap over all methods, also those that need not mix."""
    return jax.jit(jax.vmap(every_step))


@pytest.fixture(scope="module")
def start():
    """Parameters all methods start from, biases included."""
    shapes = jax.eval_shape(lambda: steps.init(make_cell("joint")))
    return at_random(shapes.params, 3)


@pytest.fixture(scope="module")
def runs(plain_runs, start):
    cells = stack([mixing(m) for m in PLAIN])
    states = plain_runs(cells, stack([start] * len(PLAIN)))
    states = jax.tree.map(np.asarray, states)
    return {m: jax.tree.map(lambda x: x[i], states) for i, m in enumerate(PLAIN)}  # noqa: B023


@pytest.mark.parametrize("method", ["joint", "uniform"])
def test_one_pass_serves_both_halves_where_nothing_is_mixed(method, runs, start):
    assert not make_cell(method).structure.mixed
    one = jax.jit(every_step)(make_cell(method), start)
    chex.assert_trees_all_close(one.params, runs[method].params, rtol=1e-3, atol=1e-5)


def gradient(states, half):
    """The gradient of the first step, read off Adam's first moment."""
    return jax.tree.map(lambda mu: mu[1] / 0.1, states.opt_state[half][0].mu)


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def close(a, b):
    return np.allclose(flat(a), flat(b), rtol=1e-3, atol=1e-6)


def own_masks(selector):
    tokens, valid, *_ = EXAMPLES
    model = make_cell("joint").model
    read = lambda t, v: softmax(nn_model.scores(model, selector, t, v), v)  # noqa: E731
    return jax.vmap(read)(tokens, valid)


def loss_under(predictor, masks, weights=1.0):
    """An oracle of the cross-entropy in nats: mean over the batch, masks given."""
    tokens, valid, labels, *_ = EXAMPLES
    model = make_cell("joint").model
    logits = jax.vmap(lambda *a: nn_model.logits(model, predictor, *a))(
        tokens, valid, masks
    )
    nats = jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(B), labels]
    return (weights * nats).mean()


def each_gradient(predictor, masks):
    """The share of each example in the predictor's gradient [B, parameters]."""
    gradients = jax.vmap(lambda w: jax.grad(loss_under)(predictor, masks, w))(
        jnp.eye(B)
    )
    rows = [x.reshape(B, -1) for x in jax.tree.leaves(gradients)]
    return jnp.concatenate(rows, axis=1)


@pytest.fixture(scope="module")
def oracle(start):
    """Gradients of the plain joint loss, and the predictor's under other masks."""

    def joint(params):
        return loss_under(params["predictor"], own_masks(params["selector"]))

    return {
        "joint": jax.jit(jax.grad(joint))(start),
        "masks": np.asarray(own_masks(start["selector"])),
        "under": jax.jit(lambda m: each_gradient(start["predictor"], m)),
    }


def turned(masks, turn):
    """Each example's mask is that of the example `turn` places before it."""
    valid = np.arange(T) < STORED.lengths[:, None]
    kept = np.roll(masks, turn, axis=0) * valid
    return (kept / kept.sum(axis=1, keepdims=True)).astype("f4")


def test_the_table_has_a_row_for_every_name_and_shares_are_shares():
    assert set(METHODS) >= set(Config().methods)
    assert len(set(METHODS.values())) == len(METHODS), "two names for one method"
    for numbers, structure in METHODS.values():
        others = numbers.foreign + numbers.random
        assert all(0 <= x <= 1 for x in numbers) and others <= 1
        # Only a mixed program shows the predictor other masks.
        assert structure.mixed == (others > 0)


def test_joint_is_the_gradient_of_the_cross_entropy(runs, oracle):
    for half in ("selector", "predictor"):
        found = gradient(runs["joint"], half)
        assert close(found, oracle["joint"][half])
        assert np.abs(flat(found)).max() > 1e-3


@pytest.mark.parametrize("method", ["mask_swap", "random_always", "mask_mix"])
def test_the_selector_always_learns_through_its_own_mask(method, runs, oracle):
    assert close(gradient(runs[method], "selector"), oracle["joint"]["selector"])


def test_mask_swap_learns_from_foreign_masks_only(runs, oracle):
    found = flat(gradient(runs["mask_swap"], "predictor"))
    # Example i under the mask of j: the gradient of any pairing is a sum of these.
    under = [oracle["under"](turned(oracle["masks"], turn)) for turn in range(B)]
    parts = np.zeros((B, B, len(found)))
    for turn, each in enumerate(under):
        for i, part in enumerate(np.asarray(each)):
            parts[i, (i - turn) % B] = part
    own = parts[range(B), range(B)].sum(axis=0)
    np.testing.assert_allclose(own, flat(oracle["joint"]["predictor"]), atol=1e-5)
    cycles = np.array([(0, *rest) for rest in itertools.permutations(range(1, B))])
    sources = np.zeros_like(cycles)
    np.put_along_axis(sources, cycles, np.roll(cycles, 1, axis=1), axis=1)
    sums = sum(parts[i, sources[:, i]] for i in range(B))
    wrong = np.abs(sums - found).max(axis=1)
    assert wrong.min() < 1e-5 < 1e-4 < np.abs(own - found).max()
    assert (wrong < 1e-5).sum() == 1, "one pairing explains it, without fixed points"


@pytest.mark.parametrize("method", ["random_always", "random_pretraining"])
def test_random_masks_have_nothing_to_do_with_the_selector(
    method, runs, plain_runs, start
):
    other = start | {"selector": jax.tree.map(lambda x: -2 * x, start["selector"])}
    cells = stack([mixing(method)] * len(PLAIN))
    changed = plain_runs(cells, stack([other] * len(PLAIN)))
    changed = jax.tree.map(lambda x: np.asarray(x[0]), changed)
    a, b = (gradient(s, "predictor") for s in (runs[method], changed))
    assert close(a, b) and np.abs(flat(a)).max() > 1e-3
    assert not close(a, gradient(runs["joint"], "predictor"))


def test_mask_mix_is_neither_of_its_halves(runs):
    one_phase = [m for m in PLAIN if "pre" not in m and "delayed" not in m]
    found = [gradient(runs[m], "predictor") for m in one_phase]
    for i, a in enumerate(found):
        assert not any(close(a, b) for b in found[:i])


def test_uniform_learns_from_uniform_masks_and_leaves_the_selector(runs, oracle):
    valid = np.arange(T) < STORED.lengths[:, None]
    masks = (valid / valid.sum(axis=1, keepdims=True)).astype("f4")
    expected = oracle["under"](masks).sum(axis=0)
    assert close(gradient(runs["uniform"], "predictor"), expected)
    np.testing.assert_array_equal(flat(gradient(runs["uniform"], "selector")), 0)
    params = jax.tree.map(lambda x: x[-1], runs["uniform"].params)
    found = evaluate(make_cell("uniform"), params, jax.random.key(0), EXAMPLES)
    np.testing.assert_allclose(found.masks, masks, atol=1e-6)


def moved(states, half, step):
    """Whether parameters or Adam state of a half changed in a step."""
    kept = (states.params[half], states.opt_state[half])
    now, before = (jax.tree.map(lambda x, i=i: x[i], kept) for i in (step + 1, step))
    return flat(now).tobytes() != flat(before).tobytes()


@pytest.mark.parametrize("method", [m for m in PLAIN if m != "uniform"])
def test_each_half_moves_in_its_phase(method, runs):
    """Pretraining moves one at a time; a delayed selector starts late."""
    numbers = METHODS[method].numbers
    for step in range(STEPS):
        late = numbers.pretraining or numbers.delayed
        assert moved(runs[method], "selector", step) == (step >= PHASE1 or not late)
        stops = numbers.pretraining and step >= PHASE1
        assert moved(runs[method], "predictor", step) == (not stops)


def test_annealed_steps_shrink_to_nothing(runs):
    def lengths(method):
        predictor = runs[method].params["predictor"]
        rows = [x.reshape(STEPS + 1, -1) for x in jax.tree.leaves(predictor)]
        moves = np.diff(np.concatenate(rows, axis=1), axis=0)
        return np.linalg.norm(moves, axis=1)[:PHASE1]

    steady = lengths("random_pretraining")
    annealed = lengths("random_pretraining_annealed")
    assert annealed[0] == pytest.approx(steady[0], rel=1e-3)
    assert annealed[-1] < 0.03 * annealed[0] < 0.2 * steady[-1]
    assert (annealed[1:] < steady[1:]).all()


def test_averaging_freezes_the_mean_of_the_second_half(runs, start):
    states = jax.jit(every_step)(make_cell("random_pretraining_averaged"), start)
    states = jax.tree.map(np.asarray, states)
    # Without averaging, the same first phase shows what there is to average.
    plain = runs["random_pretraining"]
    # State 1 + i is the one after step i; the second half of 21 steps is the last 10.
    after = jax.tree.map(lambda x: x[1 : PHASE1 + 1], plain.params["predictor"])
    mean = jax.tree.map(lambda x: np.float64(x[-(PHASE1 // 2) :]).mean(axis=0), after)
    frozen = jax.tree.map(lambda x: x[-1], states.params["predictor"])
    np.testing.assert_allclose(flat(frozen), flat(mean), atol=1e-4)
    last = jax.tree.map(lambda x: x[-1], after)
    assert np.abs(flat(last) - flat(mean)).max() > 1e-3
    for step in range(PHASE1 + 1, STEPS):
        assert not moved(states, "predictor", step)
        assert moved(states, "selector", step)


@pytest.fixture(scope="module")
def weighted():
    """Compiled once: one step of `instance_weighting`, estimator warmed up or not."""
    cell = make_cell("instance_weighting")
    step = jax.jit(lambda state: steps.step(cell, state, BATCH))
    return step, jax.jit(lambda: steps.init(cell))()


def test_instance_weighting_is_the_weighted_joint_gradient(weighted, start):
    step, state = weighted
    state = state._replace(params=start)
    for _ in range(12):  # so that the weights are no longer flat
        ahead, _ = step(state)
        state = state._replace(estimator=ahead.estimator)
    new, measured = step(state)
    masks = jax.jit(own_masks)(start["selector"])
    log_p = jax.jit(weighting.log_posterior)(new.estimator, masks, FOLD)
    labels = np.asarray(EXAMPLES.labels)
    posterior = np.exp(np.asarray(log_p))
    p = posterior[np.arange(B), labels]
    w = np.clip(0.5 / p, 1 / 20, 20)
    w = (w / w.mean()).astype("f4")
    assert np.ptp(w) > 0.05
    assert measured["smallest_probability"] == pytest.approx(posterior.min(), rel=1e-4)
    assert measured["weight_sum"] == pytest.approx(B, rel=1e-4)
    assert measured["weight_square_sum"] == pytest.approx((w**2).sum(), rel=1e-3)

    def loss(params):
        return loss_under(params["predictor"], own_masks(params["selector"]), w)

    expected = jax.jit(jax.grad(loss))(start)
    for half in ("selector", "predictor"):
        found = jax.tree.map(lambda mu: mu / 0.1, new.opt_state[half][0].mu)
        assert close(found, expected[half])


def test_the_estimator_is_fitted_to_the_own_masks_before_it_is_asked(weighted, start):
    step, state = weighted
    state = state._replace(params=start)
    new, _ = step(state)
    update = jax.jit(lambda *args: weighting.update(CONFIG.weighting, *args))
    masks = own_masks(start["selector"])
    expected = update(state.estimator, masks, EXAMPLES.labels, FOLD)
    np.testing.assert_allclose(flat(new.estimator), flat(expected), atol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_others_is_one_cycle_through_all(n):
    who = np.asarray(others(jax.random.key(n), n))
    at, met = 0, []
    for _ in range(n):
        met.append(at)
        at = who[at]
    assert at == 0 and sorted(met) == list(range(n))


def test_others_are_strangers_even_where_labels_are_sorted():
    labels = np.repeat([0, 1], 500)
    same = [
        (labels[others(jax.random.key(s), 1000)] == labels).mean() for s in range(3)
    ]
    assert np.abs(np.array(same) - 0.5).max() < 0.08


foreign_ = jax.jit(foreign_masks)


def test_nobody_gets_its_own_mask_as_a_foreign_one():
    everywhere = np.ones((B, B), bool)
    turns = set()
    for key in jax.random.split(jax.random.key(0), 60):
        found = np.asarray(foreign_(key, np.eye(B, dtype="f4"), everywhere))
        assert (np.diag(found) == 0).all()
        assert (found.sum(axis=0) == 1).all(), "each mask goes to exactly one example"
        turns.add(int(found[0].argmax()))
    assert turns == set(range(1, B)), "every other example can be the one"


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_foreign_masks_lie_on_ones_own_valid_positions(seed):
    rng = np.random.default_rng(seed)
    valid = rng.random((B, B)) < 0.5
    valid[:, 0] = True
    masks = (rng.random((B, B)) * valid).astype("f4")
    found = np.asarray(foreign_(jax.random.key(seed), masks, valid))
    assert (found[~valid] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


SHARES = [(0, 0), (1, 0), (0, 1), (0.5, 0.5), (0.25, 0.5), (0.3, 0)]


@pytest.fixture(scope="module")
def seen():
    n = 100
    valid, random = jnp.ones((n, n), bool), jnp.full((n, n), 1 / n)
    keys = jax.random.split(jax.random.key(5), 20)
    one = lambda k, row: losses.seen_masks(k, row, jnp.eye(n), random, valid)  # noqa: E731
    return jax.jit(jax.vmap(one, in_axes=(0, None))), keys


@pytest.mark.parametrize("foreign, random", SHARES)
def test_seen_masks_come_in_the_shares_asked_for(foreign, random, seen):
    draw, keys = seen
    row = Numbers(*np.array([foreign, random, 0, 0, 0], np.float32))
    masks = np.asarray(draw(keys, row))
    is_own = np.diagonal(masks, axis1=1, axis2=2) > 0.5
    is_random = masks.max(axis=2) < 0.5
    is_foreign = ~is_own & ~is_random
    for found, share in [
        (is_foreign, foreign), (is_random, random), (is_own, 1 - foreign - random)
    ]:  # fmt: skip
        # 4 standard deviations; a share of 0 or 1 must be met exactly.
        assert abs(found.mean() - share) <= 4 * np.sqrt(share * (1 - share) / 2000)


def test_random_scores_span_the_scales_asked_for_and_nothing_else():
    draw = jax.jit(lambda k: random_scores(k, (4000, 50), 0.5, 8.0))
    scores = np.asarray(draw(jax.random.key(0)))
    scale = np.log(scores.std(axis=1))
    assert abs(scores.mean()) < 0.1
    assert np.log(0.5) - 0.6 < scale.min() < np.log(0.5) + 0.1
    assert np.log(8) - 0.1 < scale.max() < np.log(8) + 0.6
    quarters = np.quantile(scale, [0.25, 0.5, 0.75])
    expected = np.log(0.5) + np.log(16) * np.array([0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, expected, atol=0.1)


weights_ = jax.jit(weighting.neutral_weights)


def test_neutral_weights_closed_form():
    prior, posterior = np.array([0.5, 0.5, 0.5]), np.array([0.25, 0.5, 1.0])
    found = weights_(np.log(prior), np.log(posterior), 20.0)
    expected = np.array([2, 1, 0.5])
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)


def test_neutral_weights_are_truncated_on_both_sides():
    ratio = np.array([1e-9, 1 / 3, 1.0, 3.0, 1e9])
    prior, posterior = np.minimum(ratio, 1), np.minimum(1 / ratio, 1)
    found = np.asarray(weights_(np.log(prior), np.log(posterior), 4.0))
    np.testing.assert_allclose(found / found[2], [1 / 4, 1 / 3, 1, 3, 4], rtol=1e-5)
    flat_ones = weights_(np.log(prior), np.log(posterior), 1.0)
    np.testing.assert_allclose(flat_ones, 1, rtol=1e-5)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_with_the_true_posterior_the_weighted_label_and_mask_are_independent(seed):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(10)).reshape(2, 5) + 1e-3  # P(y, m), 5 masks
    joint /= joint.sum()
    p_y, p_m = joint.sum(axis=1, keepdims=True), joint.sum(axis=0)
    prior, posterior = np.broadcast_to(p_y, (2, 5)), joint / p_m
    found = weights_(
        np.log(prior).ravel().astype("f4"), np.log(posterior).ravel().astype("f4"), 1e6
    )
    weighted = joint * np.asarray(found).reshape(2, 5)
    # The mean over the batch that the weights are divided by is one common factor.
    np.testing.assert_allclose(
        weighted / weighted.sum(), p_y * p_m, rtol=1e-3, atol=1e-6
    )
    assert np.mean(found) == pytest.approx(1, abs=1e-4)


def test_own_mask_is_the_given_one_unless_uniform_is_asked_for():
    mask, valid = np.array([0.9, 0.1, 0.0], "f4"), np.array([True, True, False])
    kept = losses.own_mask(Numbers(), mask, valid)
    np.testing.assert_array_equal(kept, mask)
    flat_mask = losses.own_mask(Numbers(uniform=1), mask, valid)
    np.testing.assert_allclose(flat_mask, [0.5, 0.5, 0])
