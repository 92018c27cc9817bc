"""Settings that must be in place before any test module imports jax."""

import gc
import os

import hypothesis
import pytest

from jaxattn.system.runtime import configure

os.environ.setdefault("MPLBACKEND", "Agg")

# Tests compile far longer than they run: this makes compiling four times faster.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true"
)

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


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder in which the embedded snippets are prepared."""
    from jaxattn.data.tasks import load

    folder = tmp_path_factory.getbasetemp() / "prepared"
    load("movie_sentiment", data_dir=folder)
    return folder


@pytest.fixture
def said(caplog):
    """What the package logs during a test, a function that gives the lines."""
    caplog.set_level("INFO", "jaxattn")
    return lambda: caplog.messages
