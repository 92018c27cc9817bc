"""What a run says: start, progress, result, and what to do next."""

import json
import re
import shlex

import jax
import pytest
from small_run import WORDS, arguments, start

import jaxattn
from jaxattn.leakage.command import main as audit
from jaxattn.reports import findings
from jaxattn.reports.command import main as report
from jaxattn.system import console

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")

TINY = WORDS | {"--seeds": "2", "--epochs": "1"}


def command(folder, data_dir, *more):
    words = arguments("FOLDER", data_dir, TINY)
    words = [str(folder) if word == "FOLDER" else word for word in words]
    process = start(*words, *more, cwd=folder.parent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert not CONTROL.search(out + err)
    return out.splitlines(), err


@pytest.fixture(scope="module")
def first(tmp_path_factory, data_dir):
    """Folder, lines of standard output, and standard error of a new run."""
    folder = tmp_path_factory.mktemp("terminal") / "my run"
    return folder, *command(folder, data_dir)


@pytest.fixture
def loud():
    yield
    console.settings.quiet = False


def is_table(lines) -> bool:
    first_column = [line.split()[0] for line in lines]
    return first_column == ["method", "2", "joint", "mask_swap"]


def test_the_start_says_what_is_run_on_what(first):
    _, out, _ = first
    assert re.fullmatch(
        r"jaxattn \S+ on 2 cpu devices: 2 methods x 2 seeds, new run", out[0]
    )
    said = "\n".join(out)
    assert "7,991 / 1,061 / 1,020 texts (train / validation / test)" in said
    assert re.search(r"classes of the training split: negative 0\.\d{3}, ", said)
    assert "compiling 2 programs (kept in a cache" in said


def test_the_number_of_parameters_is_that_of_the_checkpoint(first, data_dir):
    """Two tables of V x 4, two biased layers of the predictor, additive attention."""
    _, out, _ = first
    (line,) = [x for x in out if x.startswith("parameters of each model: ")]
    types = int(re.search(r"([\d,]+) token types", "\n".join(out)).group(1))
    tables = 2 * types * 4
    additive = 4 * 4 + 4 + 4 * 4 + 4
    predictor = 4 * 4 + 4 + 4 * 2 + 2
    said = int(line.rpartition(" ")[2].replace(",", ""))
    assert said == tables + additive + predictor, (said, tables, additive, predictor)


def test_progress_has_a_line_for_each_program_at_least(first):
    _, _, err = first
    for program in ("joint", "mask_swap"):
        lines = [x for x in err.splitlines() if x.startswith(f"{program} ")]
        assert "compiling" in lines[0] and "100 %" in lines[-1]
    assert max(map(len, err.splitlines())) <= 80


def test_the_end_says_what_was_found_and_where_it_is(first):
    folder, out, _ = first
    at = next(i for i, line in enumerate(out) if line.startswith("method"))
    assert is_table(out[at : at + 4])
    bullets = [x for x in out[at + 4 :] if x.startswith("- ")]
    assert 2 <= len(bullets) <= 4 and "Only 2 seeds" in bullets[-1]
    # Only a path may be longer than a line.
    assert [x for x in out if len(x) > 80 and str(folder.parent) not in x] == []


def test_the_next_commands_are_there_and_work(first, loud, monkeypatch):
    folder, out, _ = first
    at = next(i for i, line in enumerate(out) if line.startswith("next: "))
    steps = [shlex.split(line[6:]) for line in out[at:]]
    assert steps[0] == ["open", str(folder / "report.html")]
    assert [s[:2] for s in steps[1:]] == [["jaxattn", "report"], ["jaxattn", "audit"]]
    assert (folder / "report.html").exists()
    monkeypatch.chdir(folder.parent)
    assert report(steps[1][2:]) == 0
    assert audit([*steps[2][2:], "--permutations", "19", "--quiet"]) in (0, 4)
    assert steps[2][2].endswith("masks/joint.npz")


def test_a_finished_run_says_it_again_in_one_object(first, data_dir):
    folder, before, _ = first
    out, err = command(folder, data_dir, "--json")
    assert "resuming a run" in out[0] and "compiling" not in err
    assert sum(line.startswith("{") for line in out) == 1
    found = json.loads(out[-1])
    assert found.keys() == {"folder", "signal", "findings", "diverged", "results"}
    assert found["folder"] == str(folder) and found["signal"] is None
    rows = {(r["method"], r["metric"]) for r in found["results"]}
    assert ("joint", "accuracy") in rows
    at = next(i for i, line in enumerate(before) if line.startswith("method"))
    assert [line for line in out if line in before[at:]] == before[at:]


def test_quiet_is_the_table_and_json_the_last_line(tmp_path, data_dir, first):
    """Of a new run as of a finished one."""
    folder = tmp_path / "quiet"
    for words in (["--quiet", "--json"], ["--json", "--quiet"]):
        out, err = command(folder, data_dir, *words)
        assert err == ""
        assert len(out) == 5 and is_table(out[:4])
        assert json.loads(out[4])["folder"] == str(folder)
    # The same numbers, whoever looks.
    assert out[:4] == [x for x in first[1] if x in out[:4]]


def test_a_dry_run_has_its_object_too(tmp_path, data_dir):
    folder = tmp_path / "dry"
    out, err = command(folder, data_dir, "--dry-run", "--quiet", "--json")
    assert err == "" and len(out) == 1
    assert json.loads(out[0])["results"] == [] and not folder.exists()


def test_a_terminal_shows_few_findings_and_every_caveat():
    plain = [f"joint: {i}." for i in range(5)]
    unfinished, few = "Unfinished: 3 cells", "Only 2 seeds for some numbers"
    diverged = "Diverged, frozen and left out of every mean: joint seed 1."
    everything = [unfinished, *plain, diverged, few]
    assert findings.brief(everything) == [unfinished, *plain[:3], diverged, few]
    assert findings.brief(plain[:2]) == plain[:2]
    assert findings.brief([]) == []


def test_control_codes_of_names_do_not_reach_the_terminal(capsys):
    console.say("a\x1b[31mb\x9bc\x07\nd\te")
    assert capsys.readouterr().out == "a\ufffd[31mb\ufffdc\ufffd\nd\te\n"


def test_long_text_is_folded_and_long_paths_are_not(capsys):
    path = "/" + "x" * 100
    console.paragraph(f"{path}: " + "well-known word " * 20)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}:" and max(map(len, lines[1:])) <= 80
    assert not any(line.endswith("-") for line in lines)


def test_python_is_told_that_jax_began_too_early(tmp_path, capsys, monkeypatch):
    """Without devices of our own a run is slow: it says so, and how to mend it."""
    jax.devices()
    monkeypatch.delenv("PJRT_NPROC")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError):
        jaxattn.run(jaxattn.Config(), tmp_path / "run", data_dir=file)
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: jax has begun without jaxattn: 2 devices for" in said
    assert "call jaxattn.system.runtime.configure() before jax is used" in said


def test_bad_configs_are_refused_from_python_too(tmp_path):
    config = jaxattn.Config(seeds=-1)
    with pytest.raises(ValueError, match="seeds = -1"):
        jaxattn.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
