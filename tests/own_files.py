"""Small files of one's own data, and how tests read them."""

import contextlib
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from jaxattn.data.readers import load_own
from jaxattn.data.readers.options import Options
from jaxattn.data.splits import SPLITS

WORDS = "a fine dull slow bright plot film cast scene end".split()


def records(n: int = 60) -> list[dict]:
    """`n` different texts of two classes, with spans of characters as evidence."""
    made = []
    for i in range(n):
        good = i % 2
        text = f"{'Fine' if good else 'Dull'} {WORDS[i % 10]}, number{i}."
        made.append(
            {
                "text": text,
                "label": "pos" if good else "neg",
                "evidence": [{"start": 0, "end": 4}],
                "id": f"doc_{i}",
            }
        )
    return made


def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(source, length: int = 8, min_count: int = 1, **options):
    """The data set of a source, read with these options."""
    return load_own(str(source), Options(length, min_count, **options))


def splits_of(dataset) -> dict:
    return {split: getattr(dataset, split) for split in SPLITS}


def words(dataset, split, row: int) -> list[str]:
    """The tokens of one example."""
    ids = split.inputs[row, : split.lengths[row]]
    return [dataset.vocabulary[i] for i in ids]


@contextlib.contextmanager
def refused(match: str, kind: Any = ValueError):
    """What is raised within is one line that matches."""
    with pytest.raises(kind, match=match) as error:
        yield error
    assert "\n" not in str(error.value)


def same(one, other) -> None:
    """Whether two data sets are equal; says where not."""
    assert one.vocabulary == other.vocabulary and one.classes == other.classes
    for split in SPLITS:
        a, b = getattr(one, split), getattr(other, split)
        for name in ("inputs", "lengths", "labels", "ids", "evidence"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert one.digest == other.digest
