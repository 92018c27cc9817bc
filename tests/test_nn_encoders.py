import functools

import drawn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from drawn import dense

from jaxattn.nn.encoders import ENCODERS, Cnn, Gru, Transformer

T, N, D, F = 6, 4, 3, 8
VALID = np.arange(T) < N
RNG = np.random.default_rng(0)
X = RNG.normal(size=(T, D)).astype("f4")

# What one encoder is asked about, side by side, so that it compiles once.
CASES = {
    "base": (X, VALID),
    "other_padding": (np.where(VALID[:, None], X, 77).astype("f4"), VALID),
    "reversed": (np.concatenate([X[:N][::-1], X[N:]]), VALID),
    "first_moved": (X + (np.arange(T) == 0)[:, None].astype("f4"), VALID),
    "last_moved": (X + (np.arange(T) == N - 1)[:, None].astype("f4"), VALID),
    "one": (X, np.arange(T) < 1),
    "full": (X, np.ones(T, bool)),
    "empty": (X, np.zeros(T, bool)),
}


@functools.cache
def params_of(name):
    return drawn.params_of(ENCODERS[name](F), X, VALID)


@functools.cache
def encoder(name):
    """Jitted and mapped over examples: the vector, the states, d(sum c * vector)/dx."""
    module, params = ENCODERS[name](F), params_of(name)

    def one(x, valid):
        out, back, aux = jax.vjp(
            lambda x: module.apply(params, x, valid), x, has_aux=True
        )
        cotangent = jnp.arange(1.0, 1 + out.shape[0], dtype=out.dtype)
        return out, back(cotangent)[0], aux

    go = jax.jit(jax.vmap(one))
    return lambda *args: jax.tree.map(np.asarray, go(*args))


@functools.cache
def answers(name):
    made = encoder(name)(*map(np.stack, zip(*CASES.values(), strict=True)))
    return {case: jax.tree.map(lambda a: a[i], made) for i, case in enumerate(CASES)}  # noqa: B023


@pytest.mark.parametrize("name", ENCODERS)
def test_shapes_and_finite_values(name):
    for vector, slope, _ in answers(name).values():
        assert vector.shape == ((D,) if name == "bag" else (F,))
        assert np.isfinite(vector).all() and np.isfinite(slope).all()
        assert name != "none" or not (vector.any() or slope.any())


@pytest.mark.parametrize("name", ENCODERS)
def test_what_stands_on_padding_never_matters(name):
    found = answers(name)
    np.testing.assert_array_equal(found["other_padding"][0], found["base"][0])
    np.testing.assert_array_equal(found["empty"][0], 0)
    for case, (_, valid) in CASES.items():
        np.testing.assert_array_equal(found[case][1][~valid], 0, err_msg=case)


@pytest.mark.parametrize("name", ENCODERS)
def test_extra_padding_never_matters(name):
    x = np.concatenate([X, RNG.normal(size=(3, D)).astype("f4")])
    longer, slope, _ = encoder(name)(x[None], (np.arange(T + 3) < N)[None])
    vector, short, _ = answers(name)["base"]
    np.testing.assert_allclose(longer[0], vector, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope[0][:N], short[:N], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(slope[0][N:], 0)


@pytest.mark.parametrize("name", [n for n in ENCODERS if n != "none"])
def test_every_valid_position_is_read_and_both_ends_tell(name):
    found = answers(name)
    vector, slope, _ = found["base"]
    assert (np.abs(slope[:N]).max(axis=1) > 1e-4).all()
    for end in ("first_moved", "last_moved"):
        assert np.abs(found[end][0] - vector).max() > 1e-3


@pytest.mark.parametrize("name", ENCODERS)
def test_who_sees_the_order(name):
    found = answers(name)
    moved = np.abs(found["reversed"][0] - found["base"][0]).max()
    assert moved < 1e-6 if name in ("none", "bag") else moved > 1e-3


@pytest.mark.parametrize("name", ["bigru", "bilstm"])
def test_bidirectional_states_see_both_ends(name):
    def moved(name, end, place):
        states = (answers(name)[c][2]["states"][place] for c in ("base", end))
        return np.abs(np.subtract(*states)).max()

    assert moved(name, "last_moved", 0) > 1e-4
    assert moved(name, "first_moved", N - 1) > 1e-4
    # One direction alone cannot: the first state has seen no later position.
    assert moved("gru", "last_moved", 0) == 0 < moved("gru", "first_moved", N - 1)


@pytest.mark.parametrize("name, cell", [("bigru", nn.GRUCell), ("bilstm", nn.LSTMCell)])
def test_bidirectional_is_one_run_each_way(name, cell):
    params = params_of(name)["params"]

    def last(direction, x):
        carry = cell(F).initialize_carry(jax.random.key(0), x[0].shape)
        for row in x:
            carry, _ = step(params[direction], carry, row)
        return carry[1] if isinstance(carry, tuple) else carry

    step = jax.jit(lambda p, carry, row: cell(F).apply({"params": p}, carry, row))
    if name == "bilstm":  # the fast cell names its parameters as the plain one does
        assert set(params["forth"]) == {f"{a}{b}" for a in "ih" for b in "ifgo"}
    ends = np.concatenate([last("forth", X[:N]), last("back", X[:N][::-1])])
    expected = ends @ params["join"]["kernel"] + params["join"]["bias"]
    vector = answers(name)["base"][0]
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-4)


