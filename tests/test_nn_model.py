import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxattn.nn import model as nn_model
from jaxattn.nn.encoders import ENCODERS, Bag, Gru
from jaxattn.nn.predictors import PREDICTORS, Pooling, Positionwise
from jaxattn.nn.selectors import SELECTORS, Additive, DotProduct

T, LONG, N, K, V, D, H, C = 6, 9, 4, 3, 11, 4, 5, 3
VALUES = ("default_tokens", "words", "words_and_default_tokens")
EVERY = list(itertools.product(SELECTORS, ENCODERS, PREDICTORS, VALUES))
TOKENS = np.array([3, 5, 2, 7, 0, 0])
OTHER_PADDING = np.array([3, 5, 2, 7, 9, 4])
LONGER = np.array([3, 5, 2, 7, 8, 0, 1, 9, 6])
VALID = np.arange(T) < N


def make(selector="additive", query="bag", predictor="pooling", values="words"):
    return nn_model.build(
        V,
        C,
        values=values,
        default_tokens=K,
        query=query,
        selector=selector,
        predictor=predictor,
        features=D,
        hidden=H,
    )


def at_random(params, seed=0):
    """Every parameter drawn anew: biases start at 0, which hides what they do."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


@functools.cache
def run(selector, query, predictor, values):
    """Scores, mask and logits of one text, written in three ways (one compilation)."""
    model = make(selector, query, predictor, values)

    @jax.jit
    def go(key):
        params = at_random(nn_model.init(model, key, T))
        out = []
        for tokens in (TOKENS, OTHER_PADDING, LONGER):
            valid = jnp.arange(len(tokens)) < N
            scores = nn_model.scores(model, params["selector"], tokens, valid)
            usable = nn_model.candidates(model, valid)
            noise = jax.random.key(1)
            mask = nn_model.normalise(model, noise, scores, usable, 1.0)
            # Fixed by the candidate, so that a longer text gets the same mask.
            given = jnp.where(usable, jnp.arange(len(usable)) % 3 + 1.0, 0)
            given = given.at[len(tokens) :].set(2.0) if len(usable) > T else given
            logits = nn_model.logits(model, params["predictor"], tokens, valid, given)
            out.append((scores, usable, mask, logits))
        return out

    return jax.tree.map(np.asarray, go(jax.random.key(0)))


def params_of(model):
    init = jax.jit(lambda k: at_random(nn_model.init(model, k, T)))
    return init(jax.random.key(0))


@pytest.mark.parametrize("names", EVERY, ids="-".join)
def test_every_combination_builds(names):
    scores, usable, mask, logits = run(*names)[0]
    n = {"default_tokens": K, "words": T, "words_and_default_tokens": T + K}[names[3]]
    assert nn_model.positions(make(*names), T) == n
    assert scores.shape == usable.shape == mask.shape == (n,)
    assert logits.shape == (C,)
    assert all(np.isfinite(x).all() for x in (scores, mask, logits))
    assert mask.sum() == pytest.approx(1, abs=1e-5) and (mask[~usable] == 0).all()
    assert np.ptp(scores[usable]) > 1e-3 and np.ptp(logits) > 1e-3


@pytest.mark.parametrize("names", EVERY, ids="-".join)
def test_padding_never_matters(names):
    (scores, usable, _, logits), other, longer = run(*names)
    np.testing.assert_array_equal(other[0][usable], scores[usable])
    np.testing.assert_array_equal(other[2], run(*names)[0][2])
    np.testing.assert_array_equal(other[3], logits)
    np.testing.assert_allclose(longer[0][longer[1]], scores[usable], atol=1e-5)
    np.testing.assert_allclose(longer[3], logits, atol=1e-4)


def test_candidates_are_the_words_then_the_default_tokens():
    expected = {
        "default_tokens": [True] * K,
        "words": list(VALID),
        "words_and_default_tokens": [*VALID, *[True] * K],
    }
    for values in VALUES:
        found = nn_model.candidates(make(values=values), jnp.array(VALID))
        np.testing.assert_array_equal(found, expected[values])


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_default_tokens_hold_nothing_of_the_text(predictor):
    model = make(predictor=predictor, values="default_tokens")
    params = params_of(model)
    assert "words" not in params["predictor"]
    mask = jnp.array([0.2, 0.5, 0.3])
    read = jax.jit(
        lambda t, v: nn_model.logits(model, params["predictor"], t, v, mask)
    )
    expected = read(TOKENS, VALID)
    np.testing.assert_array_equal(read(TOKENS[::-1] + 1, ~VALID), expected)
    # Every path from the words to the logits runs through the mask.
    words = params["selector"]["words"]["embedding"]

    def logits(embedding, given):
        selector = params["selector"] | {"words": {"embedding": embedding}}
        scores = nn_model.scores(model, selector, TOKENS, VALID)
        mask = jax.nn.softmax(scores)
        mask = jax.lax.stop_gradient(mask) if given else mask
        return nn_model.logits(model, params["predictor"], TOKENS, VALID, mask)

    slopes = jax.jit(jax.jacrev(logits), static_argnums=1)
    np.testing.assert_array_equal(slopes(words, True), 0)
    assert np.abs(slopes(words, False)).max() > 1e-4


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_words_with_mask_zero_have_gradient_exactly_zero(predictor):
    model = make(predictor=predictor, values="words")
    params = params_of(model)["predictor"]
    mask = jnp.array([0.0, 0.6, 0.0, 0.4, 0.0, 0.0])

    def logits(params):
        return nn_model.logits(model, params, TOKENS, VALID, mask)

    slopes = jax.jit(jax.jacrev(logits))(params)["words"]["embedding"]
    moved = np.abs(slopes).max(axis=(0, 2)) > 0
    assert set(np.flatnonzero(moved)) == {5, 7}


def test_mass_on_padding_is_dropped():
    model = make(values="words")
    params = params_of(model)["predictor"]
    mask = jnp.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    read = jax.jit(lambda m: nn_model.logits(model, params, TOKENS, VALID, m))
    np.testing.assert_array_equal(read(mask), read(jnp.where(VALID, mask, 9.0)))
    assert np.abs(read(mask) - read(mask.at[0].set(0.2))).max() > 1e-3


@pytest.mark.parametrize("values", VALUES)
def test_logits_accept_any_mask(values):
    model = make(values=values)
    params = params_of(model)["predictor"]
    n = nn_model.positions(model, T)
    read = jax.jit(lambda m: nn_model.logits(model, params, TOKENS, VALID, m))
    found = [read(m) for m in (jnp.zeros(n), jnp.ones(n), jnp.eye(n)[1], -jnp.ones(n))]
    assert np.isfinite(found).all()
    assert len({np.asarray(f).tobytes() for f in found}) == 4


def test_positionwise_is_not_a_pool():
    values = jnp.ones((2, 1)) * jnp.array([0.5, -1.0, 2.0, 0.3])
    one, halves = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    valid = jnp.ones(2, bool)
    for head, differs in [(Pooling(H, C), False), (Positionwise(H, C), True)]:
        params = at_random(head.init(jax.random.key(0), values, one, valid))
        a, b = (head.apply(params, values, m, valid)[0] for m in (one, halves))
        assert (np.abs(a - b).max() > 1e-2) == differs


def test_gru_ignores_padding_and_reads_the_order():
    x = jax.random.normal(jax.random.key(0), (T, D))
    params = jax.jit(Gru(D).init)(jax.random.key(1), x, jnp.array(VALID))
    encode = jax.jit(lambda x, v: Gru(D).apply(params, x, v)[0])
    last = encode(x, VALID)
    np.testing.assert_array_equal(encode(x.at[N:].set(99.0), VALID), last)
    assert np.abs(encode(x.at[N - 1].add(1), VALID) - last).max() > 1e-3
    assert np.abs(encode(x.at[: N].set(x[:N][::-1]), VALID) - last).max() > 1e-3
    np.testing.assert_allclose(
        encode(x.at[N:].set(jnp.nan), VALID), last, err_msg="garbage in padding"
    )
    np.testing.assert_array_equal(encode(x, np.zeros(T, bool)), 0)


def test_bag_is_the_mean_of_the_valid():
    x = np.random.default_rng(0).normal(size=(T, D)).astype(np.float32)
    encode = lambda v: Bag(D).apply({}, x, v)[0]  # noqa: E731
    np.testing.assert_allclose(encode(VALID), x[:N].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(encode(np.zeros(T, bool)), 0)


def scorer(cls):
    query, keys = jax.random.normal(jax.random.key(0), (T + 1, D))[0], None
    keys = jax.random.normal(jax.random.key(2), (T, D))
    params = at_random(cls(H).init(jax.random.key(1), query, keys))["params"]
    scores = cls(H).apply({"params": params}, query, keys)[0]
    as_numpy = jax.tree.map(np.asarray, (params, query, keys))
    return np.asarray(scores), *as_numpy


def test_additive_scores_against_numpy():
    scores, p, query, keys = scorer(Additive)
    q = query @ p["query"]["kernel"] + p["query"]["bias"]
    expected = [
        p["score"]["kernel"][:, 0] @ np.tanh(q + k @ p["key"]["kernel"]) for k in keys
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_dot_product_scores_against_numpy():
    scores, p, query, keys = scorer(DotProduct)
    q = query @ p["query"]["kernel"] + p["query"]["bias"]
    expected = [(k @ p["key"]["kernel"]) @ q / np.sqrt(H) for k in keys]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_pooling_against_numpy():
    rng = np.random.default_rng(1)
    values, mask = rng.normal(size=(T, D)).astype("f4"), rng.random(T).astype("f4")
    head, valid = Pooling(H, C), np.ones(T, bool)
    params = at_random(head.init(jax.random.key(0), values, mask, valid))
    p = jax.tree.map(np.asarray, params["params"])
    pooled = sum(m * v for m, v in zip(mask, values, strict=True))
    hidden = np.maximum(pooled @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
    expected = hidden @ p["logits"]["kernel"] + p["logits"]["bias"]
    found = head.apply(params, values, mask, valid)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_halves_share_no_parameter_and_start_from_their_key():
    model = make(values="words")
    init = jax.jit(lambda k: nn_model.init(model, k, T))
    first, again, other = (init(jax.random.key(s)) for s in (0, 0, 1))
    a, b = (first[half]["words"]["embedding"] for half in ("selector", "predictor"))
    assert a.shape == b.shape == (V, D) and np.abs(a - b).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.abs(a - other["selector"]["words"]["embedding"]).max() > 1e-3


def test_a_selector_can_be_used_in_an_nnx_project():
    query = jax.random.normal(jax.random.key(0), (D,))
    keys = jax.random.normal(jax.random.key(1), (T, D))
    module = nnx.bridge.ToNNX(Additive(H), rngs=nnx.Rngs(0))
    module.lazy_init(query, keys)
    scores, _ = module(query, keys)
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    assert set(params) == {"query", "key", "score"}
    expected, _ = Additive(H).apply({"params": params}, query, keys)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.ptp(scores) > 1e-3
