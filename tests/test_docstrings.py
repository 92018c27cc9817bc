"""The examples that docstrings give are true."""

import doctest
import importlib
import pathlib
import shutil

import pytest
from made_run import TASK, config_of, make

import jaxattn

STORED = pathlib.Path(__file__).parent / "stored/format-1/models"

HOMES = sorted(set(jaxattn._HOME.values()))

STARTS = ("audit", "load_run", "neutral_weights", "run", "show", "softmax")
"""What a newcomer calls first."""


def examples_of(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return [test for test in found if test.examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where examples run: beside a run of the size of the default probe, and models."""
    folder = tmp_path_factory.mktemp("examples")
    config = config_of(values="default_tokens", seeds=16)
    make(folder / "runs/probe", config, n=1020)
    models = folder / "runs/reviews/models"
    shutil.copytree(STORED / TASK, models / TASK)
    shutil.copy(STORED / f"{TASK}.json", models)
    return folder


@pytest.mark.parametrize("name", [name for name in HOMES if examples_of(name)])
def test_examples_give_what_they_say(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for test in examples_of(name):
        result = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(test)
        assert result.failed == 0 and result.attempted > 0, test.name


@pytest.mark.parametrize("name", STARTS)
def test_what_people_start_with_has_an_example(name):
    text = getattr(jaxattn, name).__doc__
    assert f"jaxattn.{name}(" in text.partition(">>>")[2]


def test_every_public_name_is_there():
    for name in dir(jaxattn):
        assert getattr(jaxattn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        jaxattn.atention  # noqa: B018
