from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattn.data.sources.planted import shares
from jaxattn.data.sources.snippets import load_snippets
from jaxattn.data.splits import SPLITS, split_of
from jaxattn.data.tasks import load
from jaxattn.data.text import tokenize

LENGTH = 32


@pytest.fixture(scope="module")
def planted(data_dir):
    return load("planted", data_dir=data_dir)


@pytest.fixture(scope="module")
def snippets(data_dir):
    found = load_snippets(data_dir)
    rows = zip(found.ids, found.texts, found.ratings, strict=True)
    return {id_: (tokenize(text), float(rating)) for id_, text, rating in rows}


def pairs(split):
    return [tuple(id_.split("+")) for id_ in split.ids]


def test_sizes_and_balance(planted):
    counts = [np.bincount(getattr(planted, side).labels).tolist() for side in SPLITS]
    # Movie sentiment, without two training reviews that are printed again elsewhere.
    assert counts == [[4031, 3958], [544, 517], [500, 520]]
    assert planted.classes == ("negative", "positive")
    for side in SPLITS:
        split = getattr(planted, side)
        n = len(split.labels)
        assert split.inputs.shape == split.truth.shape == (n, LENGTH)
        assert split.inputs.dtype == np.uint16 and split.truth.dtype == bool
        assert split.lengths.dtype == split.labels.dtype == np.int32
        assert split.inputs.max() < len(planted.vocabulary)
        valid = np.arange(LENGTH) < split.lengths[:, None]
        np.testing.assert_array_equal(split.inputs > 0, valid)


@pytest.mark.parametrize("side", SPLITS)
def test_labels_halves_and_truth_from_the_source(planted, snippets, side):
    split = getattr(planted, side)
    known = set(planted.vocabulary)

    def spelled(row, where):
        return [planted.vocabulary[i] for i in row[where]]

    cut = []
    for i, (review, other) in enumerate(pairs(split)):
        assert review.startswith("movie-") and other.startswith("nyt-")
        (evidence, rating), (neutral, zero) = snippets[review], snippets[other]
        assert abs(rating) >= 0.5 > abs(zero)
        assert split.labels[i] == (rating > 0)
        row, truth = split.inputs[i], split.truth[i]
        rest = ~truth & (row > 0)
        wanted = [
            [t if t in known else "<unk>" for t in words[: where.sum()]]
            for words, where in ((evidence, truth), (neutral, rest))
        ]
        assert [spelled(row, truth), spelled(row, rest)] == wanted
        # Each half is one block and keeps its share of the length.
        assert np.abs(np.diff(truth[: split.lengths[i]].astype(int))).sum() == 1
        assert truth.sum() >= min(len(evidence), LENGTH // 2)
        assert rest.sum() >= min(len(neutral), LENGTH // 2)
        whole = len(evidence) + len(neutral)
        assert split.lengths[i] == min(whole, LENGTH)
        cut.append(whole - split.lengths[i])
    assert tuple(planted.cut[side]) == (np.count_nonzero(cut), sum(cut))


def test_no_sentence_is_on_two_sides(planted, snippets):
    seen: dict[str, set] = {}
    for side in SPLITS:
        ids = {id_ for pair in pairs(getattr(planted, side)) for id_ in pair}
        assert all(split_of(id_) == side for id_ in ids)
        seen[side] = {tuple(snippets[id_][0]) for id_ in ids}
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_each_review_once_and_neutral_sentences_in_turn(planted, snippets):
    for side in SPLITS:
        reviews, others = zip(*pairs(getattr(planted, side)), strict=True)
        assert len(set(reviews)) == len(reviews)
        uses = Counter(others)
        assert max(uses.values()) - min(uses.values()) <= 1
        assert set(uses) == {
            id_
            for id_, (_, rating) in snippets.items()
            if id_.startswith("nyt") and abs(rating) < 0.5 and split_of(id_) == side
        }


def test_vocabulary_counts_each_training_sentence_once(planted, snippets):
    ids = {id_ for pair in pairs(planted.train) for id_ in pair}
    counts = Counter(token for id_ in ids for token in snippets[id_][0])
    assert set(planted.vocabulary[2:]) == {t for t, n in counts.items() if n >= 2}


def test_repeats_and_sees_the_length(planted, data_dir):
    again = load("planted", data_dir=data_dir)
    assert again.digest == planted.digest
    assert (
        planted.digest
        == "32836eb308cc104d28765756cf5ae8f188f6fc2e720a8e071f10c8e1199713d7"
    )
    short = load("planted", length=3, data_dir=data_dir)
    assert short.digest != planted.digest
    # The odd token is the review's.
    assert set(short.test.truth.sum(axis=1)) == {2}
    np.testing.assert_array_equal(short.test.ids, planted.test.ids)


def test_one_token_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="length is 1.*at least 2"):
        load("planted", length=1, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 99), st.integers(1, 99), st.integers(2, 99))
def test_shares(a, b, length):
    first, second = shares(a, b, length)
    assert first + second == min(a + b, length)
    assert min(a, length - length // 2) <= first <= a
    assert min(b, length // 2) <= second <= b
