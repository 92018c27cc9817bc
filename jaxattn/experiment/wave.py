"""Many cells: grouped into programs, run in waves over all devices, resumable.

A program is what compiles once: its cells (method, seed) differ in numbers only. Cells
of a lane run side by side on one device, lanes of one device after another; a wave is
as many cells as one call of the program trains. Its shape is always the same, the last
wave filled up and the filling dropped, so that one compilation serves all waves and a
cell's result does not depend on which cells run beside it.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattn.config import Name
from jaxattn.data.splits import SPLITS
from jaxattn.data.text import STOP_WORDS
from jaxattn.experiment import checkpoint
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source
from jaxattn.system import processes
from jaxattn.training import step
from jaxattn.training.cell import Arrays, Cell
from jaxattn.training.evaluation import measure
from jaxattn.training.evaluation.measure import Vocabulary


class Splits(NamedTuple):
    """What all cells of a task share, on every device."""

    stored: Any
    """(train, validation, test); empty where each seed has examples of its own."""
    vocabulary: Vocabulary
    black_box: Any
    """Parameters of the model that is explained; empty where there is none."""


class Shape(NamedTuple):
    """How many cells a wave has on each device."""

    lane: int
    """Side by side."""
    depth: int = 1
    """Lanes, one after another."""

    def cells(self, mesh: Mesh) -> int:
        return self.lane * self.depth * mesh.size


class Part(NamedTuple):
    """Cells of one wave, and where they go on if an earlier run began them."""

    cells: list[Name]
    epoch: int = 0
    state: Any = None
    """What a checkpoint holds of them: numpy arrays, cells as their first axis."""
    curves: dict[str, Any] = {}
    """By name, [cells, epoch]."""


class Outcome(NamedTuple):
    """Arrays of finished cells, all with the cells as their first axis (numpy)."""

    cells: list[Name]
    alive: np.ndarray
    curves: dict[str, np.ndarray]
    measured: dict[str, np.ndarray]
    examples: dict[str, np.ndarray]
    params: Any = ()
    """Of selector and predictor, where they are asked for; they go to `models/`."""


class Compiled(NamedTuple):
    """The training half of a program, for waves of one shape."""

    shape: Shape
    init: Callable
    chunk: Callable
    state: Any
    """Shapes and shardings of a wave's state."""


class Job(NamedTuple):
    """A program with cells left to run, and what was compiled for its waves."""

    number: int
    program: Program
    splits: Splits
    mesh: Mesh
    left: list[Name]
    lane: int = 0
    """Of the config; 0 lets it be chosen."""
    compiled: Any = None
    """`Compiled`, once it is."""
    seconds: float = 0.0
    """How long its training will take, where that was measured."""

    @property
    def key(self) -> Any:
        """What jobs share that ask for the same compiled program and data."""
        shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), self.splits)
        return self.program.structure, str(shapes)


def mesh_of_all_devices() -> Mesh:
    return Mesh(np.array(jax.devices()), ("cells",))


def by_cell(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P("cells"))


def stack(program: Program, cells: list[Name], mesh: Mesh) -> Cell:
    """Cells as one, sharded by cell; in place of a key each has its seed."""

    def column(*values: float) -> Any:
        # The same bits for every program: numbers are floats, places whole numbers.
        kind = np.float32 if isinstance(values[0], float) else np.int32
        return np.array(values, kind)

    stacked = jax.tree.map(column, *[program.settings[label] for label, _ in cells])
    seeds: Any = np.array([seed for _, seed in cells], np.uint32)
    stacked = dataclasses.replace(stacked, key=seeds)
    return jax.tree.map(lambda x: processes.placed(x, by_cell(mesh)), stacked)


def functions(mesh: Mesh, shape: Shape) -> tuple[Callable, Callable, Callable]:
    """Jitted init, chunk and measure over a wave of cells, sharded by cell."""

    def keyed(cell):
        # Keys are made inside the program: they cannot be put on another host's device.
        return dataclasses.replace(cell, key=jax.random.key(cell.key))

    def sharded(function, *in_specs, **kwargs):
        # Cells never talk to each other, so there is nothing for the check to protect.
        how: Any = {"mesh": mesh, "out_specs": P("cells"), "check_vma": False}
        return jax.jit(jax.shard_map(function, in_specs=in_specs, **how), **kwargs)

    def in_lanes(one, *cells):
        """`one` for each cell of a device: lane by lane."""
        side_by_side = jax.vmap(one)
        if shape.depth == 1:
            return side_by_side(*cells)
        lanes = jax.tree.map(
            lambda x: x.reshape(shape.depth, shape.lane, *x.shape[1:]), cells
        )
        made = jax.lax.map(lambda lane: side_by_side(*lane), lanes)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)

    def init(cells):
        return in_lanes(lambda c: step.init(keyed(c)), cells)

    def chunk(state, cells, stored):
        return in_lanes(lambda s, c: step.chunk(keyed(c), s, stored), state, cells)

    def measure_all(state, cells, splits):
        # One cell after another: the measurements of a whole lane at once would
        # multiply the memory and gain nothing.
        return jax.lax.map(
            lambda sc: measure.measure(keyed(sc[1]), sc[0], *splits), (state, cells)
        )

    each, all_ = P("cells"), P()
    return (
        sharded(init, each),
        sharded(chunk, each, each, all_, donate_argnums=0),
        sharded(measure_all, each, each, all_),
    )


