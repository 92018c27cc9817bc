import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import jensenshannon

from jaxattn.metrics import attention_tests, divergence
from jaxattn.metrics.attention_tests import infidelity, max_sensitivity

P = 6
ALL = jnp.ones(P, bool)
MASK = jnp.array([0.4, 0.3, 0.15, 0.1, 0.05, 0.0])
VALUES = jnp.array([3.0, -2.0, 1.0, -1.0, 0.5, 0.0])


def predict(mask):
    return jax.nn.softmax(jnp.stack([0.0, (mask * VALUES).sum()]))


def p(margin):
    return 1 / (1 + np.exp(-margin))


@hypothesis.given(seed=st.integers(0, 1000))
def test_divergences_against_scipy(seed):
    a, b = np.random.default_rng(seed).dirichlet(np.ones(5), 2)
    found = divergence.jsd(jnp.asarray(a), jnp.asarray(b))
    assert found == pytest.approx(jensenshannon(a, b) ** 2, abs=1e-5)
    assert divergence.jsd(a, b) == pytest.approx(jensenshannon(a, b) ** 2)
    assert divergence.entropy(a) == pytest.approx(scipy.stats.entropy(a))
    distance = divergence.tvd(jnp.asarray(a), jnp.asarray(b))
    assert distance == pytest.approx(np.maximum(a - b, 0).sum(), abs=1e-6)
    a, b = jnp.eye(3)[:2]
    assert divergence.jsd(a, b) == pytest.approx(np.log(2))
    assert divergence.tvd(a, b) == 1 and divergence.jsd(a, a) == 0


def test_a_decision_flips_when_the_rest_is_renormalised():
    # 1.2 - .6 + .15 - .1 + .025 > 0; without the first -.6 + .15 - ... < 0
    flip = attention_tests.decision_flip(predict, MASK, MASK, ALL)
    assert flip == pytest.approx(1 / 6)
    # Worst first: -2 goes late, and the answer stays until all but one are gone.
    assert attention_tests.decision_flip(predict, MASK, -MASK, ALL) == 1
    valid = jnp.arange(P) < 4
    flip = attention_tests.decision_flip(predict, MASK, MASK, valid)
    assert flip == pytest.approx(1 / 4)


def test_the_single_weight_test_by_hand():
    two = jnp.array([0.7, 0.3, 0, 0, 0, 0])
    valid = jnp.arange(P) < 2
    single = attention_tests.single_weight(jax.random.key(0), predict, two, valid)
    whole = np.array([1 - p(1.5), p(1.5)])
    less = [np.array([1 - p(m), p(m)]) for m in (-2.0, 3.0)]
    js = [jensenshannon(whole, q) ** 2 for q in less]
    assert single == pytest.approx(js[0] - js[1], abs=1e-5)
    first = jnp.arange(P) < 1
    key = jax.random.key(0)
    assert np.isnan(attention_tests.single_weight(key, predict, two, first))


def test_shuffled_attention_stays_on_valid_positions():
    valid = jnp.arange(P) < 3
    mask = jnp.array([0.5, 0.25, 0.25, 0, 0, 0])
    seen = lambda m: jnp.stack([m[3:].sum(), m[:3].sum()])  # noqa: E731
    assert attention_tests.permuted(jax.random.key(0), seen, mask, valid) == 0
    moved = attention_tests.permuted(jax.random.key(0), predict, MASK, ALL)
    assert 0.01 < moved < 0.5
    flat = jnp.full(P, 1 / P)
    assert attention_tests.permuted(jax.random.key(0), predict, flat, ALL) < 1e-6


def test_an_adversary_finds_what_answers_the_same():
    """Values that are all alike: any attention answers the same, so it goes far."""
    alike = lambda m: jax.nn.softmax(jnp.stack([0.0, m.sum()]))  # noqa: E731
    peak = jnp.eye(P)[0] * 0.9 + 0.1 / P
    found = attention_tests.adversarial(jax.random.key(0), alike, peak, ALL)
    assert found.jsd > 0.5 and found.tvd < 0.01
    assert found.mask.sum() == pytest.approx(1, abs=1e-5)


def test_an_adversary_keeps_to_epsilon_and_to_valid_positions():
    valid = jnp.arange(P) < 5
    found = attention_tests.adversarial(
        jax.random.key(1), predict, MASK, valid, epsilon=0.05
    )
    assert divergence.tvd(predict(MASK), predict(found.mask)) <= 0.05 + 1e-6
    assert found.jsd == pytest.approx(float(divergence.jsd(MASK, found.mask)), abs=1e-5)
    assert found.jsd > 0 and found.mask[5] == 0
    # With one position there is no other attention.
    one = jnp.eye(P)[0]
    alone = attention_tests.adversarial(
        jax.random.key(1), predict, one, jnp.arange(P) < 1
    )
    assert alone.jsd == 0


def test_infidelity_is_zero_for_the_gradient_of_a_linear_model():
    weights = jax.random.normal(jax.random.key(0), (P,))
    changes = jax.random.normal(jax.random.key(1), (50, P))
    falls = changes @ weights
    assert infidelity(changes, falls, weights) == pytest.approx(0, abs=1e-6)
    assert infidelity(changes, falls, jnp.zeros(P)) == pytest.approx(
        float((falls**2).mean()), rel=1e-5
    )
    # A factor of the scores does not count once they are rescaled.
    assert infidelity(changes, falls, 3 * weights, rescaled=True) < 1e-6
    assert infidelity(changes, falls, 3 * weights) > 1


def test_max_sensitivity_of_a_constant_and_of_a_linear_explanation():
    x = jnp.ones((P, 2))
    constant = lambda e: jnp.ones(P)  # noqa: E731
    assert max_sensitivity(jax.random.key(0), constant, x) == 0
    found = max_sensitivity(jax.random.key(0), lambda e: e, x, radius=0.5, samples=200)
    assert 0.2 < found <= 0.5 + 1e-6
