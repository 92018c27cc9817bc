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
import hashlib
import json
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxattn import (
    console,
    leaks,
    outputs,
    runtime,
    scrutiny,
    source,
    sweep,
    waves,
    workdir,
)
from jaxattn.config import Config
from jaxattn.files import append_json, write_text
from jaxattn.plan import Program, plan
from jaxattn.results import Result
from jaxattn.source import Source, majority
from jaxattn.sweep import Outcome


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
        cache = folder / "black_boxes"
        sources = [
            source.load(config, task, data_dir, cache, console.say)
            for task in config.tasks
        ]
        mesh = sweep.mesh_of_all_devices()
        splits = {s.task: sweep.make_splits(s, mesh) for s in sources}
        programs = [p for s in sources for p in plan(config, s)]
        workdir.claim(config, folder, _digest(sources), console.say)
        _start_block(config, sources, mesh, begun)
        _say_prices(config, programs)
        with runtime.stop_signal(console.urgent) as stop:
            outcomes = _run_programs(
                programs, splits, mesh, folder, checkpoint_seconds, stop
            )
        if not outcomes:
            return Run(folder, [], [], [], stop.received)
        results, findings, diverged = outputs.write(
            folder, config, sources, programs, outcomes
        )
        return Run(folder, results, findings, diverged, stop.received)


def _digest(sources: list[Source]) -> str:
    digests = [s.digest for s in sources]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _start_block(config, sources, mesh, begun) -> None:
    device = mesh.devices.flat[0]
    tasks = f"{len(sources)} tasks x " if len(sources) > 1 else ""
    settings = f" x {1 + len(config.also)} settings" if config.also else ""
    console.say(
        f"jaxattn {runtime.environment()['versions']['jaxattn'] or '(source)'} on "
        f"{mesh.size} {device.platform} device{'s' * (mesh.size > 1)}: {tasks}"
        f"{len(config.methods)} methods{settings} x {config.seeds} seeds, "
        f"{'resuming a' if begun else 'new'} run"
    )
    for s in sources:
        _describe(config, s)


def _say_prices(config: Config, programs: list[Program]) -> None:
    audited = sum(len(p.cells) for p in programs if leaks.applies(p))
    if audited:
        console.say(f"leak: {leaks.price(audited)}")
    for program in programs:
        if scrutiny.applies(program.static):
            prices = scrutiny.prices(config, program.source.inputs.length)
            for group in config.metrics:
                if group in prices:
                    price = f"{group}: {prices[group]}, each seed and method"
                    console.say(textwrap.fill(price, 80, subsequent_indent="  "))
            return


def _describe(config, s: Source) -> None:
    data, dataset = config.data, s.dataset
    if dataset is None:
        console.say(
            f"{s.task}: {data.examples:,} / {data.test_examples // 4:,} / "
            f"{data.test_examples:,} generated examples (train / validation / test), "
            f"{s.inputs.length} features, own ones for each seed"
        )
        return
    sizes = " / ".join(
        f"{len(x.labels):,}" for x in (dataset.train, dataset.validation, dataset.test)
    )
    kind = "texts" if dataset.vocabulary else "examples"
    console.say(f"{s.task}: {sizes} {kind} (train / validation / test)")
    if s.black_box is not None:
        console.say(
            f"the model to explain has accuracy {s.black_box.accuracy:.3f} on the test "
            "split; its answers are the labels from here on"
        )
    shares = majority(s, "train")
    assert shares is not None
    named = [f"{n} {x:.3f}" for n, x in zip(dataset.classes, shares, strict=True)]
    console.say(f"classes of the training split: {', '.join(named)}")
    if not dataset.vocabulary:
        return
    cut = dataset.cut.get("train")
    text = f"{len(dataset.vocabulary):,} token types; {data.length} tokens kept"
    if cut is not None:
        lost = cut.tokens / (cut.tokens + dataset.train.lengths.sum())
        text += f", {cut.examples:,} texts cut, {lost:.1%} of tokens lost"
    console.say(text)


def _run_programs(
    programs: list[Program], splits, mesh, folder: Path, every: float, stop
) -> list[list[Outcome]]:
    """The outcomes of each program, as far as they are finished."""
    kept = folder / "checkpoints"
    outcomes: list[list[Outcome]] = [[] for _ in programs]
    todo = []
    for number, program in enumerate(programs):
        outcomes[number] = waves.finished(kept / f"program-{number}", console.say)
        done = {cell for outcome in outcomes[number] for cell in outcome.cells}
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
    compiled = sweep.compile_all([(p, splits[p.source.task]) for _, p, _ in todo], mesh)
    for (number, program, left), functions in zip(todo, compiled, strict=True):
        if stop.received:
            break
        static = program.static
        per_epoch = static.steps_per_epoch * static.config.batch_size
        size = static.config.lane * mesh.size
        # A wave on another number of devices has other cells: its state is no use here.
        running = kept / f"program-{number}" / f"running-{size}"
        groups = [left[i : i + size] for i in range(0, len(left), size)]
        with console.bar(program.label, len(groups) * static.config.epochs) as advance:
            for cells in groups:

                def log(
                    epoch,
                    curve,
                    cells=cells,
                    number=number,
                    advance=advance,
                    n=per_epoch,
                    static=static,
                ):
                    record = {"program": number, "epoch": epoch, "cells": cells}
                    append_json(folder / "metrics.jsonl", record | curve)
                    finite = [v for v in curve["train_nll"] if np.isfinite(v)]
                    note = f"loss {np.mean(finite) if finite else np.nan:.3f}"
                    if epoch == static.config.epochs:
                        note += ", measuring"
                    advance(1, len(cells) * n, note)

                outcome = sweep.run_wave(
                    program,
                    functions,
                    cells,
                    splits[program.source.task],
                    mesh,
                    running,
                    every=every,
                    stop=lambda: stop.received is not None,
                    advance=log,
                    say=console.say,
                )
                if outcome is not None:
                    if leaks.applies(program):
                        outcome = leaks.added(program, outcome)
                    waves.keep(kept / f"program-{number}", outcome)
                    outcomes[number].append(outcome)
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


def _trim(path: Path, outcomes: list[list[Outcome]]) -> None:
    """Drops the lines of waves that are not finished: they will be written again."""
    if not path.exists():
        return
    done = [{cell for o in found for cell in o.cells} for found in outcomes]
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # A killed process may leave half a line.
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            record = json.loads(line)
            if all(tuple(cell) in done[record["program"]] for cell in record["cells"]):
                lines.append(line + "\n")
    write_text(path, "".join(lines))