def filled(cells: Sequence[Name], shape: Shape, mesh: Mesh) -> list[Name]:
    """The cells of a wave, its last one repeated until the wave is full."""
    return [*cells, *[cells[-1]] * (shape.cells(mesh) - len(cells))]


def compile_training(job: Job, shape: Shape) -> Compiled:
    """Traces and compiles what trains the waves of a job."""
    program, mesh = job.program, job.mesh
    cells = stack(program, filled(program.cells[:1], shape, mesh), mesh)
    init, chunk, _ = functions(mesh, shape)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_cell(mesh)),
        jax.eval_shape(init, cells),
    )
    trained = chunk.lower(state, cells, job.splits.stored)
    return Compiled(shape, init.lower(cells).compile(), trained.compile(), state)


def compile_measure(job: Job) -> Callable:
    """Traces and compiles what measures the waves of a job."""
    program, mesh, (shape, _, _, state) = job.program, job.mesh, job.compiled
    cells = stack(program, filled(program.cells[:1], shape, mesh), mesh)
    return functions(mesh, shape)[2].lower(state, cells, job.splits).compile()


class Saving(NamedTuple):
    """Where and how often a wave under way is saved, and whether it must stop."""

    folder: Path
    every: float
    """Least seconds between two checkpoints."""
    stop: Callable[[], bool]


def run_wave(
    job: Job,
    part: Part,
    measure: Callable[[], Callable],
    saving: Saving,
    advance: Callable[[int, dict[str, np.ndarray]], None],
    with_params: bool = False,
) -> Outcome | None:
    """Trains and measures some cells; None if told to stop before the last epoch.

    `advance` is given the epoch and its curves (each [cells]) after every chunk, those
    of an earlier run included.
    """
    program, splits, mesh, compiled = job.program, job.splits, job.mesh, job.compiled
    cells, epoch, state, _ = part
    n, all_ = len(cells), filled(cells, compiled.shape, mesh)
    stacked = stack(program, all_, mesh)
    curves: dict[str, list] = {k: v.T.tolist() for k, v in part.curves.items()}
    if state is None:
        state = compiled.init(stacked)
    else:
        rows = np.minimum(np.arange(len(all_)), n - 1)
        state = jax.tree.map(lambda x: processes.placed(x[rows], by_cell(mesh)), state)
    for past in range(epoch):
        advance(past + 1, {k: np.array(v[past]) for k, v in curves.items()})
    epochs, saved, stopping = program.cell.config.epochs, time.monotonic(), False
    while epoch < epochs and not stopping:
        state, curve = compiled.chunk(state, stacked, splits.stored)
        curve = {k: processes.whole(v)[:n] for k, v in curve.items()}
        for name, values in curve.items():
            curves.setdefault(name, []).append(values.tolist())
        epoch += 1
        advance(epoch, curve)
        late = time.monotonic() - saved >= saving.every
        # All processes must save, and stop, after the same chunk.
        stopping, late = map(bool, processes.most(saving.stop(), late))
        if epoch < epochs and (stopping or late):
            meta = {"cells": cells, "rows": len(all_), "curves": curves}
            checkpoint.save(saving.folder, epoch, state, meta)
            saved = time.monotonic()
    if epoch < epochs:
        return None
    measured = measure()(state, stacked, splits)
    measured = jax.tree.map(lambda x: processes.whole(x)[:n], measured)
    return Outcome(
        cells=cells,
        alive=processes.whole(state.alive)[:n] & np.isfinite(measured.scalars["nll"]),
        curves={k: np.array(v, np.float32).T for k, v in curves.items()},
        measured=measured.scalars,
        examples={k: _small(v) for k, v in measured.examples.items()},
        # What applies a model: no evaluator, no baseline.
        params={
            half: jax.tree.map(lambda x: processes.whole(x)[:n], state.params[half])
            for half in (("selector", "predictor") if with_params else ())
        },
    )


def _small(values: np.ndarray) -> np.ndarray:
    """Subset masks as bytes: a quarter of the room, and nothing is lost."""
    whole = values.dtype == np.float32 and ((values == 0) | (values == 1)).all()
    return values.astype(np.uint8) if whole else values


def make_splits(source: Source, mesh: Mesh) -> Splits:
    """What all cells of a task share, copied to every device."""
    stored: Any = ()
    known: Any = [np.zeros(0, bool)] * 3
    dataset = source.dataset
    if dataset is not None:
        stored = tuple(
            Arrays(*(getattr(getattr(dataset, side), name) for name in Arrays._fields))
            for side in SPLITS
        )
        stop_words = [word.lower() in STOP_WORDS for word in dataset.vocabulary]
        known = (
            dataset.kind == 2,
            ~np.isnan(dataset.lexicon),
            np.array(stop_words, bool),
        )
    black_box = () if source.black_box is None else source.black_box.params
    everywhere = NamedSharding(mesh, P())
    # Through jax, which makes of 64 bits what the program will take.
    return jax.tree.map(
        lambda x: processes.placed(np.asarray(jnp.asarray(x)), everywhere),
        Splits(stored, Vocabulary(*known), black_box),
    )
