"""The commands, as far as they are alike, and what `import jaxattn` gives."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxattn
from jaxattn.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]

SUBCOMMANDS = [[name] for name in COMMANDS] + [
    ["data", name] for name in ("list", "show", "check", "prepare")
]


def printed(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = main([*words])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_help_imports_no_jax():
    """Through `python -m jaxattn` as well as `main`, which the script calls."""
    code = (
        "import sys\nfrom jaxattn.__main__ import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as ended: assert not ended.code, name\n"
        "    assert 'jax' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    words = [sys.executable, "-m", "jaxattn", "audit", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: jaxattn audit [-h]")


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_help_says_who_speaks_and_what_it_does(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = printed(capsys, *words, "--help")
    # `train` has a name of its own, which launchers call.
    name = "python -m jaxattn.train" if words == ["train"] else f"jaxattn {words[0]}"
    assert (code, err) == (0, "") and out.startswith(f"usage: {name}")
    assert max(map(len, out.splitlines())) <= 80


def test_the_list_of_commands(capsys):
    code, out, _ = printed(capsys, "--help")
    assert code == 0 and all(f"\n  {name} " in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80
    assert printed(capsys) == (2, out, "")
    assert printed(capsys, "--version") == (0, f"jaxattn {jaxattn.__version__}\n", "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"jaxattn": "jaxattn.__main__:main"}


@pytest.mark.parametrize(
    "words, told",
    [
        (["adit"], "perhaps you meant audit"),
        (["--verison"], "perhaps you meant --version"),
        (["audit", "none.npz"], "none.npz"),
        (["audit", "none.npz", "--fold", "3"], "--fold"),
        (["report", "none"], "none"),
        (["predict", "none", "--text", "a"], "none"),
        (["data", "lst"], "lst"),
        (["doctor", "--quik"], "--quik"),
        (["train", "--config", "none.py"], "none.py"),
    ],
)
def test_a_mistake_ends_with_2(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = printed(capsys, *words)
    assert (code, out) == (2, "") and told in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_the_version_is_the_package_s(monkeypatch):
    assert jaxattn.__version__ == importlib.metadata.version("jaxattn")

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert jaxattn.__version__ == "0+unknown"


USER = """
import jaxattn

reveal_type(jaxattn.audit([[0.5, 0.5]], [0]))
reveal_type(jaxattn.load_run("runs/probe"))
reveal_type(jaxattn.Config().model.hidden)
reveal_type(jaxattn.softmax)
reveal_type(jaxattn.__version__)
jaxattn.adit
"""


def test_type_checkers_see_the_types_of_all_names(tmp_path):
    """Of some code of a user, and of every name of `dir(jaxattn)`."""
    pytest.importorskip("pyright", reason="pyright is not installed")
    names = [f"jaxattn.{name}" for name in dir(jaxattn)]
    every = "".join(f"reveal_type({name})\n" for name in names)
    (tmp_path / "user.py").write_text(USER + every)
    paths = {"extraPaths": [str(Path(jaxattn.__file__).parents[1])]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(paths))
    words = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath"]
    done = subprocess.run(
        [*words, sys.executable, "-p", tmp_path], capture_output=True, text=True
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")
    told = json.loads(done.stdout)["generalDiagnostics"]
    (wrong,) = [x["message"] for x in told if x["severity"] == "error"]
    assert wrong.startswith('"adit" is not a known attribute of module "jaxattn"')
    types = [x["message"] for x in told if x["severity"] == "information"]
    types = [text.rpartition('" is "')[2].rstrip('"') for text in types]
    report, run, hidden, softmax, version, *others = types
    assert (report, hidden, version) == ("LeakReport", "int", "str")
    assert run == "Run"
    assert softmax.startswith("(scores: Array, valid: Array, temperature: ")
    assert len(others) == len(names) and not {"Unknown", "Any"} & set(others)


def test_the_stub_names_what_there_is():
    stub = (Path(jaxattn.__file__).parent / "__init__.pyi").read_text()
    for name in dir(jaxattn):
        assert getattr(jaxattn, name) is not None
        assert f" as {name}\n" in stub or f"\n{name}: " in stub
    assert stub.count(" as ") + 1 == len(dir(jaxattn)) > 40
    assert (Path(jaxattn.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        jaxattn.atention  # noqa: B018
