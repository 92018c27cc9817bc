import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxattn.nn import subsets


@pytest.mark.parametrize("shape", [(1,), (3, 7), (4, 11), (9, 9)])
def test_noise_is_that_of_jax_for_one_key_and_for_many(shape):
    keys = jax.random.split(jax.random.key(len(shape)), 50)
    each = functools.partial(subsets.gumbel, shape=shape)
    expected = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
    # Logarithms may differ in their last digit.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    close(jax.jit(jax.vmap(each))(keys), expected)
    close(jax.jit(each)(keys[0]), expected[0])


@pytest.mark.parametrize(
    "make", [jax.random.PRNGKey, lambda s: jax.random.key(s, impl="rbg")]
)
def test_other_keys_draw_their_own_noise(make):
    noise = subsets.gumbel(make(3), (5,))
    np.testing.assert_array_equal(noise, jax.random.gumbel(make(3), (5,)))


def test_the_tail_of_the_noise_is_finite():
    assert np.isfinite(subsets.gumbel(jax.random.key(0), (10**6,))).all()


@functools.partial(jax.jit, static_argnums=0)
def with_slopes(f, logits, moved, weights):
    """Values, tangents and cotangents of a softmax."""
    backwards = jax.vjp(f, logits)[1](weights)[0]
    return *jax.jvp(f, (logits,), (moved,)), backwards


@given(st.integers(0, 99), st.sampled_from([1, 2, 12]), st.floats(0.01, 100))
def test_the_softmax_of_subsets_and_its_slopes_are_jaxs(seed, length, scale):
    logits, *others = np.random.default_rng(seed).normal(size=(3, 3, length))
    given_ = jax.tree.map(np.float32, (scale * logits, *others))
    expected = with_slopes(jax.nn.softmax, *given_)
    for a, b in zip(with_slopes(subsets._softmax, *given_), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_slopes_of_subsets_are_those_of_differences():
    logits = jnp.array([0.3, -0.2, 0.9, 0.1])
    check_grads(subsets._softmax, (logits,), order=2, atol=1e-2, rtol=1e-2)
