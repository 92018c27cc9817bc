import contextlib
import json
import random
import shutil
import signal
import time

import pytest
import small_run
from small_run import (
    arguments,
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
from jaxattn.experiment import folder as folders
from jaxattn.experiment import wave as waves
from jaxattn.experiment.folder import hold
from jaxattn.system import console, processes

# On two devices: a wave of two cells, and one of a single cell for the reference.
PROBE = small_run.PROBE | {"--seeds": "1"}

# Two waves of one program.
WORDS = small_run.WORDS | {"--seeds": "2"}

WEIGHTED = WORDS | {"--methods": "instance_weighting"}

AVERAGED = WORDS | {"--methods": "random_pretraining_averaged"}

# Kills its process a moment after the `at`-th operation on files of the run.
KILLER = """
import os, random, signal, sys, threading
chance, at, seen = random.Random({seed}), {at}, 0
def watch(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
        if {folder!r} in str(arguments[0]):
            seen += 1
            if seen == at:
                def kill():
                    os.kill(os.getpid(), signal.SIGKILL)
                if {delay}:
                    threading.Timer(chance.random() * {delay}, kill).start()
                else:
                    kill()
sys.addaudithook(watch)
"""


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    yield
    console.settings.quiet = False


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """Contents of a run that nothing interrupts, by its base."""
    found = {}

    def of(base):
        key = tuple(base.items())
        if key not in found:
            folder = tmp_path_factory.mktemp("whole") / "run"
            with pytest.MonkeyPatch.context() as monkeypatch:
                keep_compiled(monkeypatch)
                draw_nothing(monkeypatch)
                assert run(*arguments(folder, data_dir, base)) == 0
            found[key] = contents(folder)
        return found[key]

    return of


def code_of(number):
    """The exit code of a run that a signal has ended."""
    return processes.ENDED_EARLY if number == signal.SIGTERM else 128 + number


def steps(folder):
    """The steps of checkpoints of waves under way, by program."""
    return {
        path.parents[1].name: sorted(int(p.name) for p in path.parent.iterdir())
        for path in folder.glob("checkpoints/*/*/*")
    }


def test_the_probe_is_as_large_as_the_tests_below_think(whole):
    lines = whole(PROBE)["metrics.jsonl"]
    assert [line["program"] for line in lines] == [0] * 3 + [1] * 3 + [2] * 3
    lines = whole(WORDS)["metrics.jsonl"]
    assert [len(line["cells"]) for line in lines] == [2] * 6


@pytest.mark.parametrize(
    "chunk, number",
    [(1, signal.SIGTERM), (2, signal.SIGINT), (3, signal.SIGTERM), (5, signal.SIGTERM)],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    monkeypatch, capsys, tmp_path, data_dir, whole, chunk, number
):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, PROBE)
    with monkeypatch.context() as once:
        stop_after(once, chunk, number)
        assert run(*words) == code_of(number)
    out, err = capsys.readouterr()
    assert "stopped" in out and "Traceback" not in err
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == chunk, "it ends after the current chunk"
    program = "program-1" if chunk > 3 else "program-0"
    # In its last chunk a wave is finished instead.
    at = {program: [chunk % 3]} if chunk % 3 else {}
    assert steps(folder) == at
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}
    assert run(*words) == 0
    out, _ = capsys.readouterr()
    assert "resuming a run" in out
    assert unlike(contents(folder), whole(PROBE)) == []
    assert steps(folder) == {}
    for path, when in before.items():
        if "checkpoints" in path.parts:
            assert path.stat().st_mtime_ns == when, "a finished wave is not run again"


def test_a_stopped_run_shows_what_there_is(monkeypatch, tmp_path, data_dir, whole):
    folder = tmp_path / "run"
    with monkeypatch.context() as once:
        stop_after(once, 4)
        assert run(*arguments(folder, data_dir, WORDS)) == processes.ENDED_EARLY
    rows = (folder / "seeds.csv").read_text().splitlines()
    all_rows = whole(WORDS)["seeds.csv"].decode().splitlines()
    # The first wave: both seeds of the first method.
    assert rows == [row for row in all_rows if row.split(",")[1] != "mask_swap"]
    assert "| joint | 2 |" in (folder / "results.md").read_text()


@pytest.mark.parametrize("base", [WEIGHTED, AVERAGED], ids=["weighted", "averaged"])
@pytest.mark.soak
def test_methods_with_state_of_their_own_go_on_too(
    monkeypatch, tmp_path, data_dir, whole, base
):
    for chunk in (1, 2):
        folder = tmp_path / f"{chunk}"
        words = arguments(folder, data_dir, base)
        with monkeypatch.context() as once:
            stop_after(once, chunk)
            assert run(*words) == processes.ENDED_EARLY
        assert run(*words) == 0
        assert unlike(contents(folder), whole(base)) == []


