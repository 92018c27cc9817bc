"""A run read back into Python, in the form that notebooks show."""

import pytest
from made_run import TASK, config_of, make

import jaxattn
from jaxattn.reports import page
from jaxattn.reports.folder import read


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loaded") / "runs/probe"
    return make(folder, config_of(values="default_tokens"))


def test_a_loaded_run_gives_arrays(probe, tmp_path):
    found = jaxattn.load_run(probe)
    masks = found.masks[TASK]["joint"]["masks"]
    assert masks.shape == (8, 40, 4)
    accuracies = found.values("accuracy", "joint")
    rows = found.seeds[
        (found.seeds["method"] == "joint") & (found.seeds["metric"] == "accuracy")
    ]
    assert accuracies.tolist() == rows["value"].tolist()
    row = found.results[
        (found.results["method"] == "joint") & (found.results["metric"] == "accuracy")
    ]
    assert row["mean"][0] == pytest.approx(accuracies.mean(), abs=1e-6)
    assert found.to_dict()["results"][0]["metric"] == "majority"
    assert "mask_swap" in found.table() and "evidence" not in found.table("leak_bits")
    assert max(map(len, found.table().splitlines())) <= 80
    assert (
        "<table" in found._repr_html_() and "Test accuracy" not in found._repr_html_()
    )
    found.save_html(tmp_path / "again.html")
    expected = page.render([read(probe)])
    assert (tmp_path / "again.html").read_text() == expected
    with pytest.raises(ValueError, match="has no speed of joint"):
        found.values("speed", "joint")
    assert "3 methods, 8 seeds" in repr(found)