def test_bag_is_the_mean_of_the_valid():
    vector, slope, _ = answers("bag")["base"]
    np.testing.assert_allclose(vector, X[:N].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(slope[:N], [[1 / N, 2 / N, 3 / N]] * N, atol=1e-6)


def test_gru_survives_garbage_on_padding():
    dirty = np.where(VALID[:, None], X, np.nan).astype("f4")
    vector = Gru(F).apply(params_of("gru"), dirty, VALID)[0]
    np.testing.assert_allclose(vector, answers("gru")["base"][0], atol=1e-6)


def test_cnn_against_numpy():
    p = params_of("cnn")["params"]["filters"]
    padded = np.concatenate([np.zeros((1, D)), X[:N], np.zeros((1, D))])
    windows = np.stack([padded[i : i + 3] for i in range(N)])
    responses = np.einsum("twd,wdf->tf", windows, p["kernel"]) + p["bias"]
    expected = np.maximum(responses, 0).max(axis=0)
    vector = answers("cnn")["base"][0]
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    wide = drawn.params_of(Cnn(F, window=5), X, VALID)["params"]["filters"]
    assert wide["kernel"].shape == (5, D, F)


def layer_norm(x, p):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return scaled * p["scale"] + p["bias"]


def test_transformer_against_numpy():
    p = jax.tree.map(np.float64, params_of("transformer")["params"])
    x = dense(X[:N].astype("f8"), p["project"])
    angles = np.arange(N)[:, None] / 10_000 ** (np.arange(0, F, 2) / F)
    x = x + np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(N, F)
    normed, a = layer_norm(x, p["norm_1"]), p["attention"]
    q, k, v = (
        np.einsum("td,dhe->the", normed, a[n]["kernel"]) + a[n]["bias"]
        for n in ("query", "key", "value")
    )
    assert q.shape[1] == Transformer(F).heads
    scores = np.einsum("the,she->hts", q, k) / np.sqrt(q.shape[-1])
    weights = scipy.special.softmax(scores, axis=-1)
    mixed = np.einsum("hts,she->the", weights, v)
    x = x + np.einsum("the,hed->td", mixed, a["out"]["kernel"]) + a["out"]["bias"]
    wide = dense(layer_norm(x, p["norm_2"]), p["wide"])
    x = x + dense(np.asarray(nn.gelu(wide)), p["narrow"])
    found = answers("transformer")["base"][0]
    np.testing.assert_allclose(found, x.mean(axis=0), rtol=1e-3, atol=1e-3)


def test_transformer_needs_heads_that_divide_the_features():
    with pytest.raises(ValueError, match=r"^Transformer: features = 6 .* heads = 4"):
        Transformer(6).init(jax.random.key(0), X, VALID)
    Transformer(6, heads=3).init(jax.random.key(0), X, VALID)


@pytest.mark.parametrize("name", ENCODERS)
def test_alone_under_grad_of_the_parameters(name):
    """One example, no vmap: what a project that borrows the module does."""
    module = ENCODERS[name](F)

    def loss(params):
        return (module.apply(params, X, VALID)[0] ** 2).sum()

    leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(params_of(name)))
    assert all(np.isfinite(s).all() for s in leaves)
    assert bool(leaves) == (name not in ("none", "bag"))
    assert all(np.abs(s).max() > 0 for s in leaves) or name == "transformer"
