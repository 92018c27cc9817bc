"""Runs the programs of a sweep to their end: what is left, in waves, saved as they go.

checkpoints/shapes.json                 cells side by side, as they were chosen
            program-N/METHOD-SEED.npz   a finished wave
            program-N/running-DIGEST/   a wave under way (see `checkpoint`)

A run that is killed goes on behind the last finished wave and the newest checkpoint.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxattn.config import Name
from jaxattn.experiment import after_training, artifacts, checkpoint, placement, wave
from jaxattn.experiment.wave import Job, Outcome, Part, Saving
from jaxattn.system import console, processes
from jaxattn.system.errors import out_of_memory, reason
from jaxattn.system.files import append_json, read_arrays, write_arrays, write_text

logger = logging.getLogger("jaxattn")


class Orders(NamedTuple):
    """What holds for all jobs of a run."""

    folder: Path
    every: float
    """Least seconds between two checkpoints of a wave."""
    stop: Callable[[], bool]
    """Whether the run was asked to end after the chunk under way."""
    finish: Callable[[int, Outcome], None]
    """Is given the job's number and each wave when it is done."""
    kept_seeds: frozenset[int] = frozenset()
    """Their parameters go to `models/`."""


GROUPS = {"example/": "examples", "curve/": "curves", "measured/": "measured"}
"""How names begin in the file of a finished wave, by field of its outcome."""


def keep_wave(folder: Path, outcome: Outcome) -> None:
    """Writes a finished wave whole or not at all, with a digest over all of it."""
    method, seed = outcome.cells[0]
    arrays: dict[str, Any] = {
        "methods": np.array([m for m, _ in outcome.cells]),
        "seeds": np.array([s for _, s in outcome.cells]),
        "alive": outcome.alive,
    }
    for prefix, field in GROUPS.items():
        arrays |= {prefix + k: array for k, array in getattr(outcome, field).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / f"{method}-{seed}.npz", arrays, salt="")


def finished(folder: Path, n: int, look_only: bool = False) -> list[list[Outcome]]:
    """What earlier runs finished of each of `n` programs (first process only).

    A damaged wave is named and run again. With `look_only` nothing is removed.
    """
    outcomes: list[list[Outcome]] = [[] for _ in range(n)]
    for i, of_program in enumerate(outcomes):
        own = folder / "checkpoints" / f"program-{i}"
        if not look_only:
            shutil.rmtree(own / "done", ignore_errors=True)
        for path in sorted(own.glob("*.npz")):
            try:
                of_program.append(_read_wave(path))
            except (ValueError, KeyError, OSError) as error:
                logger.info("%s; its cells are run again", reason(error))
                if not look_only:
                    path.unlink(missing_ok=True)
    return outcomes


def _read_wave(path: Path) -> Outcome:
    stored = read_arrays(path, salt="")
    labels, seeds = map(str, stored["methods"]), map(int, stored["seeds"])
    groups: dict[str, Any] = {
        field: {k[len(p) :]: v for k, v in stored.items() if k.startswith(p)}
        for p, field in GROUPS.items()
    }
    cells = list(zip(labels, seeds, strict=True))
    return Outcome(cells=cells, alive=stored["alive"], **groups)


def run(jobs: list[Job], orders: Orders) -> None:
    """Runs what is left of every job."""
    workers = max(1, jax.local_device_count())
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        measures = []
        for job in jobs:
            compile_measure = functools.partial(wave.compile_measure, job)
            # Ahead of its time: while one program trains the next can be compiled. But
            # several processes must compile in one order.
            if jax.process_count() == 1:
                compile_measure = pool.submit(compile_measure).result
            measures.append(functools.cache(compile_measure))
        try:
            for job, measure in zip(jobs, measures, strict=True):
                _run_job(job, measure, orders)
                if processes.most(orders.stop())[0]:
                    break
        finally:
            pool.shutdown(cancel_futures=True)


