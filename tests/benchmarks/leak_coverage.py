"""Does the audit find the bits that were planted, and do its intervals hold them?

    python tests/benchmarks/leak_coverage.py

Some twenty-five minutes on two cores. Writes RESULTS_COVERAGE.md beside this file.
"""

import argparse
import datetime
import pathlib

FOLDER = pathlib.Path(__file__).parent
N, T, EXCHANGES = 5_000, 8, 19
NULL_EXCHANGES = 99
KINDS, BITS = ("place", "shape"), (0.0, 0.1, 0.5, 1.0)


def one(bits: float, n: int, seed: int, exchanges: int, kind: str):
    """What the audit finds in n masks that hold so many bits of their labels."""
    import jax
    import numpy as np

    from jaxattn.data.sources.planted_shortcut import planted_shortcut
    from jaxattn.leakage import folds, questions, significance
    from jaxattn.leakage.masks import masks_of

    made = planted_shortcut(jax.random.key(seed), n, bits, T, kind)
    masks, labels = map(np.asarray, made)
    rng = np.random.default_rng(seed)
    fold = folds.assign(rng, labels, None, 5)
    null = folds.exchanged(rng, labels, exchanges, fold)
    x = questions.all_features(masks_of(masks, kind="weights"))
    return significance.assess(x, significance.Trial(labels, fold, null))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--null-repetitions", type=int, default=2_000)
    flags = parser.parse_args()
    times, null_times = flags.repetitions, flags.null_repetitions
    from jaxattn.system import runtime

    runtime.configure()
    import numpy as np
    import scipy.stats

    rows = []
    for kind in KINDS:
        for bits in BITS:
            found = [one(bits, N, seed, EXCHANGES, kind) for seed in range(times)]
            read = np.array([f.bits for f in found])
            held = sum(f.low <= bits <= f.high for f in found)
            rows.append((kind, bits, read.mean(), read.std(), held))
            print(*rows[-1], flush=True)
    tests = []
    for n in (300, 1_000):
        seeds = range(null_times)
        p = np.array([one(0, n, s, NULL_EXCHANGES, "place").p for s in seeds])
        alarms = int((p <= 0.05).sum())
        exact = scipy.stats.binomtest(alarms, null_times).proportion_ci(method="exact")
        ks = scipy.stats.kstest(p, "uniform").pvalue
        tests.append((n, alarms / null_times, exact.low, exact.high, ks))
        print(*tests[-1], flush=True)
    table = "\n".join(
        f"| {kind} | {bits:g} | {mean:.4f} | {mean - bits:+.4f} | {sd:.4f} | "
        f"{held} of {times} |"
        for kind, bits, mean, sd, held in rows
    )
    alarms = "\n".join(
        f"| {n:,} | {rate:.3f} [{low:.3f}, {high:.3f}] | {ks:.2f} |"
        for n, rate, low, high, ks in tests
    )
    text = f"""# Planted leaks, found

Written by `python tests/benchmarks/leak_coverage.py`; do not edit.
Date: {datetime.date.today()}.

Masks of {T} positions whose leak is known by construction, n = {N:,}, {times}
repetitions each with data of their own, {EXCHANGES} exchanges.

| leak in | bits | found, mean | bias | standard deviation | 95 % interval holds it |
| --- | ---: | ---: | ---: | ---: | ---: |
{table}

No leak, {NULL_EXCHANGES} exchanges, {null_times:,} repetitions: how often p is at most
.05 (exact 95 % interval), and the p value of a Kolmogorov-Smirnov test against
uniform p.

| n | false alarms | KS |
| ---: | ---: | ---: |
{alarms}
"""
    (FOLDER / "RESULTS_COVERAGE.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
