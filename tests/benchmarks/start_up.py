"""How long jaxattn takes until it does something: two checkouts, alternating.

python tests/benchmarks/start_up.py BEFORE AFTER [--rounds 5]
python tests/benchmarks/start_up.py BEFORE AFTER --cache FOLDER

The second form takes a copy of a cache that is in use, as ~/.cache/jaxattn, with all
its programs: what a start does with those is part of what is measured.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TRAIN = (
    "-m jaxattn.train --config configs/probe.py --seeds 2 --epochs 1 "
    "--full-text-epochs 1 --quiet --workdir"
).split()


def audit_help(checkout: pathlib.Path) -> list[str]:
    """`audit --help`, which was a module of its own before it was a command."""
    if (checkout / "jaxattn" / "__main__.py").exists():
        return ["-m", "jaxattn", "audit", "--help"]
    return ["-m", "jaxattn.audit", "--help"]


def seconds(checkout: pathlib.Path, words: list[str], cache: pathlib.Path) -> float:
    """From the start to the end of a command."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        check=True,
        **_where(checkout, cache),
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


def until_trained(checkout: pathlib.Path, cache: pathlib.Path) -> float:
    """From the command to the first trained chunk."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = pathlib.Path(folder, "run", "metrics.jsonl")
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *TRAIN, str(metrics.parent)],
            **_where(checkout, cache),
            stdout=subprocess.DEVNULL,
        )
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"{checkout}: it ended with {process.returncode}")
            time.sleep(0.02)
        took = time.perf_counter() - begun
        if process.wait():
            raise SystemExit(f"{checkout}: it ended with {process.returncode}")
    return took


def _where(checkout: pathlib.Path, cache: pathlib.Path) -> dict:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XLA_", "JAX_", "JAXATTN_", "PJRT_"))
    }
    environment = kept | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(checkout)}
    return {"cwd": checkout, "env": environment}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs=2, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=pathlib.Path)
    flags = parser.parse_args()
    checkouts = [path.absolute() for path in flags.checkouts]
    took: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2 * flags.rounds):
            which = i % 2
            checkout, warm = checkouts[which], pathlib.Path(folder, f"warm-{which}")
            cold = pathlib.Path(folder, f"cold-{i}")
            if i < 2:
                if flags.cache:
                    shutil.copytree(flags.cache, warm / "jaxattn")
                until_trained(checkout, warm)
            measured = {
                "import jaxattn": seconds(checkout, ["-c", "import jaxattn"], warm),
                "audit --help": seconds(checkout, audit_help(checkout), warm),
                "first chunk, cold cache": until_trained(checkout, cold),
                "first chunk, warm cache": until_trained(checkout, warm),
            }
            for name, value in measured.items():
                took.setdefault((name, which), []).append(value)
                print(f"{name:24} {checkout}  {value:7.2f} s", flush=True)
    print(f"\nmedian of {flags.rounds}, seconds{'before':>17} {'after':>7}")
    for name in measured:
        before, after = (statistics.median(took[name, which]) for which in (0, 1))
        print(f"{name:24} {before:15.2f} {after:7.2f}")


if __name__ == "__main__":
    main()
