import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from drawn import dense
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattn.nn.selectors import SELECTORS, DotProduct, MultiHead

T, N, D, H = 6, 4, 3, 5
VALID = np.arange(T) < N
RNG = np.random.default_rng(0)
QUERY, KEYS = RNG.normal(size=D).astype("f4"), RNG.normal(size=(T, D)).astype("f4")
POSITIONWISE = [name for name in SELECTORS if name != "tabular"]
READ_THE_QUERY = {"additive", "dot_product", "multi_head"}


@functools.cache
def params_of(name):
    return drawn.params_of(SELECTORS[name](H), QUERY, KEYS, seed=1)


@functools.cache
def scorer(name):
    """Jitted: scores, aux, and the slopes of the valid scores in query and keys."""
    module, params = SELECTORS[name](H), params_of(name)

    def total(query, keys, valid):
        scores, aux = module.apply(params, query, keys, valid)
        weights = jnp.arange(1.0, 1 + scores.shape[0])
        return jnp.where(valid, weights * scores, 0).sum(), (scores, aux)

    go = jax.jit(jax.grad(total, (0, 1), has_aux=True))

    def run(*args):
        slopes, (scores, aux) = jax.tree.map(np.asarray, go(*args))
        return scores, aux, slopes

    return run


@pytest.fixture(params=list(SELECTORS))
def name(request):
    return request.param


def by_hand(name, query, keys):
    """Scores [T] over keys [T, D] in float64, from the definitions."""
    p = jax.tree.map(np.float64, params_of(name)["params"])
    if name == "additive":
        inner = np.tanh(dense(query, p["query"]) + dense(keys, p["key"]))
        return inner @ p["score"]["kernel"][:, 0]
    if name == "dot_product":
        return dense(keys, p["key"]) @ dense(query, p["query"]) / np.sqrt(H)
    if name == "multi_head":
        masks = []
        for head in range(p["key"]["kernel"].shape[1]):
            q = query @ p["query"]["kernel"][:, head] + p["query"]["bias"][head]
            k = keys @ p["key"]["kernel"][:, head]
            masks.append(scipy.special.softmax(k @ q / np.sqrt(H)))
        return np.log(np.mean(masks, axis=0))
    if name == "gated":
        gate = scipy.special.expit(dense(keys, p["gate"]))
        return (np.tanh(dense(keys, p["content"])) * gate) @ p["score"]["kernel"][:, 0]
    hidden = np.maximum(dense(keys.reshape(-1), p["first"]), 0)
    return dense(np.maximum(dense(hidden, p["second"]), 0), p["score"])


