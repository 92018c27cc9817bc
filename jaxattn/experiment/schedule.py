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
from jax.sharding import Mesh

from jaxattn.config import Name
from jaxattn.experiment import after_training, artifacts, checkpoint, placement, wave
from jaxattn.experiment.placement import Job, Plan, keep_shapes
from jaxattn.experiment.plan import Program
from jaxattn.experiment.wave import Compiled, Outcome, Part, Saving, Start, Wave
from jaxattn.system import console, processes
from jaxattn.system.errors import out_of_memory, reason
from jaxattn.system.files import append_json, read_arrays, write_arrays, write_text

logger = logging.getLogger("jaxattn")


class Orders(NamedTuple):
    """What holds for all jobs of a run."""

    mesh: Mesh
    folder: Path
    every: float
    """Least seconds between two checkpoints of a wave."""
    stop: Callable[[], bool]
    """Whether the run was asked to end after the chunk under way."""
    finish: Callable[[int, Outcome], None]
    """Is given the job's number and each wave when it is done."""
    kept_seeds: frozenset[int] = frozenset()
    """Their parameters go to `models/`."""


def keep_wave(folder: Path, outcome: Outcome) -> None:
    """Writes a finished wave whole or not at all, with a digest over all of it."""
    method, seed = outcome.cells[0]
    arrays: dict[str, Any] = {
        "methods": np.array([m for m, _ in outcome.cells]),
        "seeds": np.array([s for _, s in outcome.cells]),
        "alive": outcome.alive,
    }
    for prefix, named in (
        ("example/", outcome.examples),
        ("curve/", outcome.curves),
        ("measured/", outcome.measured),
    ):
        arrays |= {prefix + name: array for name, array in named.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / f"{method}-{seed}.npz", arrays, salt="")


def finished_waves(folder: Path, keep_damaged: bool = False) -> list[Outcome]:
    """The finished waves of a program; a damaged one is named and run again."""
    outcomes = []
    for path in sorted(folder.glob("*.npz")):
        try:
            stored = read_arrays(path, salt="")
            labels, seeds = map(str, stored["methods"]), map(int, stored["seeds"])
            outcomes.append(
                Outcome(
                    cells=list(zip(labels, seeds, strict=True)),
                    alive=stored["alive"],
                    examples=_under("example/", stored),
                    curves=_under("curve/", stored),
                    measured=_under("measured/", stored),
                )
            )
        except (ValueError, KeyError, OSError) as error:
            logger.info("%s; its cells are run again", reason(error))
            if not keep_damaged:
                path.unlink(missing_ok=True)
    return outcomes


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def finished(
    folder: Path, programs: list[Program], look_only: bool = False
) -> list[list[Outcome]]:
    """The outcomes of each program that earlier runs left (first process only).

    With `look_only` nothing is removed, however damaged it is.
    """
    folders = [folder / "checkpoints" / f"program-{i}" for i in range(len(programs))]
    for own in folders:
        if not look_only:
            shutil.rmtree(own / "done", ignore_errors=True)
    return [finished_waves(own, look_only) for own in folders]


def run(plan: Plan, orders: Orders) -> None:
    """Runs what is left of every job."""
    mesh = orders.mesh
    with concurrent.futures.ThreadPoolExecutor(max(1, len(mesh.local_devices))) as pool:
        measures = []
        for job, compiled in zip(plan.jobs, plan.compiled, strict=True):
            common = Wave(job.program, compiled, job.splits, mesh)
            compile_measure = functools.partial(_compile_measure, common)
            # Ahead of its time: while one program trains the next can be compiled. But
            # several processes must compile in one order.
            if jax.process_count() == 1:
                compile_measure = pool.submit(compile_measure).result
            measures.append(functools.cache(compile_measure))
        try:
            for *given, measure in zip(plan.jobs, plan.compiled, measures, strict=True):
                _run_job(*given, measure, orders)
                if processes.most(orders.stop())[0]:
                    break
        finally:
            pool.shutdown(cancel_futures=True)


def _compile_measure(common: Wave) -> Callable:
    program, compiled, splits, mesh = common
    return wave.compile_measure(program, splits, mesh, compiled.shape, compiled.state)


