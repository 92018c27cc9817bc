"""A run small enough for tests; data and compiled programs are kept between tests."""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np

from jaxattn import data, train
from jaxattn.data import tasks
from jaxattn.experiment import outputs, schedule, wave
from jaxattn.system import files

ROOT = pathlib.Path(__file__).parents[1]

# The words of one program are the full-text reference of another, so that both
# compile once.
WORDS = {
    "--model.values": "inputs",
    "--model.normalizer": "softmax",
    "--methods": "joint mask_swap",
    "--seeds": "3",
    "--epochs": "3",
    "--full-text-epochs": "3",
    "--model.features": "4",
    "--model.hidden": "4",
    "--batch-size": "1024",
    "--lane": "1",
    "--data.length": "8",
    "--data.min-count": "20",
}

PROBE = WORDS | {
    "--model.values": "default_tokens",
    "--model.normalizer": "gumbel_softmax",
}


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

    def load_once(task, length, min_count, data_dir, say):
        key = ("data", task, length, min_count, str(data_dir))
        if key not in kept:
            kept[key] = load(task, length, min_count, data_dir, say)
        return kept[key]

    def once(compile_program, program, splits, mesh, shape, *more):
        cell = program.cell
        same = dataclasses.replace(cell.config, full_text_epochs=1)
        structure = jax.tree.structure(cell.replace(config=same))
        key = (compile_program, program.source.digest, structure, shape, mesh)
        if key not in kept:
            kept[key] = compile_program(program, splits, mesh, shape, *more)
        return kept[key]

    monkeypatch.setattr(data, "load", load_once)
    monkeypatch.setattr(wave, "compile_training", functools.partial(once, training))
    monkeypatch.setattr(wave, "compile_measure", functools.partial(once, measuring))


def draw_nothing(monkeypatch) -> None:
    """Leaves figures and report out, a quarter of the time of a small run."""
    monkeypatch.setattr(outputs, "_draw", lambda *arguments: None)
    monkeypatch.setattr(outputs.page, "write", lambda folder: None)


def run(*words) -> int:
    """The command in this process; its exit code."""
    try:
        return train.main(list(map(str, words)))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def stop_after(monkeypatch, chunk: int, number: int = signal.SIGTERM) -> None:
    """Sends this process a signal in the `chunk`-th chunk of its next run, once."""
    append, seen = files.append_json, []

    def append_and_stop(path, record):
        append(path, record)
        seen.append(record)
        if len(seen) == chunk:
            signal.raise_signal(number)

    monkeypatch.setattr(schedule, "append_json", append_and_stop)


def start(*words, code: str = "", **options) -> subprocess.Popen[str]:
    """The command in a process of its own; `code` is run in it beforehand."""
    main = "import sys; from jaxattn.train import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}\n{main}", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def contents(folder: pathlib.Path) -> dict:
    """All that the same command must give again, bit for bit, by file name."""
    found: dict = {
        name: (folder / name).read_bytes()
        for name in ("config.json", "seeds.csv", "results.csv", "results.md")
    }
    for path in sorted((folder / "models").rglob("*.*")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found["metrics.jsonl"] = [json.loads(line) for line in lines]
    for path in sorted((folder / "masks").iterdir()):
        with np.load(path) as stored:
            for name in stored.files:
                array = stored[name]
                found[f"{path.name}/{name}"] = (
                    str(array.dtype),
                    array.shape,
                    array.tobytes(),
                )
    return found


def unlike(one: dict, other: dict) -> list[str]:
    """Names of what differs between two `contents`."""
    return [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]


def flip(path: pathlib.Path, place: float = 0.5) -> None:
    """Flips one bit of a file, `place` of the way through it."""
    raw = bytearray(path.read_bytes())
    raw[int(place * (len(raw) - 1))] ^= 1
    path.write_bytes(raw)
