"""The audit of every seed of a run, on masks whose leak is known."""

import types

import numpy as np
import pytest
from small_run import WORDS, arguments, draw_nothing, run

from jaxattn.config import Config, Model
from jaxattn.experiment import after_training
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.reports.results import read_results

N, T = 600, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, N)


def program(metrics=("leak",), method="joint"):
    """As little of a program as the audit needs; its examples are generated."""
    config = Config(metrics=metrics, model=Model(values="inputs"))
    return types.SimpleNamespace(
        cell=types.SimpleNamespace(config=config, simplex=True),
        source=types.SimpleNamespace(dataset=None, black_box=None),
        cells=((method, 0),),
        settings={method: None},
    )


def audited(masks, values, alive=None, **measured):
    """What is added to seeds with these masks [S, N, T] and values [S, N, D]."""
    seeds = len(masks)
    examples = {
        "masks": np.asarray(masks, np.float32),
        "labels": np.tile(LABELS, (seeds, 1)),
        "values": np.asarray(values, np.float32),
    }
    outcome = Outcome(
        [("joint", i) for i in range(seeds)],
        np.ones(seeds, bool) if alive is None else np.array(alive),
        {},
        measured,
        examples,
    )
    return after_training.with_audits(program(), outcome).measured


def coded():
    """Masks that look at position 0 or 1, which is the label."""
    masks = np.full((N, T), 0.1)
    masks[np.arange(N), LABELS] = 0.7
    return masks


def noise():
    made = RNG.random((N, T))
    return made / made.sum(axis=1, keepdims=True)


def test_a_code_is_found_where_it_lives_and_beyond_values_that_tell_nothing():
    nothing = RNG.normal(size=(2, N, 3))
    made = audited([coded(), noise()], nothing, evalx_nll=np.array([0.5, np.log(2)]))
    for name in ("audit_bits:mask", "audit_bits:place", "encoding_bits"):
        assert made[name][0] > 0.9, name
        assert abs(made[name][1]) < 0.05, name
    # The same weights in another order: nothing in their shape.
    assert abs(made["audit_bits:shape"][0]) < 0.05
    shares = np.bincount(LABELS) / N
    entropy = -(shares * np.log2(shares)).sum()
    reads = entropy - 0.5 / np.log(2)
    assert made["stripe_x_bits"][0] == pytest.approx(
        reads - made["encoding_bits"][0], abs=1e-5
    )


def test_a_mask_tells_nothing_beyond_values_that_tell_all():
    told = 4 * (LABELS[None, :, None] - 0.5) + 0.1 * RNG.normal(size=(1, N, 1))
    made = audited([coded()], told)
    assert made["audit_bits:mask"][0] > 0.9
    assert abs(made["encoding_bits"][0]) < 0.05


def test_masks_that_are_all_equal_hold_exactly_nothing():
    flat = np.full((N, T), 1 / T)
    made = audited([flat, coded()], RNG.normal(size=(2, N, 3)))
    assert made["audit_bits:mask"][0] == 0
    assert made["audit_bits:place"][0] == 0


def test_a_seed_that_diverged_has_no_numbers():
    broken = np.full((N, T), np.nan)
    made = audited([broken, coded()], RNG.normal(size=(2, N, 3)), alive=[False, True])
    assert np.isnan(made["audit_bits:mask"][0])
    assert made["audit_bits:mask"][1] > 0.9


def test_too_few_examples_give_no_numbers():
    masks, values = coded()[:20], RNG.normal(size=(20, 3))
    examples = {"masks": masks[None], "labels": LABELS[None, :20]}
    outcome = Outcome(
        [("joint", 0)],
        np.array([True]),
        {},
        {"nll": np.zeros(1)},
        examples | {"values": values[None]},
    )
    assert set(after_training.with_audits(program(), outcome).measured) == {"nll"}


def test_it_is_asked_for_and_not_of_the_reference():
    asked, other = program(), program(metrics=())
    assert after_training.prices([asked, other]) == [
        "leak: 1 audits of masks, 1 s to 3 s each on two cores"
    ]
    assert after_training.prices([other, program(method=FULL_TEXT)]) == []


def test_a_run_reports_it(monkeypatch, tmp_path, data_dir):
    draw_nothing(monkeypatch)
    words = arguments(
        tmp_path / "run", data_dir, WORDS, methods="uniform", metrics="leak", seeds="2"
    )
    assert run(*words) == 0
    results = read_results(tmp_path / "run" / "results.csv")
    rows = {(r.metric, r.variant): r for r in results if r.method == "uniform"}
    for name in ("evalx_accuracy", "evalx_nll", "encoding_bits", "stripe_x_bits"):
        assert np.isfinite(rows[name, ""].mean), name
    # Uniform masks of texts of different length are not equal: they tell the length.
    both = [rows["audit_bits", v].mean for v in ("shape", "length")]
    assert max(map(abs, both)) < 0.05
    assert rows["evalx_accuracy", ""].null == rows["evalx_accuracy", "shuffled"].mean
    with np.load(tmp_path / "run" / "masks" / "uniform.npz") as stored:
        assert stored["values"].shape[:2] == stored["masks"].shape[:2]
