"""Models that no program can hold, shown what each seed selected, once it is trained.

Post-hoc accuracy as in `jaxattn.explain`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.explain import as_many
from jaxattn.plan import FULL_TEXT, Program
from jaxattn.sweep import Outcome


def applies(program: Program) -> bool:
    """Whether there is such a model, and it may be asked."""
    box = program.source.black_box
    asked = box is not None and box.ask is not None
    examples = program.static.config.data.asked_again
    return asked and examples > 0 and program.cells[0][0] != FULL_TEXT


def price(programs: list[Program]) -> str:
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


def added(program: Program, outcome: Outcome) -> Outcome:
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
