import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattn.data.text import (
    PUNCTUATION,
    SPECIAL,
    WORD,
    build_vocabulary,
    encode,
    kinds,
    lexicon_ratings,
    read_lexicon,
    tokenize,
)

# Plain letters find word rules, the rest finds the corners.
TEXTS = st.text(alphabet=st.sampled_from("aB1d 3.,'_-:;=()@#/<>pé\t’!İ")) | st.text()
DOCUMENTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), max_size=8)


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("Don't STOP.", ["don't", "stop", "."]),
        ("don’t", ["don't"]),
        ("''Conan'' and", ["'", "'", "conan", "'", "'", "and"]),
        ("a well-made 3.5 film!!", "a well - made 3.5 film ! !".split()),
        ("$1,000 ... 1960s", "$ 1,000 . . . 1960s".split()),
        ("Cool :-) and :D, <3 xd", "cool :-) and :d , <3 xd".split()),
        ("at 10:30 (p:a)", "at 10 : 30 ( p : a )".split()),
        (
            "@Anonymous see http://url_removed.",
            "@anonymous see http://url_removed .".split(),
        ),
        ("(www.nomadness.net),", "( www.nomadness.net ) ,".split()),
        ("me@home.com #FF", "me @ home . com # ff".split()),
        ("snake_case é–½", "snake _ case é – ½".split()),
        ("  \t\n", []),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


@given(TEXTS)
def test_nothing_but_space_is_lost_and_all_is_lower_case(text):
    joined = "".join(tokenize(text))
    assert joined == "".join(text.lower().replace("’", "'").split())
    assert joined == joined.lower()


@given(TEXTS)
def test_tokenizing_tokens_changes_nothing(text):
    tokens = tokenize(text)
    assert tokenize(" ".join(tokens)) == tokens
    assert all(token and not any(c.isspace() for c in token) for token in tokens)


def test_vocabulary_order_and_min_count():
    documents = [["b", "a", "c"], ["a", "b", "d"], ["c"]]
    assert build_vocabulary(documents) == ("<pad>", "<unk>", "a", "b", "c")
    assert build_vocabulary(documents, 1)[-1] == "d"
    with pytest.raises(ValueError, match="met 2 times"):
        build_vocabulary(documents, 3)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", None])
def test_bad_min_count_and_length(bad):
    with pytest.raises(ValueError, match="1 to 4096"):
        encode([], ("<pad>", "<unk>"), 4097)
    with pytest.raises(ValueError, match=r"^min_count is .*whole number"):
        build_vocabulary([["a"]], bad)
    with pytest.raises(ValueError, match=r"^length is .*1 to 4096$"):
        encode([["a"]], ("<pad>", "<unk>"), bad)


@given(DOCUMENTS, st.permutations("abcdefg"), st.integers(1, 3))
def test_vocabulary_does_not_depend_on_order(documents, shuffled, min_count):
    position = {token: i for i, token in enumerate(shuffled)}
    other = [sorted(d, key=position.__getitem__) for d in documents][::-1]
    try:
        expected = build_vocabulary(documents, min_count)
    except ValueError:
        with pytest.raises(ValueError):
            build_vocabulary(other, min_count)
        return
    assert build_vocabulary(other, min_count) == expected
    flat = [token for document in documents for token in document]
    for token in "abcdefg":
        assert (token in expected) == (flat.count(token) >= min_count)


@given(DOCUMENTS, st.integers(1, 6))
def test_encoding(documents, length):
    vocabulary = ("<pad>", "<unk>", "a", "b", "c")
    tokens, lengths, cut = encode(documents, vocabulary, length)
    assert tokens.shape == (len(documents), length)
    assert lengths.shape == (len(documents),)
    for row, n, document in zip(tokens, lengths, documents, strict=True):
        assert n == min(max(len(document), 1), length)
        assert (row[:n] > 0).all() and (row[n:] == 0).all()
        decoded = [vocabulary[i] for i in row[:n]]
        known = [t if t in vocabulary else "<unk>" for t in document[:length]]
        assert decoded == (known or ["<unk>"])
    assert cut.examples == sum(len(d) > length for d in documents)
    assert cut.tokens + sum(min(len(d), length) for d in documents) == sum(
        map(len, documents)
    )


@pytest.mark.parametrize("size, dtype", [(256, "uint8"), (257, "uint16")])
def test_token_type_holds_the_vocabulary(size, dtype):
    vocabulary = ("<pad>", "<unk>", *(f"w{i}" for i in range(size - 2)))
    tokens, _, _ = encode([[vocabulary[-1]]], vocabulary, 2)
    assert tokens.dtype == dtype
    assert tokens.tolist() == [[size - 1, 0]]


def test_kinds():
    vocabulary = ("<pad>", "<unk>", "good", "a", "7", ".", "'", ":)", "_", "–")
    assert (SPECIAL, WORD, PUNCTUATION) == (0, 1, 2)
    assert kinds(vocabulary).tolist() == [0, 0, 1, 1, 1, 2, 2, 1, 2, 2]
    assert kinds(vocabulary).dtype == np.uint8


def test_lexicon_values():
    found = lexicon_ratings(("<pad>", "<unk>", "great", "Horrible", "the", ":)", "lol"))
    assert found.dtype == np.float32
    # "lol" stands in the source twice, as 2.9 and as 1.8.
    expected = np.float32([np.nan, np.nan, 3.1, -2.5, np.nan, 2.0, 2.35])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lexicon_as_a_whole():
    lexicon = read_lexicon()
    # 7,520 entries, of which 26 become one with another by lower-casing.
    assert len(lexicon) == 7_494
    assert all(token == token.lower() for token in lexicon)
    assert all(-4 <= rating <= 4 for rating in lexicon.values())
