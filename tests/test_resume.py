"""Whatever ends a run, the same command gives the same bytes in the end."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import (
    CHUNKS,
    KILLER,
    SLOW,
    WAVES,
    after_chunk,
    arguments,
    compile_nothing,
    contents,
    draw_nothing,
    flip,
    keep_compiled,
    run,
    start,
    stop_after,
    unlike,
)

from jaxattn import config
from jaxattn.experiment import checkpoint, schedule, source, wave
from jaxattn.experiment import folder as folders
from jaxattn.experiment.folder import hold
from jaxattn.reports.results import read_seeds
from jaxattn.system import processes, runtime


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """Folder and contents of a run that nothing interrupts, by its methods."""
    done = {}

    def of(methods=tiny["--methods"]):
        if methods not in done:
            folder = tmp_path_factory.mktemp("whole") / "run"
            with pytest.MonkeyPatch.context() as monkeypatch:
                keep_compiled(monkeypatch)
                draw_nothing(monkeypatch)
                assert run(*arguments(folder, "x", tiny, methods=methods)) == 0
            done[methods] = folder, contents(folder)
        return done[methods]

    return of


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def words(folder, tiny):
    """The command, which saves after every chunk."""
    return [*arguments(folder, "x", tiny), "--checkpoint-seconds", "0"]


@pytest.fixture
def goes_on(folder, words, whole):
    """Whether the same command ends as if nothing had been."""

    def check():
        assert run(*words) == 0
        assert unlike(contents(folder), whole()[1]) == []
        assert steps(folder) == {}
        assert not [p for p in folder.rglob("*") if "tmp" in p.name], "no litter"

    return check


@pytest.fixture
def finished(folder, whole):
    """A copy of the finished run in the command's folder."""
    shutil.copytree(whole()[0], folder)
    return sorted(folder.glob("checkpoints/*/*.npz"))


def code_of(number):
    """The exit code of a run that a signal has ended."""
    return processes.ENDED_EARLY if number == signal.SIGTERM else 128 + number


def steps(folder):
    """The steps of checkpoints of waves under way, by program."""
    return {
        path.parents[1].name: sorted(int(p.name) for p in path.parent.iterdir())
        for path in folder.glob("checkpoints/*/*/*")
    }


def stopped(monkeypatch, words, chunk, number=signal.SIGTERM):
    with monkeypatch.context() as once:
        stop_after(once, chunk, number)
        assert run(*words) == code_of(number)


def one_line(err, *said):
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in err, err
    assert [text for text in said if text not in last] == [], err


def test_the_run_is_as_large_as_the_tests_below_think(whole):
    folder, kept = whole()
    lines = kept["metrics.jsonl"]
    assert [line["program"] for line in lines] == [0] * 6 + [1] * 3
    assert len(lines) == CHUNKS and {len(line["cells"]) for line in lines} == {2}
    assert len(list(folder.glob("checkpoints/*/*.npz"))) == WAVES


@pytest.mark.parametrize(
    "chunk, number",
    [(1, signal.SIGTERM), (3, signal.SIGINT), (5, signal.SIGTERM), (7, signal.SIGTERM)],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    monkeypatch, capsys, folder, words, whole, goes_on, chunk, number
):
    stopped(monkeypatch, words, chunk, number)
    out, err = capsys.readouterr()
    assert "stopped" in out and "Traceback" not in err
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == chunk, "it ends after the current chunk"
    # In its last chunk a wave is finished instead.
    last = chunk % 3
    under_way = {f"program-{chunk // 6}": list(range(max(last - 1, 1), last + 1))}
    assert steps(folder) == (under_way if last else {})
    before = {p: p.stat().st_mtime_ns for p in folder.glob("checkpoints/*/*.npz")}
    assert len(before) == chunk // 3
    if chunk == 7:  # what is finished is shown
        rows = (folder / "seeds.csv").read_text().splitlines()
        every = whole()[1]["seeds.csv"].decode().splitlines()
        assert rows == [row for row in every if row.split(",")[1] != "mask_swap"]
        assert "| joint | 2 |" in (folder / "results.md").read_text()
    goes_on()
    assert "resuming a run" in capsys.readouterr().out
    for path, when in before.items():
        assert path.stat().st_mtime_ns == when, "a finished wave is not run again"


@pytest.mark.soak
@pytest.mark.parametrize(
    "method", ["instance_weighting", "random_pretraining_averaged"]
)
@pytest.mark.parametrize("chunk", [1, 2])
def test_methods_with_state_of_their_own_go_on_too(
    monkeypatch, folder, tiny, whole, method, chunk
):
    words = arguments(folder, "x", tiny, methods=method)
    stopped(monkeypatch, words, chunk)
    assert run(*words) == 0
    assert unlike(contents(folder), whole(method)[1]) == []