def test_stopped_after_every_chunk_it_still_arrives(
    monkeypatch, tmp_path, data_dir, whole
):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    for times in range(20):  # noqa: B007
        with monkeypatch.context() as once:
            stop_after(once, 1)
            code = run(*words)
        if code == 0:
            break
        assert code == processes.ENDED_EARLY
    assert times >= 4, "each time a chunk or two"
    assert unlike(contents(folder), whole(WORDS)) == []


@pytest.mark.parametrize("seconds", ["0", "1e9"])
def test_how_often_it_is_saved_changes_nothing(tmp_path, data_dir, whole, seconds):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, PROBE), "--checkpoint-seconds", seconds]
    assert run(*words) == 0
    assert unlike(contents(folder), whole(PROBE)) == []


def test_a_finished_run_only_prints_again(monkeypatch, capsys, tmp_path, data_dir):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, PROBE)
    assert run(*words) == 0
    first = capsys.readouterr().out
    before = contents(folder)

    def never(*arguments, **more):
        raise AssertionError("nothing is left to compile or to run")

    monkeypatch.setattr(waves, "compile_training", never)
    monkeypatch.setattr(waves, "run_wave", never)
    began = time.monotonic()
    assert run(*words) == 0
    assert time.monotonic() - began < 10
    again = capsys.readouterr().out
    assert unlike(contents(folder), before) == []
    table = first[first.index("method ") :]
    assert again.endswith(table)


def test_a_run_of_before_a_field_was_there_goes_on(capsys, tmp_path, data_dir):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, PROBE)
    assert run(*words) == 0
    kept = json.loads((folder / "config.json").read_text())
    # As versions wrote it that knew nothing of data of one's own.
    del kept["config"]["data"]["source"], kept["config"]["statistic"]
    (folder / "config.json").write_text(json.dumps(kept))
    assert run(*words) == 0
    assert run(*words, "--statistic", "iqm") == 2
    assert "statistic: mean -> iqm" in capsys.readouterr().err


def stopped(monkeypatch, folder, data_dir, chunk, base=PROBE):
    words = [*arguments(folder, data_dir, base), "--checkpoint-seconds", "0"]
    with monkeypatch.context() as once:
        stop_after(once, chunk)
        assert run(*words) == processes.ENDED_EARLY
    return words


