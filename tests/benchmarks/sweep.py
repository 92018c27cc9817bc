"""How fast the library's models train over many seeds, here and in PyTorch.

    python tests/benchmarks/sweep.py [--torch-python PYTHON] [--rounds 5] [--quick]

Needs PyTorch with a C++ compiler, in this environment or in that of the interpreter
PYTHON, and a quiet machine. The sides take turns, several rounds, and a ratio is taken
within each round. Writes RESULTS.md beside this file.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from protocol import Worker, ask, collect, measure, say
from start_to_result import cold_and_warm
from sweep_page import report
from sweep_setups import COUNTS, GROWING, SETUPS, SIDES

from jaxattn.system.runtime import available_cores

FOLDER = pathlib.Path(__file__).parent
WARM_UP, PEAK_SECONDS = 0.01, 0.5
GROWTH_ROUNDS = 3

# A C library that gives large blocks back to the system has them zeroed at each step.
KEEP_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}


def start(
    python: str, sides: list[str], cases: str, kind: str
) -> dict[str, list[Worker]]:
    """The processes of each side: PyTorch's are one a core, or one on a GPU."""
    workers = {}
    for side in sides:
        if side in ("one", "ours"):
            command = [sys.executable, str(FOLDER / "jax_sweep.py"), side]
            workers[side] = [Worker(command)]
            continue
        script = str(FOLDER / "torch_sweep.py")
        count = available_cores() if kind == "cpu" else 1
        workers[side] = [
            Worker([python, script, side, cases, str(i), kind], KEEP_BLOCKS)
            for i in range(count)
        ]
    return workers


def prepare(workers: dict, setups: list[str]) -> dict:
    """Compiles everything; what each side learnt, or why it cannot be run."""
    told: dict[str, dict[str, dict]] = {}
    for setup in setups:
        # All sides compile at once: nothing is timed yet.
        for group in workers.values():
            ask(group, setup, WARM_UP)
        told[setup] = {side: collect(group) for side, group in workers.items()}
        say(f"ready: {setup}")
        for side, answer in told[setup].items():
            if "failed" in answer:
                say(f"  {side}: {answer['failed']}")
    return told


def rounds_of(workers: dict, told: dict, rounds: int, seconds: float) -> dict:
    """Rates by set-up and side, and the machine's peaks, of each round."""
    rates: dict[str, dict[str, list[float]]] = {setup: {} for setup in told}
    peaks: dict[str, list[float]] = {"sgemm": [], "copy": []}
    for i in range(rounds):
        for name, found in peaks.items():
            # The best of all libraries, so that no share flatters.
            measured = [
                measure(group, name, PEAK_SECONDS)["rate"] for group in workers.values()
            ]
            found.append(max(measured))
        # Every other round backwards, so that nobody always follows the same one.
        order = list(workers)[:: 1 if i % 2 == 0 else -1]
        for setup in told:
            for side in order:
                if "failed" not in told[setup][side]:
                    rate = measure(workers[side], setup, seconds)["rate"]
                    rates[setup].setdefault(side, []).append(rate)
        say(f"round {i + 1} of {rounds}")
    return {"rates": rates, "peaks": peaks}


def growth(worker: Worker, setups: list[str], counts: list[int], rounds: int) -> dict:
    """Seconds of one epoch by set-up and number of seeds; many seeds run once."""
    found: dict[str, dict[int, list[float]]] = {}
    for setup in setups:
        found[setup] = {count: [] for count in counts}
        for i in range(rounds):
            for count in counts:
                if i == 0 or count <= 64:
                    worker.ask(f"growth: {setup} x {count}", 0)
                    found[setup][count].append(worker.answer()["seconds"])
        say(f"growth: {setup}")
    return found


def costs(worker: Worker, setups: list[str]) -> dict[str, dict]:
    found = {}
    for setup in setups:
        worker.ask(f"costs: {setup}", 0)
        found[setup] = worker.answer()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--setups", nargs="+", choices=SETUPS)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seconds", type=float, default=0.7, help="of one measurement")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER / "RESULTS.md")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round, few seeds, one epoch: does everything still run?",
    )
    args = parser.parse_args()
    args.setups = args.setups or list(GROWING if args.quick else SETUPS)
    counts, again, more = list(COUNTS), GROWTH_ROUNDS, []
    if args.quick:
        args.rounds, args.seconds, counts, again = 1, 0.1, [1, 16], 1
        more = "--epochs 1 --full-text-epochs 1 --seeds 2 --methods joint".split()
    workers: dict[str, list[Worker]] = {}
    found: dict = {"growth": {}, "costs": {}, "start": None, "quick": args.quick}
    if "ours" in args.sides:
        found["start"] = cold_and_warm(*more)
        say("start to result: done")
    with tempfile.TemporaryDirectory() as cases:
        script = str(FOLDER / "jax_sweep.py")
        command = [sys.executable, script, "cases", cases, *args.setups]
        subprocess.run(command, check=True)
        try:
            jaxes = [side for side in args.sides if side in ("one", "ours")]
            workers = start(args.torch_python, jaxes, cases, "cpu")
            platforms = {g[0].versions["platform"] for g in workers.values()}
            kind = "cuda" if "gpu" in platforms else "cpu"
            torches = [side for side in args.sides if side not in jaxes]
            # In the table's order.
            workers = start(args.torch_python, torches, cases, kind) | workers
            found["told"] = prepare(workers, args.setups)
            found |= rounds_of(workers, found["told"], args.rounds, args.seconds)
            if "one" in workers:
                found["costs"] = costs(workers["one"][0], args.setups)
            if "ours" in workers:
                growing = [name for name in args.setups if name in GROWING]
                ours = workers["ours"][0]
                found["growth"] = growth(ours, growing, counts, again)
        finally:
            for group in workers.values():
                for worker in group:
                    worker.close()
    versions = {}
    for group in workers.values():
        versions |= group[0].versions
    page = report(found, versions, args.rounds)
    args.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
