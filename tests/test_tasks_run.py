"""Every kind of input goes through the whole command: bags, patches, black boxes."""

import numpy as np
import pytest
from small_run import draw_nothing, run

from jaxattn.data import tasks
from jaxattn.data.sources import bags
from jaxattn.reports.results import read_results

SMALL = (
    "--seeds 2 --epochs 1 --lane 1 --model.values inputs --model.features 4 "
    "--model.hidden 4 --data.length 8 --data.min-count 20"
).split()


def results_of(folder):
    found = read_results(folder / "results.csv")
    return {(r.method, r.metric, r.variant): r.mean for r in found if r.split == "test"}


def test_bags(tmp_path, monkeypatch):
    few = {"train": 64, "validation": 16, "test": 64}
    monkeypatch.setattr(tasks, "load_bags", lambda: bags.load_bags(few))
    words = ["--tasks", "bags", "--methods", "joint,uniform", "--batch-size", "32"]
    words += ["--model.query", "none", "--model.selector", "gated"]
    assert run(*words, *SMALL, "--workdir", tmp_path / "run") == 0
    found = results_of(tmp_path / "run")
    for metric in ("evidence_auroc", "evidence_ap", "pointing_game", "evidence_mass"):
        assert 0 <= found["joint", metric, ""] <= 1
    # Uniform attention knows nothing: its area is one half, its mass the share.
    assert found["uniform", "evidence_auroc", ""] == pytest.approx(0.5, abs=1e-6)
    share = found["uniform", "evidence_mass", "uniform"]
    assert found["uniform", "evidence_mass", ""] == pytest.approx(share, abs=1e-5)
    with np.load(tmp_path / "run/masks/joint.npz") as stored:
        assert stored["masks"].shape == stored["truth"].shape[:0] + (2, 64, 20)
        padding = np.arange(20) >= stored["lengths"][:, None]
        assert padding.any() and not stored["masks"][:, padding].any()
    page = (tmp_path / "run/report.html").read_text()
    assert 'class="thumb" src="data:image/png' in page and "underlined" in page


def test_a_black_box_is_explained(tmp_path, monkeypatch, data_dir):
    draw_nothing(monkeypatch)
    words = ["--tasks", "explain_linear", "--methods", "joint,gradient"]
    words += ["--model.normalizer", "gumbel_top_k", "--model.budget", "2"]
    words += ["--batch-size", "1024", "--data-dir", data_dir]
    assert run(*words, *SMALL, "--workdir", tmp_path / "run") == 0
    found = results_of(tmp_path / "run")
    for method in ("joint", "gradient"):
        assert found[method, "selected_count", ""] == pytest.approx(2, abs=0.05)
        for metric in ("post_hoc_accuracy", "evalx_accuracy", "contentless_share"):
            assert 0 <= found[method, metric, ""] <= 1
    # The gradient selects what the gradient selects, and it keeps the answer best.
    assert found["gradient", "gradient_overlap", ""] == pytest.approx(1, abs=1e-6)
    kept = found["gradient", "post_hoc_accuracy", ""]
    assert kept > found["gradient", "post_hoc_accuracy", "shuffled"] + 0.1


def test_generated_examples_may_be_weighed(known_run):
    folder = known_run.folder
    assert 0 < results_of(folder)["instance_weighting", "ess_share", ""] <= 1
    drawn = (folder / "figures/overlap.svg").read_text()
    assert "class-0" in drawn and "class-1" in drawn
    page = (folder / "report.html").read_text()
    assert "x11 = " in page and "Each seed has examples of its own" in page


@pytest.mark.parametrize(
    "words, said",
    [
        (["--tasks", "syn4"], "choose tabular"),
        (["--tasks", "syn4,syn4"], "more than once"),
        (["--tasks", "explain_linear"], "must be top_k"),
        (["--tasks", "planted", "--methods", "gradient"], "has none"),
        (["--tasks", "planted", "--model.selector", "tabular"], "fixed number"),
        (["--tasks", "planted", "--model.normalizer", "top_k"], "--model.budget"),
        (["--tasks", "planted", "--methods", "invase"], "normalizer gates"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_said_in_one_line(words, said, tmp_path, capsys):
    """Before anything is loaded."""
    folder = tmp_path / "run"
    given = [*words, *SMALL, "--data-dir", tmp_path / "none", "--workdir", folder]
    assert run(*given) == 2
    out, err = capsys.readouterr()
    text = " ".join((out + err).split())
    assert said in text and "Traceback" not in text
    assert not folder.exists()
