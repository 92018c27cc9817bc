"""How fast L2X's and INVASE's published set-ups train, here and in PyTorch.

    python tests/benchmarks/known_features.py [--torch-python PYTHON] [--rounds 5]

Needs PyTorch, in this environment or in that of the interpreter PYTHON, and a quiet
machine. The sides take turns, several rounds, and a ratio is taken within each round.
Writes RESULTS_KNOWN_FEATURES.md beside this file in about three minutes on two cores.
"""

import argparse
import datetime
import pathlib
import platform
import statistics
import sys

from page import cpu, ratios, spread, table
from protocol import Worker, ask, collect, measure, say
from setups import EXAMPLES, SEEDS, SETUPS, flops

from jaxattn.system.runtime import available_cores

FOLDER = pathlib.Path(__file__).parent
SIDES = {
    "torch": "PyTorch, a process a core",
    "one": "JAX, one seed at a time",
    "lanes": f"JAX, {SEEDS} seeds, bare",
    "engine": f"jaxattn, {SEEDS} seeds",
}
WARM_UP, SECONDS, SGEMM_SECONDS = 0.01, 1.0, 0.3


def start(torch_python: str, sides: list[str], lane: int) -> dict[str, list[Worker]]:
    workers = {}
    for side in sides:
        if side == "torch":
            script = str(FOLDER / "torch_worker.py")
            commands = [
                [torch_python, script, str(seed)] for seed in range(available_cores())
            ]
        else:
            commands = [
                [sys.executable, str(FOLDER / "jax_worker.py"), side, str(lane)]
            ]
        workers[side] = [Worker(command) for command in commands]
    return workers


def run(workers: dict[str, list[Worker]], setups: list[str], rounds: int) -> dict:
    """Rates by set-up, side and round, the second epoch's nats, the peak by round."""
    rates: dict[str, dict[str, list[float]]] = {s: {} for s in setups}
    nats: dict[str, dict[str, float]] = {s: {} for s in setups}
    for setup in setups:
        # All sides compile at once: nothing is timed yet.
        for group in workers.values():
            ask(group, setup, WARM_UP)
        for side, group in workers.items():
            nats[setup][side] = collect(group)["nats"]
        say(f"ready: {setup}")
    peaks = []
    for i in range(rounds):
        # The better of two libraries' products, so that no share flatters.
        candidates = [
            measure(group, "sgemm", SGEMM_SECONDS)["rate"] for group in workers.values()
        ]
        peaks.append(max(candidates))
        # Every other round backwards, so that nobody always follows the same one.
        order = list(workers)[:: 1 if i % 2 == 0 else -1]
        for setup in setups:
            for side in order:
                rate = measure(workers[side], setup, SECONDS)["rate"]
                rates[setup].setdefault(side, []).append(rate)
        say(f"round {i + 1} of {rounds}")
    return {"rates": rates, "nats": nats, "peaks": peaks}


def report(found: dict, versions: dict[str, str], rounds: int, lane: int) -> str:
    """The Markdown page."""
    setups = list(found["rates"])
    sides = list(found["rates"][setups[0]])
    peak = statistics.median(found["peaks"])
    speeds, shares, learnt = [], [], []
    for setup in setups:
        rates = {s: statistics.median(found["rates"][setup][s]) for s in sides}
        work = flops(SETUPS[setup])
        speeds.append([setup, *(f"{rates[s]:,.0f}" for s in sides)])
        shares.append([setup, *(f"{rates[s] * work / peak:.0%}" for s in sides)])
        learnt.append([setup, *(f"{found['nats'][setup][s]:.3f}" for s in sides)])
    names = [SIDES[s] for s in sides]
    against = [
        [
            setup,
            ratios(found, setup, "engine", "torch"),
            ratios(found, setup, "engine", "one"),
            ratios(found, setup, "lanes", "torch"),
        ]
        for setup in setups
    ]
    lanes = ", ".join(str(lane or SETUPS[name].lane) for name in setups)
    facts = ", ".join(f"{k} {v}" for k, v in versions.items() if k != "devices")
    return f"""# Speed of published set-ups

Written by `python tests/benchmarks/known_features.py`; do not edit.

Machine: {cpu()}, {available_cores()} cores, {platform.system()} {platform.machine()}.
Versions: Python {platform.python_version()}, {facts}.
Date: {datetime.date.today().isoformat()}. Rounds: {rounds}, alternating.

L2X: selector 11-100-100-11, predictor 11-200-200-2, maximum of 4 Gumbel-softmax draws
at temperature 0.1. INVASE: actor as that selector, critic and baseline as that
predictor, REINFORCE and a penalty. Both on Syn4, Adam, trained jointly, no batch
normalisation and no L2 penalty on any side.

- *{SIDES["torch"]}*: eager, one thread in each process, fused Adam.
- *{SIDES["one"]}*: a compiled scan of steps, all threads.
- *{SIDES["lanes"]}*: the same step under `vmap` and `shard_map`, a virtual device a
  core; seeds side by side on each device, by set-up: {lanes}.
- *{SIDES["engine"]}*: the library's own sweep with the same lanes, which also draws
  the examples and validates after every epoch of {EXAMPLES:,} examples.

## Seed-steps a second (median of the rounds)

{table(["set-up", *names], speeds)}

## Ratios within a round: median (lowest to highest)

{
        table(
            [
                "set-up",
                "jaxattn / PyTorch",
                "jaxattn / JAX one seed",
                f"bare JAX, {SEEDS} seeds / PyTorch",
            ],
            against,
        )
    }

## Share of the machine's peak

The peak is {spread([p / 1e9 for p in found["peaks"]], 0)} GFLOP/s: products of
1,024 x 1,024 single-precision matrices on all cores at once, the best of PyTorch and
JAX in each round. Counted are the matrix products that a step needs, whatever a side
really computes.

{table(["set-up", *names], shares)}

## Do all sides learn the same? Nats in the second epoch (mean of the seeds trained)

{table(["set-up", *names], learnt)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument(
        "--lane", type=int, default=0, help="seeds side by side on a device"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=FOLDER / "RESULTS_KNOWN_FEATURES.md"
    )
    args = parser.parse_args()
    workers: dict[str, list[Worker]] = {}
    try:
        workers = start(args.torch_python, args.sides, args.lane)
        found = run(workers, args.setups, args.rounds)
    finally:
        for group in workers.values():
            for worker in group:
                worker.close()
    versions = {}
    for group in workers.values():
        versions |= group[0].versions
    page = report(found, versions, args.rounds, args.lane)
    args.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
