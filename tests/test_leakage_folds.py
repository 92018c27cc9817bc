import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxattn.leakage import folds


def rng():
    return np.random.default_rng(0)


@hypothesis.given(
    n=st.integers(60, 200), classes=st.integers(2, 4), seed=st.integers(0, 99)
)
def test_folds_share_the_classes_evenly(n, classes, seed):
    labels = np.arange(n) % classes
    fold = folds.assign(np.random.default_rng(seed), labels, None, 5)
    for c in range(classes):
        counts = np.bincount(fold[labels == c], minlength=5)
        assert np.ptp(counts) <= 1


@hypothesis.given(seed=st.integers(0, 99))
def test_no_group_is_split(seed):
    source = np.random.default_rng(seed)
    groups = source.integers(0, 40, 200)
    labels = source.integers(0, 2, 200)
    fold = folds.assign(source, labels, groups, 5)
    for g in np.unique(groups):
        assert len(np.unique(fold[groups == g])) == 1
    assert set(fold) == set(range(5))


def test_a_class_that_one_fold_holds_alone_is_refused():
    labels = np.zeros(100, int)
    labels[:10] = 1
    groups = np.arange(100)
    groups[:10] = 0
    with pytest.raises(ValueError, match="class 1 occurs in too few groups"):
        folds.assign(rng(), labels, groups, 5)


def test_exchanged_labels_stay_in_their_fold_and_stratum():
    source = rng()
    labels, strata = source.integers(0, 3, 300), source.integers(0, 4, 300)
    fold = folds.assign(source, labels, None, 5)
    for row in folds.exchanged(source, labels, 20, fold, strata):
        assert (row != labels).any()
        for cell in np.unique(np.stack([fold, strata]), axis=1).T:
            where = (fold == cell[0]) & (strata == cell[1])
            assert (np.sort(row[where]) == np.sort(labels[where])).all()


def test_groups_of_one_label_are_exchanged_whole():
    groups = np.repeat(np.arange(40), 5)
    labels = (groups % 2).astype(int)
    fold = folds.assign(rng(), labels, groups, 5)
    rows = folds.exchanged(rng(), labels, 20, fold, groups=groups)
    assert (rows.reshape(20, 40, 5) == rows.reshape(20, 40, 5)[..., :1]).all()
    assert (rows.sum(axis=1) == labels.sum()).all()
    assert (rows != labels).any()


def test_within_groups_of_several_labels_examples_are_exchanged():
    groups = np.repeat(np.arange(20), 10)
    labels = np.arange(200) % 2
    fold = folds.assign(rng(), labels, groups, 5)
    for row in folds.exchanged(rng(), labels, 5, fold, groups=groups):
        assert (row.reshape(20, 10).sum(axis=1) == 5).all()
        assert (row != labels).any()


def test_lengths_make_strata():
    few = np.array([3, 3, 5, 9])
    assert folds.length_strata(few).tolist() == [0, 0, 1, 2]
    many = np.arange(1000)
    strata = folds.length_strata(many)
    assert len(np.unique(strata)) == 10
    assert (np.diff(strata) >= 0).all()
    # Half of all have one length: quantiles that coincide must not make empty strata.
    heavy = np.concatenate([np.full(500, 7), np.arange(500)])
    assert len(np.unique(folds.length_strata(heavy))) >= 5
