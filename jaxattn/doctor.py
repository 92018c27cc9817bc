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
        return Check("; ".join(wrong), INSTALL)
    versions = [f"{name} {v}" for name, v in runtime.versions().items() if v]
    return Check(", ".join(versions))


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
        return Check(state, "pip install 'jax[cuda13]'")
    return Check(state)


def compute() -> Check:
    """Whether every device multiplies two matrices, and rightly."""
    import jax
    import numpy as np

    ones = np.ones((64, 64), np.float32)
    there = [jax.device_put(ones, device) for device in jax.local_devices()]
    products = [jax.jit(lambda x: x @ x)(x) for x in there]
    wrong = [str(x.device) for x in products if not np.allclose(x, 64)]
    if wrong:
        return Check(f"wrong products on {', '.join(wrong)}", REPORT)
    return Check("every device compiles and multiplies")


def cache() -> Check:
    """The folder of compiled programs."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    todo = "set JAX_COMPILATION_CACHE_DIR to a folder that you may write"
    if not folder:
        state = "no folder to keep compiled programs in: every run compiles anew"
        return Check(state, todo)
    if "://" in folder:
        return Check(f"{folder} (remote, not looked into)")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            sizes = [p.stat().st_size for p in Path(folder).glob("*-cache")]
    except OSError as error:
        return Check(f"{_short(folder)}: {error.strerror}", todo)
    size = f"{len(sizes):,} programs, {sum(sizes) / 1e6:,.0f} MB"
    return Check(f"{_short(folder)}: writable, {size}")


def memory() -> Check:
    """Memory that is free, as the system and the container allow it."""
    free = runtime.available_memory() / 1e9
    todo = "end other programs; choose a smaller --batch-size and --lane 1"
    state = f"{free:.1f} GB free; the default run takes 1.6 GB"
    return Check(state, "" if free >= NEEDED_GB else todo)


def data() -> Check:
    """The embedded snippets: prepared and undamaged, or a place to prepare them in."""
    from jaxattn.data.sources import snippets

    folder = snippets.folder_of(None)
    if folder.exists():
        try:
            n = len(snippets.load_snippets(None).ids)
        except (ValueError, OSError) as error:
            return Check(str(error).partition(";")[0], f"delete {_short(folder)}")
        return Check(f"{n:,} snippets prepared in {_short(folder)}")
    there = next(p for p in folder.parents if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        todo = "set TFDS_DATA_DIR, or give --data-dir"
        return Check(f"{_short(folder)} cannot be made", todo)
    return Check("not prepared yet: the first run does it in seconds")


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


def checks(quick: bool = False) -> Iterator[tuple[str, Check]]:
    """All checks, as they are made; one that cannot be made has failed."""
    for name, check, todo in CHECKS:
        if not quick or check is not compute:
            try:
                yield name, check()
            except Exception as error:
                yield name, Check(reason(error, kind=True), todo)


def line(name: str, check: Check, colour: bool = False) -> str:
    """A check as text of 80 columns."""
    word, code = ("ok", 32) if check.ok else ("FAIL", 31)
    text = f"{word:<4}  {name:<9}  {check.state}"
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
    made: dict[str, Check] = {}

    def show(name: str, check: Check) -> None:
        made[name] = check
        print(line(name, check, colour), flush=True)

    def give_up() -> None:
        text = f"no answer after {LIMIT:.0f} s: a program hangs"
        show("doctor", Check(text, REPORT))
        code = _end(made, flags.json)
        sys.stdout.flush()
        os._exit(code)  # what hangs cannot be interrupted

    watch = threading.Timer(LIMIT, give_up)
    watch.daemon = True
    watch.start()
    try:
        for name, check in checks(flags.quick):
            show(name, check)
    except KeyboardInterrupt:
        print("error: stopped", file=sys.stderr)
        return 130
    finally:
        watch.cancel()
    return _end(made, flags.json)


def _end(made: dict[str, Check], as_json: bool) -> int:
    failed = sum(not check.ok for check in made.values())
    well = "all is well; next: python -m jaxattn.train --config configs/probe.py"
    print(f"{failed} of {len(made)} lines failed" if failed else well)
    if as_json:
        rows = [{"name": n, "ok": c.ok} | c._asdict() for n, c in made.items()]
        print(json.dumps({"ok": not failed, "checks": rows}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
