"""The page of the sweep benchmark: tables, and what stands behind their numbers."""

import datetime
import math
import platform
import statistics

from page import cpu, ratios, spread, table
from sweep_setups import ENSEMBLE, SEEDS, SIDES

from jaxattn.system.runtime import available_cores

ADAM_BYTES = 28
"""A parameter's least traffic in a dense Adam step: gradient, parameter and two moments
read, three of them written, four bytes each."""
FAR = 1 / 3
"""A wall met for less than this share is not what holds a model up."""


def report(found: dict, versions: dict[str, str], rounds: int) -> str:
    """The Markdown page."""
    sides = list(next(iter(found["told"].values())))
    gpu = versions.get("platform") == "gpu"
    facts = [
        f"{k} {v}" for k, v in versions.items() if k not in ("platform", "devices")
    ]
    quick = "\n**A smoke run: one short round, which says nothing of speed.**\n"
    parts = [
        f"""# Speed of the sweep
{quick if found["quick"] else ""}
Written by `python tests/benchmarks/sweep.py`; do not edit.

Machine: {cpu()}, {available_cores()} cores, {platform.system()} {platform.machine()}.
Versions: Python {platform.python_version()}, {", ".join(facts)}.
Date: {datetime.date.today().isoformat()}. Rounds: {rounds}, alternating.
{"JAX and PyTorch ran on a GPU." if gpu else "No GPU was at hand."}
""",
        _what(found),
        _speeds(found, sides),
        _start(found["start"], found["quick"]),
        _growth(found["growth"]),
        _roofline(found),
        _same(found, sides),
    ]
    return "\n".join(part for part in parts if part)


def _what(found: dict) -> str:
    lanes = {t["ours"]["lanes"] for t in found["told"].values() if "ours" in t}
    return f"""Method `joint`, the networks, sizes, batch and learning rate of
`configs/probe.py`, `reviews.py` and `bags.py`; Syn4 is L2X's selector 11-100-100-11
and predictor 11-200-200-2 with 4 Gumbel-softmax draws. Dense Adam, single precision
and the same data on all sides; each seed has an order (on Syn4: examples) of its own.
Bags train no evaluator here. RESULTS_KNOWN_FEATURES.md has more of Syn4.

- *{SIDES["eager"]}*: a process a core, one thread each; fused Adam (faster than
  `foreach` and the plain loop); each epoch gathered at once, no `.item()` in a step;
  freed memory kept by the C library. The probe's query is an `embedding_bag`, the GRU
  is `nn.GRU` on packed sequences, the transformer has
  `scaled_dot_product_attention`, and bags are computed without their padding.
- *{SIDES["func"]}*: in each of these processes {ENSEMBLE} seeds side by side by
  `vmap(grad_and_value(functional_call))` on stacked parameters. What `vmap`
  refuses (packed sequences, rows without padding) or only loops over
  (`embedding_bag`, `scaled_dot_product_attention`) is written otherwise: `nn.GRU` on
  padded sequences, embeddings and products, bags with their padding.
- *{SIDES["compile"]}*: forward and backward pass by inductor, the rest as in eager;
  of the models written for `vmap`, but the GRU's cell is written out in a loop.
- *{SIDES["one"]}*: the library's epoch, compiled for one seed on one
  device, all threads.
- *{SIDES["ours"]}*: the library's sweep on a virtual device a core, with the seeds
  side by side that it takes by itself: {"; ".join(sorted(lanes)) or "?"} devices.

Both JAX sides also validate after every epoch, which PyTorch need not. `nn.GRU` has a
redundant bias in two gates, so that Adam moves their sum twice as fast; the written-out
cell of `torch.compile` is Flax's.
"""


def _speeds(found: dict, sides: list[str]) -> str:
    speeds, against, notes = [], [], []
    for setup, rates in found["rates"].items():
        row = [setup]
        for side in sides:
            if side in rates:
                row.append(f"{statistics.median(rates[side]):,.0f}")
                continue
            why = found["told"][setup][side]["failed"]
            notes.append(f"{len(notes) + 1}. {setup}, {SIDES[side]}: {why}")
            row.append(f"- [{len(notes)}]")
        speeds.append(row)
        others = [s for s in sides if s != "ours"]
        against.append([setup, *(ratios(found, setup, "ours", s) for s in others)])
    heads = [SIDES[s] for s in sides]
    text = f"""## Seed-steps a second (median of the rounds)

{table(["set-up", *heads], speeds)}
"""
    if notes:
        text += "\nNot run, and why:\n\n" + "\n".join(notes) + "\n"
    if "ours" in sides and len(sides) > 1:
        heads = ["set-up", *(f"/ {SIDES[s]}" for s in sides if s != "ours")]
        text += f"""
## jaxattn over the others, within a round: median (lowest to highest)

{table(heads, against)}
"""
    return text


