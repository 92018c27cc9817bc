import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxattn.nn import adam


def tree(seed, scale=1.0):
    a, b = jax.random.split(jax.random.key(seed))
    return {
        "words": scale * jax.random.normal(a, (7, 3)),
        "head": {"bias": scale * jax.random.normal(b, (2,))},
    }


def test_it_is_the_adam_of_optax():
    rate, theirs = 3e-3, optax.adam(3e-3)
    params = mine = tree(0)
    state, own = theirs.init(params), adam.init(params)
    chex.assert_trees_all_equal(state[0], own[0])
    for step in range(30):
        # From 1e-9, where epsilon matters, to 1e3; some rows are never touched.
        grads = tree(step + 1, 10.0 ** (step % 13 - 9))
        grads["words"] = grads["words"].at[3].set(0)
        updates, state = theirs.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        mine, own = adam.update(grads, own, mine, rate, True)
        chex.assert_trees_all_close(mine, params, atol=1e-6, rtol=1e-6)
        chex.assert_trees_all_close(own[0].nu, state[0].nu, rtol=1e-6)
    np.testing.assert_array_equal(mine["words"][3], tree(0)["words"][3])
    assert int(own[0].count) == 30


@pytest.mark.parametrize("bad", [0.0, jnp.nan, jnp.inf])
def test_what_does_not_move_stays_bit_for_bit(bad):
    params = tree(0)
    state = adam.init(params)
    params, state = adam.update(tree(1), state, params, 0.1, True)
    grads = jax.tree.map(lambda g: g + bad, tree(2))
    same, kept = adam.update(grads, state, params, 0.1, jnp.bool_(False))
    chex.assert_trees_all_equal(same, params)
    chex.assert_trees_all_equal(kept, state)
    # It goes on as if the step had not been.
    a = adam.update(tree(3), kept, same, 0.1, True)
    b = adam.update(tree(3), state, params, 0.1, True)
    chex.assert_trees_all_equal(a, b)


def test_the_moments_are_computed_once():
    """Each of a table's three arrays is written by one loop that reads no other's."""
    params = {"words": jnp.ones((512, 64))}
    state = adam.init(params)

    def step(params, state, grads):
        return adam.update(grads, state, params, 0.1, True)

    text = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    assert text.as_text().count("optimization_barrier") == 1
    assert text.compile().as_text().count("sqrt(") == 1
