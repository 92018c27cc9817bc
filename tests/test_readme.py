"""Every command, example and number of the READMEs and of the config files is true."""

import ast
import dataclasses
import re
import shlex
import shutil
import tomllib
import xml.etree.ElementTree

import jax
import numpy as np
import own_files
import pytest
from small_run import ROOT, SMALL, keep_compiled

from jaxattn import doctor, train
from jaxattn.__main__ import main as commands_of_package
from jaxattn.data.command import main as data
from jaxattn.experiment import black_box, plan, source, wave
from jaxattn.leakage.command import main as audit
from jaxattn.methods.table import METHODS
from jaxattn.predict import main as predict
from jaxattn.reports.command import main as report

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "configs/README.md")
}
README = PAGES["README.md"]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
PROBE = "python -m jaxattn.train --config configs/probe.py"


def blocks(language: str) -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [block for page in PAGES.values() for block in fence.findall(page)]


def commands() -> list[str]:
    """Shell commands of the pages, in blocks and in running text, each once."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    for page in PAGES.values():
        prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
        lines += re.findall(r"`((?:python|pip|jaxattn) [^`]+)`", prose)
    parts = [part for line in lines for part in line.split("&&")]
    # What stands for a config's name is tried with one of them; there is a test of all.
    named = [" ".join(p.split()).replace("NAME", "probe") for p in parts]
    return list(dict.fromkeys(filter(None, named)))


@pytest.fixture(scope="module")
def beside(tmp_path_factory, probe_run):
    """A folder with the run of the first command, and data of one's own."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(probe_run.folder, folder / "runs/probe")
    own_files.write(folder / "mydata.jsonl", own_files.records(2000))
    return folder


@pytest.fixture
def untrained(monkeypatch):
    """Models to be explained are taken as they begin, and asked nothing."""

    def attributions(apply, params, split, kind):
        n, positions = split.inputs.shape[:2]
        names = ["gradient", "leave_one_out", *["weight"] * (kind == "linear")]
        scores = dict.fromkeys(names, np.zeros((n, positions), np.float32))
        return scores | {"targets": np.full((n, split.labels.max() + 1), 0.5)}

    keep_compiled(monkeypatch)
    monkeypatch.setattr(black_box, "attributions", attributions)
    monkeypatch.setattr(black_box, "_train", lambda *given: given[2])


def check(config, data_dir, traced):
    """Plans a run of a config, and traces its programs that are of no `traced` kind.

    The first one whatever its kind, with all that is measured. So everything is checked
    but numbers: shapes, types, and that parts fit together.
    """
    mesh, structures = wave.mesh_of_all_devices(), set()
    for i, task in enumerate(config.tasks):
        made = source.load(config, task, source.Loading(data_dir))
        programs = plan.plan(config, made)
        splits = wave.make_splits(made, mesh)
        structures |= {program.cell.structure for program in programs}
        for program in programs:
            first = i == 0 and program is programs[0]
            model = dataclasses.replace(program.cell.config.model, budget=0)
            kind = program.cell.structure, str(model), made.inputs.kind
            if kind in traced and not first:
                continue
            traced.add(kind)
            cells = wave.stack(program, [program.cells[0]] * mesh.size, mesh)
            init, chunk, measure = wave.functions(mesh, wave.Shape(1))
            state = jax.eval_shape(init, cells)
            after, curves = jax.eval_shape(chunk, state, cells, splits.stored)
            shapes = [jax.tree.map(lambda x: x.shape, x) for x in (state, after)]
            assert shapes[0] == shapes[1]
            assert curves["train_nll"].shape == (mesh.size,)
            if first:
                measured = jax.eval_shape(measure, state, cells, splits)
                assert measured.scalars["accuracy"].shape == (mesh.size,)
    return structures


@pytest.fixture(scope="module")
def traced():
    return set()


def test_there_is_something_to_check():
    assert PROBE in commands() and len(commands()) >= 8
    assert len(blocks("python")) >= 3
    assert len(CONFIGS) >= 5
    assert README.index(PROBE) < README.index(".audit(") < README.index(".save_html")


@pytest.mark.parametrize("command", commands())
def test_commands(command, monkeypatch, data_dir, beside, traced):
    words = shlex.split(command)
    if command == PROBE or words[0] in ("pip", "pytest"):
        return  # `probe_run` has run it; CI runs the others
    if words[:2] == ["python", "-m"]:
        words = [words[2].removeprefix("jaxattn."), *words[3:]]
    else:
        assert words.pop(0) == "jaxattn", command
    name, *words = words
    if name == "--help":
        assert commands_of_package([name]) == 0
        return
    if name == "train":
        return plans(words, monkeypatch, data_dir, beside, traced)
    monkeypatch.chdir(beside)
    if name == "audit":
        assert audit([*words, "--permutations", "19"]) in (0, 4)
        assert list(beside.glob("audits/joint/audit.html"))
    elif name == "report":
        page = beside / words[0] / "report.html"
        first = page.read_bytes()
        page.unlink()
        assert report(words) == 0
        assert len(page.read_bytes()) == pytest.approx(len(first), rel=0.05)
    elif name in ("data", "predict"):
        assert {"data": data, "predict": predict}[name](words) == 0
    else:
        assert name == "doctor", f"say here how to try {name}"
        assert doctor.main(words) == 0