def test_stopped_after_every_chunk_it_still_arrives(monkeypatch, words, goes_on):
    # A wave is finished, and the next one begun, before the run looks for a signal.
    for times in range(CHUNKS):  # noqa: B007
        with monkeypatch.context() as once:
            stop_after(once, 1)
            code = run(*words)
        if code == 0:
            break
        assert code == processes.ENDED_EARLY
    assert times >= 4, "each time a chunk or two"
    goes_on()


def test_of_several_checkpoints_of_a_cell_the_furthest_goes_on(folder):
    for name, epoch in (("running-a", 1), ("running-b", 2), ("running-c", 1)):
        curves = {"train_nll": [[0.5]] * epoch}
        meta = {"cells": [["joint", 0]], "rows": 1, "curves": curves}
        state = {"w": jnp.full((1, 2), epoch, jnp.float32)}
        checkpoint.save(folder / name, epoch, state, meta)
    like = {"w": jax.ShapeDtypeStruct((4, 2), jnp.float32)}
    compiled = wave.Compiled(wave.Shape(4), None, None, like)
    job = wave.Job(0, None, None, None, [("joint", 0)], compiled=compiled)
    ((path, part),) = schedule._begun(folder, job).items()
    assert (path.name, part.cells, part.epoch) == ("running-b", [("joint", 0)], 2)
    np.testing.assert_array_equal(part.state["w"], [[2, 2]])


def test_how_often_it_is_saved_changes_nothing(goes_on):
    goes_on()


def test_a_finished_run_only_prints_again(
    monkeypatch, capsys, words, finished, goes_on
):
    goes_on()
    first = capsys.readouterr().out
    compile_nothing(monkeypatch)
    began = time.monotonic()
    goes_on()
    assert time.monotonic() - began < 10
    assert capsys.readouterr().out == first and "method " in first


def test_a_run_of_before_a_field_was_there_goes_on(capsys, folder, words, finished):
    kept = json.loads((folder / "config.json").read_text())
    # As versions wrote it that knew nothing of these.
    del kept["config"]["data"]["tokenizer"], kept["config"]["statistic"]
    (folder / "config.json").write_text(json.dumps(kept))
    assert run(*words) == 0
    assert run(*words, "--statistic", "iqm") == 2
    assert "statistic: mean -> iqm" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "d/*",
        pytest.param("*METADATA*", marks=pytest.mark.soak),
        pytest.param("manifest.ocdbt", marks=pytest.mark.soak),
    ],
)
def test_a_flipped_bit_in_a_checkpoint_is_noticed(
    monkeypatch, capsys, folder, words, goes_on, name
):
    stopped(monkeypatch, words, 2)
    (running,) = folder.glob("checkpoints/program-0/*/")
    assert steps(folder) == {"program-0": [1, 2]}
    files = [p for p in (running / "2").rglob(name) if p.is_file()]
    flip(max(files, key=lambda p: p.stat().st_size))
    capsys.readouterr()
    goes_on()
    out, err = capsys.readouterr()
    assert "checkpoint 2" in out + err and "damaged" in out + err
    assert "Traceback" not in err


def test_where_no_checkpoint_is_left_it_says_what_to_delete(
    monkeypatch, capsys, folder, words, goes_on
):
    stopped(monkeypatch, words, 1)
    (running,) = folder.glob("checkpoints/program-0/*/")
    for path in (running / "1").rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            flip(path)
    capsys.readouterr()
    assert run(*words) == 2
    one_line(capsys.readouterr().err, str(running))
    shutil.rmtree(running)
    goes_on()


@pytest.mark.parametrize(
    "damage",
    ["middle", "index", "cut", "emptied"]
    + [pytest.param(x / 20, marks=pytest.mark.soak) for x in range(20)],
)
def test_a_damaged_finished_wave_is_run_again(
    capsys, folder, words, whole, finished, damage
):
    wave = finished[1]
    raw = wave.read_bytes()
    if damage in ("cut", "emptied"):
        wave.write_bytes(raw[: int(0.99 * len(raw)) * (damage == "cut")])
    else:
        # An archive ends with 22 bytes that say where its index is.
        places = {"middle": 0.5, "index": (len(raw) - 22) / (len(raw) - 1)}
        flip(wave, places.get(damage, damage))
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "damaged" in out and str(wave) in out.replace("\n", "")
    again, expected = contents(folder), dict(whole()[1])
    one, other = (x.pop("metrics.jsonl") for x in (again, expected))
    assert sorted(map(json.dumps, one)) == sorted(map(json.dumps, other))
    assert unlike(again, expected) == []


def test_half_a_line_in_the_metrics_does_no_harm(monkeypatch, folder, words, goes_on):
    stopped(monkeypatch, words, 2)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"program": 0, "epoch": 2, "cel')
    goes_on()


def test_a_clock_that_is_set_back_does_no_harm(monkeypatch, folder, words, goes_on):
    stopped(monkeypatch, words, 2)
    day = 86_400
    # What was saved lies in the future from now on.
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + day, time.time() + day))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - day)
    goes_on()


