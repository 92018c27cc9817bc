"""What is to be predicted: texts of the command line, a file, or standard input."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.trained import TrainedModel


class Example(NamedTuple):
    """One example, ready for a model."""

    where: str
    """For messages: `text 2`, or a file and its line."""
    text: str
    """Empty where inputs are numbers."""
    inputs: np.ndarray
    """Token ids [T], or numbers [T] or [T, D]."""
    length: int
    names: tuple[str, ...]
    """Of the positions that are there."""
    unknown: tuple[str, ...]
    """Words that the model has no token for."""
    cut: int
    """Tokens that it does not read."""


def from_texts(texts: tuple[str, ...], model: TrainedModel) -> list[Example]:
    """Raises ValueError for a text that is empty or no text."""
    named = {f"text {i}": text for i, text in enumerate(texts, 1)}
    return _of_texts(named, model)


def from_file(path: str, model: TrainedModel) -> list[Example]:
    """Examples of a file, or of standard input where `path` is `-`.

    A .jsonl file has an object a line, with `text`, or with `inputs` where those are
    numbers; any other file has a text a line. Standard input may be either.

    Raises: ValueError or OSError, one line, for what cannot be read or is no example.
    """
    name = "standard input" if path == "-" else path
    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: not a text in UTF-8") from None
    if not content.strip():
        raise ValueError(f"{name} is empty")
    # Not splitlines: a text may hold any of the other ends that it knows.
    lines = content.replace("\r\n", "\n").rstrip("\n").split("\n")
    named = {f"{name}, line {i}": line for i, line in enumerate(lines, 1)}
    if path.endswith(".jsonl") or path == "-" and content.lstrip()[0] == "{":
        wanted = "text" if model.vocabulary else "inputs"
        fields = {where: _field(line, where, wanted) for where, line in named.items()}
        if wanted == "inputs":
            return [_of_numbers(x, where, model) for where, x in fields.items()]
        return _of_texts(fields, model)
    return _of_texts(named, model)


def _field(line: str, where: str, wanted: str) -> Any:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: no JSON object") from None
    if not isinstance(found, dict) or wanted not in found:
        raise ValueError(f"{where}: expected an object with {wanted!r}")
    return found[wanted]


def _of_texts(named: dict[str, Any], model: TrainedModel) -> list[Example]:
    documents = []
    for where, text in named.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}: 'text' is no text")
        if "\0" in text:
            raise ValueError(f"{where}: it holds a NUL character, so it is no text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: not a text in UTF-8") from None
        documents.append(model.words(text))
        if not documents[-1]:
            raise ValueError(f"{where}: the text is empty")
    known, most = set(model.vocabulary), model.inputs.length
    tokens, lengths = model.encode(list(named.values()))
    examples = []
    for i, (where, text) in enumerate(named.items()):
        read, n = documents[i][:most], int(lengths[i])
        unknown = tuple(dict.fromkeys(word for word in read if word not in known))
        cut = len(documents[i]) - n
        examples.append(Example(where, text, tokens[i], n, tuple(read), unknown, cut))
    return examples


def _of_numbers(given: Any, where: str, model: TrainedModel) -> Example:
    inputs = model.inputs
    try:
        with np.errstate(over="ignore"):  # which leaves infinity, told below
            array = np.array(given, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'inputs' are no array of numbers") from None
    more = () if inputs.kind == "scalars" else (inputs.size,)
    wanted = f"[{', '.join(map(str, (inputs.length, *more)))}]"
    if array.ndim != 1 + len(more) or array.shape[1:] != more or not len(array):
        raise ValueError(
            f"{where}: 'inputs' have shape {list(array.shape)}, expected {wanted}"
        )
    n = len(array)
    if n > inputs.length or inputs.fixed and n < inputs.length:
        raise ValueError(
            f"{where}: 'inputs' have {n} positions, the model has {inputs.length}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: 'inputs' are not all finite")
    padded = np.zeros((inputs.length, *more), np.float32)
    padded[:n] = array
    names = tuple(f"x{i}" for i in range(n))
    return Example(where, "", padded, n, names, (), 0)
