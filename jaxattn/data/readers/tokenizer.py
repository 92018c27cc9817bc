"""Tokenizers: the package's own, any function, or a file of `tokenizers`."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxattn.data.readers.evidence import Offsets
from jaxattn.data.text import token_offsets, tokenize
from jaxattn.system.errors import reason


class Tokenizer(NamedTuple):
    """How a text becomes tokens; both functions raise ValueError without the place."""

    tokens: Callable[[str], list[str]]
    offsets: Callable[[str], Offsets]
    """Where each of them begins and ends in the text, in characters."""
    file: Path | None = None
    """What it was read from, where it is not the package's own."""


OWN = Tokenizer(tokenize, token_offsets)


def tokenizer_of(name: str) -> Tokenizer:
    """The tokenizer of "module:function" or "tokenizer.json"; of "" the package's own.

    The function is given a text and returns its tokens, or (tokens, offsets), which
    character spans of evidence need. The file is one of Hugging Face's `tokenizers`.
    """
    if not name:
        return OWN
    if name.endswith(".json"):
        return _of_file(Path(name))
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"tokenizer {name!r}: allowed: module:function or a tokenizer.json"
        )
    try:
        home = importlib.import_module(module)
        call = getattr(home, function)
    except Exception as error:  # the module is the user's and may raise anything
        raise ValueError(f"tokenizer {name!r}: {reason(error, kind=True)}") from None
    if not callable(call):
        raise ValueError(f"tokenizer {name!r} is {type(call).__name__}, no function")
    file = getattr(home, "__file__", None)
    return _of_function(name, call, Path(file) if file else None)


def _of_function(name: str, call: Callable[[str], Any], file: Path | None) -> Tokenizer:
    def both(text: str) -> tuple[list[str], Any]:
        try:
            given = call(text)
        except Exception as error:  # likewise
            raise ValueError(
                f"tokenizer {name!r}: {reason(error, kind=True)}"
            ) from None
        pair = isinstance(given, tuple) and len(given) == 2
        # A tuple of two tokens has none.
        offsets = given[1] if pair and not isinstance(given[1], str) else None
        tokens = given if offsets is None else given[0]
        if isinstance(tokens, str) or not hasattr(tokens, "__iter__"):
            raise ValueError(
                f"tokenizer {name!r} gave {type(tokens).__name__}, no list of tokens"
            )
        tokens = list(tokens)
        if not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"tokenizer {name!r} gave tokens that are no texts")
        return tokens, offsets

    def offsets(text: str) -> Offsets:
        tokens, given = both(text)
        if given is None:
            raise ValueError(
                f"character spans need offsets: tokenizer {name!r} must return "
                "(tokens, offsets)"
            )
        try:
            pairs = [(int(a), int(b)) for a, b in given]
        except (TypeError, ValueError):
            pairs = [(-1, -1)]
        if len(pairs) != len(tokens) or not all(
            0 <= a <= b <= len(text) for a, b in pairs
        ):
            raise ValueError(
                f"tokenizer {name!r} gave offsets that are not a pair (start, end) "
                "within the text for each token"
            )
        return pairs

    return Tokenizer(lambda text: both(text)[0], offsets, file)


def _of_file(path: Path) -> Tokenizer:
    if not path.is_file():
        raise OSError(f"tokenizer {path} does not exist")
    try:
        import tokenizers  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"tokenizer {path} needs the package tokenizers: "
            "pip install 'jaxattn[tokenizers]'"
        ) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # it raises plain Exception
        raise ValueError(f"tokenizer {path}: {reason(error, kind=True)}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encoded(text: str) -> Any:
        return tokenizer.encode(text, add_special_tokens=False)

    return Tokenizer(
        lambda text: encoded(text).tokens, lambda text: encoded(text).offsets, path
    )
