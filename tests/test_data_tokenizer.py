import json

import own_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattn.data.readers.tokenizer import OWN, tokenizer_of

MODULE = """
import re
def words(text):
    return text.split()
def with_offsets(text):
    found = list(re.finditer(r"\\S+", text))
    return [m.group() for m in found], [m.span() for m in found]
def two(text):
    return ("a", "b")
def joined(text):
    return text
def numbers(text):
    return [1, 2]
def fails(text):
    raise KeyError("oh\\nno")
def short(text):
    return ["a", "b"], [(0, 1)]
def outside(text):
    return ["a"], [(0, 10**6)]
def backwards(text):
    return ["a"], [(2, 1)]
def nothing(text):
    return None
value = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"tokens_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_of_tokens(module):
    found = tokenizer_of(f"{module}:words")
    assert found.tokens("A  b.") == ["A", "b."]
    assert found.file is not None and found.file.name == f"{module}.py"
    with pytest.raises(ValueError, match="character spans need offsets.*must return"):
        found.offsets("A  b.")


def test_a_function_of_tokens_and_offsets(module):
    found = tokenizer_of(f"{module}:with_offsets")
    assert found.tokens("A  b.") == ["A", "b."]
    assert found.offsets("A  b.") == [(0, 1), (3, 5)]
    # A tuple of two tokens is not tokens and offsets.
    assert tokenizer_of(f"{module}:two").tokens("") == ["a", "b"]


@pytest.mark.parametrize(
    "function, message",
    [
        ("joined", "gave str, no list of tokens"),
        ("nothing", "gave NoneType, no list of tokens"),
        ("numbers", "gave tokens that are no texts"),
        ("fails", "KeyError: 'oh.*no'"),
    ],
)
def test_a_function_that_gives_no_tokens(module, function, message):
    with own_files.refused(message):
        tokenizer_of(f"{module}:{function}").tokens("some text")


@pytest.mark.parametrize("function", ["short", "outside", "backwards"])
def test_a_function_that_gives_no_offsets(module, function):
    with own_files.refused("gave offsets that are not a pair"):
        tokenizer_of(f"{module}:{function}").offsets("some text")


@pytest.mark.parametrize(
    "name, message",
    [
        ("words", "allowed: module:function or a tokenizer.json"),
        (":words", "allowed: module:function"),
        ("json:", "allowed: module:function"),
        ("no_such_module_at_all:words", "ModuleNotFoundError: No module named"),
        ("json:no_such_function", "AttributeError: module 'json'"),
        ("json:__name__", "is str, no function"),
        ("nowhere/tokenizer.json", "does not exist"),
    ],
)
def test_names_of_no_tokenizer(name, message):
    with own_files.refused(message, (ValueError, OSError)):
        tokenizer_of(name)


def test_no_name_is_the_tokenizer_of_the_package():
    assert tokenizer_of("") is OWN
    assert OWN.tokens("A b.") == ["a", "b", "."]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of Hugging Face's tokenizers: lower case, words in pieces, truncated."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "good": 1, "film": 2, "##s": 3, "!": 4, "[CLS]": 5}
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A", special_tokens=[("[CLS]", 5)]
    )
    made.enable_truncation(2)
    made.enable_padding(length=9)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def test_a_file_of_tokenizers(file):
    found = tokenizer_of(str(file))
    assert found.tokens("Good FILMS!") == ["good", "film", "##s", "!"]
    assert found.offsets("Good FILMS!") == [(0, 4), (5, 9), (9, 10), (10, 11)]
    assert found.file == file
    assert found.tokens("") == [] and list(found.offsets("")) == []


@given(st.text(max_size=20))
def test_offsets_of_a_file_lie_in_the_text(file, text):
    found = tokenizer_of(str(file))
    offsets = found.offsets(text)
    assert len(offsets) == len(found.tokens(text))
    assert all(0 <= a <= b <= len(text) for a, b in offsets)


def test_a_file_that_is_no_tokenizer(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": 1}))
    with own_files.refused("tokenizer.json: Exception"):
        tokenizer_of(str(path))


def test_what_is_missing_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"pip install 'jaxattn\[tokenizers\]'"):
        tokenizer_of(str(path))
