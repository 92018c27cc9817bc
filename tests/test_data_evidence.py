import numpy as np
import own_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattn.data.readers.evidence import Alignment, to_tokens
from jaxattn.data.text import token_offsets, tokenize

TEXTS = st.text(alphabet=st.sampled_from("aB1 .,'-:)@İß’é\t"), max_size=40) | st.text(
    max_size=40
)


def no_text():
    raise ValueError("no text")


def marks(given, n, text=None, tally=None):
    def characters():
        return len(text), token_offsets(text)

    tally = Alignment() if tally is None else tally
    return to_tokens(given, n, characters if text is not None else no_text, tally, "f")


@given(TEXTS)
def test_offsets_are_of_the_tokens(text):
    offsets = token_offsets(text)
    tokens = tokenize(text)
    assert len(offsets) == len(tokens)
    before = 0
    for token, (start, end) in zip(tokens, offsets, strict=True):
        assert 0 <= start < end <= len(text)
        assert start >= before or len(text.lower()) != len(text)
        before = end
        # What stands there has the token in it, and is it unless a character of the
        # text became two.
        own = text[start:end].lower().replace("’", "'")
        # A final sigma is another letter in lower case than one within a word.
        own, token = own.replace("ς", "σ"), token.replace("ς", "σ")
        assert token in own
        assert token == own or len(text.lower()) != len(text)


@pytest.mark.parametrize(
    "text, tokens, offsets",
    [
        ("A b.", ["a", "b", "."], [(0, 1), (2, 3), (3, 4)]),
        # The first character is two in lower case, a letter and a mark over it.
        ("İİ x", ["i", "̇", "i", "̇", "x"], [(0, 1), (0, 1), (1, 2), (1, 2), (3, 4)]),
        ("don’t", ["don't"], [(0, 5)]),
        ("", [], []),
    ],
)
def test_offsets(text, tokens, offsets):
    assert tokenize(text) == tokens
    assert token_offsets(text) == offsets


@given(TEXTS, st.data())
def test_a_token_is_evidence_where_a_span_of_characters_meets_it(text, data):
    places = st.integers(0, len(text))
    ends = sorted(data.draw(st.sets(places, max_size=6)))
    spans = list(zip(ends[::2], ends[1::2], strict=False))
    tally = Alignment()
    offsets = token_offsets(text)
    written = [{"start": a, "end": b} for a, b in spans]
    found = marks(written, len(offsets), text, tally)
    inside = np.zeros(len(text) + 1, bool)
    for a, b in spans:
        inside[a:b] = True
    assert found == [float(inside[a:b].any()) for a, b in offsets]
    met = [[(s, e) for s, e in offsets if s < b and e > a] for a, b in spans]
    assert tally.spans == len(spans)
    assert tally.missed == sum(not tokens for tokens in met)
    cut = [
        any(s < a < e or s < b < e for s, e in tokens)
        for (a, b), tokens in zip(spans, met, strict=True)
    ]
    assert tally.cut == sum(cut)
    assert len(tally.sentences()) == bool(tally.missed) + bool(tally.cut)


@given(st.integers(0, 12), st.data())
def test_spans_of_tokens_in_any_form_and_order(n, data):
    ends = sorted(data.draw(st.sets(st.integers(0, n), max_size=6)))
    spans = list(zip(ends[::2], ends[1::2], strict=False))
    expected = [float(any(a <= i < b for a, b in spans)) for i in range(n)]
    mixed = data.draw(st.permutations(spans))
    dicts = [{"start_token": a, "end_token": b, "docid": "x"} for a, b in mixed]
    for form in (mixed, [list(s) for s in mixed], dicts, [dicts], [[d] for d in dicts]):
        assert marks(form, n) == expected


@given(st.lists(st.floats(0, 1) | st.booleans() | st.integers(0, 1), min_size=1))
def test_a_number_per_token_is_kept_as_it_is(numbers):
    assert marks(numbers, len(numbers)) == list(map(float, numbers))
    with pytest.raises(ValueError, match=rf"{len(numbers)} numbers for"):
        marks(numbers, len(numbers) + 1)


def test_an_empty_list_marks_nothing():
    assert marks([], 3) == [0, 0, 0]
    assert marks([[]], 3) == [0, 0, 0]
    assert marks([], 0) == []


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([0, 1, 2, 0], "evidence 2: allowed are numbers from 0 to 1"),
        ([0, -0.5, 0, 0], "evidence -0.5"),
        ([0, float("nan"), 0, 0], "evidence nan"),
        ([1, 0], "2 numbers for 4 tokens"),
        ([1] * 9, "9 numbers for 4 tokens"),
        ([[0, 5]], "span 0 to 5 lies outside the 4 tokens"),
        ([[-1, 2]], "span -1 to 2 lies outside"),
        ([[2, 2]], "span 2 to 2 holds nothing: the end is exclusive"),
        ([[3, 1]], "span 3 to 1 holds nothing"),
        ([[0, 2], [1, 3]], "spans 0 to 2 and 1 to 3 overlap"),
        ([[0, 2], [0, 2]], "spans 0 to 2 and 0 to 2 overlap"),
        ([[0, 1.5]], "begins or ends at 1.5, no whole number"),
        ([[0, True]], "begins or ends at True"),
        ([[0, "2"]], "begins or ends at '2'"),
        ([[0, float("inf")]], "begins or ends at inf"),
        ([[0, 1, 0, 0]], "evidence holds 0"),
        ([0, None, 1, 0], "evidence holds"),
        (["good"], "evidence holds 'good'"),
        ("good", "evidence is 'good'"),
        ("good" * 99, "evidence is 'good.*[.][.][.]; allowed"),
        (1, "evidence is 1; allowed: a number 0 to 1 per token"),
        ([{"from": 0, "to": 1}], "a span with from, to; allowed: start_token"),
        ([{}], "a span with nothing"),
        ([{"start": 0, "end": 1}], "no text"),
        ([{"start": 0, "end": 1}, [0, 1]], "mixes spans of tokens and of characters"),
    ],
)
def test_wrong_evidence(wrong, message):
    with own_files.refused(message) as caught:
        marks(wrong, 4)
    assert len(str(caught.value)) < 250


def test_wrong_spans_of_characters():
    with own_files.refused("span 0 to 99 lies outside the 9 characters"):
        marks([{"start_char": 0, "end_char": 99}], 2, "good film")


def test_spans_that_do_not_fit_are_told_with_the_first_place():
    tally = Alignment()
    given = [{"start": 0, "end": 2}, {"start": 4, "end": 5}, {"start": 5, "end": 9}]
    assert marks(given, 2, "good film", tally) == [1, 1]
    assert tally.sentences() == [
        "1 of 3 character spans cut through a token, all of which counts (first: f, "
        "characters 0 to 2)",
        "1 of 3 character spans touch no token and mark nothing (first: f, characters "
        "4 to 5)",
    ]
