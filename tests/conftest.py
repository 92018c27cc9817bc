"""Settings that stand before jax is imported, and what the tests of a session share.

`probe_run`, `words_run` and `known_run` are finished runs of config files, made small.
The first worker that needs one makes it, and all read it: a test that lets a command
write into a run takes a copy. That nothing was written is checked at the end.
"""

import contextlib
import fcntl
import gc
import importlib.metadata
import io
import os
import pathlib
import shutil
import signal
from typing import get_args

import hypothesis
import pytest

from jaxattn.system.runtime import configure

ROOT = pathlib.Path(__file__).parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")

# Tests compile far longer than they run: this makes compiling eight times faster.
CHEAP = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# An XLA that does not know a flag ends the process: these two come and go.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    CHEAP += " --xla_cpu_use_fusion_emitters=false"
    CHEAP += " --xla_cpu_parallel_codegen_split_count=1"

# Workers find it done by the process that started them.
if CHEAP not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}"

# What tests compile is of no use to the programs of the user.
os.environ.setdefault("JAXATTN_CACHE_DIR", str(ROOT / ".pytest_cache" / "jaxattn"))
configure(cpu_devices=2)

# A first call compiles, so the time of one example says nothing.
hypothesis.settings.register_profile("jaxattn", deadline=None)
hypothesis.settings.load_profile("jaxattn")


def pytest_configure(config):
    # Another test run may be writing the entry of the cache that this one reads.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Error (reading|writing) persistent compilation cache:UserWarning",
    )


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go():
    """Forget what a file compiled.

    Every compiled program keeps memory maps, and Linux aborts a process at 65,530.
    """
    import jax

    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def signal_handlers_stay():
    """Whatever a test runs in this process, Ctrl-C and SIGTERM still end the tests."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert after == before


def made_once(tmp_path_factory, name, make):
    """The folder that `make(folder)` fills, once for all workers of the session."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / f"{name}.made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (base / f"{name}.made").touch()
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder in which the embedded snippets are prepared."""
    from jaxattn.data.tasks import load

    return made_once(
        tmp_path_factory,
        "data",
        lambda folder: load("movie_sentiment", data_dir=folder),
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Flags of a run of a second: `small_run.TINY` with 600 texts of one's own."""
    import own_files
    from small_run import TINY

    sides = ("train",) * 8 + ("validation", "test")
    rows = own_files.records(600)
    rows = [row | {"split": sides[i // 2 % 10]} for i, row in enumerate(rows)]
    folder = made_once(
        tmp_path_factory,
        "tiny",
        lambda folder: own_files.write(folder / "tiny.jsonl", rows),
    )
    return TINY | {"--data": str(folder / "tiny.jsonl")}


@pytest.fixture(scope="session")
def probe_run(tmp_path_factory, data_dir):
    """The first command of the README in a process and folder of its own: `runs/probe`.

    Meaningless tokens, all seven methods, and the reference that sees the words.
    """
    words = ["--config", str(ROOT / "configs/probe.py"), "--json"]
    run = finished(tmp_path_factory, "probe", words, data_dir, in_process=False)
    yield from unchanged(run)


@pytest.fixture(scope="session")
def words_run(tmp_path_factory, data_dir):
    """Attention over the words of reviews, with all metrics; the dear ones on few."""
    from jaxattn.config import MetricGroup
    from jaxattn.training.evaluation import attention

    words = ["--config", str(ROOT / "configs/reviews.py"), "--epochs", "3"]
    words += ["--methods", "joint", "uniform", "--metrics", *get_args(MetricGroup)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "EXAMPLES", 64)
        patch.setattr(attention, "ADVERSARIES", 4)
        run = finished(tmp_path_factory, "words", words, data_dir)
    yield from unchanged(run)


@pytest.fixture(scope="session")
def known_run(tmp_path_factory, data_dir):
    """Generated examples whose right masks are known: gates and subsets on syn4."""
    words = ["--config", str(ROOT / "configs/known_features.py"), "--tasks", "syn4"]
    words += "--methods joint invase instance_weighting".split()
    words += "--data.examples 2048 --data.test-examples 512".split()
    yield from unchanged(finished(tmp_path_factory, "known", words, data_dir))


def finished(tmp_path_factory, name, words, data_dir, in_process=True):
    """A run that whoever asks first makes, in its folder `runs/NAME`."""
    import small_run

    words = [*words, "--data-dir", str(data_dir)]
    words += [w for f in small_run.SMALL.items() if f[0] not in words for w in f]

    def make(folder):
        out, err = io.StringIO(), io.StringIO()
        if in_process:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = small_run.run(*words, "--workdir", folder / "runs" / name)
            told = out.getvalue(), err.getvalue()
        else:
            process = small_run.start(*words, cwd=folder)
            told = process.communicate(timeout=500)
            code = process.returncode
        assert code == 0, told
        for path, text in zip(("out", "err"), told, strict=True):
            (folder / path).write_text(text)

    folder = made_once(tmp_path_factory, name, make)
    out, err = ((folder / path).read_text() for path in ("out", "err"))
    return small_run.Finished(folder / "runs" / name, words, out, err)


def unchanged(run):
    """Gives a finished run away, and sees afterwards that it is as it was."""

    def state():
        return {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}

    before = state()
    yield run
    assert state() == before, f"a test has written into {run.folder}"


@pytest.fixture
def said(caplog):
    """What the package logs during a test, a function that gives the lines."""
    caplog.set_level("INFO", "jaxattn")
    return lambda: caplog.messages
