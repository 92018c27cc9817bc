"""What a run says: start, progress, result, and what to do next."""

import json
import re
import shlex
import shutil

import jax
import pytest
from small_run import arguments, draw_nothing, keep_compiled, run

import jaxattn
from jaxattn import train
from jaxattn.leakage.command import main as audit
from jaxattn.reports import findings
from jaxattn.reports.command import main as report
from jaxattn.system import console

METHODS = list(jaxattn.Config().methods)


@pytest.fixture
def lines(probe_run):
    return probe_run.out.splitlines()


@pytest.fixture
def loud():
    yield
    console.settings.quiet = False


def is_table(lines, methods=METHODS) -> bool:
    return [line.split()[0] for line in lines] == ["method", "2", *methods]


def table_of(lines):
    at = next(i for i, line in enumerate(lines) if line.startswith("method"))
    return lines[at : at + 2 + len(METHODS)], lines[at + 2 + len(METHODS) :]


def test_the_start_says_what_is_run_on_what(lines):
    assert re.fullmatch(
        r"jaxattn \S+ on 2 cpu devices: 7 methods x 2 seeds, new run", lines[0]
    )
    said = "\n".join(lines)
    assert "7,991 / 1,061 / 1,020 texts (train / validation / test)" in said
    assert re.search(r"classes of the training split: negative 0\.\d{3}, ", said)
    assert "compiling 4 programs (kept in a cache" in said


def test_the_number_of_parameters_is_that_of_the_checkpoint(words_run):
    """Two tables of V x 4, two biased layers of the predictor, additive attention."""
    said = re.search(r"parameters of each model: ([\d,]+)", words_run.out)
    types = re.search(r"([\d,]+) token types", words_run.out)
    assert said and types
    count, types = (int(x.group(1).replace(",", "")) for x in (said, types))
    tables = 2 * types * 4
    additive = 4 * 4 + 4 + 4 * 4 + 4
    predictor = 4 * 4 + 4 + 4 * 2 + 2
    assert count == tables + additive + predictor, (count, tables, additive, predictor)


def test_progress_has_a_line_for_each_program_at_least(probe_run):
    err = probe_run.err.splitlines()
    for program in ("2 methods", "4 methods", "instance_weighting", "full text"):
        lines = [x for x in err if x.startswith(f"{program} ")]
        assert "compiling" in lines[0] and "100 %" in lines[-1]
    assert max(map(len, err)) <= 80


def test_the_end_says_what_was_found_and_where_it_is(lines):
    table, rest = table_of(lines)
    assert is_table(table)
    bullets = [x for x in rest if x.startswith("- ")]
    assert 2 <= len(bullets) <= 5 and any("Only 2 seeds" in x for x in bullets)


def test_the_next_commands_are_there_and_work(
    probe_run, lines, tmp_path, loud, monkeypatch
):
    at = next(i for i, line in enumerate(lines) if line.startswith("next: "))
    steps = [shlex.split(line[6:]) for line in lines[at : at + 3]]
    assert steps[0] == ["open", "runs/probe/report.html"]
    (*_, first, folder), (*_, second, masks) = steps[1:]
    assert "report" in first and folder == "runs/probe"
    assert "audit" in second and masks == "runs/probe/masks/joint.npz"
    shutil.copytree(probe_run.folder, tmp_path / folder)
    (tmp_path / folder / "report.html").unlink()
    monkeypatch.chdir(tmp_path)
    assert report([folder]) == 0 and (tmp_path / folder / "report.html").exists()
    assert audit([masks, "--permutations", "19", "--quiet"]) in (0, 4)


def test_names_with_spaces_are_quoted(tmp_path):
    steps = train._next(tmp_path / "my run")
    assert [shlex.split(step)[-1] for step in steps[:2]] == [
        str(tmp_path / "my run" / "report.html"),
        str(tmp_path / "my run"),
    ]


def test_a_finished_run_says_it_again_in_one_object(
    probe_run, lines, tmp_path, capsys, monkeypatch
):
    draw_nothing(monkeypatch)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(probe_run.folder, "runs/probe")
    assert run(*probe_run.words) == 0
    captured = capsys.readouterr()
    out = captured.out.splitlines()
    assert "resuming a run" in out[0] and "compiling" not in captured.err
    assert sum(line.startswith("{") for line in out) == 1
    told = json.loads(out[-1])
    assert told.keys() >= {"folder", "signal", "findings", "diverged", "results"}
    assert told["folder"] == "runs/probe" and told["signal"] is None
    rows = {(r["method"], r["metric"]) for r in told["results"]}
    assert ("joint", "accuracy") in rows
    assert table_of(out[:-1]) == table_of(lines[:-1])
    # It was another command, at another time.
    first = json.loads(lines[-1])
    assert len(told.pop("environment")) == len(first.pop("environment")) + 1
    assert told == first


def test_quiet_is_the_table_and_json_the_last_line(tmp_path, capfd, monkeypatch, tiny):
    """Of a new run as of a finished one."""
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    for words in (["--quiet", "--json"], ["--json", "--quiet"]):
        given = arguments(tmp_path / "run", "x", tiny, methods="joint uniform")
        assert run(*given, *words) == 0
        out, err = capfd.readouterr()
        out = out.splitlines()
        assert err == "" and len(out) == 5
        assert is_table(out[:4], ["joint", "uniform"])
        assert json.loads(out[4])["folder"] == str(tmp_path / "run")


def test_a_dry_run_has_its_object_too(tmp_path, capfd, monkeypatch, tiny):
    keep_compiled(monkeypatch)
    folder = tmp_path / "dry"
    words = arguments(folder, "x", tiny, methods="joint uniform")
    assert run(*words, "--dry-run", "--quiet", "--json") == 0
    out, err = capfd.readouterr()
    assert err == "" and out.count("\n") == 1
    assert json.loads(out)["results"] == [] and not folder.exists()


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
