"""Many cells: grouped into programs, run in waves over all devices, resumable.

A program is what compiles once: its cells (method, seed) differ in numbers only. A wave
is as many cells as run at once, `lane` on each device; its shape is always the same,
the last one filled up and the filling dropped, so that one compilation serves all waves
and a cell's result does not depend on which cells run beside it.
"""

import concurrent.futures
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattn import checkpoint, loop, methods, probe
from jaxattn.config import at_setting, numbers
from jaxattn.data.stopwords import STOP_WORDS
from jaxattn.forward import Arrays, Cell
from jaxattn.methods import METHODS
from jaxattn.plan import FULL_TEXT, Program
from jaxattn.source import Source


class Splits(NamedTuple):
    """What all cells of a task share, on every device."""

    stored: Any
    """(train, validation, test); empty where each seed has examples of its own."""
    vocabulary: probe.Vocabulary
    black_box: Any
    """Parameters of the model that is explained; empty where there is none."""


class Outcome(NamedTuple):
    """Arrays of finished cells, all with the cells as their first axis (numpy)."""

    cells: list[tuple[str, int]]
    alive: np.ndarray
    curves: dict[str, np.ndarray]
    measured: dict[str, np.ndarray]
    examples: dict[str, np.ndarray]
    class_means: np.ndarray


class Compiled(NamedTuple):
    init: Callable
    chunk: Callable
    measure: Callable
    state: Any
    """Shapes and shardings of a wave's state, for restoring."""


def mesh_of_all_devices() -> Mesh:
    return Mesh(np.array(jax.devices()), ("cells",))


def _stack(program: Program, cells: list[tuple[str, int]], mesh: Mesh) -> Cell:
    base, source = program.static.config, program.source
    values, rows = [], []
    for label, _ in cells:
        name, _, setting = label.partition("@")
        value = numbers(at_setting(base, setting))
        value["model.budget"] = value["model.budget"] or float(source.budget)
        values.append(value)
        rows.append(METHODS["joint" if name == FULL_TEXT else name].numbers)
    places: Any = np.full((2, len(cells)), [[source.which], [source.control]], np.int32)
    stacked = Cell(
        key=jax.vmap(jax.random.key)(np.array([seed for _, seed in cells], np.uint32)),
        numbers={k: np.array([v[k] for v in values], np.float32) for k in values[0]},
        method=methods.Numbers(*np.array(rows, np.float32).T),
        which=places[0],
        control=places[1],
    )
    return jax.device_put(stacked, NamedSharding(mesh, P("cells")))


def functions(program: Program, mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    """Jitted init, chunk and measure over a wave of cells, sharded by cell."""
    static = program.static

    def sharded(function, *in_specs, **kwargs):
        # Cells never talk to each other, so there is nothing for the check to protect.
        return jax.jit(
            jax.shard_map(
                function,
                mesh=mesh,
                in_specs=in_specs,
                out_specs=P("cells"),
                check_vma=False,
            ),
            **kwargs,
        )

    def init(cells):
        return jax.vmap(lambda c: loop.init(static, c))(cells)

    def chunk(state, cells, stored):
        return jax.vmap(lambda s, c: loop.chunk(static, c, s, stored))(state, cells)

    def measure(state, cells, splits):
        # One cell after another: the measurements of a whole lane at once would
        # multiply the memory and gain nothing.
        return jax.lax.map(
            lambda sc: probe.measure(static, sc[1], sc[0], *splits), (state, cells)
        )

    each, all_ = P("cells"), P()
    return (
        sharded(init, each),
        sharded(chunk, each, each, all_, donate_argnums=0),
        sharded(measure, each, each, all_),
    )


def compile_program(program: Program, splits: Splits, mesh: Mesh) -> Compiled:
    """Traces and compiles a program once for waves of `lane` cells a device."""
    lane = program.static.config.lane
    cells = _stack(program, [program.cells[0]] * lane * mesh.size, mesh)
    init, chunk, measure = functions(program, mesh)
    by_cell = NamedSharding(mesh, P("cells"))
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_cell),
        jax.eval_shape(init, cells),
    )
    return Compiled(
        init.lower(cells).compile(),
        chunk.lower(state, cells, splits.stored).compile(),
        measure.lower(state, cells, splits).compile(),
        state,
    )


