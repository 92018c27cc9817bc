"""What is left of a run: programs, how their cells lie on the devices, their price."""

import concurrent.futures
import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxattn import console, hosts, lanes
from jaxattn.files import write_text
from jaxattn.plan import Name, Program
from jaxattn.sweep import Compiled, Shape, Splits


class Job(NamedTuple):
    """A program with cells left to run."""

    number: int
    program: Program
    splits: Splits
    left: list[Name]
    setting: int
    """Of `lane`; 0 lets it be chosen."""

    @property
    def key(self) -> Any:
        """What jobs share that ask for the same compiled program and data."""
        shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), self.splits)
        return self.program.static, str(shapes)


class Plan(NamedTuple):
    """Jobs in order with what was compiled for each and what it will cost."""

    jobs: list[Job]
    compiled: list[Compiled]
    prices: list[lanes.Price]


def make_plan(jobs: list[Job], mesh: Mesh, folder: Path, timed: bool = True) -> Plan:
    """Compiles what trains each job, side by side, and times a chunk of each.

    Raises: ValueError where a program does not fit into memory.
    """
    shapes = hosts.share(_shapes(folder) if hosts.first() else None)
    by_key: dict[Any, Any] = {}

    def compiled_for(job: Job) -> Compiled:
        first = lanes.guess(job.program, mesh, job.setting)
        if str(job.number) in shapes:
            first = Shape(*shapes[str(job.number)])
        return lanes.fitting(job.program, job.splits, mesh, first, console.say)

    compiled, prices = [], []
    with concurrent.futures.ThreadPoolExecutor(max(1, len(mesh.local_devices))) as pool:
        # Processes must compile in one order: they meet in what they make there.
        for job in jobs:
            if job.key not in by_key:
                one = compiled_for(job) if jax.process_count() > 1 else None
                by_key[job.key] = one or pool.submit(compiled_for, job)
        for job in jobs:
            one = by_key[job.key]
            compiled.append(one.result() if hasattr(one, "result") else one)
    for i, job in enumerate(jobs):
        given, took = (job.splits, mesh), 0.0
        if timed:
            one = job.program, compiled[i]
            compiled[i], took = lanes.timed(*one, *given, console.say)
        # Chosen before, or by the user: not to be questioned.
        if timed and not job.setting and str(job.number) not in shapes:
            one = job.program, compiled[i]
            compiled[i], took = lanes.best(*one, *given, took, console.say)
        n = lanes.waves(len(job.left), compiled[i].shape, mesh)
        n *= job.program.static.config.epochs
        prices.append(lanes.Price(took * n, lanes.memory(compiled[i])))
        shapes[str(job.number)] = list(compiled[i].shape)
    return Plan(jobs, compiled, prices)


def table(plan: Plan, mesh: Mesh) -> tuple[list[str], list[list[Any]]]:
    """The plan as headers and rows: what runs, how it lies on the devices, its cost."""
    rows = []
    for job, one, price in zip(plan.jobs, plan.compiled, plan.prices, strict=True):
        shape = one.shape
        size = f"{shape.lane} x {mesh.size}"
        size += f" x {shape.depth}" if shape.depth > 1 else ""
        n = lanes.waves(len(job.left), shape, mesh)
        gigabytes = f"{price.memory * len(mesh.local_devices) / 1e9:.2f} GB"
        time = console.clock(price.seconds) if price.seconds else None
        rows.append([job.program.label, len(job.left), size, n, gigabytes, time])
    return ["program", "cells", "at once", "waves", "memory", "time"], rows


def keep_shapes(folder: Path, plan: Plan) -> None:
    """Notes the shapes, so that a resumed run computes as this one did."""
    path, shapes = folder / "checkpoints" / "shapes.json", _shapes(folder)
    for job, compiled in zip(plan.jobs, plan.compiled, strict=True):
        shapes[str(job.number)] = list(compiled.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(shapes) + "\n")


def _shapes(folder: Path) -> dict[str, list[int]]:
    """By program number; those that cannot be read are chosen again."""
    path = folder / "checkpoints" / "shapes.json"
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): [max(1, int(n)) for n in v][:2] for k, v in found.items()}
    return {}
