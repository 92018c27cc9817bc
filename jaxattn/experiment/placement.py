"""How the cells that are left lie on the devices, and what they cost.

On a CPU one cell at a time is usually best, for its state stays in the cache; an
accelerator wants as many side by side (a lane) as its memory holds. The first guess is
halved until it fits into memory. Where a program will run for long, other lanes are
tried, each for one chunk, and the fastest is taken.
"""

import concurrent.futures
import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxattn.experiment import wave
from jaxattn.experiment.plan import Program
from jaxattn.experiment.wave import Compiled, Job, Shape
from jaxattn.system import console, processes, runtime
from jaxattn.system.errors import out_of_memory
from jaxattn.system.files import write_text

logger = logging.getLogger("jaxattn")
WAVES = 64
"""More waves than this cost more between chunks than they are worth."""
WIDEST = 256
"""Cells side by side on an accelerator at first: more seldom make it any faster."""
TRIAL_SECONDS = 60.0
"""Where training takes longer than this, other lanes are tried."""
GAIN = 1.05
SHARE = 0.9
"""Of the memory that is there, which a program may take."""


def guess(program: Program, mesh: Mesh, lane: int) -> Shape:
    """The shape to begin with, `lane` cells side by side if that is not 0."""
    share = -(-len(program.cells) // mesh.size)
    if not lane:
        cpu = mesh.devices.flat[0].platform == "cpu"
        lane = 1 if cpu else _power(min(share, WIDEST))
    lane = min(lane, _power(share))
    return Shape(lane, -(-share // (lane * WAVES)))


def _power(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def waves(cells: int, shape: Shape, mesh: Mesh) -> int:
    """How many waves so many cells make."""
    return -(-cells // shape.cells(mesh))


def halved(shape: Shape) -> Shape | None:
    """The next smaller shape for as many cells, or None where there is none."""
    if shape.lane > 1:
        return Shape(-(-shape.lane // 2), shape.depth * 2)
    return Shape(1, -(-shape.depth // 2)) if shape.depth > 1 else None


def memory(compiled: Compiled) -> int:
    """Bytes that a chunk takes on one device; 0 where that cannot be known."""
    analysis: Any = compiled.chunk.memory_analysis()
    if analysis is None:
        return 0
    taken = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return taken + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def available(mesh: Mesh) -> int:
    """Bytes that one device may take; 0 where that cannot be known."""
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        return runtime.available_memory() // len(mesh.local_devices)
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit", 0)


def _compiled_or_why_not(job: Job, shape: Shape) -> Compiled | str:
    try:
        compiled = wave.compile_training(job, shape)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return "does not fit into memory"
    room, taken = available(job.mesh), memory(compiled)
    if not room or taken <= SHARE * room:
        return compiled
    return f"takes {taken / 1e9:.1f} of {room / 1e9:.1f} GB"


def fitting(job: Job, shape: Shape) -> Compiled:
    """The job's program compiled for a shape, halved until it fits into memory.

    Raises: ValueError where not even one cell at a time fits.
    """
    while isinstance(compiled := _compiled_or_why_not(job, shape), str):
        shape = smaller(job.program, shape, compiled)
    return compiled


def smaller(program: Program, shape: Shape, why: str) -> Shape:
    """The halved shape, and says so; raises ValueError where there is none."""
    less = halved(shape)
    if less is None:
        raise ValueError(
            f"{program.label} {why} with one cell at a time: choose a smaller "
            "--batch-size or model, or a machine with more memory"
        )
    logger.info(
        f"{program.label} {why} with {shape.lane} cells side by side: goes on with "
        f"{less.lane}"
    )
    return less


def timed(job: Job) -> tuple[Compiled, float]:
    """`seconds` of a job, halved where memory runs out though it seemed to fit.

    Raises: ValueError where not even one cell at a time fits.
    """
    while True:
        try:
            return job.compiled, seconds(job)
        except RuntimeError as error:
            # Processes that meet no error would wait for the one that does.
            if not out_of_memory(error) or jax.process_count() > 1:
                raise
        shape = smaller(job.program, job.compiled.shape, "has run out of memory")
        job = job._replace(compiled=fitting(job, shape))


def seconds(job: Job) -> float:
    """How long one chunk of a full wave takes; the first one, which warms up, apart."""
    program, mesh, (shape, init, chunk, _) = job.program, job.mesh, job.compiled
    cells = wave.filled(program.cells[: shape.cells(mesh)], shape, mesh)
    stacked = wave.stack(program, cells, mesh)
    state, shortest = init(stacked), np.inf
    for _ in range(2):
        jax.block_until_ready(state)
        begun = time.perf_counter()
        state, curve = chunk(state, stacked, job.splits.stored)
        jax.block_until_ready((state, curve))
        shortest = min(shortest, time.perf_counter() - begun)
        if shortest > 1:  # a long chunk needs no second look
            break
    # Processes that decide by their own clocks would decide apart.
    return processes.most(shortest)[0]


def fastest(job: Job, best_seconds: float) -> tuple[Compiled, float]:
    """The fastest shape tried for a program that will run long, and its chunk seconds.

    Wider lanes are tried as long as they gain; where the first does not, narrower ones.
    """
    program, mesh, best = job.program, job.mesh, job.compiled
    chunks = waves(len(program.cells), best.shape, mesh) * program.cell.config.epochs
    if chunks * best_seconds <= TRIAL_SECONDS:
        return best, best_seconds
    for factor in (2, 0.5):
        gained = best is job.compiled
        while gained:
            lane = best.shape.lane * factor
            if lane < 1 or lane > _power(-(-len(program.cells) // mesh.size)):
                break
            shape = guess(program, mesh, int(lane))
            other = _compiled_or_why_not(job, shape)
            if isinstance(other, str):
                break
            took = seconds(job._replace(compiled=other))
            rate = shape.cells(mesh) / took
            logger.info(
                f"{program.label}: {shape.lane} cells side by side, {rate:.3g} "
                "cell-epochs a second"
            )
            gained = rate > GAIN * best.shape.cells(mesh) / best_seconds
            if gained:
                best, best_seconds = other, took
    return best, best_seconds


def make_plan(jobs: list[Job], folder: Path, time_them: bool = True) -> list[Job]:
    """Compiles what trains each job, side by side, and times a chunk of each.

    Raises: ValueError where a program does not fit into memory.
    """
    shapes = processes.share(_shapes(folder) if processes.first() else None)

    def compiled_for(job: Job) -> Compiled:
        shape = guess(job.program, job.mesh, job.lane)
        return fitting(job, Shape(*shapes.get(str(job.number), shape)))

    # Processes must compile in one order: they meet in what they make there.
    alone = jax.process_count() == 1
    workers = max(1, jax.local_device_count()) if alone else 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        by_key: dict[Any, Any] = {}
        for job in jobs:
            if job.key not in by_key:
                by_key[job.key] = pool.submit(compiled_for, job)
        jobs = [job._replace(compiled=by_key[job.key].result()) for job in jobs]
    planned = []
    for job in jobs:
        took = 0.0
        if time_them:
            compiled, took = timed(job)
            # Chosen before, or by the user: not to be questioned.
            if not job.lane and str(job.number) not in shapes:
                compiled, took = fastest(job._replace(compiled=compiled), took)
            job = job._replace(compiled=compiled)
        chunks = waves(len(job.left), job.compiled.shape, job.mesh)
        chunks *= job.program.cell.config.epochs
        planned.append(job._replace(seconds=took * chunks))
    return planned


def table(jobs: list[Job]) -> tuple[list[str], list[list[Any]]]:
    """The plan as headers and rows: what runs, how it lies on the devices, its cost."""
    rows = []
    for job in jobs:
        shape, mesh = job.compiled.shape, job.mesh
        size = f"{shape.lane} x {mesh.size}"
        size += f" x {shape.depth}" if shape.depth > 1 else ""
        n = waves(len(job.left), shape, mesh)
        gigabytes = f"{memory(job.compiled) * len(mesh.local_devices) / 1e9:.2f} GB"
        time = console.clock(job.seconds) if job.seconds else None
        rows.append([job.program.label, len(job.left), size, n, gigabytes, time])
    return ["program", "cells", "at once", "waves", "memory", "time"], rows


def keep_shapes(folder: Path, jobs: list[Job]) -> None:
    """Notes the shapes, so that a resumed run computes as this one did."""
    shapes = _shapes(folder) | {str(j.number): list(j.compiled.shape) for j in jobs}
    path = folder / "checkpoints" / "shapes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(shapes) + "\n")


def _shapes(folder: Path) -> dict[str, list[int]]:
    """By program number; those that cannot be read are chosen again."""
    path = folder / "checkpoints" / "shapes.json"
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): [max(1, int(n)) for n in v][:2] for k, v in kept.items()}
    return {}
