import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import at_random

from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs, embed, example
from jaxattn.nn.encoders import ENCODERS
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.predictors import PREDICTORS
from jaxattn.nn.selectors import SELECTORS

T, N, K, V, D, H, C = 6, 4, 3, 11, 4, 16, 3
VALUES = ("default_tokens", "inputs", "inputs_and_default_tokens")

# What reads padded texts; the tabular parts need a fixed number of positions.
TEXT_SELECTORS = [name for name in SELECTORS if name != "tabular"]
TEXT_PREDICTORS = [name for name in PREDICTORS if name != "tabular"]
READERS = [name for name in ENCODERS if name != "none"]

# The two halves share nothing, so that each needs to be tried only by itself; and an
# encoder reads the words, whatever the mask weighs.
HALVES = [
    *itertools.product(TEXT_SELECTORS, ["bag"], VALUES),
    *itertools.product(["additive"], READERS[1:], ["inputs"]),
]
INPUTS = Inputs("tokens", V, T)
TOKENS = np.array([3, 5, 2, 7, 0, 0])
OTHER_PADDING = np.array([3, 5, 2, 7, 9, 4])
LONGER = np.array([3, 5, 2, 7, 8, 0, 1, 9, 6])
VALID = np.arange(T) < N


def build(inputs=INPUTS, **parts):
    return nn_model.build(inputs, C, nn_model.Parts(**parts))


def make(inputs=INPUTS, **parts):
    return build(inputs, default_tokens=K, features=D, hidden=H, **parts)


@functools.cache
def params_of(model):
    return at_random(jax.eval_shape(lambda: nn_model.init(model, jax.random.key(0))))


@jax.jit
def normalise(scores, candidates):
    draw = nn_model.normalizer(make(), training=True)
    return draw(jax.random.key(1), scores, candidates, 1.0)


@functools.cache
def select(selector, query, values):
    """Compiled once for all predictors: scores and candidates positions of a text."""
    model = make(selector=selector, query=query, values=values)
    params = params_of(model)["selector"]

    @jax.jit
    def go(tokens, valid):
        scores = nn_model.scores(model, params, tokens, valid)
        return scores, nn_model.candidates_of(model, valid)

    return lambda *args: jax.tree.map(np.asarray, go(*args))


@functools.cache
def predict(predictor, values):
    """Compiled once for all selectors: logits of a text under a mask."""
    model = make(predictor=predictor, values=values)
    params = params_of(model)["predictor"]
    return jax.jit(lambda t, v, m: nn_model.logits(model, params, t, v, m))


@pytest.mark.parametrize("selector, query, values", HALVES)
def test_every_selector_gives_a_mask(selector, query, values):
    scores, candidates = select(selector, query, values)(TOKENS, VALID)
    mask = np.asarray(normalise(scores, candidates))
    n = {"default_tokens": K, "inputs": T, "inputs_and_default_tokens": T + K}[values]
    assert nn_model.positions(make(values=values), T) == n
    assert scores.shape == candidates.shape == mask.shape == (n,)
    assert np.isfinite(scores).all() and np.ptp(scores[candidates]) > 1e-3
    assert mask.sum() == pytest.approx(1, abs=1e-5) and (mask[~candidates] == 0).all()


def fits(inputs, values, selector, predictor):
    """Whether shapes fit, told apart from the code: by what a tabular part needs."""
    tabular = [part for part in (selector, predictor) if part == "tabular"]
    if inputs.kind == "scalars" and (values != "inputs" or not tabular):
        return False
    return not tabular or inputs.fixed or values == "default_tokens"


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("kind", ["tokens", "vectors", "scalars"])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "padded"])
def test_every_combination_builds_or_is_refused_in_one_line(kind, fixed, values):
    inputs = Inputs(kind, 1 if kind == "scalars" else V, T, fixed)
    for query, selector, predictor in itertools.product(
        ENCODERS, SELECTORS, PREDICTORS
    ):
        parts = {"query": query, "selector": selector, "predictor": predictor}
        if fits(inputs, values, selector, predictor):
            model = build(inputs, values=values, **parts)
            assert model.inputs is inputs
        else:
            with pytest.raises(ValueError, match="choose") as error:
                build(inputs, values=values, **parts)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["tokens", "vectors", "scalars"])
def test_what_builds_runs(kind):
    """Traced only: every encoder, selector and predictor on every kind of input."""
    inputs = Inputs(kind, 1 if kind == "scalars" else V, T, fixed=True)
    tables = ENCODERS, SELECTORS, PREDICTORS
    rows = zip(*map(itertools.cycle, tables), strict=True)
    for query, selector, predictor in itertools.islice(rows, max(map(len, tables))):
        # A pixel or a feature does not say which one it is.
        halves = [(selector, predictor)]
        if kind == "scalars":
            halves = [("tabular", predictor), (selector, "tabular")]
        for selector, predictor in halves:
            model = build(inputs, query=query, selector=selector, predictor=predictor)

            def whole(key, model=model):
                x, valid = example(model.inputs)
                params = nn_model.init(model, key)
                scores = nn_model.scores(model, params["selector"], x, valid)
                mask = nn_model.normalizer(model, True)(key, scores, valid, 1.0)
                return mask, nn_model.logits(model, params["predictor"], x, valid, mask)

            mask, logits = jax.eval_shape(whole, jax.random.key(0))
            assert mask.shape == (T,) and logits.shape == (C,)
            assert mask.dtype == logits.dtype == jnp.float32


