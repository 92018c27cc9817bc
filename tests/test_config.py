import dataclasses
import math
import pathlib
import re
import subprocess
import sys
import textwrap

import jax
import pytest

from jaxattn import config as config_module
from jaxattn.config import (
    Config,
    Data,
    Model,
    Optimizer,
    RandomMasks,
    Weighting,
    check,
    differences,
    fingerprint,
    numbers,
    replaced,
    to_dict,
)
from jaxattn.experiment.config_files import load
from jaxattn.experiment.plan import check_names

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def test_importing_config_does_not_import_jax():
    code = "import sys, jaxattn.config; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_numbers_go_out_and_in():
    config = Config()
    found = numbers(config)
    assert found["optimizer.learning_rate"] == config.optimizer.learning_rate
    assert set(found) == {
        "model.temperature",
        "model.budget",
        "model.penalty",
        "model.open_at_first",
        "optimizer.learning_rate",
        "weighting.learning_rate",
        "weighting.truncation",
        "random_masks.pretraining_share",
        "random_masks.low",
        "random_masks.high",
    }
    leaves, structure = jax.tree.flatten(config)
    assert sorted(leaves) == sorted(found.values()), "to jax its numbers are its leaves"
    changed = jax.tree.map(lambda x: x / 2 + 0.125, config)
    assert numbers(changed) == {path: v / 2 + 0.125 for path, v in found.items()}
    assert config == Config(), "the old one stays as it was"
    lines = differences(to_dict(config), to_dict(changed))
    assert {line.split(":")[0] for line in lines} == {*found}
    # Another number is the same program, another structure is another one.
    assert jax.tree.structure(changed) == structure
    assert jax.tree.structure(Config(epochs=3)) != structure
    assert jax.tree.structure(Config(model=Model(query="gru"))) != structure


def test_the_defaults_pass_check():
    assert check(Config()) == Config()


def put(path, value):
    return replaced(Config(), path, value)


BAD = [
    ("seeds", 0, ["seeds = 0", "1 to"]),
    ("seeds", True, ["seeds = True", "expected int"]),
    ("seeds", 16.0, ["seeds = 16.0", "expected int"]),
    ("seeds", None, ["seeds = None", "expected int"]),
    ("seeds", 10**400, ["seeds = 1000", "1 to"]),
    ("model.hidden", 2.5, ["model.hidden", "expected int"]),
    ("model.default_tokens", 1, ["default_tokens = 1", "one token", "2 to"]),
    ("model.temperature", -1.0, ["model.temperature = -1.0", "0.001 to"]),
    ("model.temperature", False, ["model.temperature", "expected float"]),
    ("model.temperature", "hot", ["model.temperature = 'hot'", "expected float"]),
    ("random_masks.low", 9.0, ["random_masks.low is above random_masks.high"]),
    ("tasks", ("sentimnt",), ["tasks[0] = 'sentimnt'", "perhaps you meant sentiment"]),
    ("methods", ("joint", "mask_swop"), ["'mask_swop'", "meant mask_swap"]),
    ("methods", ("frobnicate",), ["'frobnicate'", "allowed: joint, "]),
    ("methods", ("joint", "uniform", "joint"), ["joint more than once"]),
    ("methods", (), ["methods is empty"]),
    ("model.values", "input", ["model.values = 'input'", "meant inputs"]),
    ("model.query", "lstm", ["model.query = 'lstm'", "meant bilstm", "bag, gru"]),
    ("model.selector", "dot", ["model.selector", "dot_product"]),
    ("model.normalizer", "softmx", ["model.normalizer", "meant softmax"]),
    ("model.predictor", "pool", ["model.predictor", "pooling"]),
    ("methods", "joint", ["methods = 'joint'", "expected a tuple"]),
    ("methods", None, ["methods = None", "expected a tuple"]),
    ("data", None, ["data = None", "expected Data"]),
    ("model", Optimizer(), ["model = Optimizer(", "expected Model"]),
    ("name", 3, ["name = 3", "expected a text"]),
    ("name", "a/b", ["name = 'a/b'", "folder name"]),
    ("name", "", ["name = ''"]),
    ("tasks", "syn4", ["tasks = 'syn4'", "expected a tuple"]),
    ("also", "model.penalty=1", ["also = 'model.penalty=1'", "expected a tuple"]),
    ("also", ("model.penalty",), ["'model.penalty'", "FIELD=VALUE"]),
    ("also", ("model.penlty=1",), ["'model.penlty=1'", "meant model.penalty"]),
    ("also", ("model.penalty=a",), ["'a' is not a number"]),
    ("also", ("model.penalty=-1",), ["model.penalty = -1.0", "0 to 1000"]),
    ("also", ("model.hidden=3.5",), ["'3.5' is not a whole number"]),
    ("also", ("model.query=gru2",), ["model.query = 'gru2'", "meant gru"]),
    ("also", ("data.length=8",), ["'data.length=8'", "allowed: epochs"]),
    ("also", ("seeds=8",), ["'seeds=8'", "allowed: epochs"]),
    ("name", "..", ["name = '..'"]),
    ("name", ".", ["name = '.'"]),
]


@pytest.mark.parametrize(
    "path, value, said", BAD, ids=[f"{p}={v}"[:40] for p, v, _ in BAD]
)
def test_nonsense_is_refused_in_one_line(path, value, said):
    with pytest.raises(ValueError) as error:
        check_names(check(put(path, value)))
    text = str(error.value)
    assert "\n" not in text
    assert [s for s in said if s not in text] == [], text


