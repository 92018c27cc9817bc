import jax
import numpy as np
import pytest

from jaxattn.data.sources.planted_shortcut import flip_probability, planted_shortcut
from jaxattn.metrics.leak import leak

N = 5000
BITS = (0.0, 0.1, 0.5, 1.0)


def h2(e):
    parts = [p * np.log2(p) for p in (e, 1 - e) if p > 0]
    return -sum(parts)


@pytest.mark.parametrize("bits", BITS)
def test_the_channel_has_the_bits_asked_for(bits):
    assert 1 - h2(flip_probability(bits)) == pytest.approx(bits, abs=1e-9)


def told(masks, kind):
    """The bit that a mask tells, read off without any estimator."""
    if kind == "place":
        return masks.argmax(axis=1) >= masks.shape[1] // 2
    return masks.max(axis=1) > 0.6


@pytest.mark.parametrize("kind", ["place", "shape"])
@pytest.mark.parametrize("bits", BITS)
def test_masks_tell_just_so_much(kind, bits):
    masks, labels = map(
        np.asarray, planted_shortcut(jax.random.key(0), N, bits, kind=kind)
    )
    assert masks.shape == (N, 8) and (masks >= 0).all()
    np.testing.assert_allclose(masks.sum(axis=1), 1, atol=1e-5)
    assert abs(labels.mean() - 0.5) < 1e-3
    wrong = (told(masks, kind) != labels).mean()
    e = flip_probability(bits)
    assert wrong == pytest.approx(e, abs=4 * np.sqrt(e * (1 - e) / N) + 1e-9)
    other = told(masks, "shape" if kind == "place" else "place")
    assert abs((other == labels).mean() - 0.5) < 0.03


@pytest.mark.parametrize("bits", BITS)
def test_the_leak_probe_finds_them(bits):
    masks, labels = planted_shortcut(jax.random.key(1), N, bits)
    found = leak(jax.random.key(2), masks, labels, 2, permutations=1)
    assert found.bits == pytest.approx(bits, abs=0.04)


def test_what_makes_no_sense_is_refused():
    for bits in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0 to 1 bits"):
            planted_shortcut(jax.random.key(0), 10, bits)
    with pytest.raises(ValueError, match="two or more"):
        planted_shortcut(jax.random.key(0), 10, 0.5, positions=1)
    with pytest.raises(ValueError, match="place and shape"):
        planted_shortcut(jax.random.key(0), 10, 0.5, kind="colour")
