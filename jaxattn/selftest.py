"""A self-test of some seconds, on problems whose answers are known beforehand."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxattn.config import Config, Model, Optimizer
from jaxattn.data.dataset import Split, assemble
from jaxattn.data.sources.planted_shortcut import planted_shortcut
from jaxattn.experiment import wave
from jaxattn.experiment.plan import plan
from jaxattn.experiment.source import Source
from jaxattn.leakage import folds, questions, significance
from jaxattn.leakage.masks import masks_of
from jaxattn.nn.embedding import Inputs

PLANTED = {0.0: 0.015, 0.1: 0.06, 0.5: 0.1}
"""Bits to plant, and how far the estimate may be off: some five standard deviations
(tests/benchmarks/RESULTS_COVERAGE.md, whose masks are two and a half times as many)."""

MASKS, POSITIONS = 2_000, 8

WORDS, WORD, TOKENS, EXAMPLES = 64, 2, 8, 512
"""A text is of class 1 where WORD is among its tokens; ids from 4 on are noise."""

FOUND, CLOSED = 0.9, 0.6
"""`joint` must get above the first accuracy, `uniform` stay below the second."""


class Answer(NamedTuple):
    """One question of the self-test: what it was, what came out, whether that is so."""

    right: bool
    text: str


def answers() -> Iterator[Answer]:
    """All of the self-test, as it goes; some ten seconds, of them eight to compile."""
    for bits, tolerance in PLANTED.items():
        yield leak(bits, tolerance)
    yield shortcut()


def leak(bits: float, tolerance: float) -> Answer:
    """Does the audit read so many planted bits off masks, to within the tolerance?"""
    made = planted_shortcut(jax.random.key(0), MASKS, bits, POSITIONS)
    masks, labels = map(np.asarray, made)
    rng = np.random.default_rng(0)
    fold = folds.assign(rng, labels, None, 5)
    null = folds.exchanged(rng, labels, 19, fold)
    x = questions.all_features(masks_of(masks, kind="weights"))
    found = significance.assess(x, significance.Trial(labels, fold, null)).bits
    return Answer(
        abs(found - bits) <= tolerance,
        f"{bits:g} bits planted in masks, {found:.3f} found (within {tolerance:g})",
    )


def shortcut() -> Answer:
    """Does attention over meaningless tokens learn the label, and a fixed mask not?"""
    config = Config(
        methods=("joint", "uniform"),
        seeds=2,
        epochs=16,
        batch_size=32,
        model=Model(features=8, hidden=16),
        optimizer=Optimizer(learning_rate=2e-2),
    )
    source, mesh = _source(), wave.mesh_of_all_devices()
    splits = wave.make_splits(source, mesh)
    program = plan(config, source)[0]
    shape = wave.Shape(-(-len(program.cells) // mesh.size))
    compiled = wave.compile_training(program, splits, mesh, shape)
    cells = list(program.cells)
    stacked = wave.stack(program, wave.filled(cells, shape, mesh), mesh)
    state, curve = compiled.init(stacked), {}
    for _ in range(config.epochs):
        state, curve = compiled.chunk(state, stacked, splits.stored)
    accuracy = np.asarray(curve["validation_accuracy"])[: len(cells)]
    joint, uniform = (
        float(np.mean([a for (m, _), a in zip(cells, accuracy, strict=True) if m == n]))
        for n in config.methods
    )
    return Answer(
        joint > FOUND and uniform < CLOSED,
        f"tiny training on meaningless tokens: joint {joint:.3f} (above {FOUND}: it "
        f"found the shortcut), uniform {uniform:.3f} (below {CLOSED}), majority 0.500",
    )


def _source() -> Source:
    rng = np.random.default_rng(0)
    sides = {s: _split(rng) for s in ("train", "validation", "test")}
    names = tuple(f"token-{i}" for i in range(WORDS))
    nan = np.full(WORDS, np.nan, np.float32)
    dataset = assemble(
        "selftest", ("0", "1"), sides, names, np.ones(WORDS, np.uint8), nan
    )
    return Source(
        task=dataset.name,
        inputs=Inputs("tokens", WORDS, TOKENS),
        classes=dataset.classes,
        examples=EXAMPLES,
        digest=dataset.digest,
        dataset=dataset,
    )


def _split(rng: np.random.Generator) -> Split:
    tokens = rng.integers(4, WORDS, (EXAMPLES, TOKENS)).astype(np.uint8)
    labels = (np.arange(EXAMPLES) % 2).astype(np.int32)
    rows = np.flatnonzero(labels)
    tokens[rows, rng.integers(0, TOKENS, len(rows))] = WORD
    lengths = np.full(EXAMPLES, TOKENS, np.int32)
    return Split(tokens, lengths, labels, np.arange(EXAMPLES).astype(str))