BOUNDED = {p: f for p, _, f in config_module.walk(Config()) if "low" in f.metadata}


@pytest.mark.parametrize("path", BOUNDED)
def test_check_takes_both_ends_of_each_range_and_nothing_beyond(path):
    field = BOUNDED[path]
    low, high = field.metadata["low"], field.metadata["high"]
    # Of these two the one must stay below the other.
    others = {"random_masks.low": "random_masks.high"}
    others |= {high: low for low, high in others.items()}
    for value in (low, high):
        check(replaced(put(path, value), others.get(path, path), value))
    beyond = [low - 1, high + 1]
    if config_module.is_number(field):
        beyond = [low - abs(low) / 100 - 1e-12, high * 1.01, math.nan, math.inf]
    for value in beyond:
        told = re.escape(f"{path} = {value}: allowed is {low:g} to {high:g}")
        with pytest.raises(ValueError, match=told):
            check(put(path, value))


@pytest.mark.parametrize("owner", [Config, Data, Model, Optimizer, RandomMasks])
def test_no_numeric_field_is_left_unchecked(owner):
    for field in dataclasses.fields(owner):
        if field.type in (int, float):
            assert {"low", "high"} <= set(field.metadata), field.name


def test_whole_numbers_are_fine_where_floats_are_wanted():
    check(put("optimizer.learning_rate", 1))


def test_differences_name_each_field_that_differs():
    old = to_dict(Config())
    assert old["methods"] == list(Config().methods), "plain JSON"
    assert old["model"]["temperature"] == 1.0
    model = Model(hidden=8, query="gru")
    new = to_dict(dataclasses.replace(Config(), seeds=3, model=model))
    assert differences(old, old) == []
    assert differences(old, new) == [
        "model.hidden: 32 -> 8",
        "model.query: bag -> gru",
        "seeds: 16 -> 3",
    ]
    without = {k: v for k, v in old.items() if k != "lane"}
    assert differences(without, old) == ["lane: absent -> 0"]
    assert differences(old, without) == ["lane: 0 -> absent"]


def test_fingerprint_is_stable_and_changes_with_every_field():
    code = "from jaxattn.config import *; print(fingerprint(Config()))"
    other_process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True
    )
    first = fingerprint(Config())
    assert other_process.stdout.decode().strip() == first == fingerprint(Config())
    assert len(first) == 16 and set(first) <= set("0123456789abcdef")
    changed = [put(p, v / 2 + 3) for p, v in numbers(Config()).items()]
    changed += [put("methods", ("joint",)), put("seeds", 17), put("name", "other")]
    changed += [put("methods", ("joint", "uniform")), put("methods", ("uniform",))]
    assert len({first, *map(fingerprint, changed)}) == 1 + len(changed)


def config_file(tmp_path, text):
    path = tmp_path / "experiment.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_load_returns_what_get_config_returns(tmp_path):
    path = config_file(
        tmp_path,
        """
        from jaxattn.config import Config, Weighting
        def get_config():
            return Config(seeds=3, weighting=Weighting(hidden=5))
        """,
    )
    expected = Config(seeds=3, weighting=Weighting(hidden=5))
    assert load(path) == load(str(path)) == expected


HEAD = "from jaxattn.config import Config, Model, Optimizer\n"
BROKEN = {
    "no get_config": ("x = 1", ["get_config()"]),
    "another type": ("def get_config(): return {}", ["dict", "jaxattn.config.Config"]),
    "nothing": ("def get_config(): pass", ["NoneType", "jaxattn.config.Config"]),
    "typo": (
        HEAD + "def get_config(): return Config(seed=3)",
        ["unknown field seed in Config", "perhaps you meant seeds"],
    ),
    "typo below": (
        HEAD + "def get_config(): return Config(model=Model(quary='gru'))",
        ["unknown field quary in Model", "perhaps you meant query"],
    ),
    "unlike anything": (
        HEAD + "def get_config(): return Config(optimizer=Optimizer(zzz=3))",
        ["unknown field zzz in Optimizer", "allowed: learning_rate"],
    ),
    "syntax error": ("def get_config(:\n", ["SyntaxError", "line 1"]),
    "raises": (
        "def get_config(): raise RuntimeError('no\\nluck')",
        ["RuntimeError", "no luck"],
    ),
    "wants to leave": ("raise SystemExit(3)", ["SystemExit"]),
    "missing import": ("import no_such_module_anywhere", ["no_such_module_anywhere"]),
    "other type error": ("def get_config(x): pass", ["TypeError", "'x'"]),
}


@pytest.mark.parametrize("text, said", BROKEN.values(), ids=BROKEN)
def test_load_says_in_one_line_what_is_wrong(tmp_path, text, said):
    path = config_file(tmp_path, text)
    with pytest.raises(ValueError) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert [s for s in said if s not in message] == [], message


def test_load_says_that_a_file_is_missing_or_no_python(tmp_path):
    for path in (tmp_path / "absent.py", tmp_path):
        with pytest.raises(OSError, match=f"{path.name} does not exist"):
            load(path)
    path = tmp_path / "experiment.yaml"
    path.write_text("seeds: 3")
    with pytest.raises(ValueError, match=r"must end \.py"):
        load(path)


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_the_configs_of_the_repository_load_and_pass_check(path):
    config = check(load(path))
    assert config.name == path.stem
    assert path.read_text().startswith(('"""', "'''")), "docstring: command, result"


def test_the_names_of_runs_of_the_configs_differ():
    assert len({load(path).name for path in CONFIGS}) == len(CONFIGS)
