"""Several processes on one machine: they agree, they end together, they go on."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import small_run
from small_run import ROOT, arguments, draw_nothing, keep_compiled, run

from jaxattn.reports.results import read_seeds
from jaxattn.system import console
from jaxattn.system.processes import ENDED_EARLY, PEER_DIED, Address, parse

# Four cells of one program and their reference: two waves each on two devices.
BASE = small_run.WORDS | {"--methods": "joint uniform", "--seeds": "2"}


@pytest.mark.parametrize(
    "text, environment, expected",
    [
        ("off", {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n"}, None),
        ("auto", {}, None),
        ("host:1234,4,3", {}, Address("host:1234", 4, 3)),
        ("auto", {"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n"}, None),
        ("auto", {"SLURM_NTASKS": "4"}, None),
        (
            "auto",
            {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n"},
            Address(None, None, None),
        ),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "2"}, Address(None, None, None)),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a,b"}, Address(None, None, None)),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a"}, None),
        (
            "auto",
            {"KUBERNETES_SERVICE_HOST": "h", "JOB_COMPLETION_INDEX": "0"},
            Address(None, None, None),
        ),
        ("auto", {"KUBERNETES_SERVICE_HOST": "h"}, None),
        (
            "auto",
            {
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "1",
                "JAX_COORDINATOR_ADDRESS": "h:1",
            },
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
        ("auto", {"SLURM_STEP_NODELIST": "n", "SLURM_NTASKS": "x"}, "SLURM_NTASKS"),
    ],
)
def test_nonsense_is_refused_in_one_line(text, environment, said):
    with pytest.raises(ValueError, match=said) as error:
        parse(text, environment)
    assert "\n" not in str(error.value)


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    words = ["--distributed", "x", "--workdir", str(tmp_path / "run")]
    assert small_run.run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: distributed = 'x'") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


# Long enough for a signal to arrive in the middle of it.
SLOW = """
import time
from jaxattn import schedule
append = schedule.append_json
def slowly(path, record):
    append(path, record)
    time.sleep(0.5)
schedule.append_json = slowly
"""


def launch(words, processes=2, devices=1, code=""):
    """Processes of one job, each with so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    main = "import sys; from jaxattn.train import main; sys.exit(main(sys.argv[1:]))"
    flags = os.environ["XLA_FLAGS"].split()
    flags = [flag for flag in flags if "device_count" not in flag]
    flags.append(f"--xla_force_host_platform_device_count={devices}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(flags)}
    return [
        subprocess.Popen(
            [
                sys.executable,
                *("-c", f"{code}\n{main}"),
                *("--distributed", f"127.0.0.1:{port},{processes},{i}"),
                *words,
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
        # A sum in another order may exchange ranks of almost equal effects.
        close = 5e-3 if "tau" in key[3] else 1e-5
        assert other[key] == pytest.approx(value, abs=close, nan_ok=True), key


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        draw_nothing(monkeypatch)
        assert run(*arguments(folder, data_dir, BASE)) == 0
    console.settings.quiet = False
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data_dir):
    """`seeds.csv` of two processes that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    codes, told = ends(launch(arguments(folder, data_dir, BASE)))
    assert codes == [0, 0], told
    # The first one tells and writes, the other is silent.
    said = [line for line in told[1][0].splitlines() if "[Gloo]" not in line]
    assert "joint" in told[0][0] and said == []
    return folder


def test_two_processes_give_the_numbers_of_one(alone, straight):
    assert_close(numbers(alone), numbers(straight))


def test_two_processes_keep_the_models_of_one(alone, straight):
    files = sorted(p.relative_to(alone) for p in alone.glob("models/**/*.*"))
    assert files == sorted(
        p.relative_to(straight) for p in straight.glob("models/**/*.*")
    )
    assert len(files) == 1 + len(BASE["--methods"].split()) * int(BASE["--seeds"])
    for path in (path for path in files if path.suffix == ".npz"):
        with np.load(alone / path) as one, np.load(straight / path) as other:
            for name in one.files:
                np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@pytest.mark.parametrize("dies", [1, pytest.param(0, marks=pytest.mark.soak)])
def test_a_dead_process_ends_the_job_which_then_goes_on(
    tmp_path, data_dir, straight, dies
):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, BASE), "--checkpoint-seconds", "0"]
    job = launch(words, code=SLOW)
    wait_for_lines(folder, job)
    job[dies].kill()
    began = time.monotonic()
    codes, told = ends(job, timeout=60)
    assert time.monotonic() - began < 30
    assert codes[1 - dies] in (PEER_DIED, -signal.SIGABRT), told
    codes, told = ends(launch(words))
    assert codes == [0, 0], told
    same = (straight / "seeds.csv").read_bytes()
    assert (folder / "seeds.csv").read_bytes() == same


def test_a_signal_to_one_stops_all_and_any_number_goes_on(
    tmp_path, data_dir, alone, capsys, monkeypatch
):
    """Two processes, then one with two devices in which each wave is one cell more."""
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, BASE)
    job = launch(words, code=SLOW)
    wait_for_lines(folder, job, 1)
    job[1].send_signal(signal.SIGTERM)
    codes, told = ends(job, timeout=60)
    assert codes == [ENDED_EARLY] * 2, told
    assert list(folder.glob("checkpoints/program-0/running-*/*"))
    process = launch(words, processes=1, devices=4)
    codes, told = ends(process)
    assert codes == [0], told
    assert_close(numbers(alone), numbers(folder))


def test_all_end_where_the_first_refuses(tmp_path, data_dir):
    """What only the first process sees: the folder holds something else."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    codes, told = ends(launch(arguments(folder, data_dir, BASE)), timeout=60)
    assert codes == [2, 2], told
    assert "holds no run" in told[0][1] and "error" not in told[1][1]


@pytest.mark.soak
@pytest.mark.parametrize("lines", range(1, 11))
@pytest.mark.parametrize("dies", [0, 1])
def test_killed_at_any_chunk_two_processes_still_give_the_same(
    tmp_path, data_dir, straight, dies, lines
):
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, BASE), "--checkpoint-seconds", "0"]
    job = launch(words, code=SLOW)
    wait_for_lines(folder, job, lines % 6 + 1)
    time.sleep(0.05 * lines)
    job[dies].kill()
    ends(job, timeout=60)
    codes, told = ends(launch(words))
    assert codes == [0, 0], told
    same = (straight / "seeds.csv").read_bytes()
    assert (folder / "seeds.csv").read_bytes() == same
