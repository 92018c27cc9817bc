import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import zlib

import pytest

from jaxattn.system import runtime

ROOT = pathlib.Path(__file__).parents[1]
OURS = (
    "PJRT_NPROC",
    "XLA_FLAGS",
    "TF_CPP_MIN_LOG_LEVEL",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAXATTN_CACHE_DIR",
)
SHOW = f"""
import json, os
print(json.dumps({{k: os.environ.get(k) for k in {OURS}}}))
"""

# Slow enough to compile that it is cached, and still fast.
COMPILE = """
import jax, jax.numpy as jnp
def f(x):
    for i in range(25):
        x = jnp.sort(jnp.sin(x @ x)) + i
    return x
print(float(jax.jit(f)(jnp.ones((8, 8))).sum()))
"""


def python(code: str, home: pathlib.Path, *arguments: str, **variables: str):
    kept = {k: v for k, v in os.environ.items() if k not in OURS}
    kept |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    kept.pop("XDG_CACHE_HOME", None)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        env=kept | variables,
        cwd=home,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def configured(home, call: str = "configure()", **variables) -> dict[str, str]:
    code = f"from jaxattn.system.runtime import configure\n{call}\n{SHOW}"
    return json.loads(python(code, home, **variables))


def test_import_and_configure_leave_jax_alone(tmp_path):
    code = "import sys\nfrom jaxattn.system.runtime import configure\nconfigure()\n"
    code += "print('jax' in sys.modules, 'numpy' in sys.modules)"
    assert python(code, tmp_path).split() == ["False", "False"]


