"""Is this machine ready? `jaxattn doctor` says so, line by line.

Each check is a fact that a run rests on, with what to do if it is wrong. jax and what
needs it are imported inside the checks: this must also run where they are broken.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxattn.system import runtime
from jaxattn.system.errors import reason
from jaxattn.system.runtime import Check

NEEDED_GB = 2.0
"""The default run of configs/probe.py takes 1.6 GB."""
LIMIT = 180.0
"""Seconds until whatever is under way counts as hanging."""
INSTALL = "pip install --upgrade jaxattn (or, in its source, pip install .)"
REPORT = "report these lines in an issue"


def packages() -> Check:
    """Versions of the packages, and whether they are those that jaxattn asks for."""
    wrong = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        asked = importlib.metadata.requires("jaxattn") or ()
        wrong = [*filter(None, map(_wrong, asked))]
    if wrong:
        return Check("packages", False, "; ".join(wrong), INSTALL)
    versions = [f"{name} {v}" for name, v in runtime.versions().items() if v]
    return Check("packages", True, ", ".join(versions))


def _wrong(text: str) -> str:
    """What is wrong with a requirement, if anything."""
    from packaging.requirements import Requirement

    asked = Requirement(text)
    if asked.marker and not asked.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{asked.name} is missing"
    good = asked.specifier.contains(version, prereleases=True)
    return "" if good else f"{asked.name} is {version}, needed is {asked.specifier}"


def devices() -> Check:
    """What jax computes on, and whether it overlooks an accelerator."""
    import jax

    there = jax.devices()
    state = f"{len(there)} {there[0].platform} ({there[0].device_kind})"
    state += f", {runtime.available_cores()} cores"
    idle = there[0].platform == "cpu" and "JAX_PLATFORMS" not in os.environ
    if idle and Path("/dev/nvidia0").exists():
        state += "; there is an NVIDIA card that jax does not see"
        return Check("devices", False, state, "pip install 'jax[cuda13]'")
    return Check("devices", True, state)


def compute() -> Check:
    """Whether every device multiplies two matrices, and rightly."""
    import jax
    import numpy as np

    ones = np.ones((64, 64), np.float32)
    there = [jax.device_put(ones, device) for device in jax.local_devices()]
    products = [jax.jit(lambda x: x @ x)(x) for x in there]
    wrong = [str(x.device) for x in products if not np.allclose(x, 64)]
    if wrong:
        return Check("compute", False, f"wrong products on {', '.join(wrong)}", REPORT)
    return Check("compute", True, "every device compiles and multiplies")


def cache() -> Check:
    """The folder of compiled programs."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    todo = "set JAX_COMPILATION_CACHE_DIR to a folder that you may write"
    if not folder:
        state = "no folder to keep compiled programs in: every run compiles anew"
        return Check("cache", False, state, todo)
    if "://" in folder:
        return Check("cache", True, f"{folder} (remote, not looked into)")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            sizes = [p.stat().st_size for p in Path(folder).glob("*-cache")]
    except OSError as error:
        return Check("cache", False, f"{_short(folder)}: {error.strerror}", todo)
    size = f"{len(sizes):,} programs, {sum(sizes) / 1e6:,.0f} MB"
    return Check("cache", True, f"{_short(folder)}: writable, {size}")


def memory() -> Check:
    """Memory that is free, as the system and the container allow it."""
    free = runtime.available_memory() / 1e9
    state = f"{free:.1f} GB free; the default run takes 1.6 GB"
    todo = "end other programs; choose a smaller --batch-size and --lane 1"
    return Check("memory", free >= NEEDED_GB, state, "" if free >= NEEDED_GB else todo)


def data() -> Check:
    """The embedded snippets: prepared and undamaged, or a place to prepare them in."""
    from jaxattn.data.sources import snippets

    folder = snippets.folder_of(None)
    if folder.exists():
        try:
            n = len(snippets.load_snippets(None).ids)
        except (ValueError, OSError) as error:
            state = str(error).partition(";")[0]
            return Check("data", False, state, f"delete {_short(folder)}")
        return Check("data", True, f"{n:,} snippets prepared in {_short(folder)}")
    there = next(p for p in folder.parents if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        state = f"{_short(folder)} cannot be made"
        return Check("data", False, state, "set TFDS_DATA_DIR, or give --data-dir")
    return Check("data", True, "not prepared yet: the first run does it in seconds")


def _short(path: str | Path) -> str:
    """A path as people write it, the home folder as a tilde."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text


CHECKS: tuple[tuple[str, Callable[[], Check], str], ...] = (
    ("packages", packages, INSTALL),
    ("devices", devices, "see the message; JAX_PLATFORMS=cpu does without"),
    ("compute", compute, REPORT),
    ("threads", runtime.threads, "unset PJRT_NPROC and XLA_FLAGS"),
    ("cache", cache, "set JAX_COMPILATION_CACHE_DIR to a writable folder"),
    ("memory", memory, "see the message"),
    ("data", data, INSTALL),
)
"""Name, check, and what to do where the check itself cannot be made."""


def checks(quick: bool = False) -> Iterator[Check]:
    """All checks, as they are made; one that cannot be made has failed."""
    for name, check, todo in CHECKS:
        if quick and check is compute:
            continue
        try:
            yield check()
        except Exception as error:
            yield Check(name, False, reason(error, kind=True), todo)


def line(check: Check, colour: bool = False) -> str:
    """A check as text of 80 columns."""
    word, code = ("ok", 32) if check.ok else ("FAIL", 31)
    text = f"{word:<4}  {check.name:<9}  {check.state}"
    text += f" -> {check.todo}" if check.todo else ""
    text = textwrap.fill(text, 80, subsequent_indent=" " * 17, break_on_hyphens=False)
    return text.replace(word, f"\x1b[{code}m{word}\x1b[0m", 1) if colour else text


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    # Not tyro: a package that is missing is what this command is to find.
    parser = argparse.ArgumentParser(
        prog="jaxattn doctor",
        description="Is this machine ready for jaxattn? Each line that fails says what "
        "to do. Exit codes: 0 all is well, 1 something failed, 2 wrong usage.",
    )
    told = "print one JSON object as the last line"
    parser.add_argument("--json", action="store_true", help=told)
    parser.add_argument("--quick", action="store_true", help="compute nothing")
    flags = parser.parse_args(arguments)
    runtime.configure()
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    colour = terminal and not os.environ.get("NO_COLOR")
    made: list[Check] = []

    def show(check: Check) -> None:
        made.append(check)
        print(line(check, colour), flush=True)

    def give_up() -> None:
        text = f"no answer after {LIMIT:.0f} s: a program hangs"
        show(Check("doctor", False, text, REPORT))
        code = _end(made, flags.json)
        sys.stdout.flush()
        os._exit(code)  # what hangs cannot be interrupted

    watch = threading.Timer(LIMIT, give_up)
    watch.daemon = True
    watch.start()
    try:
        for check in checks(flags.quick):
            show(check)
    except KeyboardInterrupt:
        print("error: stopped", file=sys.stderr)
        return 130
    finally:
        watch.cancel()
    return _end(made, flags.json)


def _end(made: list[Check], as_json: bool) -> int:
    failed = sum(not check.ok for check in made)
    well = "all is well; next: python -m jaxattn.train --config configs/probe.py"
    print(f"{failed} of {len(made)} lines failed" if failed else well)
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [c._asdict() for c in made]}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
