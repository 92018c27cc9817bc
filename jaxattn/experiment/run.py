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
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxattn import config as configs
from jaxattn.config import Config, Name
from jaxattn.experiment import announce, artifacts, outputs, placement, schedule, wave
from jaxattn.experiment import source as data_sources
from jaxattn.experiment.folder import claim, hold
from jaxattn.experiment.plan import check_names, plan
from jaxattn.experiment.source import Loading, Source
from jaxattn.experiment.wave import Job, Outcome
from jaxattn.reports.run import Run
from jaxattn.system import console, processes, runtime
from jaxattn.system.runtime import Stop

logger = logging.getLogger("jaxattn")


class Execution(NamedTuple):
    """How a run is carried out; none of it changes a number."""

    checkpoint_seconds: float = 15.0
    """The least time between two checkpoints of what is under way."""
    model_gigabytes: float = artifacts.MOST_GIGABYTES
    """Room for parameters: of the first seeds where not of all."""
    dry_run: bool = False
    """Say what would be run, and what it would cost, and leave nothing."""
    stopping: Callable[[], contextlib.AbstractContextManager[Stop]] = lambda: (
        contextlib.nullcontext(Stop())
    )
    """What may end it early: the command gives `runtime.stop_signal`, so that a run
    inside somebody's program leaves its signal handlers alone."""


def run(
    config: Config,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    quiet: bool = False,
    execution: Execution = Execution(),  # noqa: B008
) -> Run:
    """Runs or resumes a config in a folder and writes everything there.

    Args:
        config: what is run.
        folder: where it is kept; runs/NAME if None.
        data_dir: where the embedded data are prepared; TFDS's usual place if None.
        download: whether data may be fetched from the network.
        quiet: print nothing.
        execution: how often it is saved, and how much is kept.

    Returns:
        The run with its results and findings.

    Raises:
        ValueError or OSError: one line, for whatever the user can put right: a field,
            data, folder, a config that differs from the folder's, damaged checkpoints.

    >>> import jaxattn
    >>> config = jaxattn.Config(name="probe", epochs=1, seeds=2)
    >>> run = jaxattn.run(config)  # doctest: +SKIP
    >>> run.save_html("probe.html")  # doctest: +SKIP
    """
    check_names(configs.check(config))
    folder = Path(folder or Path("runs") / config.name)
    data_dir = None if data_dir is None else Path(data_dir)
    runtime.configure()  # from Python, nobody has done it before
    dry_run = execution.dry_run
    with contextlib.ExitStack() as held:
        held.enter_context(console.messages_shown(quiet))
        pool = runtime.threads()
        if not pool.ok:
            logger.info(f"warning: {pool.state} -> {pool.todo}")
        begun = processes.lead(lambda: held.enter_context(hold(config, folder)))
        begun = processes.share(begun)
        cache = None if dry_run else folder / "black_boxes"
        sources = _load(config, Loading(data_dir, cache, download))
        mesh = wave.mesh_of_all_devices()
        splits = {s.task: wave.make_splits(s, mesh) for s in sources}
        programs = [p for s in sources for p in plan(config, s)]
        if not dry_run:
            processes.lead(lambda: claim(config, folder, _digest(sources)))
        announce.tell(config, sources, programs, mesh, begun)
        outcomes: list[list[Outcome]] = [[] for _ in programs]
        if processes.first():
            outcomes = schedule.finished(folder, len(programs), dry_run)
        sweep = outputs.Sweep(config, sources, programs, outcomes)
        every = zip(programs, _left(sweep), strict=True)
        left = [
            Job(i, program, splits[program.source.task], mesh, cells, config.lane)
            for i, (program, cells) in enumerate(every)
            if cells
        ]
        if dry_run and not left:
            logger.info("all of its cells are finished")

        def finish(number: int, outcome: Outcome) -> None:
            outcomes[number].append(outcome)
            outputs.write_seeds_so_far(folder, sweep)

        with execution.stopping() as stop:
            if left:
                planned = _planned(left, folder, timed=dry_run or not begun)
                gigabytes = execution.model_gigabytes
                room = artifacts.room(programs, gigabytes)
                logger.info(artifacts.told(room, config.seeds, gigabytes))
            if left and not dry_run:
                processes.lead(lambda: placement.keep_shapes(folder, planned))
                if room.seeds:
                    processes.lead(lambda: artifacts.describe(folder, config, programs))
                if processes.first():
                    schedule.trim(folder / "metrics.jsonl", left)
                orders = schedule.Orders(
                    folder,
                    execution.checkpoint_seconds,
                    lambda: stop.received is not None,
                    finish,
                    room.seeds,
                )
                schedule.run(planned, orders)
            received = int(processes.most(stop.received or 0)[0]) or None
        if dry_run or not processes.first() or not any(outcomes):
            return Run(folder, None, [], [], received)
        return outputs.write(folder, sweep)._replace(signal=received)


def _load(config: Config, loading: Loading) -> list[Source]:
    """The sources of a run; what has to be prepared, the first process prepares."""

    def load() -> list[Source]:
        return [data_sources.load(config, task, loading) for task in config.tasks]

    return processes.lead(load) or load()


def _left(sweep: outputs.Sweep) -> list[list[Name]]:
    """The cells of each program that are left to run, as the first process sees it."""
    left = []
    for program, parts in zip(sweep.programs, sweep.outcomes, strict=True):
        done = {cell for outcome in parts for cell in outcome.cells}
        left.append([cell for cell in program.cells if cell not in done])
    return [[(label, seed) for label, seed in cells] for cells in processes.share(left)]


def _planned(left: list[Job], folder: Path, timed: bool) -> list[Job]:
    """What is left, compiled, and told: programs, cells, memory, time."""
    logger.info(
        f"compiling {len(left)} program{'s' * (len(left) > 1)} "
        "(kept in a cache for the next run) ..."
    )
    begun = time.monotonic()
    planned = placement.make_plan(left, folder, timed)
    logger.info(f"ready to train after {time.monotonic() - begun:.1f} s")
    if not console.settings.quiet:
        console.table(*placement.table(planned))
    seconds = sum(job.seconds for job in planned)
    if seconds:
        logger.info(
            f"training takes about {console.clock(seconds)}; measuring comes to it"
        )
    return planned


def _digest(sources: list[Source]) -> str:
    digests = [s.digest for s in sources]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