@pytest.mark.parametrize("selector, query, values", HALVES)
def test_padding_never_changes_the_scores(selector, query, values):
    read = select(selector, query, values)
    scores, candidates = read(TOKENS, VALID)
    other, _ = read(OTHER_PADDING, VALID)
    np.testing.assert_array_equal(other[candidates], scores[candidates])
    if values != "default_tokens":
        longer, where = read(LONGER, np.arange(len(LONGER)) < N)
        np.testing.assert_allclose(longer[where], scores[candidates], atol=1e-5)
    if (selector, values) == ("gated", "default_tokens"):
        return  # it reads the keys alone, and these are the same for every text
    # The words that are there do matter, else the above would say nothing.
    assert np.abs(read(TOKENS[::-1] + 1, VALID)[0] - scores)[candidates].max() > 1e-3


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("predictor", TEXT_PREDICTORS)
def test_padding_never_changes_the_logits(predictor, values):
    read = predict(predictor, values)
    n = nn_model.positions(make(values=values), T)
    mask = np.linspace(0.1, 0.5, n).astype("f4")
    logits = np.asarray(read(TOKENS, VALID, mask))
    np.testing.assert_array_equal(read(OTHER_PADDING, VALID, mask), logits)
    if values != "default_tokens":
        valid = np.arange(len(LONGER)) < N
        wider = np.insert(mask, [T] * (len(LONGER) - T), np.float32(0.3))
        found = read(LONGER, valid, wider)
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    changed = read(TOKENS[::-1] + 1, VALID, mask)
    assert (np.abs(changed - logits).max() > 1e-3) == (values != "default_tokens")


@pytest.mark.parametrize("token", [V, 10 * V])
def test_a_token_that_is_not_in_the_vocabulary_gives_no_number(token):
    """Not those of another word: whoever mixes up vocabularies must see it."""
    model = make()
    params = nn_model.init(model, jax.random.key(0))
    for last, known in ((V - 1, True), (token, False)):
        tokens = jnp.array(TOKENS).at[N - 1].set(last)
        scores = nn_model.scores(model, params["selector"], tokens, VALID)
        assert np.isfinite(np.asarray(scores)[:N]).all() == known


def test_candidates_are_the_words_then_the_default_tokens():
    expected = [True] * K, list(VALID), [*VALID, *[True] * K]
    for values, wanted in zip(VALUES, expected, strict=True):
        candidates = nn_model.candidates_of(make(values=values), jnp.array(VALID))
        np.testing.assert_array_equal(candidates, wanted)


@pytest.mark.parametrize("predictor", TEXT_PREDICTORS)
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


@pytest.mark.parametrize("predictor", TEXT_PREDICTORS)
def test_words_with_mask_zero_have_gradient_exactly_zero(predictor):
    model = make(predictor=predictor, values="inputs")
    params = params_of(model)["predictor"]
    mask = jnp.array([0.0, 0.6, 0.0, 0.4, 0.0, 0.0])

    def logits(params):
        return nn_model.logits(model, params, TOKENS, VALID, mask)

    slopes = jax.jit(jax.jacrev(logits))(params)["words"]["embedding"]
    moved = np.abs(slopes).max(axis=(0, 2)) > 0
    assert set(np.flatnonzero(moved)) == {5, 7}


def test_mass_on_padding_is_dropped():
    read = functools.partial(predict("pooling", "inputs"), TOKENS, VALID)
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


def test_the_halves_share_no_parameter_and_start_from_their_key():
    model = make(values="inputs")
    init = jax.jit(lambda k: nn_model.init(model, k))
    first, again, other = (init(jax.random.key(s)) for s in (0, 0, 1))
    a, b = (first[half]["words"]["embedding"] for half in ("selector", "predictor"))
    assert a.shape == b.shape == (V, D) and np.abs(a - b).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.abs(a - other["selector"]["words"]["embedding"]).max() > 1e-3
    # An evaluator that starts from the same key is another predictor.
    key = jax.random.key(0)
    again, other = (
        jax.jit(lambda k: nn_model.init_predictor(model, k))(k)
        for k in (jax.random.split(key)[1], key)
    )
    jax.tree.map(np.testing.assert_array_equal, again, first["predictor"])
    assert np.abs(b - other["words"]["embedding"]).max() > 1e-3


