import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import jax
import pytest

from jaxattn import doctor
from jaxattn.system import runtime
from jaxattn.system.runtime import Check

ROOT = pathlib.Path(__file__).parents[1]
OURS = ("PJRT_NPROC", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAXATTN_CACHE_DIR")
"""What the tests' own settings are in, which no user has."""


def run(*words, code="", **variables) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `code` is run in it beforehand."""
    main = f"{textwrap.dedent(code)}\nimport sys\nfrom jaxattn import doctor\n"
    main += "sys.exit(doctor.main(sys.argv[1:]))"
    kept = {k: v for k, v in os.environ.items() if k not in OURS}
    environment = kept | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-c", main, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def by_name(ran) -> dict[str, dict]:
    *_, last = ran.stdout.splitlines()
    return {check["name"]: check for check in json.loads(last)["checks"]}


def test_all_is_well(tmp_path, data_dir):
    ran = run("--json", JAX_COMPILATION_CACHE_DIR=str(tmp_path),
              TFDS_DATA_DIR=str(data_dir))  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *lines, last = ran.stdout.splitlines()
    found = json.loads(last)
    assert found["ok"] is True
    assert all(check["ok"] and not check["todo"] for check in found["checks"])
    assert max(map(len, lines)) <= 80 and "\x1b" not in ran.stdout
    assert all(re.match(r"ok {4}[a-z]|all is well; next: | {17}", x) for x in lines)
    names = [check["name"] for check in found["checks"]]
    assert names == [name for name, *_ in doctor.CHECKS]
    checks = by_name(ran)
    assert re.search(r"jax \d+\.\d+\.\d+", checks["packages"]["state"])
    assert re.match(r"\d+ cpu ", checks["devices"]["state"])
    assert "23,703 snippets prepared" in checks["data"]["state"]
    assert "writable, 0 programs, 0 MB" in checks["cache"]["state"]


def test_what_fails_says_what_to_do(tmp_path):
    """A slow pool, a cache and a data folder that nobody may write."""
    (tmp_path / "file").touch()
    bad = str(tmp_path / "file" / "folder")
    ran = run("--json", PJRT_NPROC="99", JAX_COMPILATION_CACHE_DIR=bad,
              TFDS_DATA_DIR=bad)  # fmt: skip
    assert ran.returncode == 1
    checks = by_name(ran)
    failed = {name: check for name, check in checks.items() if not check["ok"]}
    assert list(failed) == ["threads", "cache", "data"]
    assert "PJRT_NPROC=99" in failed["threads"]["state"]
    assert "unset PJRT_NPROC" in failed["threads"]["todo"]
    assert "Not a directory" in failed["cache"]["state"]
    assert "JAX_COMPILATION_CACHE_DIR" in failed["cache"]["todo"]
    assert "TFDS_DATA_DIR" in failed["data"]["todo"]
    lines = ran.stdout.splitlines()[:-1]
    assert sum(line.startswith("FAIL  ") for line in lines) == 3
    assert lines[-1] == "3 of 7 lines failed" and max(map(len, lines)) <= 80


def test_a_home_that_nobody_may_write_leaves_no_cache(tmp_path):
    (tmp_path / "file").touch()
    ran = run("--json", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert ran.returncode == 1
    assert "every run compiles anew" in by_name(ran)["cache"]["state"]


def test_a_package_that_is_broken_is_a_line_and_no_traceback(tmp_path):
    """jax cannot be imported: what needs it fails, the rest is still looked at."""
    (tmp_path / "jax.py").write_text("raise ImportError('jax needs more')")
    ran = run("--json", code=f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    assert ran.returncode == 1 and "Traceback" not in ran.stdout + ran.stderr
    checks = by_name(ran)
    assert (
        "jax needs more" in checks["devices"]["state"] and not checks["devices"]["ok"]
    )
    assert checks["memory"]["ok"] and not checks["compute"]["ok"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("numpy>=99", "numpy is .*, needed is >=99"),
        ("no-such-package", "no-such-package is missing"),
        ("no-such-package; python_version < '3'", ""),
        ("no-such-package; extra == 'test'", ""),
        ("numpy>=1", ""),
    ],
)
def test_packages_are_compared_with_what_is_asked(monkeypatch, asked, said):
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: [asked])
    check = doctor.packages()
    assert check.ok == (not said)
    assert re.search(said, check.state)


@pytest.mark.parametrize(
    ("count", "ok"), [("1", True), ("2", True), ("3", False), ("many", False)]
)
def test_the_thread_pool_must_not_be_larger_than_the_devices(monkeypatch, count, ok):
    monkeypatch.setenv("PJRT_NPROC", count)  # the tests have two devices
    assert runtime.threads().ok == ok


@pytest.mark.parametrize(("free", "ok"), [(3e9, True), (1e9, False)])
def test_memory_must_hold_the_default_run(monkeypatch, free, ok):
    monkeypatch.setattr(runtime, "available_memory", lambda: free)
    assert doctor.memory().ok == ok == (not doctor.memory().todo)
    assert f"{free / 1e9:.1f} GB" in doctor.memory().state


def test_free_memory_is_a_part_of_what_there_is():
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e6 < runtime.available_memory() <= there


def test_damaged_data_are_told(monkeypatch, tmp_path):
    from jaxattn.data import tfds_records

    folder = tmp_path / "hutto_snippets" / "1.0.0"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tfds_records, "DATA_DIR", str(tmp_path))
    check = doctor.data()
    assert not check.ok and "damaged" in check.state
    assert check.todo == f"delete {folder}"
    folder.rmdir()
    assert doctor.data() == ("not prepared yet: the first run does it in seconds", "")


def test_a_device_that_computes_wrongly_fails(monkeypatch):
    jit = jax.jit
    monkeypatch.setattr("jax.jit", lambda f: jit(lambda x: f(x) + 1))
    check = doctor.compute()
    assert not check.ok and "wrong products on" in check.state


def test_what_hangs_is_given_up():
    code = """
        import time
        from jaxattn import doctor
        doctor.LIMIT = 1.0
        doctor.CHECKS = (("devices", lambda: time.sleep(100), ""),)
    """
    ran = run("--json", code=code)
    assert ran.returncode == 1
    assert "a program hangs" in by_name(ran)["doctor"]["state"]


def test_a_check_that_breaks_is_a_failure(monkeypatch, capsys):
    def check():
        raise RuntimeError("no\nsuch card")

    monkeypatch.setattr(doctor, "CHECKS", (("devices", check, "buy one"),))
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  devices    RuntimeError: no such card -> buy one\n")


def test_colour_is_for_terminals():
    check = Check("x " * 60, "y")
    assert "\x1b[31mFAIL\x1b[0m" in doctor.line("cache", check, colour=True)
    plain = doctor.line("cache", check)
    assert "\x1b" not in plain and max(map(len, plain.splitlines())) <= 80


def test_wrong_usage_ends_with_two():
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--no-such-flag"])
    assert ended.value.code == 2