def plans(words, monkeypatch, data_dir, beside, traced):
    """Reads a command that trains as it stands, but for its size, and traces it."""
    if "--help" in words:
        with pytest.raises(SystemExit) as ended:
            train.main(words)
        assert ended.value.code == 0
        return
    words = [str(beside / w) if w == "mydata.jsonl" else w for w in words]
    small = [w for item in SMALL.items() if item[0] not in words for w in item]
    monkeypatch.chdir(ROOT)
    keep_compiled(monkeypatch)
    flags = train.parse([*words, *small])
    assert not flags.sweep or len(flags.config.also) >= 3
    check(flags.config, data_dir, traced)


# Those with a loop of their own have a test that knows their answer.
@pytest.mark.parametrize(
    "code", [b for b in blocks("python") if "mask_neutral" not in b]
)
def test_python_blocks_print_what_they_say(code, capsys, monkeypatch, beside):
    if "import torch" in code:
        pytest.importorskip("torch")
    monkeypatch.chdir(beside)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"^print.*\)  # (.*)$", code, re.MULTILINE)
    assert printed == said if said else printed


def test_install_commands_name_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"'\.\[(\w+)\]'", README))
    assert named == {"test", "cuda13", "tpu"} <= set(project["optional-dependencies"])


def test_ci_runs_the_test_command_of_the_readme():
    (line,) = re.findall(r"`(pip install [^`]* && pytest)`", README)
    assert line in (ROOT / ".ci/run").read_text()


def test_files_that_are_named_are_there():
    for name, page in PAGES.items():
        folder = (ROOT / name).parent
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page):
            assert (folder / link).exists(), link
        for file in re.findall(r"`([\w/]+\.(?:py|md|cff))`", page):
            there = [p / file for p in (ROOT, ROOT / "configs")]
            written = file in ("results.md",)
            assert written or any(p.exists() for p in there), file
    named = re.findall(r"^\| `(\w+\.py)`", PAGES["configs/README.md"], re.MULTILINE)
    assert sorted(named) == [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_files_fit_together(path, data_dir, untrained, traced):
    """`probe_run`, `words_run` and `known_run` train three of them."""
    # Of bags there are 1,000.
    flags = SMALL | {"--batch-size": "500"}
    small = [w for item in flags.items() for w in item]
    config = train.parse(["--config", str(path), *small]).config
    structures = {METHODS[name].structure for name in config.methods}
    assert check(config, data_dir, traced) >= structures


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_files_say_command_result_and_time(path):
    text = docstring(path.stem)
    assert f"python -m jaxattn.train --config configs/{path.name}" in text
    assert "16 seeds" in text
    assert re.search(r"\d+ (s|min)\b", text)


def docstring(name: str) -> str:
    text = ast.get_docstring(ast.parse((ROOT / f"configs/{name}.py").read_text()))
    assert text is not None
    return text


def test_the_output_shown_is_that_of_the_config_file():
    (shown,) = blocks("text")
    lines = [x for x in shown.splitlines() if x != "..."][1:-1]
    assert len(lines) >= 5
    assert [x for x in lines if x not in docstring("probe").splitlines()] == []


def rows_of(page: str, header: str) -> list[list[str]]:
    table = re.search(rf"^\| {re.escape(header)}.*\n\|.*\n((?:\|.*\n)+)", page, re.M)
    assert table is not None, header
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.group(1).splitlines()
    ]


def test_the_table_of_methods_has_the_numbers_of_the_config_files():
    rows = rows_of(README, "method |")
    assert len(rows) == 7
    for column, name in ((2, "probe"), (3, "probe_sources")):
        expected = docstring(name).splitlines()
        for row in rows:
            method = row[0].strip("`")
            line = next(x for x in expected if re.match(rf"{method} +\d\.", x))
            assert f"0{row[column]}  " in line, (name, row)


def test_the_table_of_speed_has_the_numbers_of_the_benchmark():
    text = (ROOT / "tests/benchmarks/RESULTS.md").read_text()
    measured = rows_of(text, "set-up | / (a)")
    found = {row[0]: [cell.split()[0] for cell in row[1:]] for row in measured}
    rows = rows_of(README, "|")
    assert len(rows) >= 4
    for name, eager, compiled, one in rows:
        assert [eager, compiled, one] == [found[name][i] for i in (0, 2, 3)], name


def test_the_figure_is_small_and_of_the_run_shown():
    """Opaque paper, so that it can be read on a dark page, too."""
    (path,) = re.findall(r"!\[[^\]]+\]\((.*\.svg)\)", README)
    raw = (ROOT / path).read_bytes()
    assert len(raw) < 60_000
    text = " ".join(xml.etree.ElementTree.fromstring(raw).itertext())
    assert b"fill: #ffffff" in raw and b"<script" not in raw
    for said in ("majority class (0.510)", "attention over the words (0.780)"):
        assert said in text
    for row in rows_of(README, "method |"):
        assert row[0].strip("`") in text


def test_readme_is_short():
    assert len(README.splitlines()) < 150