@pytest.mark.parametrize(
    "name",
    [
        "d/*",
        pytest.param("*METADATA*", marks=pytest.mark.soak),
        pytest.param("manifest.ocdbt", marks=pytest.mark.soak),
    ],
)
def test_a_flipped_bit_in_a_checkpoint_is_noticed(
    monkeypatch, capsys, tmp_path, data_dir, whole, name
):
    folder = tmp_path / "run"
    words = stopped(monkeypatch, folder, data_dir, 2)
    (running,) = folder.glob("checkpoints/program-0/*/")
    assert steps(folder) == {"program-0": [1, 2]}
    damaged = max(
        (p for p in (running / "2").rglob(name) if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    flip(damaged)
    capsys.readouterr()
    assert run(*words) == 0
    out, err = capsys.readouterr()
    assert "checkpoint 2" in out + err and "damaged" in out + err
    assert "Traceback" not in err
    assert unlike(contents(folder), whole(PROBE)) == []


def test_where_no_checkpoint_is_left_it_says_what_to_delete(
    monkeypatch, capsys, tmp_path, data_dir, whole
):
    folder = tmp_path / "run"
    words = stopped(monkeypatch, folder, data_dir, 1)
    (running,) = folder.glob("checkpoints/program-0/*/")
    for path in (running / "1").rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            flip(path)
    capsys.readouterr()
    assert run(*words) == 2
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and str(running) in last, err
    assert "Traceback" not in err
    shutil.rmtree(running)
    assert run(*words) == 0
    assert unlike(contents(folder), whole(PROBE)) == []


@pytest.mark.parametrize(
    "place",
    [0.5, 1.0, *(pytest.param(x / 20, marks=pytest.mark.soak) for x in range(20))],
)
def test_a_flipped_bit_in_a_finished_wave_is_noticed(
    monkeypatch, capsys, tmp_path, data_dir, whole, place
):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    assert run(*words) == 0
    waves = sorted(folder.glob("checkpoints/*/*.npz"))
    assert len(waves) == 2
    capsys.readouterr()
    # At its end an archive says where its index is: 22 bytes that begin with a sign.
    size = waves[1].stat().st_size - 1
    flip(waves[1], place if place < 1 else (size - 21) / size)
    assert run(*words) == 0
    out = capsys.readouterr().out
    same = contents(folder)
    lines = [json.dumps(x) for x in same.pop("metrics.jsonl")]
    expected = dict(whole(WORDS))
    assert sorted(lines) == sorted(json.dumps(x) for x in expected.pop("metrics.jsonl"))
    assert unlike(same, expected) == []
    assert "damaged" in out and str(waves[1]) in out.replace("\n", "")


def test_a_cut_wave_is_run_again(capsys, tmp_path, data_dir, whole):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    assert run(*words) == 0
    for share in (0, 0.3, 0.99):
        wave = sorted(folder.glob("checkpoints/*/*.npz"))[0]
        raw = wave.read_bytes()
        wave.write_bytes(raw[: int(share * len(raw))])
        capsys.readouterr()
        assert run(*words) == 0
        assert "damaged" in capsys.readouterr().out
        expected = whole(WORDS)
        found = contents(folder)
        assert set(unlike(found, expected)) <= {"metrics.jsonl"}


def test_half_a_line_in_the_metrics_does_no_harm(
    monkeypatch, tmp_path, data_dir, whole
):
    folder = tmp_path / "run"
    words = stopped(monkeypatch, folder, data_dir, 2)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"program": 0, "epoch": 2, "cel')
    assert run(*words) == 0
    assert unlike(contents(folder), whole(PROBE)) == []


def test_one_run_at_a_time_in_a_folder(capsys, tmp_path, data_dir):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, PROBE)
    with hold(config.Config(), folder):
        before = sorted(folder.iterdir())
        assert run(*words) == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: another run is under way") and out == ""
        assert err.count("\n") == 1 and str(folder) in err
        assert sorted(folder.iterdir()) == before
    assert not folder.exists()


def wait_for(process, folder):
    """Until a process has finished a chunk."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if (folder / "metrics.jsonl").stat().st_size:
                return
        time.sleep(0.02)
    raise AssertionError(f"no chunk: {process.communicate()}")


# Long enough for a signal to arrive in the middle of it.
SLOW = """
from jaxattn import schedule
append = schedule.append_json
def slowly(path, record):
    import time
    append(path, record)
    time.sleep(0.5)
schedule.append_json = slowly
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_a_process_is_ended_by_a_signal_and_goes_on(
    capsys, tmp_path, data_dir, whole, number
):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    process = start(*words, code=SLOW)
    wait_for(process, folder)
    assert run(*words) == 2, "refused while the other runs"
    assert "another run is under way" in capsys.readouterr().err
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code_of(number), err
    assert "Traceback" not in err and "stopped" in out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < 6
    assert steps(folder) or list(folder.glob("checkpoints/*/*.npz"))
    assert run(*words) == 0
    assert unlike(contents(folder), whole(WORDS)) == []


@pytest.mark.parametrize("after", ["import", "data"])
def test_ctrl_c_before_the_first_chunk_ends_quietly(tmp_path, data_dir, after):
    folder = tmp_path / "run"
    code = (
        "import os, signal, jaxattn.data as data, jaxattn.system.runtime as runtime\n"
    )
    # A process started in the background by a shell ignores it from the start.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    stop = "os.kill(os.getpid(), signal.SIGINT)"
    if after == "import":
        code += f"runtime.configure = lambda: {stop}\n"
    else:
        code += f"data.load = lambda *a: {stop}\n"
    process = start(*arguments(folder, data_dir, WORDS), code=code)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not folder.exists()


def killed(folder, words, at, seed, delay):
    """Whether the command was killed at that operation; else it has finished."""
    code = KILLER.format(seed=seed, at=at, delay=delay, folder=str(folder))
    process = start(*words, code=code)
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


def test_killed_three_times_it_still_gives_the_same(tmp_path, data_dir, whole):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, WORDS), "--checkpoint-seconds", "0"]
    chance = random.Random(2)
    for seed in range(3):
        at = chance.randrange(10, 60)
        assert killed(folder, words, at, seed, 0.1 * (seed > 0)), at
    assert run(*words) == 0
    assert unlike(contents(folder), whole(WORDS)) == []
    assert [p for p in folder.rglob("*") if "tmp" in p.name] == [], "no litter"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_it_still_gives_the_same(tmp_path, data_dir, whole, seed):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, WORDS), "--checkpoint-seconds", "0"]
    at = random.Random(seed).randrange(1, 150)
    killed(folder, words, at, seed, 0.1 * (seed % 2))
    assert run(*words) == 0, f"killed at operation {at}"
    assert unlike(contents(folder), whole(WORDS)) == []


def test_killed_while_it_claims_the_folder_it_can_start_again(tmp_path):
    """At every operation on files between the first and the first chunk."""
    claim = (
        "import sys, pathlib\n"
        "from jaxattn import config, runtime, workdir\n"
        "runtime.environment = lambda: {'versions': {}}\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with workdir.hold(config.Config(), folder):\n"
        "    workdir.claim(config.Config(), folder, 'digest', print)\n"
        "sys.exit()"
    )
    for at in range(1, 100):
        folder = tmp_path / f"run-{at}"
        killer = KILLER.format(seed=0, at=at, delay=0, folder=str(folder))
        process = start(folder, code=killer + claim)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), err
        with hold(config.Config(), folder):
            folders.claim(config.Config(), folder, "digest", print)
        if process.returncode == 0:
            break
    assert 5 < at < 99
