import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattn.leakage.masks import labels_of, masks_of, one_each, tokens_of

N, T = 60, 5
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(N, T))
WEIGHTS = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)


class Tensor:
    """What a live PyTorch tensor does: numbers only once it is detached."""

    def __init__(self, array, attached=True, dtype="torch.float32"):
        self.array, self.attached, self.dtype = array, attached, dtype

    def detach(self):
        return Tensor(self.array, False, self.dtype)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array, self.attached)

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.array, dtype)


def raises(match, *args, **kwargs):
    with pytest.raises(ValueError, match=match) as error:
        masks_of(*args, **kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        WEIGHTS,
        WEIGHTS.tolist(),
        jnp.asarray(WEIGHTS),
        Tensor(WEIGHTS),
        Tensor(WEIGHTS, dtype="torch.bfloat16"),
    ],
    ids=["numpy", "lists", "jax", "tensor", "bfloat16"],
)
def test_arrays_of_any_framework(given):
    found = masks_of(given)
    assert found.every.dtype == np.float32
    np.testing.assert_allclose(found.every, WEIGHTS, rtol=1e-6)
    assert (found.lengths == T).all()
    assert "weights; every row sums to 1" in found.assumed


def test_every_way_to_be_ragged_is_the_same():
    lengths = np.arange(N) % 3 + 2
    rows = [np.full(k, 1 / k) for k in lengths]
    flat = np.concatenate(rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    objects = np.empty(N, object)
    objects[:] = rows
    padded = np.zeros((N, 4))
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    expected = masks_of(rows)
    assert (expected.lengths == lengths).all()
    for other in (
        masks_of(objects),
        masks_of(flat, offsets=offsets),
        masks_of(padded),
        masks_of(np.where(padded > 0, padded, np.nan), lengths=lengths),
    ):
        assert (other.every == expected.every).all()
        assert (other.lengths == lengths).all()


@hypothesis.given(more=st.integers(0, 4))
def test_padding_changes_nothing(more):
    wide = np.concatenate([WEIGHTS, np.full((N, more), 7.0)], axis=1)
    found = masks_of(wide, lengths=np.full(N, T))
    assert (found.every[:, :T] == masks_of(WEIGHTS).every).all()
    assert not found.every[:, T:].any()


def test_heads_are_kept_for_the_leak_and_averaged_for_channels():
    heads = np.stack([WEIGHTS, WEIGHTS[:, ::-1]], axis=1)
    found = masks_of(heads)
    assert found.every.shape == (N, 2 * T)
    np.testing.assert_allclose(found.mean, heads.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("row", ["mean", "cls", "all"])
def test_which_queries_count(row):
    square = RNG.dirichlet(np.ones(T), size=(N, 2, T))
    found = masks_of(square, row=row)
    expected = {
        "mean": square.mean(axis=2),
        "cls": square[:, :, 0],
        "all": square.reshape(N, 2 * T, T),
    }[row]
    np.testing.assert_allclose(found.every, expected.reshape(N, -1), rtol=1e-6)


def test_scores_become_weights_by_a_softmax():
    found = masks_of(SCORES)
    np.testing.assert_allclose(found.every, WEIGHTS, rtol=1e-5)
    assert any("softmax" in said for said in found.assumed)
    lengths = np.full(N, 3)
    part = masks_of(np.where(np.arange(T) < 3, SCORES, -np.inf), lengths=lengths)
    np.testing.assert_allclose(part.every[:, :3].sum(axis=1), 1, rtol=1e-5)
    assert not part.every[:, 3:].any()
    positive = masks_of(np.abs(SCORES), kind="scores")
    np.testing.assert_allclose(positive.every.sum(axis=1), 1, rtol=1e-5)


def test_weights_that_do_not_sum_to_one_are_said_to():
    assert any("each by itself" in s for s in masks_of(WEIGHTS * 0.5).assumed)
    large = masks_of(WEIGHTS * 40)
    assert large.every.max() == 1
    assert any("divided by that" in said for said in large.assumed)


def test_a_map_for_each_class_is_suspected():
    heads = np.stack([WEIGHTS, WEIGHTS], axis=1)
    assert "prediction by construction" in masks_of(heads, classes=2).warned[0]
    assert not masks_of(heads, classes=3).warned


def with_(value, row=3):
    changed = WEIGHTS.copy()
    changed[row, 1] = value
    return changed


def test_what_is_no_mask():
    raises(r"1 of 60 rows \(3\)", with_(np.nan))
    raises("not finite", with_(np.inf))
    raises(r"negative weights in 1 of 60 rows \(3\)", with_(-0.1), kind="weights")
    raises("10 masks: at least 50", WEIGHTS[:10])
    raises("no mask at all", [])
    raises("no position", np.ones((N, 0)))
    raises(r"shape \[60\]", WEIGHTS[:, 0])
    raises("shape", np.ones((N, 1, 1, 1, 1)))
    raises("must be numbers", WEIGHTS.astype(str))
    raises("must be numbers", WEIGHTS.astype(complex))
    raises("mask 7 is empty", [[0.5] * (i != 7) for i in range(N)])
    raises("mask 1 has shape", [[1.0], [[1.0]], *[[1.0]] * N])
    raises("kind = 'odd'", WEIGHTS, kind="odd")
    raises("row = 'odd'", np.ones((N, 2, T, T)), row="odd")
    raises("60 whole numbers", WEIGHTS, lengths=[3, 3])
    raises("length 9 of mask 0", WEIGHTS, lengths=np.full(N, 9))
    raises("rise from 0", WEIGHTS.ravel(), offsets=[0, 5, 3])
    raises("offsets end at 10", WEIGHTS.ravel(), offsets=[0, 5, 10])


def labels_raise(match, given):
    with pytest.raises(ValueError, match=match) as error:
        labels_of(given, N)
    assert "\n" not in str(error.value)


def test_labels_are_numbered_and_named():
    y, names = labels_of(["b", "a"] * (N // 2), N)
    assert y[:2].tolist() == [1, 0] and names == ["a", "b"]
    y, names = labels_of(np.arange(N) % 3 + 7, N)
    assert names == ["7", "8", "9"] and y.max() == 2


def test_what_are_no_labels():
    labels_raise("59 labels for 60 masks", np.zeros(59, int))
    labels_raise("one class only", np.zeros(N, int))
    labels_raise("float", np.linspace(0, 1, N))
    labels_raise(r"\[60, 2\]", np.zeros((N, 2), int))
    labels_raise("60 classes for 60 masks", np.arange(N))


def test_what_belongs_to_masks_is_one_for_each():
    with pytest.raises(ValueError, match="groups have shape"):
        one_each(np.zeros(3), N, "groups")
    found = masks_of(WEIGHTS, lengths=np.full(N, 3))
    words = tokens_of([["a", "b", "c"]] * N, found)
    assert words[0].tolist() == ["a", "b", "c", "", ""]
    with pytest.raises(ValueError, match="row 0 has 2 tokens"):
        tokens_of([["a", "b"]] * N, found)
    with pytest.raises(ValueError, match="3 rows of tokens"):
        tokens_of([["a"]] * 3, found)
