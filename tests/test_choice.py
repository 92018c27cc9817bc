import numpy as np
import pytest
import small_run
from small_run import arguments, draw_nothing, keep_compiled, run

from jaxattn import config
from jaxattn.experiment import choice
from jaxattn.experiment.wave import Outcome
from jaxattn.reports.results import Result
from jaxattn.system import console

RATE = "optimizer.learning_rate"


def outcome(last, test=0.5):
    """Cells whose validation accuracy ends so."""
    last = np.array(last, np.float32)
    curves = {"validation_accuracy": np.stack([0 * last + 0.99, last], axis=1)}
    measured = {"accuracy": np.full(len(last), test, np.float32)}
    cells = [("joint", seed) for seed in range(len(last))]
    return Outcome(cells, np.isfinite(last), curves, measured, {})


CONFIG = config.Config(methods=("joint", "uniform"), also=(f"{RATE}=0.1", f"{RATE}=1"))


def test_the_best_on_validation_is_chosen_whatever_the_test_says():
    found = choice.chosen(
        CONFIG,
        {
            "joint": outcome([0.6, 0.7], test=0.9),
            f"joint@{RATE}=0.1": outcome([0.7, 0.8], test=0.1),
            f"joint@{RATE}=1": outcome([0.5, 0.5], test=0.95),
            "uniform": outcome([0.5, 0.6]),
            f"uniform@{RATE}=0.1": outcome([0.5, 0.5]),
            f"uniform@{RATE}=1": outcome([0.4, 0.5]),
        },
    )
    assert [(c.method, c.setting) for c in found] == [
        ("joint", f"{RATE}=0.1"),
        ("uniform", ""),
    ]
    assert found[0].validation[""][0] == pytest.approx(0.65)
    (said,) = choice.sentences(found)
    assert f"joint {RATE}=0.1 (0.750); uniform the config's own (0.550)" in said


def test_a_setting_in_which_a_seed_diverged_is_not_chosen():
    found = choice.chosen(
        CONFIG,
        {"joint": outcome([0.6, 0.7]), f"joint@{RATE}=0.1": outcome([0.99, np.nan])},
    )
    assert [c.setting for c in found] == [""]
    assert choice.chosen(CONFIG, {"joint": outcome([np.nan])}) == []


def test_one_setting_is_no_choice():
    assert choice.chosen(config.Config(), {"joint": outcome([0.6])}) == []
    assert choice.sentences([]) == choice.markdown("x", [], []) == []


def test_the_table_has_both_splits():
    found = choice.chosen(
        CONFIG, {"joint": outcome([0.6]), f"joint@{RATE}=0.1": outcome([0.7])}
    )
    tested = Result(
        "task", "joint", "accuracy", f"{RATE}=0.1", "test", 1, 0.5, 0.4, 0.6, 0.5,
        "share", "higher",
    )  # fmt: skip
    lines = choice.markdown("task", found, [tested])
    (row,) = [line for line in lines if "**" in line]
    assert f"**{RATE}=0.1**" in row and "0.500 [0.400, 0.600]" in row


def test_a_sweep_runs_grids_of_numbers_and_structure(
    tmp_path, data_dir, monkeypatch, capsys
):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    words = arguments(tmp_path / "run", data_dir, small_run.WORDS, seeds="2")
    axes = ["--sweep", f"{RATE}=3e-3,1e-1", "model.hidden=4,8"]
    assert run(*words, *axes) == 0
    console.settings.quiet = False
    out = " ".join(capsys.readouterr().out.split())
    assert "2 methods x 4 settings x 2 seeds" in out
    # Two methods of two structures, and two widths: four programs.
    assert len(list((tmp_path / "run/checkpoints").glob("program-*"))) == 4
    text = (tmp_path / "run/results.md").read_text()
    assert "## Chosen on the validation split, movie_sentiment" in text
    for setting in (f"{RATE}=0.1", "model.hidden=8", f"model.hidden=8 {RATE}=0.1"):
        assert f"| joint | {setting} |" in text.replace("**", "")
    assert "Chosen on the validation split, by accuracy: joint" in text
