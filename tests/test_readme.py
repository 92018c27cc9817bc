"""Every command, example and number of the READMEs and of the config files is true."""

import ast
import json
import re
import shlex
import tomllib
import xml.etree.ElementTree
from pathlib import Path

import pytest

from jaxattn import doctor
from jaxattn.data.command import main as data
from jaxattn.leakage.command import main as audit
from jaxattn.predict import main as predict
from jaxattn.reports.command import main as report
from jaxattn.train import main

ROOT = Path(__file__).parents[1]

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "configs/README.md")
}

README = PAGES["README.md"]

CONFIGS = sorted((ROOT / "configs").glob("*.py"))

PROBE = "python -m jaxattn.train --config configs/probe.py"

SMALL = (
    "--seeds 2 --epochs 1 --full-text-epochs 1 --batch-size 1024 --lane 1 "
    "--model.features 4 --model.hidden 4 --data.length 8 --data.min-count 20"
).split()

GENERATED = "--tasks syn4,syn1 --data.examples 2048 --data.test-examples 512"

PARTS = {
    "bags": "--batch-size 500",
    "explain": "--tasks explain_linear --methods joint,gradient",
    "known_features": f"{GENERATED} --methods joint,invase,realx,random_selection",
}
"""Of a config with many tasks, as much as shows that it runs."""


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


def small_run(arguments: list[str], folder: Path) -> None:
    given = {a for a in arguments if a.startswith("--")}
    pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
    # What a command says itself must be run as it says, except for its size.
    extra = [x for k, v in pairs if k not in given or k == "--seeds" for x in (k, v)]
    words = [*arguments, *extra, "--workdir", str(folder)]
    if "--help" in given:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        return
    assert main(words) == 0
    dry = "--dry-run" in given
    assert dry or (folder / "results.csv").stat().st_size > 0


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder in which the first command of the README was run."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        small_run(shlex.split(PROBE)[3:], folder / "runs/probe")
    rows = [
        {"text": f"a {('bad', 'fine')[i % 2]} film {i}", "label": i % 2}
        for i in range(2000)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "mydata.jsonl").write_text(lines)
    return folder


def test_there_is_something_to_check():
    assert PROBE in commands() and len(commands()) >= 8
    assert len(blocks("python")) >= 3
    assert len(CONFIGS) >= 5
    assert README.index(PROBE) < README.index(".audit(") < README.index(".save_html")


@pytest.mark.parametrize("command", commands())
def test_commands(command, tmp_path, monkeypatch, beside):
    words = shlex.split(command)
    if command == PROBE or words[0] in ("pip", "pytest"):
        return  # `beside` has run it; CI runs the others
    if words[:3] == ["python", "-m", "jaxattn.train"]:
        monkeypatch.chdir(ROOT)
        words = [str(beside / w) if w == "mydata.jsonl" else w for w in words]
        return small_run(words[3:], tmp_path / "run")
    monkeypatch.chdir(beside)
    assert words[0] == "jaxattn", command
    if words[1] == "audit":
        assert audit([*words[2:], "--permutations", "19"]) in (0, 4)
        assert list(beside.glob("audits/joint/audit.html"))
    elif words[1] == "report":
        page = beside / words[2] / "report.html"
        first = page.read_bytes()
        page.unlink()
        assert report(words[2:]) == 0
        assert len(page.read_bytes()) == pytest.approx(len(first), rel=0.05)
    elif words[1] == "data":
        assert data(words[2:]) == 0
    elif words[1] == "predict":
        assert predict(words[2:]) == 0
    else:
        assert words[1] == "doctor", f"say here how to try {words[1]}"
        assert doctor.main(words[2:]) == 0


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
def test_config_files_run(path, tmp_path, beside):
    if path.stem == "probe":
        return  # in `beside`
    words = ["--config", str(path), *PARTS.get(path.stem, "").split()]
    small_run(words, tmp_path / "run")


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
