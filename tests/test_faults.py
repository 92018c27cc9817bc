"""What may happen to a run besides a kill: a full disk, a clock, impatience."""

import os
import signal
import subprocess
import time

import pytest
import small_run
from small_run import (
    arguments,
    contents,
    draw_nothing,
    keep_compiled,
    run,
    start,
    stop_after,
    unlike,
)

from jaxattn.experiment import schedule
from jaxattn.reports.results import read_seeds
from jaxattn.system import console, processes

WORDS = small_run.WORDS | {"--methods": "joint uniform", "--seeds": "2"}


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    yield
    console.settings.quiet = False


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        draw_nothing(monkeypatch)
        assert run(*arguments(folder, data_dir, WORDS)) == 0
    return contents(folder)


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
    small_disk, data_dir, capsys, monkeypatch, whole
):
    folder = small_disk / "run"
    words = [*arguments(folder, data_dir, WORDS), "--checkpoint-seconds", "0"]
    with monkeypatch.context() as once:
        stop_after(once, 1)
        assert run(*words) == processes.ENDED_EARLY
    saved = list(folder.glob("checkpoints/program-0/running-*/1"))
    assert len(saved) == 1
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_bsize - 8192))
    capsys.readouterr()
    assert run(*words) == 2
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and "No space left" in last, err
    assert "Traceback" not in err and saved[0].exists()
    filler.unlink()
    assert run(*words) == 0
    assert unlike(contents(folder), whole) == []


def test_a_clock_that_is_set_back_does_no_harm(tmp_path, data_dir, monkeypatch, whole):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, WORDS), "--checkpoint-seconds", "0"]
    with monkeypatch.context() as once:
        stop_after(once, 2)
        assert run(*words) == processes.ENDED_EARLY
    day = 86_400
    # What was saved lies in the future from now on.
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + day, time.time() + day))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - day)
    assert run(*words) == 0
    assert unlike(contents(folder), whole) == []


def test_ctrl_c_twice_ends_at_once_and_the_run_goes_on(tmp_path, data_dir, whole):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    # The second one arrives while the chunk is still under way.
    code = (
        "import signal\n"
        "from jaxattn import schedule\n"
        "append, seen = schedule.append_json, []\n"
        "def twice(path, record):\n"
        "    append(path, record)\n"
        "    seen.append(record)\n"
        "    if len(seen) == 2:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "schedule.append_json = twice\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    )
    process = start(*words, code=code)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "Ctrl-C again stops at once" in err and "Traceback" not in err
    assert "the same command resumes" in err.splitlines()[-1]
    assert run(*words) == 0
    assert unlike(contents(folder), whole) == []


def test_seeds_are_on_disk_as_soon_as_their_wave_is_finished(
    tmp_path, data_dir, monkeypatch
):
    folder, seen = tmp_path / "run", []
    finished = schedule.waves.keep

    def keep(path, outcome):
        if (folder / "seeds.csv").exists():
            seen.append({row.seed for row in read_seeds(folder / "seeds.csv")})
        finished(path, outcome)

    monkeypatch.setattr(schedule.waves, "keep", keep)
    assert run(*arguments(folder, data_dir, WORDS)) == 0
    assert seen == [{0}], "two waves, and before the second the first is there"


def test_shapes_that_cannot_be_read_are_chosen_again(tmp_path, data_dir, whole):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    with pytest.MonkeyPatch.context() as once:
        stop_after(once, 1)
        assert run(*words) == processes.ENDED_EARLY
    for text in ("{", "[]", '{"0": "x"}'):
        (folder / "checkpoints/shapes.json").write_text(text)
        with pytest.MonkeyPatch.context() as once:
            stop_after(once, 1)
            assert run(*words) in (0, processes.ENDED_EARLY)
    assert run(*words) == 0
    assert unlike(contents(folder), whole) == []
