"""From the command to the result: the default sweep as a user runs it, whole."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]


class Timing(NamedTuple):
    seconds: float
    peak: float
    """Bytes resident at most."""
    waits: float
    """Seconds from the start until the first wave has trained its first epoch."""


def timing(cache: str, workdir: str, config: str = "probe", *more: str) -> Timing:
    """One run of a config, compiling whatever is not in `cache`."""
    command = [sys.executable, "-m", "jaxattn.train"]
    command += ["--config", f"configs/{config}.py", "--workdir", workdir, *more]
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("XLA_", "JAX_", "PJRT_"))
    }
    environment = kept | {"XDG_CACHE_HOME": cache}
    metrics = pathlib.Path(workdir, "metrics.jsonl")
    started, waits = time.perf_counter(), float("nan")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    while True:
        # Not wait: only wait4 tells what this child alone used.
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if waits != waits and metrics.exists() and metrics.stat().st_size:
            waits = time.perf_counter() - started
        if pid:
            break
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Timing(seconds, usage.ru_maxrss * unit, waits)


def cold_and_warm(*more: str) -> tuple[Timing, Timing]:
    """The default sweep with an empty cache of programs, then with a full one."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            timing(f"{folder}/cache", f"{folder}/{name}", "probe", *more)
            for name in ("cold", "warm")
        )
    return first, second
