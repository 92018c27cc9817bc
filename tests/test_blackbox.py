import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.data.dataset import Dataset, Split
from jaxattn.experiment import black_box
from jaxattn.experiment.black_box import Image, Linear, Text

V, T, N = 12, 6, 96
GOOD, BAD = 2, 3


def make_split(n, seed):
    """Short texts; the label is which of two words there are more of."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, T + 1, n).astype(np.int32)
    inputs = rng.integers(4, V, (n, T))
    labels = rng.integers(0, 2, n)
    inputs[np.arange(n), rng.integers(0, 3, n)] = np.where(labels, GOOD, BAD)
    inputs = np.where(np.arange(T) < lengths[:, None], inputs, 0).astype(np.uint8)
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Split(inputs, lengths, labels.astype(np.int32), ids)


DATA = Dataset(
    name="tiny",
    classes=("bad", "good"),
    vocabulary=tuple(map(str, range(V))),
    kind=np.ones(V, np.uint8),
    lexicon=np.zeros(V, np.float32),
    train=make_split(N, 0),
    validation=make_split(32, 1),
    test=make_split(32, 2),
    cut={},
    digest="tiny",
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    recipe = black_box.Recipe("tiny", "linear", 60, 0.05, 32)
    recipes = {"explain_linear": recipe, "explain_gru": recipe._replace(kind="gru")}
    monkeypatch.setattr(black_box, "EXPLAINED", recipes)


def explained(cache=None, name="explain_linear"):
    return black_box.explained(name, DATA, cache)


def test_labels_are_the_answers_of_the_model():
    made, box = explained()
    assert box.accuracy > 0.95 and made.digest != DATA.digest
    for side in ("train", "validation", "test"):
        split, old = getattr(made, side), getattr(DATA, side)
        np.testing.assert_array_equal(split.inputs, old.inputs)
        np.testing.assert_allclose(split.targets.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(split.labels, split.targets.argmax(axis=1))
        keep = np.ones(T, bool)
        x = split.inputs[0].astype(np.int32)
        answer = jax.nn.softmax(box.apply(box.params, x, split.lengths[0], keep))
        np.testing.assert_allclose(answer, split.targets[0], atol=1e-5)


def test_attributions_of_the_linear_model_are_what_its_weights_say():
    made, box = explained()
    split = made.test
    weights = np.asarray(box.params["network"]["weights"])
    bias, idf = np.asarray(box.params["network"]["bias"]), np.asarray(box.params["idf"])
    for i in range(8):
        x, n, c = split.inputs[i].astype(int), split.lengths[i], split.labels[i]
        parts = weights[x] * idf[x][:, None] / np.sqrt(n)
        parts[n:] = 0
        expected = parts[:, c] - parts.mean(axis=1)
        np.testing.assert_allclose(split.attributions["weight"][i], expected, atol=1e-5)
        logits = parts.sum(axis=0) + bias
        whole = np.exp(logits - np.logaddexp(*logits))[c]
        for t in range(n):
            less = logits - parts[t]
            drop = whole - np.exp(less - np.logaddexp(*less))[c]
            found = split.attributions["leave_one_out"][i, t]
            assert found == pytest.approx(drop, abs=1e-5)
        # The word that decides has the largest of each score.
        place = int(np.flatnonzero(np.isin(x[:n], (GOOD, BAD)))[0])
        for scores in split.attributions.values():
            assert scores[i].argmax() == place
            assert not scores[i, n:].any()


MODELS = [Linear(V, 2), Text(V, 2, "cnn", 8), Text(V, 2, "gru", 8)]


@pytest.mark.parametrize("model", MODELS, ids=["linear", "cnn", "gru"])
def test_blanked_and_padded_tokens_do_not_matter(model):
    x = jnp.array([3, 5, 2, 7, 0, 0])
    keep = jnp.array([True, False, True, True, True, True])
    idf = jnp.linspace(1, 2, V)
    params = model.init(jax.random.key(0), x, jnp.int32(4), keep, idf)
    params = jax.tree.map(
        lambda p: jax.random.normal(jax.random.key(1), p.shape), params
    )

    def read(x, keep):
        return np.asarray(model.apply(params, x, jnp.int32(4), keep, idf))

    first = read(x, keep)
    np.testing.assert_array_equal(read(x.at[1].set(9), keep), first)
    other = jnp.array([True, False, True, True, False, False])
    np.testing.assert_allclose(read(x, other), first, atol=1e-6)
    assert np.abs(read(x.at[2].set(9), keep) - first).max() > 1e-4
    assert np.abs(read(x, jnp.ones(6, bool)) - first).max() > 1e-4


def test_pixels_and_patches_are_the_same_image():
    image = np.random.default_rng(0).random((28, 28), np.float32)
    patches = image.reshape(7, 4, 7, 4).transpose(0, 2, 1, 3).reshape(49, 16)
    model, n = Image(10), jnp.int32(1)
    ones = [jnp.ones(784), jnp.ones(49)]
    params = model.init(jax.random.key(0), image.reshape(-1), n, ones[0], ones[0])
    a = model.apply(params, image.reshape(-1), n, ones[0], ones[0])
    b = model.apply(params, patches, n, ones[1], ones[0])
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    blank = image.copy()
    blank[4:8, 8:12] = 0  # the patch of row 1, column 2
    a = model.apply(params, blank.reshape(-1), n, ones[0], ones[0])
    b = model.apply(params, patches, n, ones[1].at[9].set(0), ones[0])
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_what_is_kept_is_used_again_and_what_is_damaged_is_not(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "jaxattn")
    first, box = explained(tmp_path)
    assert "training the model" in caplog.text
    caplog.clear()
    again, other = explained(tmp_path)
    assert caplog.messages == [] and again.digest == first.digest
    jax.tree.map(np.testing.assert_array_equal, box.params, other.params)
    path = tmp_path / "explain_linear.npz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    repaired, _ = explained(tmp_path)
    assert "is damaged" in caplog.text and "is made again" in caplog.text
    assert repaired.digest == first.digest
    caplog.clear()
    monkeypatch.setitem(
        black_box.EXPLAINED,
        "explain_linear",
        black_box.EXPLAINED["explain_linear"]._replace(epochs=1),
    )
    changed, _ = explained(tmp_path)
    assert "another recipe" in caplog.text
    assert changed.digest != first.digest


def test_a_network_without_known_weights_has_no_weight_scores():
    made, _ = explained(name="explain_gru")
    assert set(made.test.attributions) == {"gradient", "leave_one_out"}
