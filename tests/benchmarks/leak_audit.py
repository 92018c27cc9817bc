"""How fast the leak audit is, beside as many fits of scikit-learn, and what it needs.

    python tests/benchmarks/leak_audit.py

Needs a quiet machine; takes some five minutes on two cores. Writes RESULTS_AUDIT.md
beside this file. `--large` alone measures memory, and is what the script starts.
"""

import argparse
import concurrent.futures
import datetime
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

import jaxattn

FOLDER = pathlib.Path(__file__).parent
N, T, FOLDS, EXCHANGES, ROUNDS = 10_000, 64, 5, 199, 3
LARGE_N, LARGE_T, LARGE_EXCHANGES = 200_000, 512, 19
GIB = 2**20  # of the kilobytes in which Linux counts


def planted(n: int, t: int):
    """Masks [n, t] that hold about 0.15 bits of labels [n]."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    masks = rng.random((n, t), np.float32) ** 4
    masks[:, 3] *= 1 + 2 * labels
    return masks / masks.sum(axis=1, keepdims=True), labels


def peer(kind: str, seed: int) -> float:
    """Seconds of one fit of scikit-learn to four fifths of exchanged labels."""
    import warnings

    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    masks, labels = planted(N, T)
    x = np.concatenate([masks, np.log(masks + 1e-3)], axis=1)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    rng = np.random.default_rng(seed)
    rows = np.arange(N) % FOLDS != seed % FOLDS
    y = rng.permutation(labels)
    model = LogisticRegression() if kind == "linear" else MLPClassifier((64,))
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when it stops before it is done
        model.fit(x[rows], y[rows])
    return time.perf_counter() - started


def peers(kind: str, fits: int, cores: int) -> float:
    """Fits a second of scikit-learn, one fit a process, all cores at work."""
    # A process of its own each, as jax has threads that a fork would leave behind.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(cores, mp_context=spawn) as pool:
        list(pool.map(peer, [kind] * cores, range(cores)))  # imports are not counted
        seconds = list(pool.map(peer, [kind] * fits, range(fits)))
    return cores / statistics.mean(seconds)


def ours() -> tuple[float, float, int]:
    """Seconds of a first and of a second whole audit, and how many fits it makes."""

    masks, labels = planted(N, T)
    fits = 0

    def progress(what, done, of):
        nonlocal fits
        fits = of * FOLDS

    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        jaxattn.audit(masks, labels, permutations=EXCHANGES, progress=progress)
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1], fits


def large() -> None:
    """Prints seconds and GiB of one large audit."""
    from jaxattn.system import runtime

    runtime.configure()

    masks, labels = planted(LARGE_N, LARGE_T)
    started = time.perf_counter()
    report = jaxattn.audit(masks, labels, permutations=LARGE_EXCHANGES)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    print(f"{seconds:.0f} {peak:.2f} {report.masks.bits:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true")
    if parser.parse_args().large:
        return large()
    # One thread a process, and a process a core: the fastest way for many fits.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    from jaxattn.system import runtime

    runtime.configure()
    cores = runtime.available_cores()
    rows = []
    for round_ in range(ROUNDS):
        print(f"round {round_ + 1} of {ROUNDS}", flush=True)
        first, again, fits = ours()
        linear, nonlinear = peers("linear", 8, cores), peers("mlp", 4, cores)
        # The audit's families, half of its fits each.
        theirs = fits / 2 / linear + fits / 2 / nonlinear
        rows.append((first, again, fits, linear, nonlinear, theirs / first))
    words = [sys.executable, __file__, "--large"]
    print(f"{LARGE_N:,} masks of {LARGE_T} positions", flush=True)
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    seconds, peak, bits = map(float, told.split())
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    ratios = [row[-1] for row in rows]
    text = f"""# Speed of the leak audit

Written by `python tests/benchmarks/leak_audit.py`; do not edit.

Machine: {platform.processor() or platform.machine()}, {cores} cores. Date:
{datetime.date.today()}. Rounds: {ROUNDS}, alternating; medians.

{N:,} masks of {T} positions, {FOLDS} folds, {EXCHANGES} exchanges of the labels, all
weights and the channels shape and place, two probe families: {int(middle[2]):,} fits.

| | seconds |
| --- | ---: |
| audit, compiling included | {middle[0]:.1f} |
| audit, compiled before | {middle[1]:.1f} |
| as many fits of scikit-learn, a process a core | {middle[0] * middle[5]:,.0f} |

The audit is {middle[5]:.0f} ({min(ratios):.0f} to {max(ratios):.0f}) times as fast. A
fit of scikit-learn is timed on all weights and their logarithms (LogisticRegression:
{middle[3]:.1f} fits a second, MLPClassifier with 64 units: {middle[4]:.2f}), half the
fits each, and multiplied: 8 and 4 fits a round were run.

## Memory

{LARGE_N:,} masks of {LARGE_T} positions, {LARGE_EXCHANGES} exchanges: {peak:.2f} GiB
at the peak, everything included, in {seconds:.0f} s; {bits:.3f} bits.
"""
    (FOLDER / "RESULTS_AUDIT.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
