"""Checkpoints: Orbax, with digests of our own because Orbax notices no flipped byte.

A step is a folder `DIRECTORY/STEP`. Its JSON part holds the digest of the arrays, which
decides. `STEP/SHA256SUMS` holds those of the files (`sha256sum -c` reads it): it names
the damaged file, and what it finds never reaches Orbax.
A killed save may leave `STEP.orbax-checkpoint-tmp` and `STEP.replaced` (see `save`).

Digests of trees of arrays, also where no process sees all of a tree.
"""

import contextlib
import functools
import gc
import hashlib
import inspect
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxattn.system import processes


def describe(tree: Any) -> dict[str, list]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): [str(leaf.dtype), list(leaf.shape)]
        for path, leaf in leaves
    }


def digest_of_tree(tree: Any) -> str:
    """sha256 over path, dtype, shape and bytes of every leaf."""
    digest = hashlib.sha256(json.dumps(describe(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def digest_of_rows(tree: Any) -> str:
    """sha256 over the digests of the rows, each over its part of every leaf.

    Each process digests the rows that it has, and they tell each other.
    """
    leaves = jax.tree.leaves(tree)
    rows: dict[int, Any] = {}
    for leaf in leaves:
        for shard in getattr(leaf, "addressable_shards", None) or [None]:
            first = 0 if shard is None else shard.index[0].start or 0
            part = np.asarray(leaf if shard is None else shard.data)
            for i, row in enumerate(part):
                rows.setdefault(first + i, hashlib.sha256()).update(row.tobytes())
    digests = np.zeros((leaves[0].shape[0], 32))
    for i, row in rows.items():
        digests[i] = np.frombuffer(row.digest(), np.uint8)
    # What a process does not have is 0 there.
    told = (
        processes.most(*digests.ravel())
        if len(rows) < len(digests)
        else digests.ravel()
    )
    text = json.dumps(describe(tree)).encode() + np.array(told, np.uint8).tobytes()
    return sha256(text)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


KEPT_STEPS = 2

REPLACED = ".replaced"

SUMS = "SHA256SUMS"


def save(directory: str | os.PathLike, step: int, state: Any, meta: dict) -> None:
    """Write `state` (a tree of jax arrays) and `meta` (JSON) as the newest step.

    Returns when all is on disk. Steps at or above `step`, which a run that went back
    to an older checkpoint has left, are removed once the new one is complete; after
    that the newest two are kept. Where there are several processes all of them call it,
    with leaves that are sharded along their first axis, on one file system.

    Raises:
      OSError: if it cannot be written; the steps saved before stay as they were.
    """
    root = pathlib.Path(directory).absolute()
    alone = processes.first()
    aside: list[pathlib.Path] = []
    try:
        if alone:
            root.mkdir(parents=True, exist_ok=True)
            _tidy(root)
            aside = [root / str(s) for s in _steps(root) if s >= step]
            # Moved, not removed: Orbax keeps what is there and drops the new state.
            for old in aside:
                old.rename(f"{old}{REPLACED}")
        processes.wait("checkpoint begins")
        try:
            _write(root, step, state, _seal(step, state, meta))
            if alone:
                _write_sums(root / str(step))
        except BaseException:
            if alone:
                shutil.rmtree(root / str(step), ignore_errors=True)
                _tidy(root)
            raise
        for old in aside:
            shutil.rmtree(f"{old}{REPLACED}")
    except OSError as error:
        raise OSError(
            f"cannot write checkpoint {step} in {directory}: "
            f"{error.strerror or _brief(error)}; earlier checkpoints are unharmed"
        ) from error


def restore(
    directory: str | os.PathLike,
    target: Any,
    say: Callable[[str], None] | None = None,
) -> tuple[int, Any, dict] | None:
    """Newest good step as (step, state, meta), or None where nothing was saved.

    `target` is a tree of `jax.ShapeDtypeStruct` (or arrays), or makes one of `meta`:
    the state comes back with its structure, dtypes, shapes and shardings, bit for bit
    as saved, on any number of devices; numpy where it is numpy there. A damaged step is
    named to `say` and the one before it is used.

    Raises:
      ValueError: if the saved state does not fit `target`, or every step is damaged.
    """
    root = pathlib.Path(directory).absolute()
    if not root.is_dir():
        return None
    if processes.first():
        _tidy(root)
    processes.wait("checkpoint is read")
    steps = _steps(root)
    for step in reversed(steps):
        found = _read(root / str(step), step, target)
        if not isinstance(found, str):
            return step, *found
        if say is not None:
            say(f"checkpoint {step} in {directory} is damaged and skipped: {found}")
    if not steps:
        return None
    raise ValueError(
        f"no usable checkpoint in {directory}: all of {steps} are damaged; "
        "delete this directory to start again"
    )


def _steps(root: pathlib.Path) -> list[int]:
    """The steps in ascending order, damaged ones included."""
    names = [p.name for p in root.iterdir() if p.is_dir()]
    return sorted(int(n) for n in names if n.isdecimal() and n == str(int(n)))


def _tidy(root: pathlib.Path) -> None:
    """Undo what a killed save has left; do nothing where that is not allowed."""
    with contextlib.suppress(OSError):
        for old in root.glob(f"*{REPLACED}"):
            step = old.with_suffix("")
            if step.exists():
                shutil.rmtree(old)
            else:
                old.rename(step)
        for unfinished in root.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished)


def _write(root: pathlib.Path, step: int, state: Any, sealed: dict) -> None:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.LatestN(KEPT_STEPS),
        enable_async_checkpointing=False,
        lightweight_initialize=True,  # else damage in an older step fails this save
    )
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(sealed)
    )

    def write() -> bool:
        with ocp.CheckpointManager(root, options=options) as manager:
            return manager.save(step, args=items, force=True)

    done, problem = _attempt(write)
    if not done:
        raise OSError(problem or "Orbax refused this step")


