"""One run from a config to its folder: data, sweep, results, pictures.

runs/NAME/config.json         what was asked; another config is refused
          environment.json    versions and devices, one entry for each start
          metrics.jsonl       one object for every chunk of every wave
          checkpoints/        waves under way (Orbax), finished waves (npz), shapes
          seeds.csv           every number of every seed, as soon as it is finished
          results.csv, .md    means over seeds, intervals, nulls
          masks/*.npz         masks of the test split, by method
          models/             parameters of every seed, for `jaxattn.load_model`
          data/               names of classes and words, for the report
          figures/*.svg
          report.html         all of it to look at, in one file
"""

import contextlib
import hashlib
import math
import os
import time
from pathlib import Path
from typing import Any

import jax

from jaxattn import (
    asked,
    console,
    hosts,
    jobs,
    leaks,
    machine,
    models,
    outputs,
    runtime,
    schedule,
    scrutiny,
    source,
    sweep,
    workdir,
)
from jaxattn import config as configs
from jaxattn.config import Config
from jaxattn.jobs import Job, Plan
from jaxattn.nn import model as nn_model
from jaxattn.plan import FULL_TEXT, Program, plan
from jaxattn.runs import Run
from jaxattn.source import Source, majority
from jaxattn.sweep import Outcome


def run(
    config: Config,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 15.0,
    dry_run: bool = False,
    download: bool = False,
    model_gigabytes: float = models.MOST_GIGABYTES,
) -> Run:
    """Runs or resumes a config in `folder` (runs/NAME) and writes everything there.

    `data_dir` is where the embedded data are prepared (TFDS's usual place).
    `checkpoint_seconds` is the least time between two checkpoints of what is under way.
    `dry_run` says what would be run, and what it would cost, and leaves nothing. With
    `download`, data may be fetched from the network. Parameters are kept up to
    `model_gigabytes`, of the first seeds where not of all.

    Raises: ValueError or OSError, one line, for whatever the user can put right: a
    field, data, folder, a config that differs from the folder's, damaged checkpoints.

    >>> import jaxattn
    >>> config = jaxattn.Config(name="probe", epochs=1, seeds=2)
    >>> run = jaxattn.run(config)  # doctest: +SKIP
    >>> run.save_html("probe.html")  # doctest: +SKIP
    """
    configs.check(config)
    folder = Path(folder or Path("runs") / config.name)
    data_dir = None if data_dir is None else Path(data_dir)
    runtime.configure()  # from Python, nobody has done it before
    pool = machine.threads()
    if not pool.ok:
        console.paragraph(f"warning: {pool.found} -> {pool.todo}")
    with contextlib.ExitStack() as held:
        begun = hosts.lead(lambda: held.enter_context(workdir.hold(config, folder)))
        begun = hosts.share(begun)
        cache = None if dry_run else folder / "black_boxes"
        sources = _load(config, data_dir, cache, download)
        mesh = sweep.mesh_of_all_devices()
        splits = {s.task: sweep.make_splits(s, mesh) for s in sources}
        programs = [p for s in sources for p in plan(config, s)]
        if not dry_run:
            digest = _digest(sources)
            hosts.lead(lambda: workdir.claim(config, folder, digest, console.say))
        _start_block(config, sources, programs, mesh, begun)
        _say_prices(config, programs)
        outcomes: list[list[Outcome]] = [[] for _ in programs]
        if hosts.first():
            outcomes = schedule.finished(folder, programs, dry_run)
        left = _left(config, programs, outcomes, splits)
        if not left and dry_run:
            console.say("all of its cells are finished")
        received = None
        with runtime.stop_signal(console.urgent) as stop:
            if left:
                planned = _planned(left, mesh, folder, begun and not dry_run)
                room = models.room(programs, model_gigabytes)
                console.say(models.say(room, config.seeds, model_gigabytes))
            if left and not dry_run:
                hosts.lead(lambda: jobs.keep_shapes(folder, planned))
                if room.seeds:
                    hosts.lead(lambda: models.describe(folder, config, programs))

                def finish(number: int, outcome: Outcome) -> None:
                    outcomes[number].append(outcome)
                    outputs.write_seeds_so_far(
                        folder, config, sources, programs, outcomes
                    )

                if hosts.first():
                    _trim(folder, left)
                schedule.run(
                    planned,
                    mesh,
                    folder,
                    checkpoint_seconds,
                    stop,
                    finish,
                    room.seeds,
                )
            received = int(hosts.most(stop.received or 0)[0]) or None
        if dry_run or not hosts.first() or not any(outcomes):
            return Run(folder, [], [], [], received)
        results, findings, diverged = outputs.write(
            folder, config, sources, programs, outcomes
        )
        return Run(folder, results, findings, diverged, received)


def _load(
    config: Config, data_dir: Path | None, cache: Path | None, download: bool
) -> list[Source]:
    """The sources of a run; what has to be prepared, the first process prepares."""

    def load() -> list[Source]:
        return [
            source.load(config, task, data_dir, cache, console.say, download)
            for task in config.tasks
        ]

    return hosts.lead(load) or load()


