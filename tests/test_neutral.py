import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import FOLD, at_random, texts

import jaxattn
from jaxattn.config import Config, Model, RandomMasks, Weighting
from jaxattn.methods import mask_neutral, weighting
from jaxattn.methods.table import METHODS, Method, Numbers, Structure
from jaxattn.nn.embedding import Inputs
from jaxattn.training import step as steps
from jaxattn.training.cell import (
    STEP,
    Task,
    logits_of,
    make_cell,
    own_mask,
    own_scores,
    unpack,
)

B, T, V, STEPS = 8, 4, 12, 14
PRIOR = np.array([0.5, 0.5], "f4")
UNTAUGHT = ("random_selection", "gradient", "leave_one_out")
GATED = ("invase", "realx")
TAUGHT = [m for m in METHODS if m not in UNTAUGHT]
PHASED = [m for m in TAUGHT if mask_neutral.has_phases(METHODS[m])]


def config(normalizer):
    return Config(
        batch_size=B,
        epochs=STEPS,
        model=Model(
            values="inputs", normalizer=normalizer, features=4, hidden=6, penalty=0
        ),
        weighting=Weighting(hidden=5, truncation=1.2),
    )


EXAMPLES = unpack(texts())
BATCH = steps.Batch(EXAMPLES, FOLD, PRIOR)
VALID = np.asarray(EXAMPLES.valid)


class Ours:
    """A cell of our engine, and its model as a stranger would bring it."""

    def __init__(self, method, normalizer):
        self.method = method
        self.config = config(normalizer)
        row = METHODS[method]
        task = Task(Inputs("tokens", V, T), 2, B)
        self.cell = make_cell(self.config, row, task, jax.random.key(0))
        state = jax.jit(steps.init)(self.cell)
        params, *net = at_random((state.params, *state.estimator[:1]), 3)
        fitted = (*net, *state.estimator[1:])
        self.state = state._replace(params=params, estimator=fitted)

    def select(self, params, batch, key):
        plain = self.cell.replace(method=Numbers())

        def one(key, example):
            scores = own_scores(self.cell, params["selector"], key, example)
            if self.method in GATED:
                return scores
            return own_mask(plain, key, scores, example.valid, True)

        return jax.vmap(one)(jax.random.split(key, B), batch)

    def answer(self, params, batch, masks):
        return jax.vmap(lambda e, m: logits_of(self.cell, params, e, m))(batch, masks)

    def predict(self, params, batch, masks):
        return self.answer(params["predictor"], batch, masks)

    def baseline(self, params, batch):
        return self.answer(params["baseline"], batch, VALID * 1.0)

    def neutral(self, **more):
        return jaxattn.mask_neutral(
            self.method,
            self.select,
            self.predict,
            steps=STEPS,
            selector="selector",
            simplex=self.config.model.normalizer != "gates",
            baseline=self.baseline,
            prior=PRIOR,
            temperature=self.config.model.temperature,
            weights=self.config.weighting,
            **more,
        )


alike = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-6)


def differentiated(loss, params):
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


CASES = [(m, "gates" if m in GATED else "softmax") for m in TAUGHT] + [
    ("instance_weighting", "gumbel_softmax"),
    ("mask_swap", "gumbel_softmax"),
    ("mask_mix", "gates"),
    ("uniform", "gates"),
]