def test_defaults(tmp_path):
    found = configured(tmp_path)
    assert found["PJRT_NPROC"] == "1"
    count = runtime.available_cores()
    assert 1 <= count <= (os.cpu_count() or 1)
    assert found["XLA_FLAGS"] == f"--xla_force_host_platform_device_count={count}"
    folder = pathlib.Path(found["JAX_COMPILATION_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.parent == tmp_path / ".cache" / "jaxattn" / "xla"


@pytest.mark.parametrize(
    "variable, folder",
    [("XDG_CACHE_HOME", "jaxattn/xla"), ("JAXATTN_CACHE_DIR", "xla")],
)
def test_the_cache_may_be_elsewhere(tmp_path, variable, folder):
    found = configured(tmp_path, **{variable: str(tmp_path / "x")})
    assert found["JAX_COMPILATION_CACHE_DIR"].startswith(f"{tmp_path}/x/{folder}/")


def test_the_users_settings_stay(tmp_path):
    own = {
        "PJRT_NPROC": "3",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=5 --xla_dump_to=d",
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7",
        "JAXATTN_CACHE_DIR": str(tmp_path / "ours"),
    }
    assert configured(tmp_path, **own) == own
    assert not (tmp_path / ".cache").exists() and not (tmp_path / "ours").exists()
    found = configured(tmp_path, "configure(3)", XLA_FLAGS="--xla_dump_to=d")
    assert found["XLA_FLAGS"] == (
        "--xla_dump_to=d --xla_force_host_platform_device_count=3"
    )


def test_no_cache_where_it_cannot_be_written_or_is_not_wanted(tmp_path):
    (tmp_path / "file").write_text("")
    for call, variables in (
        ("configure()", {"XDG_CACHE_HOME": str(tmp_path / "file")}),
        ("configure(cache=False)", {}),
    ):
        found = configured(tmp_path, call, **variables)
        assert found["JAX_COMPILATION_CACHE_DIR"] is None
    out = python(
        f"from jaxattn.system.runtime import configure\nconfigure()\n{COMPILE}",
        tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "file"),
    )
    assert len(out.split()) == 1


def test_the_cache_is_hit_quietly_and_repairs_itself(tmp_path):
    code = f"""from jaxattn.system.runtime import configure
configure()
import jax
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
{COMPILE}
print(sum(name.endswith("compilation_cache/cache_hits") for name in hits))
"""
    first, hits = python(code, tmp_path).split()
    assert hits == "0"
    again, hits = python(code, tmp_path).split()
    assert again == first and int(hits) >= 1
    entries = list(tmp_path.rglob("jit_f-*-cache"))
    assert len(entries) == 1
    whole = entries[0].read_bytes()
    entries[0].write_bytes(whole[: len(whole) // 2])  # a process killed while writing
    # Not the number of hits: on a busy machine other small programs are kept as well.
    again, _ = python(code, tmp_path).split()
    assert again == first
    assert zlib.decompress(entries[0].read_bytes())


def test_only_what_was_written_since_the_last_start_is_read(tmp_path, monkeypatch):
    entries = [tmp_path / f"{name}-cache" for name in "abc"]
    for age, entry in enumerate(entries):
        entry.write_bytes(zlib.compress(b"program"))
        os.utime(entry, (1000 - age, 1000 - age))
    read = []
    whole = runtime._whole
    monkeypatch.setattr(runtime, "_whole", lambda e: read.append(e) or whole(e))
    runtime._tidy(tmp_path)
    assert sorted(read) == entries
    read.clear()
    entries[0].write_bytes(b"x")
    runtime._tidy(tmp_path)
    assert read == entries[:1]
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["b-cache", "c-cache", "checked"]


def test_the_cache_is_bounded_and_the_oldest_programs_go(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "CACHE_BYTES", 250)
    for age, name in enumerate("abcd"):
        (tmp_path / f"{name}-cache").write_bytes(bytes(100))
        os.utime(tmp_path / f"{name}-cache", (1000 - age, 1000 - age))
    runtime._tidy(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*-cache")) == ["a-cache", "b-cache"]


def test_configure_after_importing_jax(tmp_path):
    out = python(
        """
        import jax
        from jaxattn.system.runtime import configure
        configure(3)
        print(len(jax.devices()), jax.config.jax_compilation_cache_dir is not None)
        configure(5)
        print(len(jax.devices()))
        """,
        tmp_path,
    )
    assert out.split() == ["3", "True", "3"]


def test_configure_after_the_devices_are_there_does_nothing(tmp_path):
    out = python(
        """
        import os
        import jax
        jax.devices()
        before = dict(os.environ)
        from jaxattn.system.runtime import configure
        configure(3)
        print(dict(os.environ) == before, jax.config.jax_compilation_cache_dir)
        """,
        tmp_path,
    )
    assert out.split() == ["True", "None"]


def test_environment(tmp_path):
    out = python(
        """
        import json
        from jaxattn.system.runtime import configure, environment
        configure(2)
        print(json.dumps(environment()))
        """,
        tmp_path,
        "--config=/home/somebody/x.py",
        "--workdir",
        "/data/somebody/runs/probe",
        "../somebody/y.py",
        str(tmp_path / "inside.py"),
        "configs/probe.py",
        "--set=a:/b/c",
        XLA_FLAGS="--xla_dump_to=/home/somebody/dump",
    )
    found = json.loads(out)
    assert found["versions"]["python"] == sys.version.split()[0]
    assert {"jaxattn", "jax", "flax", "orbax-checkpoint"} <= set(found["versions"])
    assert re.fullmatch(r"[\d.]+\w*", found["versions"]["jax"])
    assert (found["platform"], found["devices"], found["processes"]) == ("cpu", 2, 1)
    assert found["PJRT_NPROC"] == "1"
    assert found["XLA_FLAGS"][0] == "--xla_dump_to=dump"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert found["command"][-7:] == [
        "--config=x.py",
        "--workdir",
        "probe",
        "y.py",
        "inside.py",
        "configs/probe.py",
        "--set=a:c",
    ]
    assert "somebody" not in out and str(tmp_path) not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_recorded_and_handlers_come_back(number):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), runtime.stop_signal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_is_caught():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with runtime.stop_signal() as stop:
            seen.append((stop.received, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, True)]
