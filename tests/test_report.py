"""The page is true to the tables, harmless whatever it shows, and small."""

import base64
import html.parser
import json
import pathlib
import re
import shutil

import made_run
import numpy as np
import pytest
from made_run import TASK, config_of, make

import jaxattn
from jaxattn.config import Config
from jaxattn.metrics.statistics import difference_interval, paired_interval
from jaxattn.reports import command, page, results, tables, verdict, versus
from jaxattn.reports.folder import read, values
from jaxattn.reports.results import choose, read_results
from jaxattn.system import pages

ROOT = pathlib.Path(__file__).parents[1]


class Reader(html.parser.HTMLParser):
    """The elements of a page: (name, attributes), its text, its tables as rows."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.words, self.inside = [], [], [], ""
        self.feed(text)
        self.text = "".join(self.words)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append([attrs, ""])
        if tag in ("script", "style"):
            self.inside = tag

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data):
        if self.inside:
            return
        self.words.append(data)
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1][1] += data


def pages_of(*folders):
    return page.render([read(f) for f in folders])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def text(run):
    return pages_of(run)


def test_every_number_of_the_tables_is_that_of_results_csv(run, text):
    means = read_results(run / "results.csv")
    found = 0
    for table in Reader(text).tables:
        head = [cell[1].split("\N{NO-BREAK SPACE}")[0].strip() for cell in table[0]]
        if head[-1] != "seeds":
            continue
        for row in table[1:]:
            method = row[0][1].strip()
            for name, (attrs, said) in zip(head[1:-1], row[1:-1], strict=True):
                r = choose(means, TASK, method, name)
                if r is None:
                    assert "–" in said
                    continue
                assert float(attrs["data-order"]) == r.mean
                printed = [float(x) for x in re.findall(r"-?\d+\.\d+", said)]
                expected = [r.mean, r.ci_low, r.ci_high]
                expected += [r.null] if np.isfinite(r.null) else []
                assert printed == pytest.approx(expected, abs=5.1e-4)
                found += 1
    assert found >= 3 * 4


def test_the_tables_themselves_are_embedded(run, text):
    links = [a for tag, a in Reader(text).elements if tag == "a" and "download" in a]
    assert [a["download"] for a in links] == ["results.csv", "seeds.csv"]
    for a in links:
        raw = base64.b64decode(a["href"].partition("base64,")[2])
        assert raw == (run / a["download"]).read_bytes()


def test_a_page_needs_no_network_and_no_script(text):
    reader = Reader(text)
    links = [a["href"] for tag, a in reader.elements if tag == "a"]
    outside = [u for u in links if not u.startswith(("#", "data:"))]
    assert all(u.startswith("https://arxiv.org/abs/") for u in outside)
    named = {a["id"] for _, a in reader.elements if "id" in a}
    assert {u[1:] for u in links if u.startswith("#")} <= named
    # Nothing but these links names another place.
    assert text.count("http") == len(outside) + text.count("http-equiv")
    assert [tag for tag, _ in reader.elements].count("script") == 1
    sources = [a.get("src", "data:") for _, a in reader.elements]
    assert all(s.startswith("data:") for s in sources)
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, a in reader.elements:
        if tag == "svg" or tag == "img":
            assert a.get("aria-label") or a.get("alt")
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    captions = [tag for tag, _ in reader.elements].count("caption")
    assert captions == len(reader.tables)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '",
    "{{ 7 * 7 }}",
    "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}\N{RIGHT-TO-LEFT OVERRIDE}",
    "\N{GRINNING FACE}",
    "]]></svg><!-- &lt;",
    "$\\frac{$",
    "x" * 10_000,
)


@pytest.mark.parametrize("word", HOSTILE, ids=lambda w: ascii(w[:12]))
def test_hostile_tokens_do_no_harm(word, tmp_path, text):
    ids = [f"{word[:300]}{i}" for i in range(made_run.N)]
    words = (*made_run.WORDS, word)
    run = make(tmp_path / "run", words=words, ids=ids, classes=(word, "positive"))
    hostile = pages_of(run)
    reader = Reader(hostile)
    assert "x" * 200 not in hostile
    assert word[:70] in reader.text
    # A hostile word adds text, and no element, beyond what another word does.
    kinds = {tag for tag, _ in reader.elements}
    assert kinds == {tag for tag, _ in Reader(text).elements}
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert not any(name.startswith("on") for _, a in reader.elements for name in a)


def test_what_is_told_of_a_picture_is_escaped():
    svg = pages.inline('<svg viewBox="0 0 1 1"><g/></svg>', "x", 'a <b> "c"')
    assert 'aria-label="a &lt;b&gt; &quot;c&quot;"' in svg


def test_the_report_of_the_default_probe_is_small(tmp_path):
    config = Config()
    bits = {
        (m, f"{metric}:v{i}"): np.linspace(0, 1, 16)
        for m in config.methods
        for i in range(8)
        for metric in ("weight_mean", "gradient_tau")
    }
    words = tuple(f"word{i}" for i in range(9000))
    run = make(tmp_path / "run", config, bits, words, n=1020)
    assert len(pages_of(run).encode()) < 3_000_000


def test_two_runs_are_compared_seed_by_seed(run, tmp_path):
    config = config_of(batch_size=64)
    accuracy = np.linspace(0.85, 0.9, 8)
    other = make(tmp_path / "other", config, {("joint", "accuracy"): accuracy})
    a, b = read(run), read(other)
    found = versus.compare([a, b])
    assert found is not None and found.names == ["run", "other"]
    assert found.changed == [["batch_size: 128 -> 64"]]
    row = next(r for r in found.rows if (r.method, r.metric) == ("joint", "accuracy"))
    own = values(a, TASK, "joint", "accuracy")
    apart = paired_interval(accuracy.astype(np.float32), list(own.values()))
    assert row.apart == [results.interval_text(apart.mean, apart.low, apart.high, "+")]
    assert row.outcomes == ["better"]
    said = Reader(page.render([a, b])).text
    assert row.apart[0] in said and "batch_size: 128 -> 64" in said
    assert "seed by seed" in found.pairing[0]


def test_other_seeds_are_not_paired(run, tmp_path):
    other = make(tmp_path / "other", config_of(first_seed=100))
    a, b = read(run), read(other)
    found = versus.compare([a, b])
    assert found is not None and "not paired" in found.pairing[0]
    row = next(r for r in found.rows if (r.method, r.metric) == ("joint", "accuracy"))
    x, y = (list(values(f, TASK, "joint", "accuracy").values()) for f in (b, a))
    apart = difference_interval(x, y)
    assert row.apart == [results.interval_text(apart.mean, apart.low, apart.high, "+")]


@pytest.mark.parametrize(
    "bits, foreign, kind, tone, said",
    [
        (0.3, 0.8, "leak", "leak", "a code, and it is read"),
        (0.3, 0.5, "leak", "inconclusive", "no use of it was found"),
        (0.0, 0.5, "none", "none", "No leak was found"),
        (0.0, 0.8, "none", "leak", "Do not trust"),
    ],
)
def test_the_verdict_follows_its_thresholds(bits, foreign, kind, tone, said, tmp_path):
    spread = np.linspace(-0.001, 0.001, 8)
    numbers = {
        ("joint", "leak_bits"): bits + spread,
        ("joint", "leak_bits:permuted"): spread[::-1],
        ("joint", "foreign_values_accuracy"): foreign + spread,
    }
    run = read(make(tmp_path / "run", numbers=numbers))
    found = verdict.judge(run, TASK)
    assert (found.kind, found.tone) == (kind, tone) and said in found.headline
    assert f"{bits:.0%} of H(Y) = 1.000 bits" in found.leak
    if bits:
        assert "p = 0.0078" in found.leak  # 2 of 2 ** 8 patterns of signs


@pytest.mark.parametrize("right, tone", [(0.7, "leak"), (0.79, "inconclusive")])
def test_who_loses_under_the_right_mask_has_learnt_a_code(right, tone, tmp_path):
    numbers = {
        ("joint", "accuracy"): np.full(8, 0.8),
        ("joint", "true_mask_accuracy"): right + np.linspace(-0.01, 0.004, 8),
    }
    run = read(make(tmp_path / "run", numbers=numbers))
    found = verdict.judge(run, TASK)
    assert found.tone == tone and f"(difference {right - 0.803:+.3f}" in found.use


def test_few_seeds_that_differ_are_inconclusive(tmp_path):
    bits = {("joint", "leak_bits"): [-0.3, 0.3] * 4}
    run = read(make(tmp_path / "run", numbers=bits))
    assert verdict.judge(run, TASK).kind == "inconclusive"


@pytest.mark.parametrize("seeds, kind", [(5, "inconclusive"), (6, "leak")])
def test_few_seeds_that_agree_are_inconclusive_too(seeds, kind, tmp_path):
    """All five of one sign have a p of 2 in 32."""
    bits = {
        ("joint", "leak_bits"): 0.3 + np.linspace(0, 0.01, seeds),
        ("joint", "leak_bits:permuted"): np.linspace(0, 0.001, seeds),
    }
    config = config_of(seeds=seeds)
    run = read(make(tmp_path / "run", config, numbers=bits))
    assert verdict.judge(run, TASK).kind == kind


def test_best_is_marked_only_where_it_is_no_tie(tmp_path):
    spread = np.linspace(-0.05, 0.05, 8)
    numbers = {
        ("joint", "accuracy"): 0.8 + spread,
        ("mask_swap", "accuracy"): 0.79 + spread,  # paired: always .01 less
        ("uniform", "accuracy"): 0.9 + spread,  # a control, which learns no mask
        ("joint", "leak_bits"): 0.1 + spread,
        ("mask_swap", "leak_bits"): 0.1 - spread,
    }
    run = read(make(tmp_path / "run", numbers=numbers))
    assert tables.best_of(run, TASK, "accuracy") == "joint"
    assert tables.best_of(run, TASK, "leak_bits") is None
    probe = config_of(values="default_tokens")
    run = read(make(tmp_path / "probe", probe, numbers))
    # To predict well from meaningless tokens is no merit.
    assert tables.best_of(run, TASK, "accuracy") is None


def test_what_diverged_or_is_missing_is_said(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / "masks/joint.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["alive"][2] = False
    np.savez(path, **arrays)
    (folder / "masks/uniform.npz").unlink()
    said = Reader(pages_of(folder)).text
    assert "left out: joint seed 2." in said
    assert "8 cells are still to be run" in said


def test_places_of_an_image_become_maps(tmp_path):
    folder = make(tmp_path / "run", config_of(tasks=(TASK,)))
    path = folder / f"data/{TASK}.json"
    path.write_text('{"classes": ["a", "b"], "grid": [2, 3]}')
    np.savez(folder / f"data/{TASK}.npz", images=np.full((40, 6), 200, np.uint8))
    text = page.render([read(folder)])
    assert "the image itself" in text and "joint, mean of 8 seeds" in text
    assert re.search(r"largest \d\.\d\d in row [12], column [123]", text)


def test_default_tokens_stand_behind_the_words(tmp_path):
    config = config_of(values="inputs_and_default_tokens")
    text = page.render([read(make(tmp_path / "run", config))])
    assert ">default token 4</bdi>" in text and ">dull</bdi>" in text


def test_templates_are_installed_with_the_package():
    """All that stand in the repository are beside the modules that are run."""
    source, run = ROOT / "jaxattn", pathlib.Path(jaxattn.__file__).parent
    needed = {
        path.relative_to(source)
        for kind in ("html", "css", "js")
        for path in source.rglob(f"*.{kind}")
    }
    assert len(needed) > 8
    assert [path for path in needed if not (run / path).exists()] == []


def test_curves_go_to_their_own_task(tmp_path):
    tasks = (TASK, "sentiment")
    folder = make(tmp_path / "run", config_of(tasks=tasks))
    (folder / "masks" / TASK).mkdir()
    path = folder / "metrics.jsonl"
    line = {"epoch": 1, "cells": [["joint", 0]], "validation_accuracy": [0.25]}
    path.write_text(json.dumps(line | {"program": 9, "task": TASK}) + "\n")
    assert read(folder).curves == {TASK: {"joint": [[0.25]]}}
    # Of whom a program is was not told: no curve rather than a wrong one.
    path.write_text(json.dumps(line | {"program": 9}) + "\n")
    assert read(folder).curves == {}


def test_a_run_without_joint_is_judged_by_its_first_method(tmp_path):
    config = config_of(methods=("uniform", "mask_swap"))
    found = read(make(tmp_path / "run", config))
    assert verdict.subject(found, TASK) == "mask_swap"
    assert "maps of mask_swap" in page.render([found])


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def spoilt(name, change):
    def spoil(folder):
        path = folder / name
        found = json.loads(path.read_text())
        path.write_text(json.dumps(change(found)))

    return spoil


BAD = {
    "results.csv cut": (lambda f: cut(f / "results.csv"), "results.csv"),
    "seeds.csv cut": (lambda f: cut(f / "seeds.csv"), "seeds.csv"),
    "no results": (lambda f: (f / "results.csv").unlink(), "no finished run"),
    "masks cut": (lambda f: cut(f / "masks/joint.npz"), "joint.npz is damaged"),
    "masks of text": (lambda f: (f / "masks/joint.npz").write_text("x"), "damaged"),
    "config cut": (lambda f: cut(f / "config.json"), "config.json is damaged"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no run"),
    "environment cut": (lambda f: cut(f / "environment.json"), "environment.json is"),
    "curves cut": (lambda f: cut(f / "metrics.jsonl"), "metrics.jsonl, line 4"),
    "words cut": (lambda f: cut(f / f"data/{TASK}.json"), "is damaged"),
    "config of text": (spoilt("config.json", lambda c: "x"), "expected an object"),
    "config without": (spoilt("config.json", lambda c: {}), "has no config"),
    "seeds of text": (
        spoilt("config.json", lambda c: {"config": c["config"] | {"seeds": "many"}}),
        "seeds = 'many'",
    ),
    "model of text": (
        spoilt("config.json", lambda c: {"config": c["config"] | {"model": 3}}),
        "config.json is damaged",
    ),
    "another task": (
        spoilt("config.json", lambda c: {"config": c["config"] | {"tasks": ["syn4"]}}),
        "does not name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, run, tmp_path, capsys):
    spoil, said = BAD[case]
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    spoil(folder)
    refused(capsys, said, folder)
    assert not (folder / "report.html").exists()


def refused(capsys, said, *words):
    assert command.main([*map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"error: [^\n]+\n", err), err
    assert said in err


def test_wrong_arguments_are_one_line(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, "name the folder")
    refused(capsys, "is missing", "nowhere")
    refused(capsys, "is a file", run / "results.csv")
    refused(capsys, "holds no run", tmp_path)
    refused(capsys, "is a folder", run, "-o", tmp_path)
    (tmp_path / "file").write_text("")
    refused(capsys, "file", run, "-o", "file/page.html")
    other = make(tmp_path / "other", config_of(tasks=(TASK, "sentiment")))
    for name in ("results.csv", "seeds.csv"):
        table = (other / name).read_text()
        (other / name).write_text(table.replace(f"\n{TASK},", "\nsentiment,"))
    refused(capsys, "different tasks", run, other)
    assert not list(tmp_path.glob("*.html"))


def test_the_command_redraws_and_compares(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    assert command.main([str(folder)]) == 0
    assert (folder / "report.html").read_text() == pages_of(folder)
    assert "report.html" in capsys.readouterr().out
    assert command.main([str(folder), str(run), "--out", "x/both.html", "--quiet"]) == 0
    both = (tmp_path / "x/both.html").read_text()
    assert "The configuration is the same" in both and capsys.readouterr().out == ""
    # An older run has no words, bits of examples or curves, and renders all the same.
    shutil.rmtree(folder / "data")
    (folder / "metrics.jsonl").unlink()
    (folder / "environment.json").unlink()
    shutil.rmtree(folder / "masks")
    assert "No masks of this task were kept" in Reader(pages_of(folder)).text
