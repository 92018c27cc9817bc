"""Every command and example of the README and of the config files works."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from jaxattn.leakage.command import main as audit
from jaxattn.reporting.command import main as report
from jaxattn.train import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
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
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Shell commands of the README, in blocks and in running text."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(python -m [^`]+)`", README)
    return [c.strip() for line in lines for c in line.split("&&") if c.strip()]


def small_run(arguments: list[str], tmp_path: Path) -> None:
    given = {a for a in arguments if a.startswith("--")}
    pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
    # What a command says itself must be run as it says, except for its size.
    extra = [x for k, v in pairs if k not in given or k == "--seeds" for x in (k, v)]
    folder = tmp_path / "run"
    assert main([*arguments, *extra, "--workdir", str(folder)]) == 0
    assert (folder / "results.csv").stat().st_size > 0


def test_there_is_something_to_check():
    assert len(commands()) >= 4
    assert len(blocks("python")) == 1
    assert len(CONFIGS) >= 5


@pytest.mark.parametrize("command", sorted({c for c in commands() if ".train" in c}))
def test_train_commands(command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "jaxattn.train"]
    small_run(words[3:], tmp_path)


def test_the_audit_command(tmp_path, monkeypatch):
    """It audits what the first command of the README has left."""
    (command,) = {c for c in commands() if ".audit" in c}
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "jaxattn.audit"]
    first = Path(words[3])
    monkeypatch.chdir(ROOT)
    small_run(["--config", "configs/probe.py"], tmp_path)
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / "run/masks" / first.name).rename(tmp_path / first)
    monkeypatch.chdir(tmp_path)
    assert audit([*words[3:], "--permutations", "19"]) in (0, 4)
    assert list(tmp_path.glob("audits/*/audit.html"))


def test_the_report_command(tmp_path, monkeypatch):
    """It redraws what the first command of the README has left."""
    (command,) = {c for c in commands() if ".report" in c}
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "jaxattn.report"]
    monkeypatch.chdir(ROOT)
    small_run(["--config", "configs/probe.py"], tmp_path)
    (tmp_path / words[3]).parent.mkdir(parents=True)
    (tmp_path / "run").rename(tmp_path / words[3])
    page = tmp_path / words[3] / "report.html"
    first = page.read_bytes()
    page.unlink()
    monkeypatch.chdir(tmp_path)
    assert report(words[3:]) == 0
    assert len(page.read_bytes()) == pytest.approx(len(first), rel=0.05)


def test_install_commands_name_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"'\.\[(\w+)\]'", README))
    assert named == {"test", "cuda13", "tpu"} <= set(project["optional-dependencies"])


def test_ci_runs_the_test_command_of_the_readme():
    line = next(line for line in README.splitlines() if line.endswith("&& pytest"))
    assert line in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_print_what_they_say(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"^print.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_files_run(path, tmp_path):
    small_run(["--config", str(path), *PARTS.get(path.stem, "").split()], tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_files_say_command_result_and_time(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    assert f"python -m jaxattn.train --config configs/{path.name}" in text
    assert "16 seeds" in text
    assert re.search(r"\d+ (s|min)\b", text)


def test_readme_is_short():
    assert len(README.splitlines()) < 150
