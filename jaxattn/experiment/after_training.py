"""Models that no program can hold, shown what each seed selected, once it is trained.

Post-hoc accuracy as in `jaxattn.training.evaluation.black_box`.

The leak audit of every seed of a run: where a leak lives, and whether it encodes.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.experiment.plan import Program
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.training.cell import simplex
from jaxattn.training.evaluation.black_box import as_many


def asks_black_box(program: Program) -> bool:
    """Whether there is such a model, and it may be asked."""
    box = program.source.black_box
    asked = box is not None and box.ask is not None
    examples = program.static.config.data.asked_again
    return asked and examples > 0 and program.cells[0][0] != FULL_TEXT


def price_of_asking(programs: list[Program]) -> str:
    """How often it is asked, in words."""
    cells = sum(len(p.cells) for p in programs)
    dataset = programs[0].source.dataset
    assert dataset is not None
    n = min(len(dataset.test.labels), _examples(programs[0]))
    return (
        f"post_hoc_accuracy: the model is asked {2 * n:,} times for each of {cells} "
        "cells (--data.asked-again)"
    )


def _examples(program: Program) -> int:
    return program.static.config.data.asked_again


def with_post_hoc_accuracy(program: Program, outcome: Outcome) -> Outcome:
    """The outcome with the accuracy of the model on what each cell selected.

    NaN for cells that diverged. The first `data.asked_again` test examples count.
    """
    source, n = program.source, _examples(program)
    assert source.dataset is not None
    test = source.dataset.test
    inputs, lengths, labels = test.inputs[:n], test.lengths[:n], test.labels[:n]
    valid = np.arange(test.inputs.shape[1]) < test.lengths[:, None]
    found = np.full((2, len(outcome.cells)), np.nan, np.float32)
    known: dict[bytes, np.ndarray] = {}
    for i, (_, seed) in enumerate(outcome.cells):
        if not outcome.alive[i]:
            continue
        selected = (outcome.examples["masks"][i] > 0) & valid
        drawn = as_many(jax.random.key(seed), jnp.asarray(selected), jnp.asarray(valid))
        for j, keep in enumerate((selected, np.asarray(drawn))):
            part = keep[:n]
            # Seeds of a rule that learns nothing select the same.
            key = part.tobytes()
            if key not in known:
                known[key] = source.black_box.ask(inputs, lengths, part).argmax(axis=1)
            found[j, i] = (known[key] == labels).mean()
    names = ("post_hoc_accuracy", "post_hoc_accuracy:shuffled")
    return outcome._replace(
        measured=outcome.measured | dict(zip(names, found, strict=True))
    )


PERMUTATIONS = 19
"""For the null of one seed; over seeds, means and intervals say more than p values."""

LN2 = float(np.log(2))


def audits_masks(program: Program) -> bool:
    """Whether the masks of a program are asked for more than their bits."""
    chosen = "leak" in program.static.config.metrics
    return chosen and program.cells[0][0] != FULL_TEXT


def price_of_audits(cells: int) -> str:
    """What the group costs for so many cells, in words."""
    return f"{cells} audits of masks, 1 s to 3 s each on two cores"


def with_audits(program: Program, outcome: Outcome) -> Outcome:
    """The outcome with what the audit finds in each cell's masks.

    `audit_bits` by channel, `encoding_bits` beyond the values let through, and
    `stripe_x_bits`: what EVAL-X reads less what is encoded, STRIPE-X of Puli et al.
    (arXiv 2411.02664) with a penalty of one bit a bit. NaN for cells that diverged, and
    for all where there are too few examples to ask.
    """
    # Only now: runs that do not ask for it need not load it.
    from jaxattn.leakage.audit import audit

    found, otherwise = [], []
    for i, alive in enumerate(outcome.alive):
        bits: dict[str, float] = {}
        masks, labels, more = _given(program, outcome, i)
        if alive:
            with contextlib.suppress(ValueError):  # too few examples
                report = audit(masks, labels, permutations=PERMUTATIONS, **more)
                bits = _bits(report)
        # Masks that are all equal have no channel, and hold nothing by any of them.
        otherwise.append(0.0 if bits and not np.ptp(masks, axis=0).any() else np.nan)
        if "encoding_bits" in bits and "evalx_nll" in outcome.measured:
            shares = np.bincount(labels) / len(labels)
            entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
            reads = entropy - outcome.measured["evalx_nll"][i] / LN2
            bits["stripe_x_bits"] = float(reads) - bits["encoding_bits"]
        found.append(bits)
    names = sorted({name for bits in found for name in bits})
    more = {
        name: np.array(
            [bits.get(name, x) for bits, x in zip(found, otherwise, strict=True)],
            np.float32,
        )
        for name in names
    }
    return outcome._replace(measured=outcome.measured | more)


def _given(program: Program, outcome: Outcome, i: int) -> tuple[Any, Any, dict]:
    """Masks [N, P], labels [N] and what else is known of one cell's test examples."""
    masks = outcome.examples["masks"][i]
    more: dict[str, Any] = {}
    if "values" in outcome.examples:
        more["values"] = outcome.examples["values"][i]
    dataset = program.source.dataset
    if dataset is None:
        labels = outcome.examples["labels"][i]
        # Said, for features that are not selected are no padding.
        more["lengths"] = np.full(len(labels), masks.shape[1])
    else:
        test = dataset.test
        labels = test.labels
        # Masks that reach default tokens are not bounded by the words' lengths.
        if masks.shape[1] == test.inputs.shape[1]:
            more["lengths"] = test.lengths
            if dataset.vocabulary:
                more["tokens"] = test.inputs
    if not simplex(program.static):
        more["kind"] = "weights"
    return masks.astype(np.float32), labels, more


def _bits(report) -> dict[str, float]:
    found = {
        f"audit_bits:{name}": finding.bits for name, finding in report.channels.items()
    }
    found["audit_bits:mask"] = report.masks.bits
    if report.beyond_length is not None:
        found["audit_bits:beyond length"] = report.beyond_length.bits
    if report.beyond_values is not None:
        found["encoding_bits"] = report.beyond_values.bits
    return found
