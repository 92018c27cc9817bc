"""Rows of any reader become arrays, and what is wrong with them is said."""

import numpy as np
import own_files
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_files import splits_of, words

from jaxattn.data import limits
from jaxattn.data.rows import Row, from_rows, in_order
from jaxattn.data.splits import SPLITS, split_by
from jaxattn.data.text import build_vocabulary, encode

WORDS = list("abcdefgh")


def made(n=60, **changes):
    """Rows of `n` texts, all different, 8 of 10 for training."""
    found = []
    for i in range(n):
        split = SPLITS[max(i % 10 - 7, 0)]
        tokens = ["good" if i % 2 else "bad", "film", f"number{i}"]
        row = Row(tokens, ["neg", "pos"][i % 2], f"f, row {i + 1}", split=split)
        found.append(row._replace(**{k: v(i) for k, v in changes.items()}))
    return found


LABELLED = st.tuples(
    st.lists(st.sampled_from([*WORDS, "<pad>", "<unk>"]), max_size=7),
    st.sampled_from([None, 0.0, 1.0, 0.25]),
)


@given(st.lists(LABELLED, max_size=12), st.integers(1, 6), st.integers(1, 2))
def test_arrays_are_those_of_a_plain_reading(drawn, length, min_count):
    fixed = [
        Row([word, split], label, f"f, row {split} {label}", split=split)
        for split in SPLITS
        for label, word in ((1, "yes"), (0, "no"))
        for _ in range(3)
    ]
    fixed = [row._replace(id=str(i)) for i, row in enumerate(fixed)]
    # The number of the row in each text: no text is in two splits.
    more = [
        Row([*tokens, f"row{i}"], i % 2, f"f, row {i}", split=SPLITS[i % 3], id=f"d{i}")
        for i, (tokens, _) in enumerate(drawn)
    ]
    more = [
        row if mark is None else row._replace(evidence=[mark] * len(row.tokens))
        for row, (_, mark) in zip(more, drawn, strict=True)
    ]
    given = fixed + more
    found = from_rows(iter(given), "f", length, min_count)
    rows_of = {split: [r for r in given if r.split == split] for split in SPLITS}
    special = {"<pad>", "<unk>"}
    plain = [[t for t in r.tokens if t not in special] for r in rows_of["train"]]
    assert found.vocabulary == build_vocabulary(plain, min_count)
    assert found.classes == ("0", "1")
    marked = any(row.evidence is not None for row in given)
    for name, split in splits_of(found).items():
        texts = [[t.replace("pad", "unk") for t in r.tokens] for r in rows_of[name]]
        inputs, lengths, cut = encode(texts, found.vocabulary, length)
        np.testing.assert_array_equal(split.inputs, inputs)
        assert split.inputs.dtype == inputs.dtype
        np.testing.assert_array_equal(split.lengths, lengths)
        assert split.lengths.dtype == split.labels.dtype == np.int32
        assert found.cut[name] == cut
        assert split.labels.tolist() == [row.label for row in rows_of[name]]
        assert split.ids.tolist() == [row.id for row in rows_of[name]]
        assert (split.evidence is not None) == marked
        if split.evidence is not None:
            assert split.evidence.dtype == np.float32
            rows = zip(rows_of[name], lengths, split.evidence, strict=True)
            for row, n, marks in rows:
                assert np.isnan(marks[n:]).all()
                expected = np.float32(row.evidence or [np.nan] * n)[:n]
                np.testing.assert_array_equal(marks[:n], expected)


def test_many_tokens_need_two_bytes():
    many = [
        Row([f"w{i}_{j}" for j in range(10)], i % 2, "f", split="train")
        for i in range(30)
    ]
    held = [Row([f"{s}{i}"], i % 2, "f", split=s) for s in SPLITS[1:] for i in range(2)]
    assert from_rows(many + held, "f", 10, 1).train.inputs.dtype == np.uint16
    assert from_rows(many[:9] + held, "f", 10, 1).train.inputs.dtype == np.uint8


