"""What is measured outside the compiled programs, once the cells of a wave are trained.

The leak audit of every seed: in which channels of the masks a leak lives, and whether
the masks encode the label. The post-hoc accuracy of black boxes that cannot be
compiled, see `jaxattn.training.evaluation.post_hoc`.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.experiment.plan import Program
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.metrics.divergence import entropy
from jaxattn.metrics.leak import LN2
from jaxattn.training.evaluation.post_hoc import as_many

PERMUTATIONS = 19
"""For the null of one seed; over seeds, means and intervals say more than p values."""


class Step(NamedTuple):
    """One thing that is done to the outcome of a wave."""

    applies: Callable[[Program], bool]
    price: Callable[[Sequence[Program]], str]
    """What it costs for the programs to which it applies, in words."""
    complete: Callable[[Program, Outcome], Outcome]


def complete(program: Program, outcome: Outcome) -> Outcome:
    """The outcome of a wave with the measurements of every step that applies."""
    for step in STEPS:
        if step.applies(program):
            outcome = step.complete(program, outcome)
    return outcome


def prices(programs: Sequence[Program]) -> list[str]:
    """What the steps cost that apply to some of the programs, a sentence each."""
    concerned = [(step, [p for p in programs if step.applies(p)]) for step in STEPS]
    return [step.price(some) for step, some in concerned if some]


def _audits_masks(program: Program) -> bool:
    return "leak" in program.cell.config.metrics and FULL_TEXT not in program.settings


def _price_of_audits(programs: Sequence[Program]) -> str:
    n = sum(len(program.cells) for program in programs)
    return f"leak: {n} audits of masks, 1 s to 3 s each on two cores"


def with_audits(program: Program, outcome: Outcome) -> Outcome:
    """The outcome with what the audit says of each cell's masks.

    `audit_bits` by channel, `encoding_bits` beyond the values let through, and
    `stripe_x_bits`: what EVAL-X reads less what is encoded, STRIPE-X of Puli et al.
    (arXiv 2411.02664) with a penalty of one bit a bit. NaN for cells that diverged, and
    for all where there are too few examples to ask.
    """
    # Only now: runs that do not ask for it need not load it.
    from jaxattn.leakage.audit import audit

    by_cell, missing = [], []
    for i, alive in enumerate(outcome.alive):
        bits: dict[str, float] = {}
        masks, labels, more = _audited(program, outcome, i)
        if alive:
            with contextlib.suppress(ValueError):  # too few examples
                bits = _bits(audit(masks, labels, permutations=PERMUTATIONS, **more))
        # Masks that are all equal have no channel, and hold nothing by any of them.
        missing.append(0.0 if bits and not np.ptp(masks, axis=0).any() else np.nan)
        if "encoding_bits" in bits and "evalx_nll" in outcome.measured:
            shares = np.bincount(labels) / len(labels)
            reads = entropy(shares) / LN2 - outcome.measured["evalx_nll"][i] / LN2
            bits["stripe_x_bits"] = float(reads) - bits["encoding_bits"]
        by_cell.append(bits)
    names = sorted({name for bits in by_cell for name in bits})
    rows = list(zip(by_cell, missing, strict=True))
    columns = {n: np.array([r.get(n, x) for r, x in rows], np.float32) for n in names}
    return outcome._replace(measured=outcome.measured | columns)


def _audited(program: Program, outcome: Outcome, i: int) -> tuple[Any, Any, dict]:
    """Masks [N, P], labels [N] and what else is known of one cell's test examples."""
    given = {name: array[i] for name, array in outcome.examples.items()}
    masks = given["masks"]
    more: dict[str, Any] = {k: given[k] for k in ("values",) if k in given}
    dataset = program.source.dataset
    if dataset is None:
        labels = given["labels"]
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
    if not program.cell.simplex:
        more["kind"] = "weights"
    return masks.astype(np.float32), labels, more


def _bits(report: Any) -> dict[str, float]:
    findings = {f"audit_bits:{k}": v for k, v in report.channels.items()} | {
        "audit_bits:mask": report.masks,
        "audit_bits:beyond length": report.beyond_length,
        "encoding_bits": report.beyond_values,
    }
    return {name: finding.bits for name, finding in findings.items() if finding}


def _asks_black_box(program: Program) -> bool:
    ask = getattr(program.source.black_box, "ask", None)
    examples = program.cell.config.data.asked_again
    return ask is not None and examples > 0 and FULL_TEXT not in program.settings


def _price_of_asking(programs: Sequence[Program]) -> str:
    dataset: Any = programs[0].source.dataset
    n = min(len(dataset.test.labels), programs[0].cell.config.data.asked_again)
    return (
        f"post_hoc_accuracy: the model is asked {2 * n:,} times for each of "
        f"{sum(len(p.cells) for p in programs)} cells (--data.asked-again)"
    )


def with_post_hoc_accuracy(program: Program, outcome: Outcome) -> Outcome:
    """The outcome with the accuracy of the model on what each cell selected.

    NaN for cells that diverged. The first `data.asked_again` test examples count.
    """
    source, n = program.source, program.cell.config.data.asked_again
    test = source.dataset.test  # type: ignore[union-attr]  # a model has its data
    inputs, lengths, labels = test.inputs[:n], test.lengths[:n], test.labels[:n]
    valid = np.arange(test.inputs.shape[1]) < test.lengths[:, None]
    accuracy = np.full((2, len(outcome.cells)), np.nan, np.float32)
    answers: dict[bytes, np.ndarray] = {}
    for i, (_, seed) in enumerate(outcome.cells):
        if not outcome.alive[i]:
            continue
        selected = (outcome.examples["masks"][i] > 0) & valid
        drawn = as_many(jax.random.key(seed), jnp.asarray(selected), jnp.asarray(valid))
        for j, keep in enumerate((selected, np.asarray(drawn))):
            part = keep[:n]
            # Seeds of a rule that learns nothing select the same.
            key = part.tobytes()
            if key not in answers:
                probabilities = source.black_box.ask(inputs, lengths, part)
                answers[key] = probabilities.argmax(axis=1)
            accuracy[j, i] = (answers[key] == labels).mean()
    names = ("post_hoc_accuracy", "post_hoc_accuracy:shuffled")
    return outcome._replace(
        measured=outcome.measured | dict(zip(names, accuracy, strict=True))
    )


STEPS = (
    Step(_audits_masks, _price_of_audits, with_audits),
    Step(_asks_black_box, _price_of_asking, with_post_hoc_accuracy),
)