def _left(
    config: Config,
    programs: list[Program],
    outcomes: list[list[Outcome]],
    splits: dict[str, Any],
) -> list[Job]:
    """The programs that have cells left to run, as the first process sees it."""
    left = []
    for program, found in zip(programs, outcomes, strict=True):
        done = {cell for outcome in found for cell in outcome.cells}
        left.append([cell for cell in program.cells if cell not in done])
    return [
        Job(
            number,
            program,
            splits[program.source.task],
            [(label, seed) for label, seed in cells],
            config.lane,
        )
        for number, (program, cells) in enumerate(
            zip(programs, hosts.share(left), strict=True)
        )
        if cells
    ]


def _planned(left: list[Job], mesh: Any, folder: Path, resumed: bool) -> Plan:
    """The plan of what is left, told: programs, cells, memory, time."""
    console.say(
        f"compiling {len(left)} program{'s' * (len(left) > 1)} "
        "(kept in a cache for the next run) ..."
    )
    begun = time.monotonic()
    planned = jobs.make_plan(left, mesh, folder, timed=not resumed)
    console.say(f"ready to train after {time.monotonic() - begun:.1f} s")
    headers, rows = jobs.table(planned, mesh)
    if not console.settings.quiet:
        console.table(headers, rows)
    seconds = sum(price.seconds for price in planned.prices)
    if seconds:
        console.say(
            f"training takes about {console.clock(seconds)}; measuring comes to it"
        )
    return planned


def _trim(folder: Path, left: list[Job]) -> None:
    cells_of = {job.number: set(job.left) for job in left}
    schedule.trim(
        folder / "metrics.jsonl",
        lambda number, cells: not cells & cells_of.get(number, set()),
    )


def _digest(sources: list[Source]) -> str:
    digests = [s.digest for s in sources]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _start_block(config, sources, programs, mesh, begun) -> None:
    device = mesh.devices.flat[0]
    tasks = f"{len(sources)} tasks x " if len(sources) > 1 else ""
    settings = f" x {1 + len(config.also)} settings" if config.also else ""
    console.paragraph(
        f"jaxattn {runtime.environment()['versions']['jaxattn'] or '(source)'} on "
        f"{_many(mesh.size, f'{device.platform} device')}: {tasks}"
        f"{_many(len(config.methods), 'method')}{settings} x "
        f"{_many(config.seeds, 'seed')}, "
        f"{'resuming a' if begun else 'new'} run"
    )
    for s in sources:
        _describe(config, s)
    console.paragraph(f"parameters of each model: {_parameters_of(programs)}")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _parameters_of(programs: list[Program]) -> str:
    """How many numbers a model learns; programs of several tasks differ in it."""
    texts = []
    for name, full in (("", False), (" (full text)", True)):
        models = {
            p.static.model for p in programs if (p.cells[0][0] == FULL_TEXT) == full
        }
        counts = sorted({_parameters(m) for m in models})
        ends = dict.fromkeys(f"{n:,}" for n in (counts[:1] + counts[-1:]))
        texts += [" to ".join(ends) + name] if counts else []
    return ", ".join(texts)


def _parameters(model: nn_model.Model) -> int:
    shapes = jax.eval_shape(lambda: nn_model.init(model, jax.random.key(0)))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def _say_prices(config: Config, programs: list[Program]) -> None:
    audited = sum(len(p.cells) for p in programs if leaks.applies(p))
    if audited:
        console.paragraph(f"leak: {leaks.price(audited)}")
    shown = [p for p in programs if asked.applies(p)]
    if shown:
        console.paragraph(asked.price(shown))
    for program in programs:
        if scrutiny.applies(program.static):
            prices = scrutiny.prices(config, program.source.inputs.length)
            for group in config.metrics:
                if group in prices:
                    console.paragraph(f"{group}: {prices[group]}, each seed and method")
            return


def _describe(config, s: Source) -> None:
    data, dataset = config.data, s.dataset
    if dataset is None:
        console.paragraph(
            f"{s.task}: {data.examples:,} / {data.test_examples // 4:,} / "
            f"{data.test_examples:,} generated examples (train / validation / test), "
            f"{s.inputs.length} features, own ones for each seed"
        )
        return
    sizes = " / ".join(
        f"{len(x.labels):,}" for x in (dataset.train, dataset.validation, dataset.test)
    )
    kind = "texts" if dataset.vocabulary else "examples"
    console.paragraph(f"{s.task}: {sizes} {kind} (train / validation / test)")
    if s.black_box is not None:
        console.paragraph(
            f"the model to explain {s.black_box.told}; its answers are the labels from "
            "here on"
        )
    shares = majority(s, "train")
    assert shares is not None
    named = [f"{n} {x:.3f}" for n, x in zip(dataset.classes, shares, strict=True)]
    if len(named) > 10:
        few = f"{len(named)} classes, of {shares.min():.3f} to {shares.max():.3f}"
        console.paragraph(f"{few} of the training split")
    else:
        console.paragraph(f"classes of the training split: {', '.join(named)}")
    if not dataset.vocabulary:
        return
    cut = dataset.cut.get("train")
    text = f"{len(dataset.vocabulary):,} token types; {data.length} tokens kept"
    if cut is not None:
        lost = cut.tokens / (cut.tokens + dataset.train.lengths.sum())
        text += f", {cut.examples:,} texts cut, {lost:.1%} of tokens lost"
    console.paragraph(text)