@pytest.mark.parametrize(
    "more, key",
    [
        (lambda i: {}, lambda i: f"t{i}"),
        (lambda i: {"id": f"a_{i}"}, lambda i: f"a_{i}"),
        (lambda i: {"id": f"a_{i}", "group": f"g{i // 4}"}, lambda i: f"g{i // 4}"),
    ],
)
def test_splits_are_drawn_by_group_then_id_then_text(more, key):
    n = 400
    rows = [Row([f"t{i}"], i % 2, f"f, row {i}", **more(i)) for i in range(n)]
    drawn = {
        int(id_.replace("_", "-").rpartition("-")[2]): name
        for name, split in splits_of(from_rows(rows, "f", 4, 1)).items()
        for id_ in split.ids
    }
    assert drawn == {i: split_by(key(i)) for i in range(n)}


@pytest.mark.parametrize("name", ["val", "dev", "valid", "validation", "VAL"])
def test_names_of_the_validation_split(name):
    given = [r._replace(split=name) if r.split == "validation" else r for r in made()]
    assert len(from_rows(given, "f", 4, 1).validation.labels) == 6


def without_validation(n):
    return [r._replace(split="test" if r.split == "test" else "train") for r in made(n)]


def test_a_missing_validation_split_is_a_tenth_of_training_and_said(said):
    given = without_validation(300)
    found = from_rows(given, "f", 4, 1)
    n, m = len(found.train.labels), len(found.validation.labels)
    assert n + m == sum(r.split == "train" for r in given)
    assert 0.05 < m / (n + m) < 0.15
    assert said() == [
        f"no validation split is given: {m} rows of training, by a hash, become it"
    ]
    # The words of what became validation are not of training.
    assert all("<unk>" in words(found, found.validation, i) for i in range(m))


def test_a_group_stays_together_when_validation_is_made():
    given = [
        r._replace(group=f"{r.split}{i // 30}")
        for i, r in enumerate(without_validation(900))
    ]
    found = from_rows(given, "f", 4, 1)
    group = {f"row-{i + 1}": r.group for i, r in enumerate(given)}
    one, other = ({group[i] for i in s.ids} for s in (found.train, found.validation))
    assert one and other and not one & other


def test_a_text_in_two_splits_stays_in_the_later_one(said):
    given = made()
    train, test = given[0], next(r for r in given if r.split == "test")
    twin = train._replace(tokens=test.tokens, where="f, row 99", id="twin")
    plain = from_rows(given, "f", 4, 1)
    found = from_rows([*given, twin], "f", 4, 1)
    assert "twin" not in found.train.ids
    assert found.digest == plain.digest
    assert said() == [
        "1 row left out whose text is in a later split too, as f, row 99 (train) and "
        f"{test.where} (test)"
    ]


