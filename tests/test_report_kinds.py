"""Runs of every kind write their report at the end; a real browser opens it."""

import doctest
import html
import re
import shutil

import browser
import numpy as np
import pytest
from made_run import TASK, config_of, make
from small_run import PROBE, WORDS, arguments, run
from test_report import HOSTILE

import jaxattn
from jaxattn import heat, outputs, scrutiny
from jaxattn.data import bags, tasks
from jaxattn.reporting import loaded, page, run_folder
from jaxattn.reporting.verdict import subject

TINY = (
    "--seeds 2 --epochs 1 --lane 1 --model.values inputs --model.features 4 "
    "--model.hidden 4 --data.length 8 --data.min-count 20"
).split()


@pytest.fixture(scope="module")
def drawn():
    """Only the report is asked for: the figures beside it have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "_draw", lambda *given: None)
        patch.setattr(scrutiny, "EXAMPLES", 32)
        few = {"train": 64, "validation": 16, "test": 64}
        patch.setattr(tasks, "load_bags", lambda: bags.load_bags(few))
        yield


@pytest.fixture(scope="module")
def probe(drawn, tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("kinds") / "runs/probe"
    words = arguments(folder, data_dir, PROBE, seeds="2", epochs="1")
    assert run(*words, "--full-text-epochs", "1", "--quiet") == 0
    return folder


def report_of(folder):
    text = (folder / "report.html").read_text()
    assert text == page.render([run_folder.read(folder)])
    return text


def test_a_probe_shows_its_codes_and_its_words(probe):
    text = report_of(probe)
    assert "The mean mask of each class" in text and "majority" in text
    assert "attention over the words (full_text)" in text
    shown = run_folder.read(probe)
    (names,) = shown.names.values()
    assert names.vocabulary[:2] == ("<pad>", "<unk>") and names.classes[1] == "positive"
    assert "most leaking" in text and "seeds disagree most" in text


def test_words_beside_gradients_and_ratings(drawn, tmp_path, data_dir):
    words = arguments(
        tmp_path / "run", data_dir, WORDS, seeds="2", epochs="1",
        metrics="agreement faithfulness",
    )  # fmt: skip
    assert run(*words, "--quiet") == 0
    text = report_of(tmp_path / "run")
    for said in ("gradient times input", "people&#39;s ratings", "random order"):
        assert said in text
    found = run_folder.read(tmp_path / "run")
    kept = found.masks[TASK]["joint"]
    assert (
        kept["gradient"].shape[1:] == (32, 8) and np.isfinite(kept["leak_bits"]).all()
    )
    # What is kept of each example is what the mean of the seed is made of.
    bits = run_folder.values(found, TASK, "joint", "leak_bits")
    assert kept["leak_bits"].mean(axis=1) == pytest.approx(
        list(bits.values()), abs=1e-5
    )
    curve = run_folder.values(found, TASK, "joint", "removal_curve:without 50%")
    assert all(0 < p < 1 for p in curve.values())


def test_bags_show_their_instances(drawn, tmp_path):
    words = "--tasks bags --methods joint,uniform --batch-size 32 --model.query none"
    words = [
        *words.split(),
        "--model.selector",
        "gated",
        "--model.normalizer",
        "softmax",
    ]
    assert run(*words, *TINY, "--workdir", tmp_path / "run", "--quiet") == 0
    text = report_of(tmp_path / "run")
    assert 'class="thumb" src="data:image/png' in text and "underlined" in text


def test_generated_features_show_their_values(drawn, tmp_path):
    words = "--tasks syn4 --methods joint,mask_swap --model.query none --lane 2 "
    words += "--model.selector tabular --model.normalizer gates "
    words += "--model.predictor tabular --data.examples 256 --data.test-examples 256"
    assert run(*words.split(), *TINY, "--workdir", tmp_path / "run", "--quiet") == 0
    text = report_of(tmp_path / "run")
    assert "x11 = " in text and "Each seed has examples of its own" in text


def test_places_of_an_image_become_maps(tmp_path):
    folder = make(tmp_path / "run", config_of(tasks=(TASK,)))
    path = folder / f"data/{TASK}.json"
    path.write_text('{"classes": ["a", "b"], "grid": [2, 3]}')
    np.savez(folder / f"data/{TASK}.npz", images=np.full((40, 6), 200, np.uint8))
    text = page.render([run_folder.read(folder)])
    assert "the image itself" in text and "joint, mean of 8 seeds" in text
    assert re.search(r"largest \d\.\d\d in row [12], column [123]", text)


def test_a_run_without_joint_is_judged_by_its_first_method(tmp_path):
    config = config_of(methods=("uniform", "mask_swap"))
    found = run_folder.read(make(tmp_path / "run", config))
    assert subject(found, TASK) == "mask_swap"
    assert "maps of mask_swap" in page.render([found])


def test_a_loaded_run_gives_arrays(probe):
    found = jaxattn.load_run(probe)
    masks = found.masks[TASK]["joint"]["masks"]
    assert masks.shape[0] == 2 and masks.shape[2] == 4
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
    found.save_html(probe / "again.html")
    assert (probe / "again.html").read_text() == (probe / "report.html").read_text()
    with pytest.raises(ValueError, match="has no speed of joint"):
        found.values("speed", "joint")
    assert "2 methods, 2 seeds" in repr(found)


def test_examples_in_docstrings_are_true(probe, monkeypatch):
    monkeypatch.chdir(probe.parents[1])
    failed = tried = 0
    for module in (heat, loaded):
        # Of a run of 16 seeds the text speaks; here there are two of fewer texts.
        finder = doctest.DocTestFinder()
        for test in finder.find(module):
            for example in test.examples:
                example.source = example.source.replace("(16, 1020, 4)", "(2, 1020, 4)")
            result = doctest.DocTestRunner().run(test)
            failed, tried = failed + result.failed, tried + result.attempted
    assert failed == 0 and tried >= 7


def test_a_heat_map_in_text_and_html(tmp_path):
    words = ["a", "\x1b[31mred", "<b>", "x" * 500, "\N{GRINNING FACE}"]
    weights = {"one": [0, 0.5, -0.25, 0.1, 0.15], "two": np.full(5, 0.2)}
    drawn = jaxattn.show(words, weights, tmp_path / "heat.html")
    lines = repr(drawn).splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in repr(drawn)
    assert "█ .50" in repr(drawn) and "-.25" in repr(drawn) and "· .00" in repr(drawn)
    saved = (tmp_path / "heat.html").read_text()
    assert "&lt;b&gt;" in saved and "<b>" not in saved and "x" * 200 not in saved
    assert html.escape("one") in drawn._repr_html_() and "all alike" in saved
    assert [name for name, _ in jaxattn.show(["a"], [[1], [0]]).rows] == [
        "mask 1",
        "mask 2",
    ]
    for wrong, said in (
        ([0.5], "has shape"),
        ({"m": [np.nan] * 5}, "m has weights that are not finite"),
        ([[["x"]]], "expected"),
        (np.zeros((1, 1, 5)), "expected"),
    ):
        with pytest.raises(ValueError, match=said):
            jaxattn.show(words, wrong)


@pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed here")
def test_a_browser_opens_it_offline_and_it_works(probe, tmp_path):
    hostile = make(
        tmp_path / "run",
        words=("<pad>", "<unk>", *HOSTILE),
        ids=[f"{HOSTILE[i % len(HOSTILE)]}{i}"[:200] for i in range(40)],
    )
    path = tmp_path / "both.html"
    path.write_text(page.render([run_folder.read(hostile)]))
    shutil.copy(probe / "report.html", tmp_path / "probe.html")
    with browser.chromium(tmp_path / "profile") as open_:
        for file in (path, tmp_path / "probe.html"):
            for width in (1280, 400):
                opened = open_(file, width)
                across = "document.documentElement.scrollWidth"
                assert opened.run(across) == width
            assert opened.run("getComputedStyle(document.body).color") != ""
            wide = opened.run("document.querySelector('figure svg').clientWidth")
            assert wide > 400  # it scrolls in a box of its own
        works(open_(path))
        dark = open_(path, dark=True)
        paper = "getComputedStyle(document.body).backgroundColor"
        assert dark.run(paper) == "rgb(22, 27, 33)"
        assert browser.complaints(dark) == []
        assert set(browser.requests(dark)) == {
            file.resolve().as_uri() for file in (path, tmp_path / "probe.html")
        }


def works(opened):
    """The filter hides what does not match; a click on a head sorts by its numbers."""
    count = "[...document.querySelectorAll('.shown')].filter(e => !e.hidden).length"
    whole = opened.run(count)
    assert whole > 1
    first = opened.run("document.querySelectorAll('.shown')[0].textContent")
    name = re.search(r"(\w+)\s*· label", first)
    assert name
    typed = (
        "(() => {{ const e = document.querySelector('input[type=search]'); "
        "e.value = {0!r}; e.dispatchEvent(new Event('input')); }})()"
    )
    opened.run(typed.format(name.group(1)))
    assert 1 <= opened.run(count) < whole
    told = opened.run("document.querySelector('.filter [role=status]').textContent")
    assert told == f"{opened.run(count)} of {whole} examples"
    opened.run(typed.format(""))
    assert opened.run(count) == whole
    opened.run("document.querySelectorAll('table.sorts thead button')[1].click()")
    values = opened.run(
        "[...document.querySelector('table.sorts').tBodies[0].rows]"
        ".map(r => Number(r.cells[1].dataset.order))"
    )
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
