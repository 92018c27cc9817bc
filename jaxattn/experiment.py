"""One run from a config to its folder: data, sweep, results, pictures.

runs/NAME/config.json         what was asked; another config is refused
          environment.json    versions and devices, one entry for each start
          metrics.jsonl       one object for every chunk of every wave
          checkpoints/        the wave under way (Orbax), finished waves (npz)
          seeds.csv           every number of every seed
          results.csv, .md    means over seeds, intervals, nulls
          masks/*.npz         masks of the test split, by method
          figures/*.svg
"""

import contextlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxattn import console, data, outputs, runtime, sweep, waves, workdir
from jaxattn.config import Config
from jaxattn.files import append_json, write_text
from jaxattn.results import Result
from jaxattn.sweep import Outcome, Program


class Run(NamedTuple):
    """What a run left behind; `signal` is the one that ended it early, if any."""

    folder: Path
    results: list[Result]
    findings: list[str]
    diverged: list[tuple[str, int]]
    signal: int | None


def run(
    config: Config,
    folder: Path,
    data_dir: Path | None = None,
    checkpoint_seconds: float = 15.0,
) -> Run:
    """Runs or resumes a config in `folder` and writes everything there.

    Raises: ValueError or OSError, one line, for whatever the user can put right: data,
    folder, a config that differs from the folder's, damaged checkpoints.
    """
    with workdir.hold(config, folder) as begun:
        dataset = data.load(
            config.task,
            config.data.length,
            config.data.min_count,
            data_dir,
            console.say,
        )
        mesh = sweep.mesh_of_all_devices()
        splits = sweep.make_splits(dataset, mesh)
        programs = sweep.plan(
            config, splits.train, len(dataset.vocabulary), len(dataset.classes)
        )
        workdir.claim(config, folder, dataset.digest, console.say)
        _start_block(config, dataset, programs, mesh, begun)
        with runtime.stop_signal(console.urgent) as stop:
            outcomes = _run_programs(
                programs, splits, mesh, folder, checkpoint_seconds, stop
            )
        if not outcomes:
            return Run(folder, [], [], [], stop.received)
        results, findings, diverged = outputs.write(
            folder, config, dataset, programs, outcomes
        )
        return Run(folder, results, findings, diverged, stop.received)


def _start_block(config, dataset, programs, mesh, begun) -> None:
    shares = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    shares = shares / shares.sum()
    balance = ", ".join(
        f"{name} {share:.3f}"
        for name, share in zip(dataset.classes, shares, strict=True)
    )
    sizes = " / ".join(
        f"{len(s.labels):,}" for s in (dataset.train, dataset.validation, dataset.test)
    )
    cut = dataset.cut["train"]
    lost = cut.tokens / (cut.tokens + dataset.train.lengths.sum())
    device = mesh.devices.flat[0]
    console.say(
        f"jaxattn {runtime.environment()['versions']['jaxattn'] or '(source)'} on "
        f"{mesh.size} {device.platform} device{'s' * (mesh.size > 1)}: "
        f"{len(config.methods)} methods x {config.seeds} seeds, "
        f"{'resuming a' if begun else 'new'} run"
    )
    console.say(f"{dataset.name}: {sizes} texts (train / validation / test)")
    console.say(f"classes of the training split: {balance}")
    console.say(
        f"{len(dataset.vocabulary):,} token types; {config.data.length} tokens kept, "
        f"{cut.examples:,} texts cut, {lost:.1%} of tokens lost"
    )


def _run_programs(
    programs: list[Program], splits, mesh, folder: Path, every: float, stop
) -> list[Outcome]:
    kept = folder / "checkpoints"
    outcomes, todo = [], []
    for number, program in enumerate(programs):
        finished = waves.finished(kept / f"program-{number}", console.say)
        outcomes += finished
        done = {cell for outcome in finished for cell in outcome.cells}
        left = [cell for cell in program.cells if cell not in done]
        if left:
            todo.append((number, program, left))
        shutil.rmtree(kept / f"program-{number}" / "done", ignore_errors=True)
    if not todo:
        return outcomes
    _trim(folder / "metrics.jsonl", outcomes)
    console.say(
        f"compiling {len(todo)} program{'s' * (len(todo) > 1)} "
        "(kept in a cache for the next run) ..."
    )
    compiled = sweep.compile_all([p for _, p, _ in todo], splits, mesh)
    # All programs of a run have the same data and batch size.
    static = todo[0][1].static
    per_epoch = static.steps_per_epoch * static.config.batch_size
    for (number, program, left), functions in zip(todo, compiled, strict=True):
        if stop.received:
            break
        size = program.static.config.lane * mesh.size
        # A wave on another number of devices has other cells: its state is no use here.
        running = kept / f"program-{number}" / f"running-{size}"
        groups = [left[i : i + size] for i in range(0, len(left), size)]
        epochs = program.static.config.epochs
        with console.bar(program.label, len(groups) * epochs) as advance:
            for cells in groups:

                def log(epoch, curve, cells=cells, number=number, advance=advance):
                    record = {"program": number, "epoch": epoch, "cells": cells}
                    append_json(folder / "metrics.jsonl", record | curve)
                    finite = [v for v in curve["train_nll"] if np.isfinite(v)]
                    loss = np.mean(finite) if finite else np.nan
                    advance(1, len(cells) * per_epoch, f"loss {loss:.3f}")

                outcome = sweep.run_wave(
                    program,
                    functions,
                    cells,
                    splits,
                    mesh,
                    running,
                    every=every,
                    stop=lambda: stop.received is not None,
                    advance=log,
                    say=console.say,
                )
                if outcome is not None:
                    waves.keep(kept / f"program-{number}", outcome)
                    outcomes.append(outcome)
                    _remove(running)
                if stop.received:
                    break
    return outcomes


def _remove(running: Path) -> None:
    """Removes a checkpoint so that a kill in between leaves no half of it behind."""
    if running.exists():
        done = running.with_name("done")
        shutil.rmtree(done, ignore_errors=True)
        running.rename(done)
        shutil.rmtree(done, ignore_errors=True)


def _trim(path: Path, outcomes: list[Outcome]) -> None:
    """Drops the lines of waves that are not finished: they will be written again."""
    if not path.exists():
        return
    done = {cell for outcome in outcomes for cell in outcome.cells}
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # A killed process may leave half a line.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            cells = json.loads(line)["cells"]
            if all(tuple(cell) in done for cell in cells):
                lines.append(line + "\n")
    write_text(path, "".join(lines))
