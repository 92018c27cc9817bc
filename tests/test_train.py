"""The command that trains: what it refuses, what it leaves and what it says."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from small_run import (
    TINY,
    arguments,
    compile_nothing,
    draw_nothing,
    run,
    start,
)

from jaxattn import config, train
from jaxattn.data import tasks
from jaxattn.data.tasks import load
from jaxattn.experiment import config_files
from jaxattn.experiment.folder import LOCK
from jaxattn.experiment.plan import check_names
from jaxattn.methods import table
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports.results import Result, read_results, read_seeds

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
METHODS = config.Config().methods

CONFIG = """
from jaxattn.config import Config, Data, Model
def get_config():
    return Config(
        name="small", methods=("joint", "mask_swap"), seeds=3, epochs=3,
        full_text_epochs=3, batch_size=1024, lane=1, data=Data(8, 20),
        model=Model(features=4, hidden=4),
    )
"""


def fields(node, prefix="--"):
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        flag = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from fields(value, flag + ".")
        else:
            yield flag


def test_help_lists_every_field_and_imports_no_jax():
    code = (
        "import sys\n"
        "from jaxattn.train import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print('jax' in sys.modules)\n"
    )
    process = start(code=code, env={"COLUMNS": "200"})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "False"
    words = set(out.replace("│", " ").replace(",", " ").split())
    own = {"--workdir", "--data-dir", "--checkpoint-seconds", "--quiet", "--json"}
    named = {*fields(config.Config()), *own, *table.METHODS, *tasks.names()}
    assert named - words == set()
    assert "--config" in out


def test_help_shows_the_values_of_the_config_file(tmp_path, capsys):
    file = tmp_path / "small.py"
    file.write_text(CONFIG)
    assert run("--config", file, "--help") == 0
    assert "(default: 1024)" in capsys.readouterr().out


def refused(capsys, folder, *words):
    """What a command says that must end with 2 and leave no folder behind."""
    before = sorted(folder.parent.iterdir())
    assert run(*words, "--workdir", folder) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert sorted(folder.parent.iterdir()) == before
    return err


def one_line(err, *said):
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert [s for s in said if s not in err] == [], err


BAD = {
    "unknown field": (["--seedz", "3"], ["--seedz", "--seeds"]),
    "unknown field below": (["--model.hiden", "3"], ["--model.hidden"]),
    "wrong type": (["--seeds", "many"], ["--seeds", "many"]),
    "wrong type, float": (["--model.temperature", "hot"], ["temperature", "hot"]),
    "fraction": (["--epochs", "2.5"], ["--epochs", "2.5"]),
    "no value": (["--seeds"], ["--seeds"]),
    "unknown task": (["--tasks", "sentimnt"], ["sentimnt", "movie_sentiment"]),
    "unknown method": (["--methods", "joint", "mask_swop"], ["mask_swop"]),
    "method twice": (["--methods", "joint", "joint"], ["joint more than once"]),
    "no method": (["--methods"], ["methods"]),
    "no seeds": (["--seeds", "0"], ["seeds = 0", "1 to"]),
    "no batch": (["--batch-size", "1"], ["batch_size = 1"]),
    "cold": (["--model.temperature", "-1"], ["temperature = -1", "0.001 to"]),
    "nan": (["--optimizer.learning-rate", "nan"], ["learning_rate = nan"]),
    "one token": (["--model.default-tokens", "1"], ["default_tokens = 1", "nothing"]),
    "checkpoints": (["--checkpoint-seconds", "-1"], ["checkpoint_seconds = -1"]),
    "checkpoints, nan": (["--checkpoint-seconds", "nan"], ["checkpoint_seconds"]),
    "name": (["--name", "a/b"], ["a/b", "folder name"]),
}


@pytest.mark.parametrize("words, said", BAD.values(), ids=BAD)
def test_bad_flags_are_refused(capsys, words, said):
    # Whatever is wrong with the flags, the others are those of a good run.
    good = {flag: value for flag, value in TINY.items() if flag != words[0]}
    try:
        flags = train.parse([*arguments("x", "x", good), *words])
        check_names(flags.config)
        message = ""
    except ValueError as error:
        message = str(error)
        assert "\n" not in message
    except SystemExit as end:  # tyro has more to say
        assert end.code == 2
        message = capsys.readouterr().err
        assert "full helptext" in message
    joined = " ".join(message.replace("│", " ").split())
    assert [s for s in said if s not in joined] == [], message


@pytest.mark.parametrize("name", ["unknown field", "no seeds", "one token"])
def test_a_command_with_bad_flags_leaves_nothing(capsys, tmp_path, name):
    words, said = BAD[name]
    err = refused(capsys, tmp_path / "run", *words)
    if name == "unknown field":
        assert "--seedz" in err and "full helptext" in err
    else:
        one_line(err, *said)


def test_a_batch_is_no_larger_than_the_data(capsys, tmp_path, tiny):
    words = arguments("x", "x", tiny, batch_size="9000")
    one_line(refused(capsys, tmp_path / "run", *words), "9000", "480", "smaller batch")


RETURNS = "from jaxattn.config import Config\ndef get_config(): return "

FILES = {
    "missing": (None, ["does not exist"]),
    "without get_config": ("x = 1", ["get_config()"]),
    "syntax error": ("def get_config(:\n  pass", ["SyntaxError", "line 1"]),
    "wrong type": (f"{RETURNS}{{}}", ["returned dict"]),
    "wrong value": (f"{RETURNS}Config(seeds='many')", ["seeds"]),
    "no list of methods": (f"{RETURNS}Config(methods='joint')", ["methods"]),
    "unknown method": (
        f"{RETURNS}Config(methods=('mask_swop',))",
        ["mask_swop", "mask_swap"],
    ),
    "part of another type": (f"{RETURNS}Config(model={{'hidden': 3}})", ["model"]),
    "field out of range": (f"{RETURNS}Config(seeds=0)", ["seeds = 0"]),
    "typo": (
        f"{RETURNS}Config(seed=3)",
        ["unknown field seed", "perhaps you meant seeds"],
    ),
    "exits": ("import sys\ndef get_config(): sys.exit(0)", ["SystemExit"]),
}


@pytest.mark.parametrize("text, said", FILES.values(), ids=FILES)
def test_bad_config_files_are_refused(tmp_path, text, said):
    file = tmp_path / "given.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises((ValueError, OSError)) as error:
        check_names(config_files.load(file))
    message = str(error.value)
    assert "\n" not in message
    assert [s for s in said if s not in message] == [], message


@pytest.mark.parametrize("name", ["missing", "syntax error"])
def test_a_command_with_a_bad_config_file_leaves_nothing(capsys, tmp_path, name):
    file = tmp_path / "given.py"
    text, said = FILES[name]
    if text is not None:
        file.write_text(text)
    one_line(refused(capsys, tmp_path / "run", "--config", file), *said)


def test_a_bad_command_ends_a_process_with_two(tmp_path):
    words = ["--workdir", tmp_path / "run", "--model.default-tokens", "1"]
    process = start(*words, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    one_line(err, "a mask over one token", "carry nothing")
    assert list(tmp_path.iterdir()) == []


def test_the_default_workdir_leaves_no_folder_behind(
    capsys, tmp_path, monkeypatch, tiny
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments("x", "x", tiny, batch_size="9000")[2:]) == 2
    one_line(capsys.readouterr().err, "9000")
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_is_a_file_is_refused(capsys, tmp_path, tiny):
    (tmp_path / "run").write_text("mine")
    err = refused(capsys, tmp_path / "run", *arguments("x", "x", tiny))
    one_line(err, str(tmp_path / "run"), "is a file", "--workdir")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_workdir_that_cannot_be_made_is_refused(capsys, tmp_path, tiny):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "run"
    assert run(*arguments(folder, "x", tiny)) == 2
    one_line(capsys.readouterr().err, str(folder), "Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_may_not_be_written_is_refused(capsys, tmp_path, tiny):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert run(*arguments(folder / "run", "x", tiny)) == 2
    one_line(capsys.readouterr().err, str(folder), "Permission denied")


def test_a_folder_that_holds_something_else_is_refused(capsys, tmp_path, tiny):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "draft.txt").write_text("mine")
    one_line(
        refused(capsys, folder, *arguments("x", "x", tiny)),
        str(folder),
        "not empty",
        "--workdir",
    )
    assert [p.name for p in folder.iterdir()] == ["draft.txt"]


def test_an_empty_folder_will_do_and_stays_if_the_run_is_refused(
    capsys, tmp_path, tiny
):
    folder = tmp_path / "empty"
    folder.mkdir()
    words = arguments("x", "x", tiny, batch_size="9000")
    one_line(refused(capsys, folder, *words), "9000")
    assert list(folder.iterdir()) == []


def test_a_damaged_config_in_the_workdir_is_refused(capsys, tmp_path, tiny):
    folder = tmp_path / "run"
    folder.mkdir()
    for text in ("", "{", "[]", '{"config": 3}', "null", "\x00\xff"):
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        before = (folder / "config.json").read_bytes()
        err = refused(capsys, folder, *arguments("x", "x", tiny))
        one_line(err, "config.json is damaged")
        assert (folder / "config.json").read_bytes() == before
        assert {p.name for p in folder.iterdir()} <= {"config.json", LOCK}


def test_truncated_data_are_refused(capsys, tmp_path, data_dir):
    damaged = tmp_path / "data"
    shutil.copytree(data_dir, damaged)
    (record,) = damaged.rglob("*array_record*")
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])
    err = refused(capsys, tmp_path / "run", *arguments("x", damaged))
    one_line(err, "damaged prepared data", str(damaged), "delete that folder")


def test_a_data_dir_that_is_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "data").write_text("mine")
    folder = tmp_path / "run"
    assert run(*arguments(folder, tmp_path / "data")) == 2
    one_line(capsys.readouterr().err, str(tmp_path / "data"))
    assert not folder.exists()


def test_a_run_writes_what_is_agreed(probe_run):
    folder = probe_run.folder
    assert {p.name for p in folder.iterdir()} >= {
        *("config.json", "environment.json", "metrics.jsonl", "seeds.csv"),
        *("results.csv", "results.md", "masks", "checkpoints", "figures", "data"),
        "report.html",
    }
    assert not [p for p in folder.rglob("*") if "tmp" in p.name]
    figures = {p.stem for p in (folder / "figures").iterdir()}
    assert figures == {"accuracy", "leak", "learning_curves", "codes", "overlap"}
    page = (folder / "report.html").read_text()
    for said in ("The mean mask of each class", "(full_text)", "most leaking"):
        assert said in page
    kept = json.loads((folder / "config.json").read_text())
    (given,) = json.loads((folder / "environment.json").read_text())
    assert kept["config"]["methods"] == list(METHODS)
    assert {"fingerprint", "data_digest"} <= set(kept)
    assert given["versions"]["jax"] and str(pathlib.Path.home()) not in str(given)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    # Seven methods and the reference, 2 seeds each, in waves of one cell a device.
    assert [len(line["train_nll"]) for line in lines] == [2] * 8
    assert all(len(line["cells"]) == 2 and line["epoch"] == 1 for line in lines)


def test_the_tables_are_those_of_the_contract(probe_run):
    folder = probe_run.folder
    with open(folder / "results.csv") as file:
        header = file.readline().strip()
        rows = list(csv.reader(file))
    assert header == (
        "task,method,metric,variant,split,n_seeds,mean,ci_low,ci_high,null,unit,"
        "direction,statistic"
    )
    assert all(len(row) == len(Result._fields) for row in rows)
    with open(folder / "seeds.csv") as file:
        assert file.readline() == "task,method,seed,metric,variant,split,value\n"
    results = read_results(folder / "results.csv")
    seeds = read_seeds(folder / "seeds.csv")
    assert {r.metric for r in seeds} <= set(METRICS)
    values: dict = {}
    for row in seeds:
        key = row.method, row.metric, row.variant, row.split
        values.setdefault(key, []).append(row.value)
    for result in results:
        if result.metric == "accuracy_vs_joint":
            continue
        own = values[result.method, result.metric, result.variant, result.split]
        assert result.n_seeds == len(own) == 2
        assert result.mean == pytest.approx(np.mean(own), abs=1e-6)
        assert result.ci_low <= result.mean <= result.ci_high
    by = {(r.method, r.metric, r.variant): r for r in results}
    majority = by["reference", "majority", ""].mean
    for method in METHODS:
        assert by[method, "accuracy", ""].null == majority
        null = by[method, "leak_bits", "permuted"].mean
        assert by[method, "leak_bits", ""].null == null
        assert (method, "accuracy_vs_joint", "") in by or method == "joint"
    assert by["full_text", "full_text_accuracy", ""].null == majority
    text = (folder / "results.md").read_text()
    assert "| joint | 2 |" in text and "Only 2 seeds" in text


def test_masks_belong_to_the_examples_of_the_test_split(probe_run, data_dir):
    test = load("movie_sentiment", 8, 20, data_dir).test
    paths = {p.stem: p for p in (probe_run.folder / "masks").glob("*.npz")}
    assert set(paths) == {*METHODS, "full_text"}
    for method, path in paths.items():
        with np.load(path) as stored:
            masks = stored["masks"]
            width = test.inputs.shape[1] if method == "full_text" else 4
            assert masks.shape == (2, len(test.labels), width)
            assert masks.dtype == np.float32 and (masks >= 0).all()
            np.testing.assert_allclose(masks.sum(axis=-1), 1, atol=1e-5)
            np.testing.assert_array_equal(stored["seeds"], [0, 1])
            for name in ("labels", "lengths", "ids", "tokens"):
                field = "inputs" if name == "tokens" else name
                np.testing.assert_array_equal(stored[name], getattr(test, field))
            if method == "full_text":
                padding = np.arange(width) >= test.lengths[:, None]
                assert padding.any() and not masks[:, padding].any()
            assert (masks[0] != masks[1]).any() or method == "uniform", "seeds differ"


def test_accuracy_in_the_table_can_be_had_from_the_command_alone(probe_run):
    """The last line is JSON and says what results.csv says."""
    line = probe_run.out.splitlines()[-1]
    told = json.loads(line)
    assert told["folder"] == str(pathlib.Path("runs/probe"))
    results = read_results(probe_run.folder / "results.csv")
    assert [r["metric"] for r in told["results"]] == [r.metric for r in results]
    said = {(r["method"], r["metric"]): r["mean"] for r in told["results"]}
    for result in results:
        if result.metric == "accuracy":
            kept = said[result.method, "accuracy"]
            assert kept == pytest.approx(result.mean, abs=1e-6)
    # Strict JSON, as any other language reads it.
    assert "NaN" not in line


def test_what_is_piped_is_plain_and_narrow(probe_run):
    out, err = probe_run.out, probe_run.err
    assert not CONTROL.search(out + err)
    long = [x for x in (out + err).splitlines() if len(x) > 80]
    # Paths and JSON are as long as they are.
    assert [x for x in long if not x.startswith(("{", "preparing "))] == []
    assert "joint" in out and "majority" in out
    assert "examples/s" in err and "compiling" in out + err


@pytest.fixture
def copied(probe_run, tmp_path):
    """The command of the finished run for a copy of its folder, and this."""
    folder = tmp_path / "copy"
    shutil.copytree(probe_run.folder, folder)
    return [*probe_run.words, "--workdir", str(folder)], folder


def test_another_configuration_in_the_folder_is_refused(capsys, copied):
    words, folder = copied
    before = {p: p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}
    words += "--seeds 4 --model.hidden 5 --tasks sources".split()
    one_line(
        refused(capsys, folder, *words),
        "model.hidden: 4 -> 5",
        "seeds: 2 -> 4",
        "tasks: ['movie_sentiment'] -> ['sources']",
        "another configuration",
    )
    assert {p: p.read_bytes() for p in folder.rglob("*.*") if p.is_file()} == before


def test_quiet_prints_the_table_only(capsys, copied, monkeypatch):
    """Of a finished run, which is the same as of a new one."""
    draw_nothing(monkeypatch)
    compile_nothing(monkeypatch)
    words, folder = copied
    tables = []
    for more in ([], ["--json"]):
        assert run(*(w for w in words if w != "--json"), "--quiet", *more) == 0
        out, err = capsys.readouterr()
        tables.append(out.splitlines())
        assert err == ""
    table, with_json = tables
    assert table[0].startswith("method") and len(table) == 2 + len(METHODS)
    assert [x.split()[0] for x in table[2:]] == list(METHODS)
    assert with_json[:-1] == table
    assert json.loads(with_json[-1])["folder"] == str(folder)


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "small.py"
    file.write_text(CONFIG)
    flags = train.parse(["--config", str(file), "--seeds", "5", "--model.hidden", "6"])
    assert (flags.config.seeds, flags.config.model.hidden) == (5, 6)
    assert (flags.config.batch_size, flags.config.model.features) == (1024, 4)
    same = train.parse([f"--config={file}"])
    assert same.config == config_files.load(file)