FEATURES = Inputs("scalars", 1, T, fixed=True)
PATCHES = Inputs("vectors", D, T, fixed=True)
BAGS = Inputs("vectors", D, T)
TABULAR = {"query": "none", "selector": "tabular", "predictor": "tabular"}


@pytest.mark.parametrize("inputs", [FEATURES, PATCHES], ids=lambda i: i.kind)
def test_tabular_parts_read_a_fixed_number_of_positions(inputs):
    model = make(inputs, **TABULAR)
    shape = (T, D)[: 2 if inputs.kind == "vectors" else 1]
    x = np.random.default_rng(0).normal(size=shape).astype("f4")
    params = params_of(model)
    valid = np.ones(T, bool)
    scores = nn_model.scores(model, params["selector"], x, valid)
    assert scores.shape == (T,) and np.ptp(scores) > 1e-3
    mask = np.array([1, 0, 1, 0, 0, 1], "f4")

    def logits(x):
        return nn_model.logits(model, params["predictor"], x, valid, mask)

    slopes = np.abs(jax.jacrev(logits)(x)).reshape(C, T, -1).max(axis=(0, 2))
    np.testing.assert_array_equal(slopes > 0, mask > 0)
    # It tells places apart: no pool.
    assert np.abs(logits(x[::-1]) - logits(x)).max() > 1e-3


def test_bags_are_read_whatever_their_order():
    model = build(BAGS, query="none", selector="gated", features=D)
    params = params_of(model)
    x = np.random.default_rng(0).normal(size=(T, D)).astype("f4")
    valid = np.ones(T, bool)

    def both(x):
        scores = nn_model.scores(model, params["selector"], x, valid)
        mask = jax.nn.softmax(scores)
        return scores, nn_model.logits(model, params["predictor"], x, valid, mask)

    scores, logits = both(x)
    turned, same = both(x[::-1])
    np.testing.assert_allclose(turned[::-1], scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "inputs, parts, said",
    [
        (INPUTS, {"selector": "tabular"}, "fixed number of positions"),
        (BAGS, {"predictor": "tabular"}, "fixed number of positions"),
        (FEATURES, TABULAR | {"values": "default_tokens"}, "choose inputs"),
        (FEATURES, {}, "choose tabular"),
        (INPUTS, {"query": "transformer", "features": 6}, "features = 6 must be a mul"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(inputs, parts, said):
    with pytest.raises(ValueError, match=said) as error:
        build(inputs, **parts)
    assert "\n" not in str(error.value)


def test_vectors_are_embedded_and_scalars_are_not():
    x = np.random.default_rng(0).normal(size=(T, D)).astype("f4")
    params = {"instances": {"kernel": np.eye(D, H, 1, "f4"), "bias": np.ones(H, "f4")}}

    class Embedding(nn.Module):
        inputs: Inputs

        @nn.compact
        def __call__(self, x):
            return embed(self.inputs, H, x)

    found = Embedding(BAGS).apply({"params": params}, x)
    expected = np.maximum(np.pad(x, ((0, 0), (1, H - D - 1))) + 1, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(Embedding(FEATURES).apply({}, x[:, 0]), x[:, :1])
    assert not Embedding(FEATURES).init(jax.random.key(0), x[:, 0])


@pytest.mark.parametrize("predictor", TEXT_PREDICTORS)
def test_no_gradient_runs_through_padding_or_what_is_masked_out(predictor):
    model = make(BAGS, predictor=predictor, selector="multi_head")
    params = params_of(model)
    x = np.random.default_rng(0).normal(size=(T, D)).astype("f4")
    own = np.array([0.5, 0.0, 0.3, 0.2, 0.7, 0.9], "f4")

    @jax.jit
    def slopes(x, mask):
        def logits(x, mask):
            return nn_model.logits(model, params["predictor"], x, VALID, mask)

        def scores(x):
            return nn_model.scores(model, params["selector"], x, VALID)[:N]

        return *jax.jacrev(logits, (0, 1))(x, mask), jax.jacrev(scores)(x)

    by_input, by_mask, by_score = (np.abs(s) for s in slopes(x, own))
    moved = by_input.max(axis=(0, 2)) > 0
    np.testing.assert_array_equal(moved, VALID & (own > 0))
    np.testing.assert_array_equal(by_mask.max(axis=0) > 0, VALID)
    np.testing.assert_array_equal(by_score.max(axis=(0, 2)) > 0, VALID)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_masks_come_from_the_normalizer(name):
    model = build(normalizer=name)
    scores = np.array([0.3, -1.0, 2.0, 0.7, 5.0, 5.0], "f4")
    key = jax.random.key(0)

    @jax.jit
    def both(temperature, budget):
        args = (key, scores, VALID, temperature, budget)
        own = [nn_model.normalizer(model, way)(*args) for way in (True, False)]
        return own, [NORMALIZERS[name].draw(*args), NORMALIZERS[name].keep(*args)]

    found, expected = both(0.5, 2)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).all() and (np.asarray(found)[:, N:] == 0).all()
