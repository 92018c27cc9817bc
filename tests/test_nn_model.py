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

T, N, K, V, D, H, C = 6, 4, 3, 11, 4, 16, 3
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


def at_random(shapes, seed=0):
    """Every parameter drawn anew: biases start at 0, which hides what they do."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), shapes)


def init_at_random(module, *args):
    return at_random(jax.eval_shape(module.init, jax.random.key(0), *args))


@functools.cache
def params_of(model):
    init = functools.partial(nn_model.init, model, length=T)
    return at_random(jax.eval_shape(init, jax.random.key(0)))


@jax.jit
def normalise(scores, usable):
    return nn_model.normalise(make(), jax.random.key(1), scores, usable, 1.0)


@functools.cache
def select(selector, query, values):
    """Compiled once for all predictors: scores and usable positions of a text."""
    model = make(selector, query, values=values)
    params = init_at_random(model.selector, TOKENS, VALID)["params"]

    @jax.jit
    def go(tokens, valid):
        scores = nn_model.scores(model, params, tokens, valid)
        return scores, nn_model.candidates(model, valid)

    return lambda *args: jax.tree.map(np.asarray, go(*args))


@functools.cache
def predict(predictor, values):
    """Compiled once for all selectors: logits of a text under a mask."""
    model = make(predictor=predictor, values=values)
    usable = nn_model.candidates(model, jnp.array(VALID))
    params = init_at_random(model.predictor, TOKENS, usable, usable * 1.0)["params"]
    return jax.jit(lambda t, v, m: nn_model.logits(model, params, t, v, m))


@pytest.mark.parametrize("names", EVERY, ids="-".join)
def test_every_combination_builds(names):
    selector, query, predictor, values = names
    scores, usable = select(selector, query, values)(TOKENS, VALID)
    mask = np.asarray(normalise(scores, usable))
    logits = predict(predictor, values)(TOKENS, VALID, mask)
    n = {"default_tokens": K, "words": T, "words_and_default_tokens": T + K}[values]
    assert nn_model.positions(make(*names), T) == n
    assert scores.shape == usable.shape == mask.shape == (n,)
    assert logits.shape == (C,)
    assert all(np.isfinite(x).all() for x in (scores, mask, logits))
    assert mask.sum() == pytest.approx(1, abs=1e-5) and (mask[~usable] == 0).all()
    assert np.ptp(scores[usable]) > 1e-3 and np.ptp(logits) > 1e-3


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("query", ENCODERS)
@pytest.mark.parametrize("selector", SELECTORS)
def test_padding_never_changes_the_scores(selector, query, values):
    read = select(selector, query, values)
    scores, usable = read(TOKENS, VALID)
    other, _ = read(OTHER_PADDING, VALID)
    np.testing.assert_array_equal(other[usable], scores[usable])
    if values == "words":
        longer, where = read(LONGER, np.arange(len(LONGER)) < N)
        np.testing.assert_allclose(longer[where], scores[usable], atol=1e-5)
    # The words that are there do matter, else the above would say nothing.
    assert np.abs(read(TOKENS[::-1] + 1, VALID)[0] - scores)[usable].max() > 1e-3


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_padding_never_changes_the_logits(predictor, values):
    read = predict(predictor, values)
    n = nn_model.positions(make(values=values), T)
    mask = np.linspace(0.1, 0.5, n).astype("f4")
    logits = np.asarray(read(TOKENS, VALID, mask))
    np.testing.assert_array_equal(read(OTHER_PADDING, VALID, mask), logits)
    if values == "words":
        valid = np.arange(len(LONGER)) < N
        found = read(LONGER, valid, np.pad(mask, (0, len(LONGER) - T)))
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    changed = read(TOKENS[::-1] + 1, VALID, mask)
    assert (np.abs(changed - logits).max() > 1e-3) == (values != "default_tokens")


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
    mask = np.array([0.2, 0.5, 0.3], "f4")
    read = predict(predictor, "default_tokens")
    expected = read(TOKENS, VALID, mask)
    np.testing.assert_array_equal(read(TOKENS[::-1] + 1, ~VALID, mask), expected)
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
    read = functools.partial(predict("pooling", "words"), TOKENS, VALID)
    mask = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], "f4")
    other = np.where(VALID, mask, np.float32(9))
    np.testing.assert_array_equal(read(mask), read(other))
    assert np.abs(read(mask) - read(other[::-1])).max() > 1e-3


@pytest.mark.parametrize("values", VALUES)
def test_logits_accept_any_mask(values):
    read = functools.partial(predict("pooling", values), TOKENS, VALID)
    n = nn_model.positions(make(values=values), T)
    masks = np.stack([np.zeros(n), np.ones(n), np.eye(n)[1], -np.ones(n)])
    found = [read(m) for m in masks.astype("f4")]
    assert np.isfinite(found).all()
    assert len({np.asarray(f).tobytes() for f in found}) == 4


def test_positionwise_is_not_a_pool():
    values = jnp.ones((2, 1)) * jnp.array([0.5, -1.0, 2.0, 0.3])
    one, halves = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    valid = jnp.ones(2, bool)
    for head, differs in [(Pooling(H, C), False), (Positionwise(H, C), True)]:
        params = init_at_random(head, values, one, valid)
        a, b = (head.apply(params, values, m, valid)[0] for m in (one, halves))
        assert (np.abs(a - b).max() > 1e-2) == differs


def test_gru_ignores_padding_and_reads_the_order():
    x = jax.random.normal(jax.random.key(0), (T, D))
    params = init_at_random(Gru(D), x, jnp.array(VALID))
    encode = jax.jit(lambda x, v: Gru(D).apply(params, x, v)[0])
    last = encode(x, VALID)
    np.testing.assert_array_equal(encode(x.at[N:].set(99.0), VALID), last)
    assert np.abs(encode(x.at[N - 1].add(1), VALID) - last).max() > 1e-3
    assert np.abs(encode(x.at[:N].set(x[:N][::-1]), VALID) - last).max() > 1e-3
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
    query, *keys = np.random.default_rng(0).normal(size=(T + 1, D)).astype("f4")
    keys = np.stack(keys)
    params = init_at_random(cls(H), query, keys)["params"]
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
    params = init_at_random(head, values, mask, valid)
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