def _run_job(job: Job, measure: Callable[[], Callable], orders: Orders) -> None:
    program, task = job.program, job.program.source.task
    kept = orders.folder / "checkpoints" / f"program-{job.number}"
    begun = _begun(kept, job)
    queue = _in_waves(job, list(begun.values()))
    folders = {path: set(part.cells) for path, part in begun.items()}
    cell, done = program.cell, set[Name]()
    examples = cell.steps * cell.config.batch_size * len(job.left)
    with console.bar(program.label, examples) as advance:
        for part in queue:
            cells = part.cells
            digest = hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]
            running = kept / f"running-{digest}"
            folders.setdefault(running, set(cells))
            try:
                outcome = wave.run_wave(
                    job,
                    part,
                    measure,
                    Saving(running, orders.every, orders.stop),
                    _log(orders.folder, job, cells, advance),
                    with_params=any(seed in orders.kept_seeds for _, seed in cells),
                )
            except RuntimeError as error:
                if not out_of_memory(error) or jax.process_count() > 1:
                    raise
                break
            if outcome is None:
                return
            done |= set(cells)
            if processes.first():
                # Before the wave counts as finished.
                artifacts.keep(orders.folder, task, outcome, orders.kept_seeds)
                outcome = after_training.complete(program, outcome._replace(params=()))
                keep_wave(kept, outcome)
                for path, theirs in folders.items():
                    if theirs <= done:
                        _remove(path)
                orders.finish(job.number, outcome)
            if processes.most(orders.stop())[0]:
                return
        else:
            # Also those whose cells another one held further on.
            for path in kept.glob("running-*") if processes.first() else ():
                _remove(path)
            return
    # Memory ran out while a wave ran, though the compiler had promised that it fits.
    shape = placement.smaller(program, job.compiled.shape, "has run out of memory")
    left = [cell for cell in job.left if cell not in done]
    less = job._replace(left=left, compiled=placement.fitting(job, shape))
    trim(orders.folder / "metrics.jsonl", [less])
    placement.keep_shapes(orders.folder, [less])
    _run_job(less, functools.cache(lambda: wave.compile_measure(less)), orders)


def _begun(kept: Path, job: Job) -> dict[Path, Part]:
    """What checkpoints hold of cells that are left: folder, cells, where they go on."""
    names = sorted(p.name for p in kept.glob("running-*")) if processes.first() else ()

    def rows_like(meta: dict) -> Any:
        return jax.tree.map(
            lambda x: np.zeros((meta["rows"], *x.shape[1:]), x.dtype),
            job.compiled.state,
        )

    checkpoints = []
    for name in processes.share(names):
        restored = checkpoint.restore(kept / name, rows_like)
        if restored is not None:
            checkpoints.append((kept / name, *restored))
    chosen, taken = {}, set()
    for path, epoch, saved, meta in sorted(checkpoints, key=lambda x: -x[1]):
        cells = [(str(label), int(seed)) for label, seed in meta["cells"]]
        rows = [i for i, c in enumerate(cells) if c in job.left and c not in taken]
        if rows:
            curves = {k: np.array(v).T for k, v in meta["curves"].items()}
            chosen[path] = _rows(Part(cells, epoch, saved, curves), rows)
            taken |= set(chosen[path].cells)
    return chosen


def _rows(part: Part, rows: list[int]) -> Part:
    """Some of the cells of a part that was begun."""
    state, curves = jax.tree.map(lambda x: x[rows], (part.state, part.curves))
    return Part([part.cells[i] for i in rows], part.epoch, state, curves)


def _in_waves(job: Job, begun: list[Part]) -> list[Part]:
    """All that is left in waves of at most as many cells, what was begun first.

    So a checkpoint serves any number of devices: its cells need not stay together.
    """
    size, queue = job.compiled.shape.cells(job.mesh), []
    for part in begun:
        places = list(range(len(part.cells)))
        queue += [_rows(part, places[i : i + size]) for i in places[::size]]
    taken = {cell for part in begun for cell in part.cells}
    rest = [cell for cell in job.left if cell not in taken]
    return queue + [Part(rest[i : i + size]) for i in range(0, len(rest), size)]


def _log(folder: Path, job: Job, cells: list[Name], advance: Callable) -> Callable:
    """What is told of each chunk of a wave: a line in metrics.jsonl and the bar."""
    cell = job.program.cell
    examples = cell.steps_per_epoch * cell.config.batch_size * len(cells)

    def log(epoch: int, curve: dict[str, np.ndarray]) -> None:
        task = job.program.source.task
        record = {"task": task, "program": job.number, "epoch": epoch, "cells": cells}
        if processes.first():
            append_json(folder / "metrics.jsonl", record | curve)
        finite = [v for v in curve["train_nll"] if np.isfinite(v)]
        note = f"loss {np.mean(finite) if finite else np.nan:.3f}"
        if epoch == cell.config.epochs:
            note += ", measuring"
        advance(examples, note)

    return log


def _remove(running: Path) -> None:
    """Removes a checkpoint so that a kill in between leaves no half of it behind."""
    if running.exists():
        done = running.with_name("done")
        shutil.rmtree(done, ignore_errors=True)
        running.rename(done)
        shutil.rmtree(done, ignore_errors=True)


def trim(path: Path, jobs: list[Job]) -> None:
    """Drops the lines of cells that will be run, which will be written again."""
    if not path.exists():
        return
    left, lines = {job.number: set(job.left) for job in jobs}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        # A killed process may leave half a line.
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            record = json.loads(line)
            cells = {(str(label), int(seed)) for label, seed in record["cells"]}
            if not cells & left.get(record["program"], set()):
                lines.append(line + "\n")
    write_text(path, "".join(lines))
