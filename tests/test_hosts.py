"""Several processes on one machine: they agree, they end together, they go on."""

import os
import signal
import socket
import time

import numpy as np
import pytest
from small_run import (
    SLOW,
    arguments,
    contents,
    draw_nothing,
    keep_compiled,
    run,
    start,
    unlike,
)

from jaxattn.reports.results import read_seeds
from jaxattn.system.processes import ENDED_EARLY, PEER_DIED, Address, parse

METHODS = "joint uniform"
"""Of one program: four cells, two waves on two devices."""


SLURM = {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "h"}
VARIABLES = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
LAUNCHER = Address(None, None, None)
"""What jax finds out from the launcher by itself."""


@pytest.mark.parametrize(
    "text, environment, expected",
    [
        ("off", SLURM, None),
        ("auto", {}, None),
        ("host:1234,4,3", {}, Address("host:1234", 4, 3)),
        ("auto", SLURM | {"SLURM_NTASKS": "1"}, None),
        ("auto", {"SLURM_NTASKS": "4"}, None),
        ("auto", SLURM, LAUNCHER),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "2"}, LAUNCHER),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a,b"}, LAUNCHER),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a"}, None),
        ("auto", KUBERNETES | {"JOB_COMPLETION_INDEX": "0"}, LAUNCHER),
        ("auto", KUBERNETES, None),
        (
            "auto",
            VARIABLES | {"JAX_COORDINATOR_ADDRESS": "h:1"},
            Address("h:1", 2, 1),
        ),
        ("auto", {"JAX_NUM_PROCESSES": "1"}, None),
    ],
)
def test_who_takes_part(text, environment, expected):
    assert parse(text, environment) == expected


@pytest.mark.parametrize(
    "text, environment, said",
    [
        ("on", {}, "allowed are auto, off and HOST:PORT,N,I"),
        ("host,2,0", {}, "HOST:PORT,N,I"),
        ("host:1,2", {}, "HOST:PORT,N,I"),
        ("host:1,2,2", {}, "process 2 of 2"),
        ("host:1,0,0", {}, "process 0 of 0"),
        ("auto", {"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS"),
        ("auto", SLURM | {"SLURM_NTASKS": "x"}, "SLURM_NTASKS"),
    ],
)
def test_nonsense_is_refused_in_one_line(text, environment, said):
    with pytest.raises(ValueError, match=said) as error:
        parse(text, environment)
    assert "\n" not in str(error.value)


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    words = ["--distributed", "x", "--workdir", str(tmp_path / "run")]
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: distributed = 'x'") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def launch(words, processes=2, devices=1, before=""):
    """Processes of one job, each with so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = os.environ["XLA_FLAGS"].split()
    flags = [flag for flag in flags if "device_count" not in flag]
    flags.append(f"--xla_force_host_platform_device_count={devices}")
    return [
        start(
            *("--distributed", f"127.0.0.1:{port},{processes},{i}", *words),
            before=before,
            env={"XLA_FLAGS": " ".join(flags)},
        )
        for i in range(processes)
    ]


def ends(job, timeout=240):
    """Exit codes and outputs; nothing is left running."""
    deadline = time.monotonic() + timeout
    try:
        told = [p.communicate(timeout=deadline - time.monotonic()) for p in job]
    finally:
        for process in job:
            process.kill()
    return [p.returncode for p in job], told


def wait_for_lines(folder, job, lines=2):
    """Until the job has finished some chunks."""
    deadline = time.monotonic() + 240
    path = folder / "metrics.jsonl"
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count("\n") >= lines:
            return
        ended = [p for p in job if p.poll() is not None]
        assert not ended, ended[0].communicate()
        time.sleep(0.05)
    raise AssertionError("no chunk")


def numbers(folder):
    return {row[:-1]: row.value for row in read_seeds(folder / "seeds.csv")}


def assert_close(one, other):
    assert set(one) == set(other)
    for key, value in one.items():
        assert other[key] == pytest.approx(value, abs=1e-5, nan_ok=True), key


def assert_same_models(alone, other):
    files = sorted(p.relative_to(alone) for p in alone.glob("models/**/*.*"))
    assert files == sorted(p.relative_to(other) for p in other.glob("models/**/*.*"))
    assert len(files) == 1 + 2 * 2
    for path in (path for path in files if path.suffix == ".npz"):
        with np.load(alone / path) as one, np.load(other / path) as two:
            for name in one.files:
                np.testing.assert_allclose(one[name], two[name], atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        draw_nothing(monkeypatch)
        assert run(*arguments(folder, "x", tiny, methods=METHODS)) == 0
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny):
    """The run of two processes that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    codes, told = ends(launch(arguments(folder, "x", tiny, methods=METHODS)))
    assert codes == [0, 0], told
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def words(folder, tiny):
    return [*arguments(folder, "x", tiny, methods=METHODS), "--checkpoint-seconds", "0"]


def test_a_signal_to_one_of_two_stops_both_and_they_give_the_numbers_of_one(
    folder, words, alone
):
    job = launch(words, before=SLOW)
    wait_for_lines(folder, job, 1)
    job[1].send_signal(signal.SIGTERM)
    codes, told = ends(job, timeout=120)
    assert codes == [ENDED_EARLY] * 2, told
    assert list(folder.glob("checkpoints/program-0/running-*/*"))
    codes, told = ends(launch(words))
    assert codes == [0, 0], told
    # The first one tells and writes, the other is silent.
    said = [line for line in told[1][0].splitlines() if "[Gloo]" not in line]
    assert "joint" in told[0][0] and said == []
    assert_close(numbers(alone), numbers(folder))
    assert_same_models(alone, folder)


@pytest.mark.soak
def test_any_number_of_processes_goes_on(folder, words, alone):
    """Two processes, then one with four devices and waves twice as large."""
    job = launch(words, before=SLOW)
    wait_for_lines(folder, job, 1)
    job[1].send_signal(signal.SIGTERM)
    codes, told = ends(job, timeout=120)
    assert codes == [ENDED_EARLY] * 2, told
    codes, told = ends(launch(words, processes=1, devices=4))
    assert codes == [0], told
    assert_close(numbers(alone), numbers(folder))


@pytest.mark.soak
def test_all_end_where_the_first_refuses(folder, words):
    """What only the first process sees: the folder holds something else."""
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    codes, told = ends(launch(words), timeout=120)
    assert codes == [2, 2], told
    assert "holds no run" in told[0][1] and "error" not in told[1][1]


@pytest.mark.soak
@pytest.mark.parametrize("lines", range(1, 7))
@pytest.mark.parametrize("dies", [0, 1])
def test_a_dead_process_ends_the_job_which_then_goes_on(
    folder, words, straight, dies, lines
):
    job = launch(words, before=SLOW)
    wait_for_lines(folder, job, lines)
    time.sleep(0.05 * lines)
    job[dies].kill()
    began = time.monotonic()
    codes, told = ends(job, timeout=60)
    assert time.monotonic() - began < 30
    assert codes[1 - dies] in (PEER_DIED, -signal.SIGABRT, 0), told
    codes, told = ends(launch(words))
    assert codes == [0, 0], told
    assert unlike(contents(folder), contents(straight)) == []
