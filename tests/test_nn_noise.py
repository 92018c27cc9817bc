import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxattn.nn import subsets


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_noise_is_that_of_jax(seed, draws, length):
    key, shape = jax.random.key(seed), (draws, length)
    found, expected = (
        jax.jit(f, static_argnums=1)(key, shape)
        for f in (subsets.gumbel, jax.random.gumbel)
    )
    # Logarithms may differ in their last digit.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_noise_of_many_keys_at_once_is_that_of_each():
    keys = jax.random.split(jax.random.key(1), 9)
    found = jax.vmap(lambda key: subsets.gumbel(key, (4, 11)))(keys)
    expected = jax.vmap(lambda key: jax.random.gumbel(key, (4, 11)))(keys)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make", [jax.random.PRNGKey, lambda s: jax.random.key(s, impl="rbg")]
)
def test_other_keys_draw_their_own_noise(make):
    found = subsets.gumbel(make(3), (5,))
    np.testing.assert_array_equal(found, jax.random.gumbel(make(3), (5,)))


def test_the_tail_of_the_noise_is_finite():
    assert np.isfinite(subsets.gumbel(jax.random.key(0), (10**6,))).all()


@given(st.integers(0, 99), st.integers(1, 12), st.floats(0.01, 100))
def test_the_softmax_of_subsets_and_its_slopes_are_jaxs(seed, length, scale):
    a, b, c = jax.random.split(jax.random.key(seed), 3)
    logits = scale * jax.random.normal(a, (3, length))
    moved, weights = (jax.random.normal(k, (3, length)) for k in (b, c))
    for f in (
        lambda g: g(logits),
        lambda g: jax.jvp(g, (logits,), (moved,))[1],
        lambda g: jax.vjp(g, logits)[1](weights)[0],
    ):
        found, expected = f(subsets._softmax), f(jax.nn.softmax)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_slopes_of_subsets_are_those_of_differences():
    logits = jnp.array([0.3, -0.2, 0.9, 0.1])
    check_grads(subsets._softmax, (logits,), order=2, atol=1e-2, rtol=1e-2)