def test_splits_that_are_copies_are_refused():
    given = made()
    copies = [
        r._replace(split="train", where="f, row 9") for r in given if r.split == "test"
    ]
    rest = [r for r in given if r.split != "train"]
    with pytest.raises(ValueError, match="100% of the texts of training are in"):
        from_rows(copies + rest, "f", 4, 1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": lambda i: "one"}, r"f: all 60 rows have the label 'one'"),
        ({"label": lambda i: i}, "f: 60 classes for 48 training rows, fewer than two"),
        (
            {"label": lambda i: "rare" if i == 9 else i % 2},
            "f, row 10: label 'rare' has no row of training",
        ),
        ({"label": lambda i: None}, "f, row 1: label None; allowed: a text or"),
        ({"label": lambda i: True}, "f, row 1: label True; allowed"),
        ({"label": lambda i: 0.5}, "f, row 1: label 0.5; allowed"),
        ({"label": lambda i: " "}, "f, row 1: no label"),
        ({"label": lambda i: "x" * 201}, "f, row 1: label has 201 characters"),
        ({"label": lambda i: "a\nb"}, r"f, row 1: label 'a\\nb' holds what cannot"),
        ({"id": lambda i: "x" * 999}, "f, row 1: id has 999 characters"),
        ({"group": lambda i: 7}, "f, row 1: group 7; allowed: a text"),
        ({"split": lambda i: "unsup"}, "f, row 1: split 'unsup'; allowed: val, dev"),
        (
            {"split": lambda i: None if i == 4 else "train"},
            "f, row 5 has no split and f, row 1 has one: all or none",
        ),
        (
            {"split": lambda i: "test" if i == 4 else None},
            "f, row 1 has no split and f, row 5 has one",
        ),
        ({"split": lambda i: "train"}, r"f: no row of validation or test \(60 train"),
        (
            {"split": lambda i: "train" if i % 2 else "dev"},
            r"f: no row of test \(30 train, 30 validation, 0 test\)",
        ),
        ({"id": lambda i: "same"}, r"1 ids are in two splits, as f, row 1 \(train"),
        ({"group": lambda i: "g"}, r"1 groups are in two splits, as f, row 1 \(train"),
        ({"tokens": lambda i: ["a", 1]}, "f, row 1: tokens must be texts"),
        ({"tokens": lambda i: "abc"}, "f, row 1: tokens are one text, not a list"),
        ({"tokens": lambda i: ["a\0b", "c"]}, "f, row 1: a NUL character"),
        ({"tokens": lambda i: ["a\0b"]}, "f, row 1: a NUL character"),
        ({"tokens": lambda i: ["\ud800"]}, "f, row 1: a character is broken"),
        ({"evidence": lambda i: [1, 0]}, "f, row 1: evidence has 2 numbers for 3"),
        ({"evidence": lambda i: [1, 0, 2]}, "f, row 1: evidence must be numbers"),
        ({"evidence": lambda i: [1, 0, np.nan]}, "f, row 1: evidence must be numbers"),
        ({"evidence": lambda i: [1, 0, "1"]}, "f, row 1: evidence must be numbers"),
    ],
)
def test_wrong_rows(changes, message):
    with own_files.refused(f"^{message}"):
        from_rows(made(**changes), "f", 4, 1)


@pytest.mark.parametrize(
    "n, length, min_count, message",
    [
        (0, 4, 1, "^f: no row to learn from$"),
        (0, 0, 1, "^length is 0"),
        (0, 4, 0, "^min_count is 0"),
        (60, 4, 99, "leaves no token"),
    ],
)
def test_no_rows_and_wrong_settings(n, length, min_count, message):
    with own_files.refused(message):
        from_rows(made(n), "f", length, min_count)


def test_classes_are_sorted_or_as_given():
    assert in_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert in_order(["b", "10", "9"]) == ["10", "9", "b"]
    numbered = made(label=lambda i: 10 if i % 2 else 9)
    assert from_rows(numbered, "f", 4, 1).classes == ("9", "10")
    found = from_rows(made(label=lambda i: i % 2), "f", 4, 1, classes=("z", "a"))
    named = from_rows(made(label=lambda i: "za"[i % 2]), "f", 4, 1, classes=("z", "a"))
    assert found.classes == ("z", "a") and found.digest == named.digest
    for wrong in (2, -1, "b"):
        with own_files.refused("^f, row 1: label "):
            from_rows(made(label=lambda i, w=wrong: w), "f", 4, 1, classes=("z", "a"))


def test_arrays_are_as_good_as_lists():
    lists = made(evidence=lambda i: [0, 0.25, 1], label=lambda i: i % 2)
    arrays = [
        row._replace(
            tokens=np.array(row.tokens),
            evidence=np.float32(row.evidence),
            label=np.int64(row.label),
        )
        for row in lists
    ]
    assert from_rows(arrays, "f", 4, 1).digest == from_rows(lists, "f", 4, 1).digest


def test_what_is_lost_is_said(said):
    given = made(
        tokens=lambda i: [] if i == 7 else [f"w{i}", "x", "y", "z"],
        evidence=lambda i: None if i % 2 else [0, 0.5, 0, 1],
    )
    found = from_rows(given, "f", 2, 1)
    assert "1 texts without any token became a single <unk>" in said()
    assert "66.7% of the evidence lies behind the first 2 tokens: lost" in said()
    lengths = [n for s in splits_of(found).values() for n in s.lengths]
    assert sorted(lengths) == [1] + [2] * 59


def test_progress_is_said(monkeypatch, said):
    assert list(limits.followed(range(3), "{} rows".format)) == [0, 1, 2]
    assert said() == []
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    assert list(limits.followed("ab", "{} rows".format)) == ["a", "b"]
    assert said() == ["1 rows", "2 rows"]
