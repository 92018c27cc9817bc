import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import dense

from jaxattn.nn.encoders import Cnn, Gru
from jaxattn.nn.predictors import PREDICTORS, Pooling, Positionwise

T, N, D, H, C = 6, 4, 3, 8, 2
VALID = np.arange(T) < N
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(T, D)).astype("f4")
MASK = np.where(VALID, RNG.uniform(0.1, 0.9, T), 0).astype("f4")
PADDED = [name for name in PREDICTORS if name != "tabular"]


@functools.cache
def params_of(name):
    return drawn.params_of(PREDICTORS[name](H, C), VALUES, MASK, VALID, seed=1)


@functools.cache
def predictor(name):
    """Jitted: logits [C] and their slopes in values [C, T, D] and mask [C, T]."""
    module, params = PREDICTORS[name](H, C), params_of(name)

    def logits(values, mask, valid):
        found = module.apply(params, values, mask, valid)[0]
        return found, found

    go = jax.jit(jax.jacrev(logits, (0, 1), has_aux=True))

    def run(values, mask, valid):
        slopes, found = jax.tree.map(np.asarray, go(values, mask, valid))
        return found, *slopes

    return run


@pytest.fixture(params=list(PREDICTORS))
def name(request):
    return request.param


def by_hand(name, values, mask):
    """Logits of n valid positions, in float64 but for the encoders."""
    p = jax.tree.map(np.float64, params_of(name)["params"])
    seen = mask[:, None] * values
    if name == "pooling":
        read = np.maximum(dense(seen.sum(axis=0), p["hidden"]), 0)
    elif name == "positionwise":
        read = np.maximum(dense(len(mask) * seen, p["read"]), 0).mean(axis=0)
        read = np.maximum(dense(read, p["hidden"]), 0)
    elif name == "tabular":
        read = np.maximum(dense(seen.reshape(-1), p["first"]), 0)
        read = np.maximum(dense(read, p["second"]), 0)
    else:
        kind, part = {"cnn": (Cnn, "cnn"), "recurrent": (Gru, "gru")}[name]
        own = {"params": params_of(name)["params"][part]}
        read = kind(H).apply(own, seen.astype("f4"), np.ones(len(mask), bool))[0]
    return dense(np.asarray(read), p["logits"])


def test_logits_by_hand(name):
    full, mask = np.ones(T, bool), RNG.uniform(0.1, 0.9, T).astype("f4")
    logits, _, _ = predictor(name)(VALUES, mask, full)
    assert logits.shape == (C,)
    expected = by_hand(name, VALUES, mask)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PADDED)
def test_padding_never_changes_the_logits(name):
    logits, slope, _ = predictor(name)(VALUES, MASK, VALID)
    expected = by_hand(name, VALUES[:N], MASK[:N])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(slope[:, N:], 0)
    other = np.where(VALID[:, None], VALUES, np.float32(33))
    found, _, _ = predictor(name)(other, MASK, VALID)
    np.testing.assert_array_equal(found, logits)
    longer = np.concatenate([VALUES, np.full((2, D), 5, "f4")])
    found, _, _ = predictor(name)(longer, np.pad(MASK, (0, 2)), np.arange(T + 2) < N)
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PADDED)
def test_padding_before_default_tokens_never_changes_the_logits(name):
    """Default tokens stand after the padding of the text, where it has any."""
    apart = [0, 1, 4, 5, 2, 3]
    valid = np.isin(np.arange(T), [0, 1, 4, 5])
    values, mask = np.zeros_like(VALUES) + 8, np.zeros_like(MASK)
    values[valid], mask[valid] = VALUES[:N], MASK[:N]
    found, slope, _ = predictor(name)(values, mask, valid)
    logits, expected, _ = predictor(name)(VALUES, MASK, VALID)
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope[:, apart], expected, rtol=1e-4, atol=1e-4)


def test_no_gradient_where_the_mask_is_zero(name):
    mask = np.array([0.7, 0, 0.4, 0, 0, 0.9], "f4")
    logits, slope, _ = predictor(name)(VALUES, mask, np.ones(T, bool))
    np.testing.assert_array_equal(slope[:, mask == 0], 0)
    assert (np.abs(slope).max(axis=(0, 2))[mask > 0] > 1e-4).all()
    other = np.where(mask[:, None] > 0, VALUES, np.float32(-4))
    found, _, _ = predictor(name)(other, mask, np.ones(T, bool))
    np.testing.assert_array_equal(found, logits)


def test_the_mask_is_seen_only_through_the_values(name):
    logits, _, _ = predictor(name)(VALUES, MASK, VALID)
    seen = (MASK[:, None] * VALUES).astype("f4")
    found, _, _ = predictor(name)(seen, np.ones(T, "f4"), VALID)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
    # Without values the mask says nothing at all.
    blank, _, slope = predictor(name)(0 * VALUES, MASK, VALID)
    np.testing.assert_array_equal(
        predictor(name)(0 * VALUES, 0 * MASK, VALID)[0], blank
    )
    np.testing.assert_array_equal(slope, 0)


def test_who_knows_the_order(name):
    full, mask = np.ones(T, bool), RNG.uniform(0.1, 0.9, T).astype("f4")
    order = [3, 0, 5, 1, 4, 2]
    logits, _, _ = predictor(name)(VALUES, mask, full)
    found, _, _ = predictor(name)(VALUES[order], mask[order], full)
    same = np.allclose(found, logits, rtol=1e-4, atol=1e-4)
    assert same == (name in ("pooling", "positionwise"))


def test_padding_alone_is_finite(name):
    for part in predictor(name)(VALUES, 0 * MASK, np.zeros(T, bool)):
        assert np.isfinite(part).all()


def test_positionwise_is_not_a_pool():
    values = jnp.ones((2, 1)) * jnp.array([0.5, -1.0, 2.0])
    one, halves = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    valid = jnp.ones(2, bool)
    for head, name in [(Pooling, "pooling"), (Positionwise, "positionwise")]:
        a, b = (
            head(H, C).apply(params_of(name), values, m, valid)[0]
            for m in (one, halves)
        )
        assert (np.abs(a - b).max() > 1e-2) == (name == "positionwise")


def test_every_parameter_learns_from_a_batch(name):
    values = RNG.normal(size=(3, T, D)).astype("f4")
    masks = RNG.uniform(0.1, 0.9, (3, T)).astype("f4")

    def loss(params):
        read = lambda x, m: PREDICTORS[name](H, C).apply(params, x, m, m > 0)[0]  # noqa: E731
        return (jax.vmap(read)(values, masks) ** 2).sum()

    slopes = jax.jit(jax.grad(loss))(params_of(name))
    assert all(np.isfinite(s).all() for s in jax.tree.leaves(slopes))
    assert all(np.abs(s).max() > 0 for s in jax.tree.leaves(slopes))
