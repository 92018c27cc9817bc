import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from jaxattn.metrics.leak import factorise, held_out, leak, probe_features

N, P = 2000, 4
jitted = jax.jit(leak, static_argnames=("classes", "permutations"))


def leak_(*args, **kwargs):
    return jax.device_get(jitted(*args, **kwargs))


def binary_entropy(p):
    return scipy.stats.entropy([p, 1 - p], base=2)


@functools.cache
def planted(flips, seed=0):
    """Masks [N, P] that name a code; the code is the label, wrong in a share `flips`.

    As many labels of each class, and flips of each, as on average: so that the bits
    are exactly 1 - H(flips) in this very sample.
    """
    rng = np.random.default_rng(seed)
    half = N // 2
    wrong = np.arange(half) < round(flips * half)
    labels = np.repeat([0, 1], half)
    codes = labels ^ np.tile(wrong, 2)
    order = rng.permutation(N)
    labels, codes = labels[order], codes[order]
    scores = rng.normal(size=(N, P)) + 9 * np.eye(P)[codes]
    masks = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return masks.astype("f4"), labels.astype(np.int32), codes


@functools.cache
def measured(flips, seed=0):
    masks, labels, _ = planted(flips, seed)
    return leak_(jax.random.key(seed), masks, labels, 2, weights=np.ones(N, "f4"))


@pytest.mark.parametrize("flips, bits", [(0.5, 0), (0.25, 0.19), (0.1, 0.53), (0, 1)])
def test_a_planted_leak_is_recovered_with_its_parts(flips, bits):
    assert 1 - binary_entropy(flips) == pytest.approx(bits, abs=0.005)
    found = measured(flips)
    assert found.bits == pytest.approx(1 - binary_entropy(flips), abs=0.03)
    assert found.share == pytest.approx(found.bits, abs=1e-3)  # H(y) is 1 bit
    assert found.accuracy == pytest.approx(1 - flips, abs=0.03)
    assert found.pointwise.shape == (N,)
    assert found.pointwise.mean() == pytest.approx(found.bits, abs=1e-5)
    assert found.null_bits == pytest.approx(0, abs=0.03) and found.null_bits <= 0.01
    # pointwise = log2(p / P(y)) with P(y) = 1 / 2
    p = 2.0**found.pointwise / 2
    assert found.smallest_probability == pytest.approx(p.min(), rel=1e-3)
    assert p.max() <= 1 + 1e-5


def test_the_same_key_gives_the_same_bits_and_another_nearly_so():
    masks, labels, _ = planted(0.1)
    weights = np.ones(N, "f4")
    again = leak_(jax.random.key(0), masks, labels, 2, weights=weights)
    assert again.bits == measured(0.1).bits
    other = leak_(jax.random.key(9), masks, labels, 2, weights=weights)
    assert other.bits == pytest.approx(again.bits, abs=0.01)


def test_only_the_ratios_of_weights_count():
    masks, labels, _ = planted(0.1)
    found = leak_(jax.random.key(0), masks, labels, 2, weights=np.full(N, 3, "f4"))
    assert found.bits == pytest.approx(measured(0.1).bits, abs=1e-4)
    assert found.accuracy == pytest.approx(measured(0.1).accuracy, abs=1e-3)


@pytest.mark.parametrize("row", [[0.25] * 4, [1, 0, 0, 0], [0, 0, 0, 0]], ids=str)
def test_constant_masks_tell_nothing(row):
    masks = np.tile(np.array(row, "f4"), (N, 1))
    labels = planted(0.1)[1]
    found = leak_(jax.random.key(0), masks, labels, 2, weights=np.ones(N, "f4"))
    assert all(np.isfinite(x).all() for x in found)
    assert found.bits == pytest.approx(0, abs=0.005)
    assert found.null_bits == pytest.approx(0, abs=0.005)


def test_one_class_only_has_no_bits_to_leak():
    masks = planted(0.1)[0]
    ones = np.ones(N, "f4")
    found = leak_(jax.random.key(0), masks, np.ones(N, np.int32), 2, weights=ones)
    assert all(np.isfinite(x).all() for x in found)
    assert found.bits == pytest.approx(0, abs=1e-3) and found.accuracy == 1


def test_names_of_classes_do_not_matter():
    masks, labels, _ = planted(0.25)
    swapped = leak_(jax.random.key(0), masks, 1 - labels, 2, weights=np.ones(N, "f4"))
    assert swapped.bits == pytest.approx(measured(0.25).bits, abs=1e-4)


