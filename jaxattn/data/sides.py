"""The fixed split of the embedded snippets, and of rows that come without one."""

import hashlib

_SALT = "jaxattn split 1: "
SIDES = ("train", "validation", "test")


def document_of(snippet_id: str) -> str:
    """What is never divided by the split: "amazon-3" for "amazon-3_7", else the id."""
    return snippet_id.partition("_")[0]


def side_of(snippet_id: str) -> str:
    """The split of a snippet, "train", "validation" or "test" (80 / 10 / 10).

    A fixed function of the document's id alone, the same for every task. It never
    changes: results of different versions stay comparable.
    """
    return side_by(document_of(snippet_id))


def side_by(key: str) -> str:
    """The split that a key falls in: "train", "validation" or "test", 80 / 10 / 10."""
    raw = hashlib.sha256((_SALT + key).encode()).digest()
    return SIDES[max(int.from_bytes(raw[:8], "big") % 10 - 7, 0)]