def _read(folder: pathlib.Path, step: int, target: Any) -> tuple[Any, dict] | str:
    """State and meta, or in a few words what is wrong with this step."""
    problem = _check_sums(folder)
    if problem:
        return problem
    sealed, problem = _read_item(folder, "meta", ocp.args.JsonRestore())
    try:
        if problem or sha256(sealed["record"].encode()) != sealed["sha256"]:
            return problem or "its description is not what was saved"
    except (AttributeError, KeyError, TypeError):
        return "its description is not what was saved"
    record = json.loads(sealed["record"])
    if record["step"] != step:
        return f"it was saved as step {record['step']}"
    target = target(record["meta"]) if callable(target) else target
    _compare(record["leaves"], describe(target), folder)
    structs = jax.tree.map(_struct, target)
    state, problem = _read_item(folder, "state", ocp.args.StandardRestore(structs))
    digest = digest_of_rows if record.get("by_row") else digest_of_tree
    if problem or digest(state) != record["digest"]:
        return problem or "its arrays are not what was saved"
    return state, record["meta"]


def _read_item(folder: pathlib.Path, name: str, how: Any) -> tuple[Any, str]:
    handler = ocp.CompositeCheckpointHandler(
        state=ocp.StandardCheckpointHandler(), meta=ocp.JsonCheckpointHandler()
    )

    def read() -> Any:
        with ocp.Checkpointer(handler) as reader:
            return reader.restore(folder, ocp.args.Composite(**{name: how}))[name]

    item, problem = _attempt(read)
    return item, problem and f"its {name} cannot be read ({problem})"


def _write_sums(folder: pathlib.Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    lines = [f"{sha256(p.read_bytes())}  {p.relative_to(folder)}\n" for p in files]
    unfinished = folder / f"{SUMS}.tmp"
    unfinished.write_text("".join(lines))
    unfinished.replace(folder / SUMS)


def _check_sums(folder: pathlib.Path) -> str:
    """In a few words what is wrong with the files of this step, if anything."""
    sums = folder / SUMS
    if not sums.is_file():  # a save killed at its very end: the arrays' digest decides
        return ""
    for line in sums.read_bytes().decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        try:
            content = (folder / name).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or _brief(error)
            return f"{name}: {reason}"
        if sha256(content) != digest:
            return f"{name} is not what was saved"
    return ""


def _attempt(action: Callable[[], Any]) -> tuple[Any, str]:
    """Result of a call of Orbax, and in one line what went wrong, if anything.

    Orbax and tensorstore raise anything, log it over pages, and abandon asyncio tasks
    and threads that complain afterwards: hence the silence, a collection within it,
    and three filters that stay once a call has failed.
    """
    problem = ""
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_report, hook)
    try:
        return action(), problem
    except Exception as error:
        problem = _brief(error)
    finally:
        if problem:
            logging.getLogger("asyncio").addFilter(_not_from_orbax)
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")
            gc.collect()
        else:
            sys.unraisablehook = hook
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
    return None, problem


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()


def _report(report: Callable[[Any], Any], event: Any) -> None:
    """Pass on an exception that nobody can catch, unless it comes from dead tasks."""
    late = str(event.exc_value) == "Event loop is closed"
    if not late and not inspect.iscoroutine(event.object):
        report(event)


def _seal(step: int, state: Any, meta: dict) -> dict[str, str]:
    """The JSON part: a text that describes the state, and the digest of that text."""
    # No process sees all of a state that is spread over several.
    by_row = not all(
        getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(state)
    )
    record = {
        "step": step,
        "leaves": describe(state),
        "digest": digest_of_rows(state) if by_row else digest_of_tree(state),
        "by_row": by_row,
        "meta": meta,
    }
    text = json.dumps(record)
    return {"record": text, "sha256": sha256(text.encode())}


def _compare(saved: dict, wanted: dict, folder: pathlib.Path) -> None:
    # Orbax casts another dtype silently and does not name the leaf of another shape.
    for name in [*wanted, *saved]:
        if saved.get(name) != wanted.get(name):
            was, now = (
                "{0[0]}{0[1]}".format(x[name]) if name in x else "nothing"
                for x in (saved, wanted)
            )
            raise ValueError(
                f"checkpoint {folder.name} in {folder.parent} does not fit this run: "
                f"state{name} is {was} there, {now} here; use another directory"
            )


def _struct(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    found = re.search(r"os_error_code='(\d+)'", text)  # tensorstore
    return os.strerror(int(found[1])) if found else text[:100] or type(error).__name__
