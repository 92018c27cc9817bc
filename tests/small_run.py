"""Runs small enough for tests, and what may befall them.

All places of the package that tests reach into stand here, once: compiled programs are
kept between the runs of a process, pictures are left out, signals come after a chunk.
"""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np

from jaxattn import train
from jaxattn.data import tasks
from jaxattn.experiment import outputs, schedule, wave
from jaxattn.system import console, files

ROOT = pathlib.Path(__file__).parents[1]
MAIN = "import sys; from jaxattn.train import main; sys.exit(main(sys.argv[1:]))"

# Of the embedded texts: any config file becomes small with these.
SMALL = {
    "--seeds": "2",
    "--epochs": "1",
    "--full-text-epochs": "1",
    "--batch-size": "1024",
    "--lane": "1",
    "--model.features": "4",
    "--model.hidden": "4",
    "--data.length": "8",
    "--data.min-count": "20",
}

# The words of one program are the full-text reference of another, so that both
# compile once.
WORDS = SMALL | {
    "--model.values": "inputs",
    "--model.normalizer": "softmax",
    "--methods": "joint mask_swap",
    "--seeds": "3",
    "--epochs": "3",
    "--full-text-epochs": "3",
}
PROBE = WORDS | {
    "--model.values": "default_tokens",
    "--model.normalizer": "gumbel_softmax",
}

# Of data of one's own (the fixture `tiny`), a second a run: where it counts only that
# there are two programs, of two waves and of one, three chunks each.
TINY = WORDS | {
    "--methods": "joint uniform mask_swap",
    "--seeds": "2",
    "--batch-size": "64",
    "--data.length": "6",
    "--data.min-count": "3",
    "--metrics": "",
}

WAVES, CHUNKS = 3, 9


class Finished(NamedTuple):
    """A finished run that tests share and do not change, and what it printed."""

    folder: pathlib.Path
    words: list[str]
    out: str
    err: str


def arguments(folder, data_dir, base=PROBE, **changes) -> list[str]:
    """The command line of a run; `model__hidden="2"` becomes `--model.hidden 2`."""
    flags = {"--workdir": str(folder), "--data-dir": str(data_dir)} | base
    for name, value in changes.items():
        flags["--" + name.replace("__", ".").replace("_", "-")] = value
    words = []
    for flag, value in flags.items():
        words += [flag, *value.split()]
    return words


def keep_compiled(monkeypatch, kept={}) -> None:  # noqa: B006
    """Lets runs of this process share data and compiled programs."""
    load, training = tasks.load, wave.compile_training
    measuring = wave.compile_measure

    def load_once(task, length, min_count, data_dir):
        key = ("data", task, length, min_count, str(data_dir))
        if key not in kept:
            kept[key] = load(task, length, min_count, data_dir)
        return kept[key]

    def once(compile_program, job, *shape):
        source, cell = job.program.source, job.program.cell
        same = dataclasses.replace(cell.config, full_text_epochs=1)
        structure = jax.tree.structure(dataclasses.replace(cell, config=same))
        where = shape or (job.compiled.shape,)
        key = (compile_program, source.digest, structure, where, job.mesh)
        if key not in kept:
            kept[key] = compile_program(job, *shape)
        return kept[key]

    monkeypatch.setattr(tasks, "load", load_once)
    monkeypatch.setattr(wave, "compile_training", functools.partial(once, training))
    monkeypatch.setattr(wave, "compile_measure", functools.partial(once, measuring))


def compile_nothing(monkeypatch) -> None:
    """Lets a run fail that has something left to do."""

    def never(*arguments, **more):
        raise AssertionError("nothing is left to compile or to run")

    monkeypatch.setattr(wave, "compile_training", never)
    monkeypatch.setattr(wave, "run_wave", never)


def draw_nothing(monkeypatch) -> None:
    """Leaves figures and report out, a quarter of the time of a small run."""
    monkeypatch.setattr(outputs.page, "write", lambda run: None)


def run(*words) -> int:
    """The command in this process; its exit code."""
    try:
        return train.main(list(map(str, words)))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        console.settings.quiet = False


def after_chunk(monkeypatch, chunk: int, do) -> None:
    """Calls `do` in the `chunk`-th chunk of the next run, once."""
    append, seen = files.append_json, []

    def append_and_do(path, record):
        append(path, record)
        seen.append(record)
        if len(seen) == chunk:
            do()

    monkeypatch.setattr(schedule, "append_json", append_and_do)


def stop_after(monkeypatch, chunk: int, number: int = signal.SIGTERM) -> None:
    """Sends this process a signal in the `chunk`-th chunk of its next run, once."""
    after_chunk(monkeypatch, chunk, lambda: signal.raise_signal(number))


# For a process of its own: long enough for a signal to arrive in the middle of it.
SLOW = """
import time
from jaxattn.experiment import schedule
append = schedule.append_json
def slowly(path, record):
    append(path, record)
    time.sleep(0.5)
schedule.append_json = slowly
"""

# Kills its process at the `at`-th operation on files of the run, or a moment after it.
KILLER = """
import os, random, signal, sys, threading
def kill_at(at, folder, seed=0, delay=0):
    chance, seen = random.Random(seed), []
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)
    def watch(event, arguments):
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            if folder in str(arguments[0]):
                seen.append(event)
                if len(seen) == at and delay:
                    threading.Timer(chance.random() * delay, kill).start()
                elif len(seen) == at:
                    kill()
    sys.addaudithook(watch)
"""


def start(*words, code: str = MAIN, before: str = "", **options) -> subprocess.Popen:
    """The command, or other code, in a process of its own; `before` is run first."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{code}", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def contents(folder: pathlib.Path) -> dict:
    """All that the same command must give again, bit for bit, by file name."""
    kept: dict = {
        name: (folder / name).read_bytes()
        for name in ("config.json", "seeds.csv", "results.csv", "results.md")
    }
    for path in sorted((folder / "models").rglob("*.*")):
        kept[str(path.relative_to(folder))] = path.read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    kept["metrics.jsonl"] = [json.loads(line) for line in lines]
    for path in sorted((folder / "masks").iterdir()):
        with np.load(path) as stored:
            for name in stored.files:
                array = stored[name]
                content = str(array.dtype), array.shape, array.tobytes()
                kept[f"{path.name}/{name}"] = content
    return kept


def unlike(one: dict, other: dict) -> list[str]:
    """Names of what differs between two `contents`."""
    return [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]


def flip(path: pathlib.Path, place: float = 0.5) -> None:
    """Flips one bit of a file, `place` of the way through it."""
    raw = bytearray(path.read_bytes())
    raw[int(place * (len(raw) - 1))] ^= 1
    path.write_bytes(raw)