def _start(start, quick: bool) -> str:
    if start is None:
        return ""
    rows = [
        [name, f"{t.seconds:.0f}", f"{t.waits:.0f}", f"{t.peak / 2**30:.2f}"]
        for name, t in zip(("empty", "filled"), start, strict=True)
    ]
    cut = " (cut down to two seeds and one epoch of `joint`)" if quick else ""
    head = ["cache of programs", "seconds", "to the first epoch's end", "peak GiB"]
    return f"""## From the command to the result

`python -m jaxattn.train --config configs/probe.py`{cut}, everything included: imports,
data, compilation, all methods and seeds, measurements, tables and figures. What the
first epoch's end waits for longer with an empty cache is compilation of the first
program; others are compiled beside training.

{table(head, rows)}
"""


def _growth(growth: dict) -> str:
    if not growth:
        return ""
    counts = list(next(iter(growth.values())))
    rows, told = [], []
    for setup, found in growth.items():
        row = [setup]
        for count in counts:
            of = zip(found[count], found[SEEDS], strict=False)
            ratio = spread([a / b for a, b in of])
            ratio = ratio if len(found[count]) > 1 else ratio.split(" ")[0]
            row.append(f"{statistics.median(found[count]):.2f} s, {ratio}")
        rows.append(row)
        if 64 in found:
            of = zip(found[64], found[SEEDS], strict=True)
            told.append(f"{setup} {spread([a / b for a, b in of])}")
    text = f"""## How time grows with seeds

Seconds of one epoch of all seeds, and their ratio to {SEEDS} seeds. A wave that is not
full is filled up, so that few seeds cost as much as a wave.

{table(["seeds", *map(str, counts)], rows)}
"""
    if told:
        text += f"\n64 seeds take, of the time of {SEEDS}: {'; '.join(told)}. "
        text += "4 is proportional.\n"
    return text


def _roofline(found: dict) -> str:
    if not found["costs"] or any("ours" not in r for r in found["rates"].values()):
        return ""
    products, copies = (found["peaks"][k] for k in ("sgemm", "copy"))
    top, wide = statistics.median(products), statistics.median(copies)
    rows = []
    for setup, cost in found["costs"].items():
        rate = statistics.median(found["rates"][setup]["ours"])
        least = ADAM_BYTES * cost["parameters"]
        shares = {
            "FLOPs": rate * cost["flops"] / top,
            "bytes": rate * cost["bytes"] / wide,
        }
        wall = max(shares, key=lambda k: shares[k])
        near = shares[wall] >= FAR
        rows.append(
            [
                setup,
                f"{cost['flops'] / 1e6:,.1f}",
                f"{cost['bytes'] / 1e6:,.1f}",
                f"{least / 1e6:,.1f}",
                f"{shares['FLOPs']:.0%}",
                f"{shares['bytes']:.0%}",
                f"{rate * least / wide:.0%}",
                f"{wall}, {shares[wall]:.0%}" if near else f"neither (nearest: {wall})",
            ]
        )
    head = ["set-up", "MFLOP a step", "MB a step", "MB of Adam alone"]
    head += ["share of sgemm", "share of copying", "by Adam alone", "wall"]
    return f"""## Roofline of jaxattn, {SEEDS} seeds

Peaks in this run: {spread([p / 1e9 for p in products], 0)} GFLOP/s for products of
1,024 x 1,024 single-precision matrices, {spread([c / 1e9 for c in copies], 1)} GB/s for
copies of 256 MiB (read and written), all cores at once, the best of the sides. FLOPs
and bytes are XLA's account of one step of one seed, compiled by itself with the GRU's
loop unrolled, for of a loop it counts the body once. It counts what an operation reads
and writes even where a cache holds it, so that a share of copying may exceed 100 %;
*Adam alone* is the least that a dense step must move: {ADAM_BYTES} bytes a parameter.
A wall is named where its share is at least {FAR:.0%}; far from both, the time goes into
small operations.

{table(head, rows)}
"""


def _same(found: dict, sides: list[str]) -> str:
    learnt, worst = [], 0.0
    for setup, told in found["told"].items():
        row = [setup]
        for side in sides:
            answer = told[side]
            row.append(f"{answer['nats']:.3f}" if "nats" in answer else "-")
            difference = answer.get("difference", 0.0)
            worst = max(worst, math.inf if math.isnan(difference) else difference)
        learnt.append(row)
    return f"""## Do all sides learn the same?

Training nats in the second epoch, the mean of the seeds trained. With the library's
parameters, batch and noise put into PyTorch's models, nats and the gradient's norm
differ by at most {worst:.0e} from the library's.

{table(["set-up", *(SIDES[s] for s in sides)], learnt)}
"""