@pytest.mark.parametrize("flips", [0.25, 0.1])
def test_exact_weights_leave_no_leak(flips):
    masks, labels, codes = planted(flips)
    posterior = np.where(codes == labels, 1 - flips, flips)
    weights = (0.5 / posterior).astype("f4")
    found = leak_(jax.random.key(0), masks, labels, 2, weights=weights)
    # Few effective examples cost the probe some bits, and the null as many.
    assert -0.05 < found.bits < 0.02
    assert found.bits == pytest.approx(found.null_bits, abs=0.02)
    mean = (found.pointwise * weights).sum() / weights.sum()
    assert mean == pytest.approx(found.bits, abs=1e-5)
    # Half-way weights leave some of it: the above is not bound to come out.
    half = leak_(jax.random.key(0), masks, labels, 2, weights=np.sqrt(weights))
    assert found.bits + 0.03 < half.bits < measured(flips).bits


def test_a_weight_of_zero_is_as_good_as_absent():
    masks, labels, _ = planted(0.1)
    kept = np.arange(N) % 4 != 0
    noise = np.random.default_rng(5).random((N, P)).astype("f4")
    other = np.where(kept[:, None], masks, noise / noise.sum(axis=1, keepdims=True))
    found = leak_(jax.random.key(0), other, labels, 2, weights=kept.astype("f4"))
    assert found.bits == pytest.approx(measured(0.1).bits, abs=0.04)


def test_three_classes_without_weights():
    rng = np.random.default_rng(2)
    labels = rng.choice(3, 1500, p=[0.6, 0.3, 0.1]).astype(np.int32)
    scores = rng.normal(size=(1500, P)) + 9 * np.eye(P)[labels]
    masks = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = leak_(jax.random.key(0), masks.astype("f4"), labels, 3, permutations=1)
    bits = scipy.stats.entropy(np.bincount(labels), base=2)
    assert found.bits == pytest.approx(bits, abs=0.03)
    assert found.share == pytest.approx(found.bits / bits, rel=1e-3)
    assert found.accuracy > 0.99


def test_probe_features_are_standardised_and_see_more_than_lines():
    x = np.asarray(jax.jit(probe_features)(planted(0.1)[0]))
    assert x.shape == (N, 1 + 2 * P + 64) and (x[:, 0] == 1).all()
    np.testing.assert_allclose(x[:, 1:].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(x[:, 1:].std(axis=0), 1, atol=1e-2)


def test_a_code_that_no_line_can_read_is_found():
    # The label is the parity of two positions: no single weight tells anything.
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2, (2, N))
    scores = np.stack([2 * a, 2 * b, np.zeros(N), np.zeros(N)], axis=1) * 1.0
    scores += 0.1 * rng.normal(size=scores.shape)
    masks = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype("f4")
    labels = (a ^ b).astype(np.int32)
    found = leak_(jax.random.key(0), masks, labels, 2, weights=np.ones(N, "f4"))
    assert found.bits > 0.9


@pytest.mark.parametrize("flips", [0.25, 0.5])
def test_accuracy_against_scikit_learn(flips):
    masks, labels, _ = planted(flips)
    x = np.asarray(jax.jit(probe_features)(jnp.array(masks)))
    peer = LogisticRegression(C=0.1, max_iter=300)
    predicted = cross_val_predict(peer, x[:, 1:], labels, cv=5)
    accuracy = (predicted == labels).mean()
    assert measured(flips).accuracy == pytest.approx(accuracy, abs=0.03)


def test_a_labelling_is_fitted_alike_whatever_is_fitted_beside_it():
    """Else real labels, fitted alone, would be held against better fitted null ones."""
    masks, labels, _ = planted(0.0)
    noise = np.random.default_rng(0).permutation(labels)
    x, fold = probe_features(masks), jnp.arange(N) % 5
    shared = factorise(x, jnp.ones(N), fold, 5)

    @jax.jit
    def fitted(many):
        return held_out(x, jax.nn.one_hot(many, 2), shared, 60, tolerance=1e-3)

    easy = fitted(np.stack([noise]))[0]
    beside = fitted(np.stack([noise, labels]))[0]
    np.testing.assert_allclose(beside, easy, atol=1e-5)
    longer = fitted(np.stack([labels]))[0]
    assert np.abs(longer - easy).max() > 1
