"""JAX's sides of the sweep benchmark: one seed at a time, and the library's sweep.

As a script with `cases FOLDER SET-UP ...` it writes what the PyTorch processes need.
"""

import json
import pathlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from protocol import serve, timed
from setups import syn4
from sweep_setups import SEEDS, SETUPS

from jaxattn.system import runtime

KIND = sys.argv[1]
# Before jax is imported. Nothing here is read from or written to a cache of programs.
runtime.configure(cpu_devices=None if KIND == "ours" else 1, cache=False)

import engine_side  # noqa: E402
import flax  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

COPIED = 2**26


def write_cases(folder: pathlib.Path, names: list[str]) -> None:
    for place, (name, setup) in enumerate(SETUPS.items()):
        if name not in names:
            continue
        inputs = {}
        if setup.family == "tabular":
            x, y = syn4(0)
            inputs = {"inputs": x, "labels": y}
        found = engine_side.case(setup, inputs)
        found["sizes"] = json.dumps(found["sizes"])
        arrays = {name: np.asarray(value) for name, value in found.items()}
        np.savez(folder / f"{place}.npz", **arrays)


class One:
    seeds = 1

    def __init__(self, name: str):
        self.engine = engine_side.OneSeed(SETUPS[name])

    def once(self) -> None:
        self.engine.epoch()

    @property
    def nats(self) -> list[float]:
        return self.engine.nats


class Ours:
    """Epochs of one wave after another, so that all of them move on alike."""

    def __init__(self, name: str):
        self.engine = engine_side.Sweep(SETUPS[name], SEEDS)
        self.seeds = self.engine.size
        for wave in range(self.engine.waves):
            self.engine.begin(wave)
        self.turn = 0

    def once(self) -> None:
        self.engine.epoch(self.turn % self.engine.waves)
        self.turn += 1

    @property
    def nats(self) -> list[float]:
        """The mean of all seeds in each epoch that all of them have finished."""
        waves = self.engine.nats.values()
        if len(waves) < self.engine.waves:
            return []
        return [float(np.mean(epoch)) for epoch in zip(*waves, strict=False)]


def grown(engines: dict, name: str, count: int) -> dict:
    """Seconds of one epoch of so many seeds; states are made beside the clock."""
    key = name, count
    if key not in engines:
        engines[key] = engine_side.Sweep(SETUPS[name], count)
        engines[key].begin(0)
        engines[key].epoch(0)
    engine, seconds = engines[key], 0.0
    for wave in range(engine.waves):
        engine.begin(wave)
        started = time.perf_counter()
        engine.epoch(wave)
        seconds += time.perf_counter() - started
        # A wave ends before the next begins, in memory as in the sweep.
        engine.states.clear()
    return {"seconds": seconds}


def copying() -> Any:
    """One copy a core at once, numpy's."""
    cores = runtime.available_cores()
    arrays = [(np.ones(COPIED, "f4"), np.ones(COPIED, "f4")) for _ in range(cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda ab: np.copyto(*ab), arrays))


def product_rate(seconds: float) -> float:
    """FLOP/s of products of square matrices, as many as there are cores."""
    side, cores = 1024, runtime.available_cores()
    x = jax.numpy.ones((cores, side, side))
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    found = timed(lambda: product(x).block_until_ready(), seconds)
    return 2 * side**3 * cores * found["count"] / found["seconds"]


def main() -> None:
    kinds: dict[str, Any] = {"one": One, "ours": Ours}
    runs: dict[str, Any] = {}
    engines: dict[Any, Any] = {}

    def run(name: str, seconds: float) -> dict:
        if name == "sgemm":
            return {"rate": product_rate(seconds)}
        if name == "copy":
            runs.setdefault(name, copying())
            found = timed(runs[name], seconds)
            work = 2 * 4 * COPIED * runtime.available_cores()
            return {"rate": work * found["count"] / found["seconds"]}
        verb, _, rest = name.partition(": ")
        if verb == "costs":
            return engine_side.costs(SETUPS[rest])
        if verb == "growth":
            setup, _, count = rest.rpartition(" x ")
            return grown(engines, setup, int(count))
        if name not in runs:
            runs[name] = kinds[KIND](name)
            runs[name].once()
        found = timed(runs[name].once, seconds)
        while len(runs[name].nats) < 2:
            runs[name].once()
        engine = runs[name].engine
        steps = found["count"] * engine.steps * runs[name].seeds
        told = {"rate": steps / found["seconds"], "nats": runs[name].nats[1]}
        return told | {"lanes": getattr(engine, "lanes", "")}

    versions = {"jax": jax.__version__, "flax": flax.__version__}
    versions |= {"optax": optax.__version__, "numpy": np.__version__}
    facts = {"platform": jax.default_backend(), "devices": str(len(jax.devices()))}
    serve(versions | facts, run)


if __name__ == "__main__":
    if KIND == "cases":
        write_cases(pathlib.Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