def test_scores_against_numpy(name):
    scores, _, _ = scorer(name)(QUERY, KEYS, np.ones(T, bool))
    assert scores.shape == (T,) and np.ptp(scores) > 1e-2
    np.testing.assert_allclose(scores, by_hand(name, QUERY, KEYS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", POSITIONWISE)
def test_padding_never_changes_the_valid_scores(name):
    scores, _, (_, slope) = scorer(name)(QUERY, KEYS, VALID)
    expected = by_hand(name, QUERY, KEYS[:N])
    np.testing.assert_allclose(scores[:N], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(slope[N:], 0)
    assert (np.abs(slope[:N]).max(axis=1) > 1e-4).all()
    other = np.where(VALID[:, None], KEYS, np.float32(55))
    np.testing.assert_array_equal(scorer(name)(QUERY, other, VALID)[0][:N], scores[:N])
    longer = np.concatenate([KEYS, np.full((2, D), 9, "f4")])
    found = scorer(name)(QUERY, longer, np.arange(T + 2) < N)[0]
    np.testing.assert_allclose(found[:N], scores[:N], rtol=1e-5, atol=1e-5)


def test_without_valid_every_key_counts(name):
    module, params = SELECTORS[name](H), params_of(name)
    scores, _ = module.apply(params, QUERY, KEYS)
    expected, _, _ = scorer(name)(QUERY, KEYS, np.ones(T, bool))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_who_reads_the_query(name):
    valid = np.ones(T, bool)
    scores, _, (slope, _) = scorer(name)(QUERY, KEYS, valid)
    moved = np.abs(scorer(name)(QUERY + 1, KEYS, valid)[0] - scores).max()
    if name in READ_THE_QUERY:
        assert moved > 1e-3 and np.abs(slope).max() > 1e-3
    else:
        assert moved == 0 and (slope == 0).all()


def test_who_knows_the_place_of_a_key(name):
    order, valid = RNG.permutation(T), np.ones(T, bool)
    scores, _, _ = scorer(name)(QUERY, KEYS, valid)
    found, _, _ = scorer(name)(QUERY, KEYS[order], valid)
    same = np.allclose(found, scores[order], rtol=1e-4, atol=1e-5)
    assert same == (name != "tabular")


def test_an_example_of_padding_alone_is_finite(name):
    scores, aux, slopes = scorer(name)(QUERY, KEYS, np.zeros(T, bool))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((scores, aux, slopes)))


@given(st.floats(1e-3, 1e4), st.integers(1, T), st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_multi_head_is_the_mean_of_its_heads(scale, n, seed):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=D).astype("f4")
    keys = (scale * rng.normal(size=(T, D))).astype("f4")
    valid = np.arange(T) < n
    scores, aux, slopes = scorer("multi_head")(query, keys, valid)
    heads = aux["heads"]
    assert heads.shape == (MultiHead(H).heads, T)
    np.testing.assert_allclose(heads.sum(axis=1), 1, atol=1e-5)
    assert (heads[:, ~valid] == 0).all()
    mask = scipy.special.softmax(np.where(valid, scores, -np.inf))
    np.testing.assert_allclose(mask, heads.mean(axis=0), atol=1e-5)
    assert all(np.isfinite(x).all() for x in (scores, *slopes))


def test_one_head_is_a_dot_product():
    params = params_of("multi_head")["params"]
    one = jax.tree.map(lambda x: x[..., :1, :], params)
    flat = jax.tree.map(lambda x: x[..., 0, :], params)
    found, _ = MultiHead(H, heads=1).apply({"params": one}, QUERY, KEYS)
    scores, _ = DotProduct(H).apply({"params": flat}, QUERY, KEYS)
    np.testing.assert_allclose(found, jax.nn.log_softmax(scores), atol=1e-4)


def test_gated_parts_by_hand():
    """w . (tanh(V h) * sigmoid(U h)): a shut gate silences its content."""
    params = {
        "content": {"kernel": np.eye(2, dtype="f4"), "bias": np.zeros(2, "f4")},
        "gate": {"kernel": np.zeros((2, 2), "f4"), "bias": np.array([0.0, -99], "f4")},
        "score": {"kernel": np.array([[4.0], [7.0]], "f4")},
    }
    keys = np.array([[1.0, 5.0], [-1.0, 5.0], [0.0, -3.0]], "f4")
    scores, _ = SELECTORS["gated"](2).apply({"params": params}, QUERY, keys)
    np.testing.assert_allclose(scores, 2 * np.tanh([1.0, -1.0, 0.0]), atol=1e-6)


def test_every_parameter_learns_from_a_batch(name):
    queries = RNG.normal(size=(3, D)).astype("f4")
    keys = RNG.normal(size=(3, T, D)).astype("f4")

    def loss(params):
        score = lambda q, k: SELECTORS[name](H).apply(params, q, k)[0]  # noqa: E731
        return (jax.vmap(score)(queries, keys) ** 2).sum()

    slopes = jax.jit(jax.grad(loss))(params_of(name))
    assert all(np.isfinite(s).all() for s in jax.tree.leaves(slopes))
    assert all(np.abs(s).max() > 0 for s in jax.tree.leaves(slopes))


def test_a_selector_can_be_used_in_an_nnx_project(name):
    module = nnx.bridge.ToNNX(SELECTORS[name](H), rngs=nnx.Rngs(0))
    module.lazy_init(QUERY, KEYS)
    scores, _ = module(QUERY, KEYS)
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    assert set(params) == set(params_of(name)["params"])
    expected, _ = SELECTORS[name](H).apply({"params": params}, QUERY, KEYS)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.ptp(scores) > 1e-3
