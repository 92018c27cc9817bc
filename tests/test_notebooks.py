"""Runs and audits as notebooks and scripts show them, with hostile names in them."""

import html.parser
import json
import pathlib

import numpy as np
import pytest
from made_run import TASK, config_of, make

import jaxattn
from jaxattn.reports import page
from jaxattn.reports.folder import read
from jaxattn.reports.run import Run

HOSTILE = '<script>alert("1")</script><img src=x onerror=y>&'
VIEWS = ("_repr_html_", "to_dict", "table", "save_html")
N = 400


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = set(), ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    shapes = np.array([[5, 1, 1, 1], [1, 1, 1, 5]])[labels]
    masks = rng.gamma(shapes)
    masks /= masks.sum(axis=1, keepdims=True)
    tokens = np.full((N, 4), HOSTILE)
    names = np.array([HOSTILE, "\x1b[31mred"])[labels]
    return jaxattn.audit(masks, names, tokens=tokens, permutations=19)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run in a folder with a hostile name, whose words and classes are so too."""
    folder = tmp_path_factory.mktemp("runs") / HOSTILE.replace("/", "")
    words = ("<pad>", "<unk>", HOSTILE, "fine", "film", "dull")
    config = config_of(values="default_tokens")
    make(folder, config, words=words, classes=(HOSTILE, "other"))
    run = jaxattn.load_run(folder)
    return run._replace(findings=[f"joint: {HOSTILE}"])


@pytest.fixture(scope="module", params=["report", "done"])
def shown(request, report, done):
    return {"report": report, "done": done}[request.param]


def test_all_have_the_same_views(shown):
    assert [name for name in VIEWS if not hasattr(shown, name)] == []


def test_a_notebook_sees_a_table_and_no_foreign_element(shown):
    page = Tags(shown._repr_html_())
    assert {"table", "strong"} <= page.found and not page.found & {"script", "img"}


def test_the_page_is_whole_and_harmless(shown, tmp_path):
    path = tmp_path / "page.html"
    shown.save_html(path)
    text = path.read_text()
    page = Tags(text)
    assert text.startswith("<!doctype html>") and "img" not in page.found
    assert HOSTILE.replace("/", "") not in text and HOSTILE not in text
    with pytest.raises(OSError):
        shown.save_html(tmp_path / "no" / "folder.html")


def test_the_dictionary_is_json(shown):
    text = json.dumps(shown.to_dict(), allow_nan=False)
    assert json.loads(text) == shown.to_dict()


def test_the_table_is_text_of_80_columns(shown):
    lines = shown.table().splitlines()
    assert len(lines) >= 3 and max(map(len, lines)) <= 80
    assert "\x1b" not in shown.table()


def test_a_repr_is_one_line(shown):
    assert "\n" not in repr(shown) and len(repr(shown)) < 300


def test_numbers_are_those_of_the_report(report):
    found = report.to_dict()
    assert found["verdict"] == "leak" and found["schema"] == 1
    assert found["masks"]["bits"] == pytest.approx(report.masks.bits)
    for text in (report.table(), report._repr_html_()):
        assert f"{report.masks.bits:.3f}" in text and "place" in text
    assert HOSTILE in Tags(report._repr_html_()).text  # named, as text


def test_numbers_are_those_of_the_run(done):
    said = done.to_dict()
    assert said["results"][0]["metric"] == "majority"
    assert said["folder"] == str(done.folder)
    assert said["findings"] == [f"joint: {HOSTILE}"]
    only = done.table("leak_bits").splitlines()
    assert only[0].split() == ["method", "leak_bits"] and len(only) == 5


def test_a_loaded_run_gives_arrays(tmp_path):
    folder = make(tmp_path / "runs/probe", config_of(values="default_tokens"))
    run = jaxattn.load_run(folder)
    assert run.masks[TASK]["joint"]["masks"].shape == (8, 40, 4)
    accuracies = run.values("accuracy", "joint")

    def rows(table):
        return table[(table["method"] == "joint") & (table["metric"] == "accuracy")]

    assert accuracies.tolist() == rows(run.seeds)["value"].tolist()
    mean = rows(run.results)["mean"][0]
    assert mean == pytest.approx(accuracies.mean(), abs=1e-6)
    assert "mask_swap" in run.table() and "evidence" not in run.table("leak_bits")
    assert any("Shortcut" in sentence for sentence in run.findings)
    run.save_html(tmp_path / "again.html")
    expected = page.render([read(folder)])
    assert (tmp_path / "again.html").read_text() == expected
    with pytest.raises(ValueError, match="has no speed of joint"):
        run.values("speed", "joint")
    assert "3 methods, 8 seeds" in repr(run)


def test_a_run_without_results_says_so(tmp_path):
    run = Run(pathlib.Path(HOSTILE), None, [], [], 15)
    assert repr(run) == f"Run({HOSTILE!r}: 0 results, ended by signal 15)"
    page = Tags(run._repr_html_())
    assert page.found == {"div", "p", "strong"} and "ended by signal 15" in page.text
    assert run.to_dict()["results"] == [] and run.table().split()[0] == "method"
    for ask in (lambda: run.save_html(tmp_path / "page.html"), lambda: run.masks):
        with pytest.raises(ValueError, match="is missing"):
            ask()
