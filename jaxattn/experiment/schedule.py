"""Runs the programs of a sweep to their end: what is left, in waves, saved as they go.

checkpoints/shapes.json              cells side by side, as they were chosen
            program-N/METHOD-SEED.npz   a finished wave
            program-N/running-DIGEST/   a wave under way (Orbax)

Finished waves on disk: a run that is killed starts again behind the last of them.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxattn.config import Name
from jaxattn.experiment import after_training, artifacts, checkpoint, placement, wave
from jaxattn.experiment.placement import Job, Plan, keep_shapes
from jaxattn.experiment.plan import Program
from jaxattn.experiment.wave import Compiled, Outcome, Start
from jaxattn.system import console, processes
from jaxattn.system.files import append_json, replace_file, write_text


def keep_wave(folder: Path, outcome: Outcome) -> None:
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
    arrays["digest"] = np.array(_digest_of_arrays(arrays))
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / f"{method}-{seed}.npz") as file:
        np.savez(file, **arrays)


def finished_waves(
    folder: Path, say: Callable[[str], None], keep_damaged: bool = False
) -> list[Outcome]:
    """The finished waves of a program; a damaged one is named and run again."""
    outcomes = []
    for path in sorted(folder.glob("*.npz")):
        try:
            # numpy leaves a file open that is no archive.
            with path.open("rb") as file, np.load(file) as stored:
                found = {name: stored[name] for name in stored.files}
            if str(found.pop("digest")) != _digest_of_arrays(found):
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


def _digest_of_arrays(arrays: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {value.dtype.str} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def finished(
    folder: Path, programs: list[Program], look_only: bool = False
) -> list[list[Outcome]]:
    """The outcomes of each program that earlier runs left (first process only).

    With `look_only` nothing is removed, however damaged it is.
    """
    kept = folder / "checkpoints"
    found = []
    for number, _ in enumerate(programs):
        own = kept / f"program-{number}"
        found.append(finished_waves(own, console.say, look_only))
        if not look_only:
            shutil.rmtree(own / "done", ignore_errors=True)
    return found


def run(
    plan: Plan,
    mesh: Mesh,
    folder: Path,
    every: float,
    stop: Any,
    finish: Callable[[int, Outcome], None],
    kept_seeds: frozenset[int] = frozenset(),
) -> None:
    """Runs what is left of every job; `finish` is given each wave when it is done.

    Parameters of `kept_seeds` go to `models/`.
    """
    pool = concurrent.futures.ThreadPoolExecutor(max(1, len(mesh.local_devices)))
    # Ahead of their time: while one program trains the next can be compiled.
    measures = [
        pool.submit(
            wave.compile_measure, job.program, job.splits, mesh, one.shape, one.state
        )
        if jax.process_count() == 1
        else None
        for job, one in zip(plan.jobs, plan.compiled, strict=True)
    ]
    try:
        for job, compiled, measure in zip(
            plan.jobs, plan.compiled, measures, strict=True
        ):
            run_on = mesh, folder, every, stop, finish, kept_seeds
            _run_job(job, compiled, measure, *run_on)
            if processes.most(stop.received is not None)[0]:
                break
    finally:
        pool.shutdown(cancel_futures=True)


def _run_job(
    job: Job,
    compiled: Compiled,
    measure: Any,
    mesh: Mesh,
    folder: Path,
    every: float,
    stop: Any,
    finish: Callable[[int, Outcome], None],
    kept_seeds: frozenset[int],
) -> None:
    program, epochs = job.program, job.program.cell.config.epochs
    kept = folder / "checkpoints" / f"program-{job.number}"
    begun = _begun(kept, job.left, compiled.state)
    queue = _in_waves(job.left, begun, compiled.shape.cells(mesh))
    folders = {path: set(cells) for path, cells, _ in begun}
    measured: list[Callable] = []

    def measure_of() -> Callable:
        if not measured:
            again = (program, job.splits, mesh, compiled.shape, compiled.state)
            measured.append(
                measure.result() if measure else wave.compile_measure(*again)
            )
        return measured[0]

    done: set[Name] = set()
    with console.bar(program.label, len(queue) * epochs) as advance:
        for cells, start in queue:
            running = kept / f"running-{_digest(cells)}"
            folders.setdefault(running, set(cells))
            try:
                outcome = wave.run_wave(
                    program,
                    compiled,
                    measure_of,
                    cells,
                    start,
                    job.splits,
                    mesh,
                    running,
                    every=every,
                    stop=lambda: stop.received is not None,
                    advance=_log(folder, job, cells, advance),
                    with_params=any(seed in kept_seeds for _, seed in cells),
                )
            except RuntimeError as error:
                if not placement.exhausted(error) or jax.process_count() > 1:
                    raise
                break
            if outcome is None:
                return
            done |= set(cells)
            if processes.first():
                # Before the wave counts as finished.
                artifacts.keep(folder, program.source.task, outcome, kept_seeds)
                outcome = outcome._replace(params=())
                if after_training.audits_masks(program):
                    outcome = after_training.with_audits(program, outcome)
                if after_training.asks_black_box(program):
                    outcome = after_training.with_post_hoc_accuracy(program, outcome)
                keep_wave(kept, outcome)
                for path, theirs in folders.items():
                    if theirs <= done:
                        _remove(path)
                finish(job.number, outcome)
            if processes.most(stop.received is not None)[0]:
                return
        else:
            # Also those whose cells another one held further on.
            for path in kept.glob("running-*") if processes.first() else ():
                _remove(path)
            return
    # Memory ran out while a wave ran, though the compiler had promised that it fits.
    shape = placement.smaller(
        program, compiled.shape, "has run out of memory", console.say
    )
    less = placement.fitting(program, job.splits, mesh, shape, console.say)
    left = [cell for cell in job.left if cell not in done]
    trim(
        folder / "metrics.jsonl",
        lambda number, cells: number != job.number or not cells & set(left),
    )
    keep_shapes(folder, Plan([job], [less], []))
    again = job._replace(left=left)
    _run_job(again, less, None, mesh, folder, every, stop, finish, kept_seeds)


def _begun(
    kept: Path, left: list[Name], state: Any
) -> list[tuple[Path, list[Name], Start]]:
    """What checkpoints hold of cells that are left: folder, cells, where they go on."""
    names = (
        sorted(p.name for p in kept.glob("running-*")) if processes.first() else None
    )
    found = []

    def rows_like(meta: dict) -> Any:
        return jax.tree.map(
            lambda x: np.zeros((meta["rows"], *x.shape[1:]), x.dtype), state
        )

    for name in processes.share(names):
        restored = checkpoint.restore(kept / name, rows_like, console.say)
        if restored is not None:
            epoch, saved, meta = restored
            found.append((epoch, kept / name, saved, meta))
    chosen, taken = [], set()
    for epoch, path, saved, meta in sorted(found, key=lambda x: -x[0]):
        cells = [(str(label), int(seed)) for label, seed in meta["cells"]]
        rows = [i for i, c in enumerate(cells) if c in left and c not in taken]
        if rows:
            curves = {k: np.array(v).T[rows] for k, v in meta["curves"].items()}
            start = Start(epoch, jax.tree.map(lambda x, r=rows: x[r], saved), curves)
            chosen.append((path, [cells[i] for i in rows], start))
            taken |= {cells[i] for i in rows}
    return chosen


def _in_waves(
    left: list[Name], begun: list, size: int
) -> list[tuple[list[Name], Start | None]]:
    """All that is left in waves of at most `size` cells, what was begun first.

    So a checkpoint serves any number of devices: its cells need not stay together.
    """
    queue: list[tuple[list[Name], Start | None]] = []
    for _, cells, start in begun:
        for i in range(0, len(cells), size):
            part = slice(i, i + size)
            state = jax.tree.map(lambda x, p=part: x[p], start.state)
            curves = {k: v[part] for k, v in start.curves.items()}
            queue.append((cells[part], Start(start.epoch, state, curves)))
    taken = {cell for _, cells, _ in begun for cell in cells}
    rest = [cell for cell in left if cell not in taken]
    queue += [(rest[i : i + size], None) for i in range(0, len(rest), size)]
    return queue


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
        advance(1, examples, note)

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
