"""How a benchmark talks to the processes it measures: one JSON object a line."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def serve(versions: dict[str, str], run: Callable[[str, float], dict]) -> None:
    """Answers `[setup, seconds]` lines of standard input, one JSON object a line."""
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        name, seconds = json.loads(line)
        print(json.dumps(run(name, seconds)), flush=True)


def timed(once: Callable[[], None], seconds: float) -> dict[str, float]:
    """How often `once` ran in at least `seconds`, and in how many seconds it did."""
    count, start = 0, time.perf_counter()
    while True:
        once()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return {"count": count, "seconds": passed}


class Worker:
    """A process that waits until it is told what to run, and for how long."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        # Whatever the caller has set for jax must not decide what is measured.
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("XLA_", "JAX_", "PJRT_", "OMP_", "MKL_"))
        }
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=kept | (environment or {}),
        )
        self.versions = self.answer()

    def ask(self, name: str, seconds: float) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, seconds]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"{self.process.args} ended; its message is above")
        return json.loads(line)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def ask(workers: list[Worker], name: str, seconds: float) -> None:
    for worker in workers:
        worker.ask(name, seconds)


def collect(workers: list[Worker]) -> dict:
    """The rates of all workers of one side, added up."""
    answers = [worker.answer() for worker in workers]
    for answer in answers:
        if "failed" in answer:
            return answer
    found = answers[0] | {"rate": sum(a["rate"] for a in answers)}
    if "nats" in found:
        found["nats"] = statistics.mean(a["nats"] for a in answers)
    return found


def measure(workers: list[Worker], name: str, seconds: float) -> dict:
    """Runs all workers of one side at once, and nobody else."""
    ask(workers, name, seconds)
    return collect(workers)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
