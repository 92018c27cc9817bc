"""Docstrings of the public names say what there is to know, and their examples run."""

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import shutil
import sys

import pytest
from made_run import TASK, config_of, make

import jaxattn

STORED = pathlib.Path(__file__).parent / "stored/format-1/models"
PUBLIC = {name: getattr(jaxattn, name) for name in dir(jaxattn) if name[0] != "_"}
DOCUMENTED = sorted(name for name, thing in PUBLIC.items() if callable(thing))
HOMES = sorted({PUBLIC[name].__module__ for name in DOCUMENTED})

EXAMPLES = {
    name: [x for x in doctest.DocTestFinder().find(sys.modules[name]) if x.examples]
    for name in HOMES
}


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring by their heads, as 'Args', and its first line as ''."""
    parts = re.split(r"^(Args|Returns|Raises):\n", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {"": text.partition("\n")[0]} | dict(pairs)


def raises(function) -> bool:
    tree = ast.parse(inspect.getsource(function))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def has_documented_fields(kind: type) -> bool:
    """Whether strings stand below fields, which editors show and Python does not."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    pairs = zip(node.body, node.body[1:], strict=False)
    return any(
        isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr) for a, b in pairs
    )


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstrings_say_what_goes_in_and_what_comes_out(name):
    thing = PUBLIC[name]
    told = sections(inspect.getdoc(thing))
    assert told[""].endswith((".", "?")), "the first line is a whole sentence"
    if inspect.isclass(thing) and has_documented_fields(thing):
        return
    arguments = set(inspect.signature(thing).parameters) - {"parent", "name"}
    missing = {x for x in arguments if not re.search(rf"\b{x}\b", told["Args"])}
    assert not missing and told["Returns"]
    assert "Raises" in told or inspect.isclass(thing) or not raises(thing)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_name_is_in_an_example(name):
    """What is made by a function names it instead: `jaxattn.audit` gives LeakReport."""
    texts = [inspect.getdoc(PUBLIC[other]) for other in DOCUMENTED]
    shown = "".join(text.partition(">>>")[2] for text in texts)
    makers = re.findall(r"`jaxattn\.(\w+)`", inspect.getdoc(PUBLIC[name]))
    used = [x for x in (name, *makers) if f"jaxattn.{x}(" in shown]
    assert name in used or inspect.isclass(PUBLIC[name]) and used


def test_tables_say_what_they_hold():
    tables = set(PUBLIC) - set(DOCUMENTED)
    assert tables == {name for name in PUBLIC if name.isupper()}
    stub = pathlib.Path(jaxattn.__file__).with_suffix(".pyi").read_text()
    for name in tables:
        (home,) = re.findall(rf"from (\S+) import {name} ", stub)
        source = inspect.getsource(importlib.import_module(home))
        below = source[re.search(rf"^{name}\b", source, re.MULTILINE).start() :]
        assert re.match(r'.*?^(\}|\w.*)\n"""\w', below, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_dir):
    """Where examples run: beside a run of the size of the default probe, and models."""
    folder = tmp_path_factory.mktemp("examples")
    config = config_of(values="default_tokens", seeds=16)
    make(folder / "runs/probe", config, n=1020)
    models = folder / "runs/reviews/models"
    shutil.copytree(STORED / TASK, models / TASK)
    shutil.copy(STORED / f"{TASK}.json", models)
    (folder / "data").symlink_to(data_dir)
    return folder


@pytest.mark.parametrize("name", [name for name in HOMES if EXAMPLES[name]])
def test_examples_give_what_they_say(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for test in EXAMPLES[name]:
        result = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(test)
        assert result.failed == 0 and result.attempted > 0, test.name