def compile_all(
    programs: list[tuple[Program, Splits]], mesh: Mesh
) -> Iterable[Compiled]:
    """Compiles programs side by side, given in order as soon as each is ready.

    Tasks of one family ask for the same programs, which are compiled once.
    """
    workers = max(1, min(len(programs), mesh.size))
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    jobs: dict[Any, concurrent.futures.Future] = {}
    try:
        keys = []
        for program, splits in programs:
            shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), splits)
            key = program.static, str(shapes)
            if key not in jobs:
                jobs[key] = pool.submit(compile_program, program, splits, mesh)
            keys.append(key)
        for key in keys:
            yield jobs[key].result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_wave(
    program: Program,
    compiled: Compiled,
    cells: list[tuple[str, int]],
    splits: Splits,
    mesh: Mesh,
    folder: Path,
    *,
    every: float,
    stop: Callable[[], bool],
    advance: Callable[[int, dict[str, np.ndarray]], None],
    say: Callable[[str], None],
) -> Outcome | None:
    """Trains and measures some cells; None if `stop` asked to end before the last.

    The state is saved in `folder` at most every `every` seconds and when stopped; what
    is there from these same cells is where it goes on. `advance` is given the epoch and
    its curves (each [cells]) after every chunk.
    """
    size = program.static.config.lane * mesh.size
    stacked = _stack(program, cells + [cells[-1]] * (size - len(cells)), mesh)
    names = [[method, seed] for method, seed in cells]
    curves: dict[str, list] = {}
    found = checkpoint.restore(folder, compiled.state, say)
    if found is not None and found[2]["cells"] == names:
        epoch, state, curves = found[0], found[1], found[2]["curves"]
        for past in range(epoch):
            advance(past + 1, {k: np.array(v[past]) for k, v in curves.items()})
    else:
        epoch, state = 0, compiled.init(stacked)
    epochs, saved = program.static.config.epochs, time.monotonic()
    while epoch < epochs:
        state, curve = compiled.chunk(state, stacked, splits.stored)
        curve = {k: np.asarray(v)[: len(cells)] for k, v in curve.items()}
        for name, values in curve.items():
            curves.setdefault(name, []).append([float(v) for v in values])
        epoch += 1
        advance(epoch, curve)
        late = time.monotonic() - saved >= every
        if epoch < epochs and (stop() or late):
            meta = {"cells": names, "curves": curves}
            checkpoint.save(folder, epoch, state, meta)
            saved = time.monotonic()
        if stop() and epoch < epochs:
            return None
    measured = compiled.measure(state, stacked, splits)
    measured = jax.tree.map(lambda x: np.asarray(x)[: len(cells)], measured)
    return Outcome(
        cells=cells,
        alive=np.asarray(state.alive)[: len(cells)]
        & np.isfinite(measured.scalars["nll"]),
        curves={k: np.array(v, np.float32).T for k, v in curves.items()},
        measured=measured.scalars,
        examples={k: _small(v) for k, v in measured.examples.items()},
        class_means=measured.class_means,
    )


def _small(values: np.ndarray) -> np.ndarray:
    """Subset masks as bytes: a quarter of the room, and nothing is lost."""
    whole = values.dtype == np.float32 and ((values == 0) | (values == 1)).all()
    return values.astype(np.uint8) if whole else values


def arrays(split: Any) -> Arrays:
    """What the engine needs of a split."""
    return Arrays(
        split.inputs,
        split.lengths,
        split.labels,
        split.truth,
        split.targets,
        split.attributions,
    )


def make_splits(source: Source, mesh: Mesh) -> Splits:
    """What all cells of a task share, copied to every device."""
    stored: Any = ()
    nothing = np.zeros(0, bool)
    vocabulary: Any = (nothing, nothing, nothing)
    dataset = source.dataset
    if dataset is not None:
        stored = tuple(map(arrays, (dataset.train, dataset.validation, dataset.test)))
        vocabulary = (
            dataset.kind == 2,
            ~np.isnan(dataset.lexicon),
            np.array([word in STOP_WORDS for word in dataset.vocabulary], bool),
        )
    black_box = () if source.black_box is None else source.black_box.params
    shared = Splits(stored, probe.Vocabulary(*vocabulary), black_box)
    shared = jax.tree.map(jnp.asarray, shared)
    return jax.device_put(shared, NamedSharding(mesh, P()))