def _run_job(
    job: Job, compiled: Compiled, measure: Callable[[], Callable], orders: Orders
) -> None:
    program, mesh = job.program, orders.mesh
    common = Wave(program, compiled, job.splits, mesh)
    kept = orders.folder / "checkpoints" / f"program-{job.number}"
    begun = _begun(kept, job.left, compiled.state)
    queue = _in_waves(job.left, begun, compiled.shape.cells(mesh))
    folders = {path: set(part.cells) for path, part in begun}
    cell, done = program.cell, set[Name]()
    examples = cell.steps * cell.config.batch_size * len(job.left)
    with console.bar(program.label, examples) as advance:
        for part in queue:
            cells = part.cells
            running = kept / f"running-{_digest(cells)}"
            folders.setdefault(running, set(cells))
            try:
                outcome = wave.run_wave(
                    common,
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
                task = program.source.task
                artifacts.keep(orders.folder, task, outcome, orders.kept_seeds)
                outcome = outcome._replace(params=())
                outcome = after_training.complete(program, outcome)
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
    shape = placement.smaller(program, compiled.shape, "has run out of memory")
    less = placement.fitting(program, job.splits, mesh, shape)
    left = [cell for cell in job.left if cell not in done]
    trim(
        orders.folder / "metrics.jsonl",
        lambda number, cells: number != job.number or not cells & set(left),
    )
    keep_shapes(orders.folder, Plan([job], [less], []))
    again = functools.cache(lambda: _compile_measure(common._replace(compiled=less)))
    _run_job(job._replace(left=left), less, again, orders)


def _begun(kept: Path, left: list[Name], state: Any) -> list[tuple[Path, Part]]:
    """What checkpoints hold of cells that are left: folder, cells, where they go on."""
    names = sorted(p.name for p in kept.glob("running-*")) if processes.first() else ()

    def rows_like(meta: dict) -> Any:
        return jax.tree.map(
            lambda x: np.zeros((meta["rows"], *x.shape[1:]), x.dtype), state
        )

    checkpoints = []
    for name in processes.share(names):
        restored = checkpoint.restore(kept / name, rows_like)
        if restored is not None:
            checkpoints.append((kept / name, *restored))
    chosen, taken = [], set()
    for path, epoch, saved, meta in sorted(checkpoints, key=lambda x: -x[1]):
        cells = [(str(label), int(seed)) for label, seed in meta["cells"]]
        rows = [i for i, c in enumerate(cells) if c in left and c not in taken]
        if rows:
            curves = {k: np.array(v).T for k, v in meta["curves"].items()}
            part = _rows(Part(cells, Start(epoch, saved, curves)), rows)
            chosen.append((path, part))
            taken |= set(part.cells)
    return chosen


def _rows(part: Part, rows: list[int]) -> Part:
    """Some of the cells of a part that was begun."""
    assert part.start is not None
    epoch, state, curves = part.start
    return Part(
        [part.cells[i] for i in rows],
        Start(
            epoch,
            jax.tree.map(lambda x: x[rows], state),
            {k: v[rows] for k, v in curves.items()},
        ),
    )


def _in_waves(
    left: list[Name], begun: list[tuple[Path, Part]], size: int
) -> list[Part]:
    """All that is left in waves of at most `size` cells, what was begun first.

    So a checkpoint serves any number of devices: its cells need not stay together.
    """
    queue = []
    for _, part in begun:
        places = list(range(len(part.cells)))
        queue += [_rows(part, places[i : i + size]) for i in places[::size]]
    taken = {cell for _, part in begun for cell in part.cells}
    rest = [cell for cell in left if cell not in taken]
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


def _digest(cells: list[Name]) -> str:
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]


def _remove(running: Path) -> None:
    """Removes a checkpoint so that a kill in between leaves no half of it behind."""
    if running.exists():
        done = running.with_name("done")
        shutil.rmtree(done, ignore_errors=True)
        running.rename(done)
        shutil.rmtree(done, ignore_errors=True)


def trim(path: Path, kept: Callable[[int, set[Name]], bool]) -> None:
    """Drops the lines of programs and cells that will be written again."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # A killed process may leave half a line.
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            record = json.loads(line)
            cells = {(str(label), int(seed)) for label, seed in record["cells"]}
            if kept(record["program"], cells):
                lines.append(line + "\n")
    write_text(path, "".join(lines))
