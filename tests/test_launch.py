"""The launch scripts, as far as they can be tried without a cluster."""

import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest
import small_run
from small_run import ROOT, arguments

LAUNCH = ROOT / "launch"


@pytest.mark.parametrize("name", ["laptop.sh", "slurm.sbatch", "rehearse.sh"])
def test_scripts_are_bash(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True)


@pytest.mark.parametrize("name", ["laptop.sh", "rehearse.sh"])
def test_scripts_can_be_called(name):
    assert (LAUNCH / name).stat().st_mode & stat.S_IXUSR


def test_every_file_is_in_the_table():
    text = (LAUNCH / "README.md").read_text()
    for path in LAUNCH.iterdir():
        assert path.name == "README.md" or path.name in text, path.name


@pytest.fixture
def cluster(tmp_path):
    """A folder with an `srun` that does as told and a `scontrol` that takes notes."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(name: str, text: str) -> None:
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    program("scontrol", f'echo "$@" >> {tmp_path}/noted')
    return folder, program


def submit(folder: pathlib.Path, **more: str) -> subprocess.Popen:
    environment = os.environ | {"SLURM_JOB_ID": "7"} | more
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    return subprocess.Popen(
        ["bash", LAUNCH / "slurm.sbatch", "--seeds", "3"], env=environment
    )


@pytest.mark.parametrize(
    "code, again", [(0, False), (2, False), (75, True), (134, True), (137, True)]
)
def test_slurm_queues_again_what_can_go_on(cluster, tmp_path, code, again):
    folder, program = cluster
    program("srun", f'echo "$@" > {tmp_path}/asked; exit {code}')
    assert submit(folder).wait(timeout=30) == code
    asked = (tmp_path / "asked").read_text()
    assert asked.split()[-2:] == ["--seeds", "3"] and "--kill-on-bad-exit=1" in asked
    noted = tmp_path / "noted"
    assert (noted.read_text() if noted.exists() else "") == "requeue 7\n" * again


def test_slurm_does_not_queue_again_for_ever(cluster, tmp_path):
    folder, program = cluster
    program("srun", "exit 75")
    assert submit(folder, SLURM_RESTART_COUNT="20").wait(timeout=30) == 75
    assert not (tmp_path / "noted").exists()


def test_slurm_waits_for_a_run_that_is_saving(cluster, tmp_path):
    folder, program = cluster
    program("srun", f"touch {tmp_path}/begun; sleep 2; touch {tmp_path}/saved; exit 75")
    job = submit(folder)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 75
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "noted").read_text() == "requeue 7\n"


def test_the_rehearsal_runs_two_processes(tmp_path, data_dir):
    words = arguments(tmp_path / "run", data_dir, small_run.WORDS)
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [LAUNCH / "rehearse.sh", "2", *words, "--dry-run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training takes about") == 1, "one process speaks"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", ["", "0", "two", "-1"])
def test_the_rehearsal_wants_a_number(number):
    words = [LAUNCH / "rehearse.sh", *filter(None, [number])]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.strip().count("\n") == 0