@pytest.mark.parametrize("text", ["{", "[]", '{"0": "x"}'])
def test_shapes_that_cannot_be_read_are_chosen_again(
    monkeypatch, folder, words, goes_on, text
):
    stopped(monkeypatch, words, 1)
    (folder / "checkpoints/shapes.json").write_text(text)
    goes_on()


def test_seeds_are_on_disk_as_soon_as_their_wave_is_finished(
    monkeypatch, folder, words
):
    seen = []

    def look():
        seen.extend(row[1:3] for row in read_seeds(folder / "seeds.csv"))

    after_chunk(monkeypatch, 4, look)
    assert run(*words) == 0
    assert set(seen) == {("reference", 0), ("joint", 0), ("uniform", 0)}


def test_one_run_at_a_time_in_a_folder(capsys, folder, words):
    with hold(config.Config(), folder):
        before = sorted(folder.iterdir())
        assert run(*words) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        one_line(err, "another run is under way", str(folder))
        assert sorted(folder.iterdir()) == before
    assert not folder.exists()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_last_step_stays(
    small_disk, tiny, capsys, monkeypatch, whole
):
    folder = small_disk / "run"
    words = [*arguments(folder, "x", tiny), "--checkpoint-seconds", "0"]
    stopped(monkeypatch, words, 1)
    (saved,) = folder.glob("checkpoints/program-0/running-*/1")
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_bsize - 8192))
    capsys.readouterr()
    assert run(*words) == 2
    one_line(capsys.readouterr().err, "No space left")
    assert saved.exists() and list(folder.rglob("*.tmp")) == []
    filler.unlink()
    assert run(*words) == 0
    assert unlike(contents(folder), whole()[1]) == []


def test_ctrl_c_twice_ends_at_once_and_the_run_goes_on(
    monkeypatch, capfd, words, goes_on
):
    def twice():
        # The second one arrives while the chunk is still under way.
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as once:
        after_chunk(once, 2, twice)
        assert run(*words) == 128 + signal.SIGINT
    err = capfd.readouterr().err
    assert "Ctrl-C again stops at once" in err and "Traceback" not in err
    assert "the same command resumes" in err.splitlines()[-1]
    goes_on()


@pytest.fixture
def interruptible():
    """A process that a shell has started in the background ignores Ctrl-C."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.parametrize("module, name", [(runtime, "configure"), (source, "load")])
def test_ctrl_c_before_the_first_chunk_ends_quietly(
    monkeypatch, capsys, folder, words, interruptible, module, name
):
    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, name, interrupted)
    assert run(*words) == 130
    assert "Traceback" not in capsys.readouterr().err and not folder.exists()


def wait_for_a_chunk(process, folder):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if (folder / "metrics.jsonl").stat().st_size:
                return
        time.sleep(0.02)
    raise AssertionError(f"no chunk: {process.communicate()}")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_a_process_is_ended_by_a_signal_and_goes_on(
    capsys, folder, words, goes_on, number
):
    process = start(*words, before=SLOW)
    wait_for_a_chunk(process, folder)
    assert run(*words) == 2, "refused while the other runs"
    one_line(capsys.readouterr().err, "another run is under way")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code_of(number), err
    assert "Traceback" not in err and "stopped" in out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < CHUNKS
    assert steps(folder) or list(folder.glob("checkpoints/*/*.npz"))
    goes_on()


@pytest.mark.parametrize(
    "times", [1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 12))]
)
def test_killed_it_still_gives_the_same(folder, words, goes_on, times):
    chance = random.Random(times)
    for seed in range(times):
        at = chance.randrange(20, 60)
        given = at, str(folder), seed, 0.1 * (seed % 2)
        process = start(*words, before=f"{KILLER}\nkill_at{given}")
        _, err = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (at, err)
    goes_on()


# One process forks for each attempt, before it has threads.
CLAIM = """
from jaxattn import config
from jaxattn.experiment.folder import claim, hold
from jaxattn.system import runtime
runtime.environment = lambda: {'versions': {}}
base = sys.argv[1]
import pathlib
for at in range(1, 100):
    folder = pathlib.Path(base, str(at))
    def begin():
        with hold(config.Config(), folder):
            claim(config.Config(), folder, 'digest')
    child = os.fork()
    if not child:
        kill_at(at, str(folder))
        begin()
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    begin()
    if not ended:
        break
    assert ended == signal.SIGKILL
print(at)
"""


def test_killed_while_it_claims_the_folder_it_can_start_again(tmp_path):
    """At every operation on files between the first and the first chunk."""
    process = start(tmp_path, before=KILLER, code=CLAIM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert 5 < int(out) < 99
    assert folders.LOCK in {p.name for p in (tmp_path / "1").iterdir()}