@pytest.mark.parametrize(("method", "normalizer"), CASES)
def test_a_loss_is_the_engines_objective(method, normalizer):
    ours = Ours(method, normalizer)
    made, key = ours.neutral(), jax.random.key(7)
    state = mask_neutral.NeutralState(jnp.zeros(2), ours.state.estimator)

    def theirs(params):
        return made.loss(params, state, EXAMPLES, EXAMPLES.labels, key, VALID, FOLD)

    def engine(params):
        return steps.loss(ours.cell, params, ours.state.estimator, BATCH, key)

    (found, (after, told)), slope = differentiated(theirs, ours.state.params)
    (value, (fitted, known)), engines = differentiated(engine, ours.state.params)
    np.testing.assert_allclose(found, value, rtol=1e-5)
    alike(slope, engines)
    alike(after.estimator, fitted)
    assert max(np.abs(x).max() for x in jax.tree.leaves(slope)) > 1e-3
    for name in ("nll", "accuracy"):
        np.testing.assert_allclose(told[name], known[name], rtol=1e-5)
    if method == "instance_weighting":
        ess = known["weight_sum"] ** 2 / known["weight_square_sum"] / B
        np.testing.assert_allclose(told["ess_share"], ess, rtol=1e-5)
        assert 0 < told["truncated_share"] < 1 and told["ess_share"] < 1


