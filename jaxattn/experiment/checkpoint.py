"""Checkpoints of a wave under way: Orbax's arrays, with sums that tell damage.

DIRECTORY/STEP/state        the arrays, as Orbax writes them
               meta.json    what the arrays are, and what the caller keeps with them
               SHA256SUMS   of every other file, as `sha256sum -c` reads them

A step is written as `STEP.unfinished`, whose sums come last: with them it is complete.
Orbax notices no flipped byte, hence the sums; what they refuse never reaches Orbax.
"""

import contextlib
import gc
import hashlib
import inspect
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxattn.system import processes
from jaxattn.system.errors import reason
from jaxattn.system.files import write_text

KEPT_STEPS = 2
SUMS = "SHA256SUMS"
logger = logging.getLogger("jaxattn")


def save(directory: str | os.PathLike, step: int, state: Any, meta: dict) -> None:
    """Writes `state` (a tree of jax arrays) and `meta` (JSON) as the newest step.

    Returns when all is on disk. Once the step is complete, later ones are removed,
    which a run that went back to an older checkpoint has left, and all but the newest
    two. Where there are several processes all of them call it, with leaves that are
    sharded along their first axis, on one file system.

    Raises:
      OSError: if it cannot be written; the steps saved before stay as they were.
    """
    root = Path(directory).absolute()
    unfinished = root / f"{step}.unfinished"
    first = processes.first()
    try:
        if first:
            root.mkdir(parents=True, exist_ok=True)
            _tidy(root)
            unfinished.mkdir()
        processes.wait("checkpoint begins")
        with _silence(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            orbax.save(unfinished / "state", args=ocp.args.StandardSave(state))
        if first:
            record = {"step": step, "leaves": _describe(state), "meta": meta}
            write_text(unfinished / "meta.json", json.dumps(record))
            lines = [f"{digest}  {n}\n" for n, digest in _sums(unfinished).items()]
            write_text(unfinished / SUMS, "".join(lines))
            _complete(unfinished)
    # Orbax and tensorstore raise anything.
    except Exception as error:
        if first:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise OSError(
            f"cannot write checkpoint {step} in {directory}: {_brief(error)}; earlier "
            "checkpoints are unharmed"
        ) from error


def restore(
    directory: str | os.PathLike, target: Callable[[dict], Any]
) -> tuple[int, Any, dict] | None:
    """Newest good step as (step, state, meta), or None where nothing was saved.

    `target` makes of `meta` a tree of numpy arrays, whose structure, dtypes and shapes
    the state has: it comes back as numpy arrays, bit for bit as saved. A damaged step
    is named in the log and the one before it is used.

    Raises:
      ValueError: if the saved state does not fit `target`, or every step is damaged.
    """
    root = Path(directory).absolute()
    if not root.is_dir():
        return None
    if processes.first():
        _tidy(root)
    processes.wait("checkpoint is read")
    steps = _steps(root)
    for step in reversed(steps):
        damage = _damage(root / str(step))
        record = {} if damage else _record(root / str(step))
        if not damage and record["step"] != step:
            damage = f"it was saved as step {record['step']}"
        if not damage:
            return step, _read(root / str(step), record, target), record["meta"]
        logger.info(
            "checkpoint %d in %s is damaged and skipped: %s", step, directory, damage
        )
    if not steps:
        return None
    raise ValueError(
        f"no usable checkpoint in {directory}: all of {steps} are damaged; "
        "delete this directory to start again"
    )


def _steps(root: Path) -> list[int]:
    """The steps in ascending order, damaged ones included."""
    names = [p.name for p in root.iterdir() if p.is_dir()]
    return sorted(int(n) for n in names if n.isdecimal() and n == str(int(n)))


def _tidy(root: Path) -> None:
    """Completes or removes what a killed save has left, if that is allowed."""
    with contextlib.suppress(OSError):
        for unfinished in root.glob("*.unfinished"):
            if (unfinished / SUMS).exists():
                _complete(unfinished)
            else:
                shutil.rmtree(unfinished)


def _complete(unfinished: Path) -> None:
    """Puts a step with all its files in its place, and removes those it replaces."""
    root, this = unfinished.parent, int(unfinished.stem)
    earlier = [step for step in _steps(root) if step < this]
    for step in set(_steps(root)) - set(earlier[1 - KEPT_STEPS :]):
        shutil.rmtree(root / str(step))
    unfinished.rename(root / str(this))


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != SUMS
    }


def _damage(folder: Path) -> str:
    """In a few words what is wrong with the files of a step, if anything."""
    try:
        lines = (folder / SUMS).read_bytes().decode(errors="replace").splitlines()
        there = _sums(folder)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    saved = {name: digest for digest, _, name in (x.partition("  ") for x in lines)}
    wrong = [n for n in [*saved, *there] if saved.get(n) != there.get(n)]
    return f"{wrong[0]} is not what was saved" if wrong else ""


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    if path.exists():
        return json.loads(path.read_text())
    # As the first release kept it.
    return json.loads(json.loads((folder / "meta" / "metadata").read_text())["record"])


def _read(folder: Path, record: dict, target: Callable[[dict], Any]) -> Any:
    wanted = target(record["meta"])
    # Orbax casts another dtype silently and does not name the leaf of another shape.
    saved, here = record["leaves"], _describe(wanted)
    for name in [*here, *saved]:
        if saved.get(name) != here.get(name):
            was, now = (
                "{0[0]}{0[1]}".format(leaves[name]) if name in leaves else "nothing"
                for leaves in (saved, here)
            )
            raise ValueError(
                f"checkpoint {folder.name} in {folder.parent} does not fit this run: "
                f"state{name} is {was} there, {now} here; use another directory"
            )
    with _silence(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
        return orbax.restore(
            folder / "state", args=ocp.args.StandardRestore(wanted, strict=True)
        )


def _describe(tree: Any) -> dict[str, list]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(k): [str(x.dtype), list(x.shape)] for k, x in leaves}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps Orbax from telling over pages what the error that it raises tells.

    It also abandons asyncio tasks and threads that complain afterwards: hence the
    collection within the silence, and three filters that stay once a call has failed.
    """
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [log.level for log in logs], sys.unraisablehook
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)

    def report(event: Any) -> None:
        late = str(event.exc_value) == "Event loop is closed"
        if not late and not inspect.iscoroutine(event.object):
            hook(event)

    sys.unraisablehook = report
    try:
        yield
        sys.unraisablehook = hook
    except Exception:
        logging.getLogger("asyncio").addFilter(lambda r: "orbax" not in r.getMessage())
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        gc.collect()
        raise
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _brief(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))  # tensorstore
    return os.strerror(int(code[1])) if code else reason(error, most=100)
