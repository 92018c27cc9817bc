import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from small_run import (
    PROBE,
    ROOT,
    arguments,
    contents,
    keep_compiled,
    run,
    start,
    unlike,
)

from jaxattn import config, train
from jaxattn.data.tasks import load
from jaxattn.experiment import config_files
from jaxattn.experiment.folder import LOCK
from jaxattn.metrics.definitions import METRICS
from jaxattn.reports.results import Result, read_results, read_seeds
from jaxattn.system import console

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")

CONFIG = """
from jaxattn.config import Config, Data, Model
def get_config():
    return Config(
        name="small", methods=("joint", "mask_swap"), seeds=3, epochs=3,
        full_text_epochs=3, batch_size=1024, lane=1, data=Data(8, 20),
        model=Model(features=4, hidden=4),
    )
"""


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)
    yield
    console.settings.quiet = False


@pytest.fixture(scope="module")
def piped(tmp_path_factory, data_dir):
    """(folder, exit code, stdout, stderr) of a run from elsewhere, into pipes."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = tmp_path_factory.mktemp("configs") / "small.py"
    file.write_text(CONFIG)
    words = ["--config", file, "--data-dir", data_dir, "--json"]
    process = start(*words, cwd=elsewhere)
    out, err = process.communicate(timeout=300)
    return elsewhere / "runs" / "small", process.returncode, out, err


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
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "False"
    words = set(process.stdout.replace("│", " ").replace(",", " ").split())
    own = {"--workdir", "--data-dir", "--checkpoint-seconds", "--quiet", "--json"}
    assert {*fields(config.Config()), *own} - words == set()
    assert "--config" in process.stdout


def test_help_shows_the_values_of_the_config_file(tmp_path, capsys):
    file = tmp_path / "small.py"
    file.write_text(CONFIG)
    assert run("--config", file, "--help") == 0
    assert "(default: 1024)" in capsys.readouterr().out


def refused(capsys, folder, *words):
    """What a command says that must end with 2 and leave no folder behind."""
    before = sorted(folder.parent.iterdir())
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert sorted(folder.parent.iterdir()) == before
    return err


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
    "a huge batch": (["--batch-size", "9000"], ["9000", "7991", "smaller batch"]),
}


@pytest.mark.parametrize("words, said", BAD.values(), ids=BAD)
def test_bad_flags_are_refused(capsys, tmp_path, data_dir, words, said):
    folder = tmp_path / "run"
    # Whatever is wrong with the flags, the others are those of a good run.
    good = arguments(folder, data_dir)
    while words[0] in good:
        at = good.index(words[0])
        del good[at : at + 1 + len(PROBE[words[0]].split())]
    err = refused(capsys, folder, *good, *words)
    joined = " ".join(err.replace("│", " ").split())
    assert [s for s in said if s not in joined] == [], err
    if "full helptext" not in err:  # tyro has more to say
        assert err.startswith("error: ") and err.count("\n") == 1, err


FILES = {
    "missing": (None, ["does not exist"]),
    "without get_config": ("x = 1", ["get_config()"]),
    "syntax error": ("def get_config(:\n  pass", ["SyntaxError", "line 1"]),
    "wrong type": ("def get_config(): return {}", ["returned dict"]),
    "wrong value": (
        "from jaxattn.config import Config\n"
        "def get_config(): return Config(seeds='many')",
        ["seeds"],
    ),
    "no list of methods": (
        "from jaxattn.config import Config\n"
        "def get_config(): return Config(methods='joint')",
        ["methods"],
    ),
    "unknown method": (
        "from jaxattn.config import Config\n"
        "def get_config(): return Config(methods=('mask_swop',))",
        ["mask_swop", "mask_swap"],
    ),
    "part of another type": (
        "from jaxattn.config import Config\n"
        "def get_config(): return Config(model={'hidden': 3})",
        ["model"],
    ),
    "field out of range": (
        "from jaxattn.config import Config\ndef get_config(): return Config(seeds=0)",
        ["seeds = 0"],
    ),
    "typo": (
        "from jaxattn.config import Config\ndef get_config(): return Config(seed=3)",
        ["unknown field seed", "perhaps you meant seeds"],
    ),
    "exits": ("import sys\ndef get_config(): sys.exit(0)", ["SystemExit"]),
}


@pytest.mark.parametrize("text, said", FILES.values(), ids=FILES)
def test_bad_config_files_are_refused(capsys, tmp_path, data_dir, text, said):
    file = tmp_path / "given.py"
    if text is not None:
        file.write_text(text)
    folder = tmp_path / "run"
    words = ["--config", file, "--workdir", folder, "--data-dir", data_dir]
    err = refused(capsys, folder, *words)
    assert [s for s in said if s not in err] == [], err
    if "full helptext" not in err:
        assert err.startswith("error: ") and err.count("\n") == 1, err


def one_line(err, *said):
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert [s for s in said if s not in err] == [], err


def test_a_bad_command_ends_a_process_with_two(tmp_path):
    words = ["--workdir", tmp_path / "run", "--model.default-tokens", "1"]
    process = start(*words, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    one_line(err, "a mask over one token", "carry nothing")
    assert list(tmp_path.iterdir()) == []


def test_the_default_workdir_leaves_no_folder_behind(
    capsys, tmp_path, monkeypatch, data_dir
):
    monkeypatch.chdir(tmp_path)
    words = arguments("x", data_dir, batch_size="9000")
    one_line(refused(capsys, tmp_path / "runs", *words[2:]), "9000")


def test_a_workdir_that_is_a_file_is_refused(capsys, tmp_path, data_dir):
    (tmp_path / "run").write_text("mine")
    err = refused(capsys, tmp_path / "run", *arguments(tmp_path / "run", data_dir))
    one_line(err, str(tmp_path / "run"), "is a file", "--workdir")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_workdir_that_cannot_be_made_is_refused(capsys, tmp_path, data_dir):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "run"
    assert run(*arguments(folder, data_dir)) == 2
    one_line(capsys.readouterr().err, str(folder), "Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_may_not_be_written_is_refused(capsys, tmp_path, data_dir):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert run(*arguments(folder / "run", data_dir)) == 2
    one_line(capsys.readouterr().err, str(folder), "Permission denied")


def test_a_folder_that_holds_something_else_is_refused(capsys, tmp_path, data_dir):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "draft.txt").write_text("mine")
    err = refused(capsys, folder, *arguments(folder, data_dir))
    one_line(err, str(folder), "not empty", "--workdir")
    assert [p.name for p in folder.iterdir()] == ["draft.txt"]


def test_an_empty_folder_will_do_and_stays_if_the_run_is_refused(
    capsys, tmp_path, data_dir
):
    folder = tmp_path / "empty"
    folder.mkdir()
    words = arguments(folder, data_dir, batch_size="9000")
    one_line(refused(capsys, folder, *words), "9000")
    assert list(folder.iterdir()) == []


def test_a_damaged_config_in_the_workdir_is_refused(capsys, tmp_path, data_dir):
    folder = tmp_path / "run"
    folder.mkdir()
    for text in ("", "{", "[]", '{"config": 3}', "null", "\x00\xff"):
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        before = (folder / "config.json").read_bytes()
        err = refused(capsys, folder, *arguments(folder, data_dir))
        one_line(err, "config.json is damaged")
        assert (folder / "config.json").read_bytes() == before
        assert {p.name for p in folder.iterdir()} <= {"config.json", LOCK}


def test_truncated_data_are_refused(capsys, tmp_path, data_dir):
    damaged = tmp_path / "data"
    shutil.copytree(data_dir, damaged)
    (record,) = damaged.rglob("*array_record*")
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])
    folder = tmp_path / "run"
    err = refused(capsys, folder, *arguments(folder, damaged))
    one_line(err, "damaged prepared data", str(damaged), "delete that folder")


def test_a_data_dir_that_is_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "data").write_text("mine")
    folder = tmp_path / "run"
    assert run(*arguments(folder, tmp_path / "data")) == 2
    one_line(capsys.readouterr().err, str(tmp_path / "data"))
    assert not folder.exists()


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="needs a small disk"
)
def test_a_full_disk_is_said_in_one_line(capsys, tmp_path, data_dir):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["-o", "size=64k"]
    if subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", disk]).returncode:
        pytest.skip("may not mount")
    try:
        words = [*arguments(disk / "run", data_dir), "--checkpoint-seconds", "0"]
        assert run(*words) == 2
        err = capsys.readouterr().err
        last = err.splitlines()[-1]
        assert last.startswith("error: ") and "No space left" in last, err
        assert "Traceback" not in err
        left = [p for p in (disk / "run").rglob("*.tmp")]
        assert left == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_run_writes_what_is_agreed(piped, data_dir):
    folder, code, out, err = piped
    assert code == 0, err
    assert {p.name for p in folder.iterdir()} >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "seeds.csv",
        "results.csv",
        "results.md",
        "masks",
        "checkpoints",
        "figures",
        "data",
        "report.html",
    }
    assert not [p for p in folder.rglob("*") if "tmp" in p.name]
    figures = {p.name for p in (folder / "figures").iterdir()}
    assert figures == {"accuracy.svg", "leak.svg", "learning_curves.svg", "codes.svg"}
    page = (folder / "report.html").read_text()
    for said in ("The mean mask of each class", "(full_text)", "most leaking"):
        assert said in page
    kept = json.loads((folder / "config.json").read_text())
    (given,) = json.loads((folder / "environment.json").read_text())
    assert kept["config"]["methods"] == ["joint", "mask_swap"]
    assert {"fingerprint", "data_digest"} <= set(kept)
    assert given["versions"]["jax"] and str(pathlib.Path.home()) not in str(given)
    lines = contents(folder)["metrics.jsonl"]
    # Two devices of one cell each: two methods and the reference, 3 cells in 2 waves.
    assert len(lines) == 3 * (2 * 3)
    for line in lines:
        assert line["epoch"] in (1, 2, 3)
        assert len(line["train_nll"]) == len(line["cells"]) in (1, 2)


def test_the_tables_are_those_of_the_contract(piped):
    folder = piped[0]
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
    results, seeds = (
        read_results(folder / "results.csv"),
        read_seeds(folder / "seeds.csv"),
    )
    assert {r.metric for r in seeds} <= set(METRICS)
    for result in results:
        if result.metric == "accuracy_vs_joint":
            continue
        values = [
            row.value
            for row in seeds
            if (row.method, row.metric, row.variant, row.split)
            == (result.method, result.metric, result.variant, result.split)
        ]
        assert result.n_seeds == len(values) == 3
        assert result.mean == pytest.approx(np.mean(values), abs=1e-6)
        assert result.ci_low <= result.mean <= result.ci_high
    by = {(r.method, r.metric, r.variant): r for r in results}
    majority = by["reference", "majority", ""].mean
    for method in ("joint", "mask_swap"):
        assert by[method, "accuracy", ""].null == majority
        null = by[method, "leak_bits", "permuted"].mean
        assert by[method, "leak_bits", ""].null == null
        assert (method, "accuracy_vs_joint", "") in by or method == "joint"
    assert by["full_text", "full_text_accuracy", ""].null == majority
    text = (folder / "results.md").read_text()
    assert "| joint | 3 |" in text and "Only 3 seeds" in text


def test_masks_belong_to_the_examples_of_the_test_split(piped, data_dir):
    folder = piped[0]
    test = load("movie_sentiment", 8, 20, data_dir).test
    names = {p.stem: 4 for p in (folder / "masks").glob("*.npz")}
    assert set(names) == {"joint", "mask_swap", "full_text"}
    for method in names:
        with np.load(folder / "masks" / f"{method}.npz") as found:
            masks = found["masks"]
            width = test.inputs.shape[1] if method == "full_text" else 4
            assert masks.shape == (3, len(test.labels), width)
            assert masks.dtype == np.float32 and (masks >= 0).all()
            np.testing.assert_allclose(masks.sum(axis=-1), 1, atol=1e-5)
            np.testing.assert_array_equal(found["seeds"], [0, 1, 2])
            for name in ("labels", "lengths", "ids", "tokens"):
                field = "inputs" if name == "tokens" else name
                np.testing.assert_array_equal(found[name], getattr(test, field))
            if method == "full_text":
                padding = np.arange(width) >= test.lengths[:, None]
                assert padding.any() and not masks[:, padding].any()
            assert (masks[0] != masks[1]).any(), "seeds differ"


def test_accuracy_in_the_table_can_be_had_from_the_command_alone(piped):
    """The last line is JSON and says what results.csv says."""
    folder, _, out, _ = piped
    found = json.loads(out.splitlines()[-1])
    assert found["folder"] == str(pathlib.Path("runs") / "small")
    results = read_results(folder / "results.csv")
    assert [r["metric"] for r in found["results"]] == [r.metric for r in results]
    said = {(r["method"], r["metric"]): r["mean"] for r in found["results"]}
    for result in results:
        if result.metric == "accuracy":
            kept = said[result.method, "accuracy"]
            assert kept == pytest.approx(result.mean, abs=1e-6)
    # Strict JSON, as any other language reads it.
    assert "NaN" not in out.splitlines()[-1]


def test_what_is_piped_is_plain_and_narrow(piped):
    _, _, out, err = piped
    assert not CONTROL.search(out + err)
    long = [x for x in (out + err).splitlines() if len(x) > 80]
    # Paths and JSON are as long as they are.
    assert [x for x in long if not x.startswith(("{", "preparing "))] == []
    assert "joint" in out and "majority" in out
    assert "examples/s" in err and "compiling" in out + err


def test_the_same_in_this_process_is_the_same_bit_for_bit(piped, tmp_path, data_dir):
    folder = tmp_path / "again"
    assert run(*arguments(folder, data_dir, name="small")) == 0
    assert unlike(contents(folder), contents(piped[0])) == []


def test_another_configuration_in_the_folder_is_refused(
    capsys, piped, data_dir, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(piped[0], folder)
    before = contents(folder)
    words = arguments(
        folder, data_dir, name="small", seeds="4", model__hidden="5", tasks="sources"
    )
    one_line(
        refused(capsys, folder, *words),
        "model.hidden: 4 -> 5",
        "seeds: 3 -> 4",
        "tasks: ['movie_sentiment'] -> ['sources']",
        "another configuration",
    )
    assert contents(folder) == before


def test_quiet_prints_the_table_only(capsys, piped, data_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(piped[0], folder)
    assert run(*arguments(folder, data_dir, name="small"), "--quiet") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and lines[0].startswith("method") and len(lines) == 4
    assert [x.split()[0] for x in lines[2:]] == ["joint", "mask_swap"]


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "small.py"
    file.write_text(CONFIG)
    flags = train.parse(["--config", str(file), "--seeds", "5", "--model.hidden", "6"])
    assert (flags.config.seeds, flags.config.model.hidden) == (5, 6)
    assert (flags.config.batch_size, flags.config.model.features) == (1024, 4)
    same = train.parse([f"--config={file}"])
    assert same.config == config_files.load(file)
