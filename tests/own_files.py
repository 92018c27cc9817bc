"""Small files of one's own data, good and bad."""

import json
import pathlib

WORDS = "a fine dull slow bright plot film cast scene end".split()


def records(n: int = 60) -> list[dict]:
    """`n` different texts of two classes, with spans of characters as evidence."""
    found = []
    for i in range(n):
        good = i % 2
        text = f"{'Fine' if good else 'Dull'} {WORDS[i % 10]}, number{i}."
        found.append(
            {
                "text": text,
                "label": "pos" if good else "neg",
                "evidence": [{"start": 0, "end": 4}],
                "id": f"doc_{i}",
            }
        )
    return found


def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
