"""Many cells: grouped into programs, run in waves over all devices, resumable.

A program is what compiles once: its cells (method, seed) differ in numbers only. A wave
is as many cells as run at once, `lane` on each device; its shape is always the same,
the last one filled up and the filling dropped, so that one compilation serves all waves
and a cell's result does not depend on which cells run beside it.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattn import checkpoint, forward, loop, methods, probe
from jaxattn.config import Config, numbers
from jaxattn.forward import Arrays, Cell, Static
from jaxattn.methods import METHODS

FULL_TEXT = "full_text"
"""The reference cell: `joint` with attention over the words."""


class Program(NamedTuple):
    label: str
    static: Static
    cells: tuple[tuple[str, int], ...]
    """(method, seed); method `full_text` is `joint` over the words."""


class Splits(NamedTuple):
    train: Arrays
    validation: Arrays
    test: Arrays
    vocabulary: probe.Vocabulary


class Outcome(NamedTuple):
    """Arrays of finished cells, all with the cells as their first axis (numpy)."""

    cells: list[tuple[str, int]]
    alive: np.ndarray
    curves: dict[str, np.ndarray]
    measured: dict[str, np.ndarray]
    masks: np.ndarray
    class_means: np.ndarray


def plan(config: Config, train: Arrays, tokens: int, classes: int) -> list[Program]:
    """The programs of a run: methods of one structure share one.

    `tokens` is the size of the vocabulary. Raises: ValueError where a batch is
    larger than the training split.
    """
    groups: dict[tuple[bool, bool], list[str]] = {}
    for name in config.methods:
        groups.setdefault(METHODS[name].structure, []).append(name)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    programs = []
    for names in groups.values():
        method = METHODS[names[0]]
        static = forward.make_static(config, method, train, tokens, classes)
        label = names[0] if len(names) == 1 else f"{len(names)} methods"
        cells = tuple((name, seed) for seed in seeds for name in names)
        programs.append(Program(label, static, cells))
    if config.model.values != "words":
        # Without noise, which belongs to the probe: the reference must be strong.
        model = dataclasses.replace(config.model, values="words", normalizer="softmax")
        words = dataclasses.replace(config, model=model, epochs=config.full_text_epochs)
        static = forward.make_static(words, METHODS["joint"], train, tokens, classes)
        cells = tuple((FULL_TEXT, seed) for seed in seeds)
        programs.append(Program("full text", static, cells))
    return programs


class Compiled(NamedTuple):
    init: Callable
    chunk: Callable
    measure: Callable
    state: Any
    """Shapes and shardings of a wave's state, for restoring."""


def mesh_of_all_devices() -> Mesh:
    return Mesh(np.array(jax.devices()), ("cells",))


def _stack(program: Program, cells: list[tuple[str, int]], mesh: Mesh) -> Cell:
    values = numbers(program.static.config)
    rows = [METHODS["joint" if m == FULL_TEXT else m].numbers for m, _ in cells]
    stacked = Cell(
        key=jax.vmap(jax.random.key)(np.array([seed for _, seed in cells], np.uint32)),
        numbers={k: np.full(len(cells), v, np.float32) for k, v in values.items()},
        method=methods.Numbers(*np.array(rows, np.float32).T),
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

    def chunk(state, cells, train, validation):
        return jax.vmap(lambda s, c: loop.chunk(static, c, s, train, validation))(
            state, cells
        )

    def measure(state, cells, train, test, vocabulary):
        # One cell after another: the measurements of a whole lane at once would
        # multiply the memory and gain nothing.
        return jax.lax.map(
            lambda sc: probe.measure(static, sc[1], sc[0], train, test, vocabulary),
            (state, cells),
        )

    each, all_ = P("cells"), P()
    return (
        sharded(init, each),
        sharded(chunk, each, each, all_, all_, donate_argnums=0),
        sharded(measure, each, each, all_, all_, all_),
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
    train, validation, test, vocabulary = splits
    return Compiled(
        init.lower(cells).compile(),
        chunk.lower(state, cells, train, validation).compile(),
        measure.lower(state, cells, train, test, vocabulary).compile(),
        state,
    )


def compile_all(
    programs: list[Program], splits: Splits, mesh: Mesh
) -> Iterable[Compiled]:
    """Compiles programs side by side, given in order as soon as each is ready."""
    workers = max(1, min(len(programs), mesh.size))
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        jobs = [pool.submit(compile_program, p, splits, mesh) for p in programs]
        for job in jobs:
            yield job.result()
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
        state, curve = compiled.chunk(state, stacked, splits.train, splits.validation)
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
    measured = compiled.measure(
        state, stacked, splits.train, splits.test, splits.vocabulary
    )
    measured = jax.tree.map(lambda x: np.asarray(x)[: len(cells)], measured)
    return Outcome(
        cells=cells,
        alive=np.asarray(state.alive)[: len(cells)]
        & np.isfinite(measured.scalars["nll"]),
        curves={k: np.array(v, np.float32).T for k, v in curves.items()},
        measured=measured.scalars,
        masks=measured.masks,
        class_means=measured.class_means,
    )


def arrays(split: Any, mesh: Mesh) -> Arrays:
    """A numpy split (tokens, lengths, labels) copied to every device."""
    kept = Arrays(split.tokens, split.lengths, split.labels)
    return jax.device_put(kept, NamedSharding(mesh, P()))


def make_splits(dataset: Any, mesh: Mesh) -> Splits:
    """The three splits of a `jaxattn.data.Dataset` on every device."""
    vocabulary = probe.Vocabulary(dataset.kind == 2, ~np.isnan(dataset.lexicon))
    return Splits(
        arrays(dataset.train, mesh),
        arrays(dataset.validation, mesh),
        arrays(dataset.test, mesh),
        jax.device_put(jax.tree.map(jnp.asarray, vocabulary), NamedSharding(mesh, P())),
    )
