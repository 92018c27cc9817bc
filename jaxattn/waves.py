"""Finished waves on disk: a run that is killed starts again behind the last of them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxattn.files import replace_file
from jaxattn.sweep import Outcome


def keep(folder: Path, outcome: Outcome) -> None:
    """Writes a finished wave whole or not at all, with a digest over all of it."""
    method, seed = outcome.cells[0]
    arrays: dict[str, Any] = {
        "methods": np.array([m for m, _ in outcome.cells]),
        "seeds": np.array([s for _, s in outcome.cells]),
        "alive": outcome.alive,
        "class_means": outcome.class_means,
    }
    arrays |= {f"example/{k}": v for k, v in outcome.examples.items()}
    arrays |= {f"curve/{k}": v for k, v in outcome.curves.items()}
    arrays |= {f"measured/{k}": v for k, v in outcome.measured.items()}
    arrays["digest"] = np.array(_digest(arrays))
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / f"{method}-{seed}.npz") as file:
        np.savez(file, **arrays)


def finished(
    folder: Path, say: Callable[[str], None], keep_damaged: bool = False
) -> list[Outcome]:
    """The finished waves of a program; a damaged one is named and run again."""
    outcomes = []
    for path in sorted(folder.glob("*.npz")):
        try:
            # numpy leaves a file open that is no archive.
            with path.open("rb") as file, np.load(file) as stored:
                found = {name: stored[name] for name in stored.files}
            if str(found.pop("digest")) != _digest(found):
                raise ValueError("it is not what was saved")
            outcomes.append(
                Outcome(
                    cells=list(
                        zip(
                            map(str, found["methods"]),
                            map(int, found["seeds"]),
                            strict=True,
                        )
                    ),
                    alive=found["alive"],
                    examples=_under("example/", found),
                    class_means=found["class_means"],
                    curves=_under("curve/", found),
                    measured=_under("measured/", found),
                )
            )
        # A damaged archive makes zipfile raise nearly anything.
        except Exception as error:
            reason = " ".join(str(error).split())
            say(f"{path} is damaged ({reason}); its cells are run again")
            if not keep_damaged:
                path.unlink(missing_ok=True)
    return outcomes


def _digest(arrays: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {value.dtype.str} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