@pytest.mark.parametrize("method", PHASED)
def test_a_loop_with_the_optimizer_is_the_engines_loop(method):
    ours = Ours(method, "softmax")
    made = ours.neutral(random_masks=RandomMasks(pretraining_share=0.5))
    cell = ours.cell
    tx = made.optimizer(optax.adam(ours.config.optimizer.learning_rate))
    state = ours.state
    if cell.structure.averaged:
        state = state._replace(average=state.params["predictor"])

    @jax.jit
    def engine(state):
        return steps.step(cell, state, BATCH)[0]

    @jax.jit
    def step(params, opt_state, carried, i):
        key = jax.random.fold_in(jax.random.fold_in(cell.key, STEP), i)
        slope, (carried, _) = jax.grad(made.loss, has_aux=True)(
            params, carried, EXAMPLES, EXAMPLES.labels, key, VALID
        )
        updates, opt_state = tx.update(slope, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carried

    params = state.params
    opt_state, carried = tx.init(params), made.init(cell.key, params, EXAMPLES)
    middle = None
    for i in range(STEPS):
        state = engine(state)
        params, opt_state, carried = step(params, opt_state, carried, i)
        alike(params, state.params, rtol=1e-3, atol=1e-5)
        middle = params if i == STEPS // 2 - 1 else middle
    first = ours.state.params["selector"]
    alike(middle["selector"], first, rtol=0, atol=0)
    if METHODS[method].numbers.pretraining:
        alike(params["predictor"], middle["predictor"], rtol=0, atol=0)


# A stranger's model of which everything can be written down: scores and values are
# parameters, and there are two heads.
HEADS, P, C = 2, 3, 3


def select(params, batch, key):
    scores = params["query"][None] * batch["x"][:, None]
    noise = 0.1 * jax.random.normal(key, scores.shape)
    return jax.nn.softmax(jnp.where(batch["valid"][:, None], scores + noise, -1e9))


def predict(params, batch, masks):
    return jnp.einsum("bhp,hpc->bc", masks, params["values"]) + params["bias"]


def stranger():
    rng = np.random.default_rng(1)
    params = {
        "query": rng.normal(size=(HEADS, P)),
        "values": rng.normal(size=(HEADS, P, C)),
        "bias": rng.normal(size=C),
    }
    batch = {"x": rng.normal(size=(B, P)), "valid": np.ones((B, P), bool)}
    batch["valid"][3, 2:] = batch["valid"][5, 1:] = False
    params, batch = jax.tree.map(jnp.asarray, (params, batch))  # as float32
    return params, batch, np.arange(B) % C


def loss_of(made, index=None, jit=True):
    params, batch, labels = stranger()
    state = made.init(jax.random.key(0), params, batch)

    def loss(params):
        key = jax.random.key(4)
        return made.loss(params, state, batch, labels, key, batch["valid"], index)

    # Spies must see arrays; all else is faster compiled whole than op by op.
    return jax.jit(loss) if jit else loss, params, batch, labels


@pytest.mark.parametrize("method", ["mask_swap", "random_always", "mask_mix"])
def test_no_gradient_reaches_the_selector_through_other_masks(method):
    """Its gradient is that of `joint` under the same noise, and nothing else."""
    slopes = {}
    for name in (method, "joint"):
        loss, params, *_ = loss_of(jaxattn.mask_neutral(name, select, predict))
        slopes[name] = jax.jit(jax.grad(lambda p: loss(p)[0]))(params)  # noqa: B023
    alike(slopes[method]["query"], slopes["joint"]["query"])
    assert np.abs(slopes["joint"]["query"]).max() > 1e-3
    for half in ("values", "bias"):
        assert np.abs(slopes[method][half] - slopes["joint"][half]).max() > 1e-4


def test_swapped_masks_of_all_heads_are_one_other_examples():
    own, seen, valid = seen_masks("mask_swap")
    assert own.shape == seen.shape == (B, HEADS, P)
    np.testing.assert_allclose(seen.sum(-1), 1, rtol=1e-5)
    assert (seen * ~valid[:, None] == 0).all()
    sources = []
    for i in range(B):
        kept = own * valid[i]
        kept = kept / kept.sum(-1, keepdims=True)
        found = np.flatnonzero(np.abs(kept - seen[i]).max((1, 2)) < 1e-5)
        if i != 5:  # with one valid position any mask is the same
            assert len(found) == 1 and found[0] != i
            sources.append(found[0])
    assert len(set(sources)) == B - 1


class Spy:
    def __init__(self):
        self.masks = []

    def __call__(self, params, batch, masks):
        self.masks.append(masks)
        return predict(params, batch, masks)


def seen_masks(method, **more):
    """The masks that the predictor saw: its own, and the others."""
    loss, params, batch, _ = loss_of(
        jaxattn.mask_neutral(method, select, spy := Spy(), **more), jit=False
    )
    loss(params)
    return *map(np.asarray, spy.masks[-2:]), np.asarray(batch["valid"])


@pytest.mark.parametrize("simplex", [True, False])
def test_random_masks_keep_to_what_is_valid_and_differ_by_head(simplex):
    _, seen, valid = seen_masks("random_always", simplex=simplex)
    assert (seen[~np.broadcast_to(valid[:, None], seen.shape)] == 0).all()
    assert np.abs(seen[:, 0] - seen[:, 1]).max() > 0.01
    if simplex:
        np.testing.assert_allclose(seen.sum(-1), 1, rtol=1e-5)
    else:
        assert set(np.unique(seen)) == {0.0, 1.0}


def test_random_masks_may_be_the_users_own():
    given = np.full((B, HEADS, P), 1 / P, "f4")
    _, seen, _ = seen_masks("random_always", random=lambda key, valid: given)
    np.testing.assert_array_equal(seen, given)


def test_uniform_masks_and_their_entropy():
    made = jaxattn.mask_neutral("uniform", select, predict)
    loss, params, batch, labels = loss_of(made)
    value, (_, told) = loss(params)
    valid = np.asarray(batch["valid"])
    flat = np.repeat((valid / valid.sum(1, keepdims=True))[:, None], HEADS, 1)
    logits = predict(params, batch, flat)
    np.testing.assert_allclose(
        made.predict(params, batch, jax.random.key(0), batch["valid"]),
        logits,
        rtol=1e-5,
    )
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(value, nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(told["nll"], nats.mean(), rtol=1e-5)
    entropy = np.log(valid.sum(1)).mean()
    np.testing.assert_allclose(told["mask_entropy"], entropy, rtol=1e-5)
    assert told["ess_share"] == 1 and told["truncated_share"] == 0
    np.testing.assert_array_equal(jax.grad(lambda p: loss(p)[0])(params)["query"], 0)


def test_the_prior_moves_with_the_labels_met():
    made = jaxattn.mask_neutral("instance_weighting", select, predict)
    params, batch, labels = stranger()
    state = made.init(jax.random.key(0), params, batch)
    key, valid, index = jax.random.key(1), batch["valid"], np.arange(B)
    step = jax.jit(made.loss)
    for met in (labels, np.zeros_like(labels)):
        _, (state, told) = step(params, state, batch, met, key, valid, index)
    counts = np.bincount(labels, minlength=C) + np.array([B, 0, 0])
    np.testing.assert_array_equal(state.counts, counts)
    flat = Weighting(learning_rate=1e-9)
    made = jaxattn.mask_neutral("instance_weighting", select, predict, weights=flat)
    state = made.init(jax.random.key(0), params, batch)
    step = jax.jit(made.loss)
    value, (_, told) = step(params, state, batch, labels, key, valid, index)
    # Before it has learnt anything P(y given m) is 1 / classes, so w is P(y) / mean.
    shares = np.bincount(labels, minlength=C) / B
    weights = shares[labels] / shares[labels].mean()
    own = select(params, batch, jax.random.split(key, 4)[0])
    nats = optax.softmax_cross_entropy_with_integer_labels(
        predict(params, batch, own), labels
    )
    np.testing.assert_allclose(value, (weights * nats).mean(), rtol=1e-4)
    ess = weights.sum() ** 2 / (weights**2).sum() / B
    np.testing.assert_allclose(told["ess_share"], ess, rtol=1e-4)
    assert told["overlap_share"] == 1


def test_weights_are_truncated():
    """An estimator that is sure of itself: most weights are cut."""
    sure = Weighting(learning_rate=1.0, updates=4, truncation=1.5)
    made = jaxattn.mask_neutral(
        "instance_weighting", select, predict, weights=sure, prior=np.full(C, 1 / C)
    )
    loss, params, *_ = loss_of(made, np.arange(B))
    _, (state, told) = loss(params)
    assert told["truncated_share"] > 0.5
    heads = jax.eval_shape(lambda: state.estimator[0]["first"]["kernel"])
    assert heads.shape[1] == 2 * HEADS * P


@pytest.mark.parametrize("method", TAUGHT)
def test_every_method_runs_under_jit_and_tells_the_same_things(method):
    row = METHODS[method]
    gated = row.structure.gradient != "relaxed"
    scores = lambda p, b, key: p["query"][0] * b["x"]  # noqa: E731
    read = lambda p, b, m: m @ p["values"][0] + p["bias"]  # noqa: E731
    made = jaxattn.mask_neutral(
        method,
        scores if gated else select,
        read if gated else predict,
        steps=10,
        selector="query",
        baseline=lambda p, b: b["x"] @ p["values"][1],
    )
    loss, params, batch, _ = loss_of(made, np.arange(B))
    value, (_, told) = loss(params)
    assert np.isfinite(value)
    size = "mask_size" if gated else "mask_entropy"
    assert {"nll", "accuracy", size, "ess_share", "truncated_share"} <= set(told)
    key = jax.random.key(0)
    masks = made.masks(params, batch, key, batch["valid"])
    logits = made.predict(params, batch, key, batch["valid"])
    assert logits.shape == (B, C)
    if gated:
        hard = (scores(params, batch, key) > 0) & batch["valid"]
        np.testing.assert_array_equal(masks, hard)
    elif method != "uniform":
        np.testing.assert_array_equal(masks, select(params, batch, key))


def test_optimizers_of_methods_without_phases_are_left_alone():
    made = jaxattn.mask_neutral("mask_swap", select, predict)
    params, *_ = stranger()
    tx = optax.adam(1e-2)
    same = made.optimizer(tx).init(params)
    assert jax.tree.structure(same) == jax.tree.structure(tx.init(params))


def test_schedules_and_decay_wait_with_their_half():
    """AdamW shrinks parameters even without a gradient: not those that must wait."""
    made = jaxattn.mask_neutral(
        "random_pretraining", select, predict, steps=4, selector=["query"]
    )
    params, *_ = stranger()
    tx = made.optimizer(optax.adamw(1e-2, weight_decay=1.0))
    state, moved = tx.init(params), [params]
    zero, update = jax.tree.map(jnp.zeros_like, params), jax.jit(tx.update)
    for _ in range(4):
        updates, state = update(zero, state, moved[-1])
        moved.append(optax.apply_updates(moved[-1], updates))
    still = {
        half: [bool((a[half] == b[half]).all()) for a, b in itertools.pairwise(moved)]
        for half in ("query", "values", "bias")
    }
    assert still["query"] == [True, True, False, False]
    assert still["values"] == still["bias"] == [False, False, True, True]


WRONG = {
    "unknown method": (dict(method="mask_swp"), "perhaps you meant mask_swap"),
    "no masks of its own": (dict(method="gradient"), "learns no masks"),
    "phases without steps": (dict(method="random_pretraining"), "give steps"),
    "no steps": (
        dict(method="mask_mix_delayed", steps=0, selector="query"),
        "give steps",
    ),
    "no baseline": (dict(method="invase"), "needs baseline"),
    "not mixed": (dict(method=Method(Numbers(foreign=1))), "mixed, in its structure"),
    "unknown selector": (
        dict(method="random_pretraining", steps=4, selector="quer"),
        "names no parameter; there are bias, query, values",
    ),
    "all is selector": (
        dict(
            method="random_pretraining", steps=4, selector=["query", "values", "bias"]
        ),
        "none is left",
    ),
    "prior": (dict(prior=[0.5, 0.5]), "each of 3 classes"),
    "masks": (
        dict(select=lambda p, b, k: b["x"][:, None, None]),
        "select returned shape [8, 1, 1, 3]",
    ),
    "logits": (
        dict(predict=lambda p, b, m: m.sum((1, 2))),
        "predict returned shape [8]",
    ),
    "gates have no heads": (
        dict(method="realx"),
        "select returned shape [8, 2, 3]: allowed are [batch, P]",
    ),
}


@pytest.mark.parametrize(("given", "said"), list(WRONG.values()), ids=list(WRONG))
def test_what_does_not_fit_is_said_in_one_line(given, said):
    given = {"method": "joint", "select": select, "predict": predict} | given
    params, batch, _ = stranger()
    with pytest.raises(ValueError) as told:
        made = jaxattn.mask_neutral(**given)
        made.init(jax.random.key(0), params, batch)
    assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(labels=np.ones(B)), "whole numbers [batch]"),
        (dict(labels=np.ones((B, 1), int)), "whole numbers [batch]"),
        (dict(labels=np.ones(B - 1, int)), "7 labels for 8 masks"),
        (dict(valid=np.ones((B, P + 1), bool)), "valid has shape [8, 4]"),
        (dict(index=None), "cross-fitted"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change, said):
    made = jaxattn.mask_neutral("instance_weighting", select, predict)
    params, batch, labels = stranger()
    state = made.init(jax.random.key(0), params, batch)
    given = {"labels": labels, "valid": batch["valid"], "index": np.arange(B)} | change
    with pytest.raises(ValueError) as told:
        made.loss(params, state, batch, key=jax.random.key(0), **given)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_row_of_ones_own_is_a_method():
    row = Method(Numbers(foreign=1), Structure(mixed=True))
    a, b = (
        loss_of(jaxattn.mask_neutral(m, select, predict)) for m in (row, "mask_swap")
    )
    alike(a[0](a[1]), b[0](b[1]), rtol=0, atol=0)


def test_the_estimator_is_the_engines():
    made = jaxattn.mask_neutral("instance_weighting", select, predict)
    params, batch, _ = stranger()
    key = jax.random.key(5)
    found = made.init(key, params, batch).estimator
    alike(found, weighting.init(Weighting(), key, HEADS * P, C), rtol=0, atol=0)
