import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.metrics import faithfulness
from jaxattn.metrics.faithfulness import VARIANTS, Variant

P = 10
WEIGHTS = jnp.array([0.0, 0.3, 0.0, 1.2, 0.0, 0.0, 0.6, 0.0, 0.0, 0.0])


def predict(keep):
    """Two classes; the margin is the sum of the weights that are kept."""
    margin = (WEIGHTS * keep).sum()
    return jax.nn.softmax(jnp.stack([0.0, margin]))


def p(margin):
    return 1 / (1 + np.exp(-margin))


ALL = jnp.ones(P, bool)
SCORES = WEIGHTS + jnp.arange(P) * 1e-6


def test_comprehensiveness_and_sufficiency_by_hand():
    variant = Variant((0.1, 0.2, 0.3), round_up=True)
    found = faithfulness.remove(predict, SCORES, ALL, variant)
    assert found.target == 1 and found.counts.tolist() == [1, 2, 3]
    np.testing.assert_allclose(
        faithfulness.comprehensiveness(found),
        [p(2.1) - p(0.9), p(2.1) - p(0.3), p(2.1) - p(0)],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        faithfulness.sufficiency(found),
        [p(2.1) - p(1.2), p(2.1) - p(1.8), 0],
        atol=1e-6,
    )


def test_variants_differ_where_they_are_said_to():
    valid = jnp.arange(P) < 7
    eraser = faithfulness.remove(predict, SCORES, valid, VARIANTS["eraser"])
    assert eraser.counts.tolist() == [1, 1, 1, 2, 4]  # rounded up, repeats kept
    values = faithfulness.comprehensiveness(eraser)
    mean = faithfulness.aopc(values, eraser)
    assert mean == pytest.approx(float(values.mean()))
    ferret = faithfulness.remove(predict, SCORES + 1e-3, valid, VARIANTS["ferret"])
    # Rounded down: 0 at 10 %, then 1 2 2 3 4 4 5 6 7; equal sets count once.
    assert ferret.counts.tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6, 7]
    assert ferret.counted.tolist() == [c not in (0, 3, 6) for c in range(10)]
    values = faithfulness.sufficiency(ferret)
    mean = faithfulness.aopc(values, ferret)
    assert mean == pytest.approx(float(values[ferret.counted].mean()))


def test_where_nothing_can_be_removed_ferret_says_so():
    found = faithfulness.remove(predict, -jnp.ones(P), ALL, VARIANTS["ferret"])
    assert not found.counted.any()
    assert faithfulness.aopc(faithfulness.comprehensiveness(found), found) == 0
    assert faithfulness.aopc(faithfulness.sufficiency(found), found, undefined=1.0) == 1


@hypothesis.given(
    n=st.integers(1, P), more=st.floats(0.01, 100), seed=st.integers(0, 50)
)
def test_padding_and_scale_change_nothing(n, more, seed):
    valid = jnp.arange(P) < n
    scores = jax.random.normal(jax.random.key(seed), (P,))
    variant = VARIANTS["eraser"]
    one = faithfulness.remove(predict, scores, valid, variant)
    other = faithfulness.remove(
        predict, jnp.where(valid, scores * more, 99.0), valid, variant
    )
    assert (one.without == other.without).all() and (one.only == other.only).all()


def test_areas_by_hand():
    """Of three positions: p falls from p(3) to p(2), p(1), p(0)."""
    ones = lambda keep: jax.nn.softmax(jnp.stack([0.0, keep.sum() * 1.0]))  # noqa: E731
    valid = jnp.array([True, True, True, False])
    scores = jnp.array([3.0, 2.0, 1.0, 9.0])
    heights = np.array([p(3), p(2), p(1), p(0)])
    area = np.trapezoid(heights, dx=1 / 3)
    assert faithfulness.deletion(ones, scores, valid) == pytest.approx(area, abs=1e-6)
    assert faithfulness.insertion(ones, scores, valid) == pytest.approx(area, abs=1e-6)


def test_the_right_order_falls_faster_and_rises_faster():
    assert faithfulness.deletion(predict, SCORES, ALL) < faithfulness.deletion(
        predict, -SCORES, ALL
    )
    assert faithfulness.insertion(predict, SCORES, ALL) > faithfulness.insertion(
        predict, -SCORES, ALL
    )


def test_tokens_to_flip():
    def other(keep):
        # Class 1 as long as position 3 or 6 is there.
        there = keep[3] | keep[6]
        return jnp.where(there, jnp.array([0.2, 0.8]), jnp.array([0.9, 0.1]))

    assert faithfulness.tokens_to_flip(other, SCORES, ALL) == pytest.approx(0.2)
    assert faithfulness.tokens_to_flip(other, -SCORES, ALL) == pytest.approx(1.0)
    never = lambda keep: jnp.array([0.2, 0.8])  # noqa: E731
    assert faithfulness.tokens_to_flip(never, SCORES, ALL) == 1
