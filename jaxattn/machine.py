"""Facts about this machine that a run rests on, each with what to do if it is wrong.

Only the standard library is imported here: it must also run where a package is broken.
"""

import contextlib
import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path
from typing import NamedTuple

from jaxattn import runtime

NEEDED_GB = 2.0
"""The default run of configs/probe.py takes 1.6 GB."""
INSTALL = "pip install --upgrade jaxattn (or, in its source, pip install .)"


class Check(NamedTuple):
    """One line: what was looked at, whether it is right, what is there, what to do."""

    name: str
    ok: bool
    found: str
    todo: str = ""


def packages() -> Check:
    """Versions of the packages, and whether they are those that jaxattn asks for."""
    wrong = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for text in importlib.metadata.requires("jaxattn") or ():
            wrong += _wrong(text)
    versions = [f"python {platform.python_version()}"]
    for name in runtime.PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    if wrong:
        return Check("packages", False, "; ".join(wrong), INSTALL)
    return Check("packages", True, ", ".join(versions))


def _wrong(text: str) -> list[str]:
    from packaging.requirements import Requirement

    asked = Requirement(text)
    if asked.marker and not asked.marker.evaluate({"extra": ""}):
        return []
    try:
        version = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        return [f"{asked.name} is missing"]
    good = asked.specifier.contains(version, prereleases=True)
    return [] if good else [f"{asked.name} is {version}, needed is {asked.specifier}"]


def devices() -> Check:
    """What jax computes on, and whether it overlooks an accelerator."""
    import jax

    there = jax.devices()
    found = f"{len(there)} {there[0].platform} ({there[0].device_kind})"
    found += f", {runtime.available_cores()} cores"
    idle = there[0].platform == "cpu" and "JAX_PLATFORMS" not in os.environ
    if idle and Path("/dev/nvidia0").exists():
        found += "; there is an NVIDIA card that jax does not see"
        return Check("devices", False, found, "pip install 'jax[cuda13]'")
    return Check("devices", True, found)


def threads() -> Check:
    """The thread pool of XLA's CPU runtime, which is slow where it is too large."""
    import jax

    count = os.environ.get("PJRT_NPROC", "")
    devices = len(jax.local_devices())
    found = f"PJRT_NPROC={count}, XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"
    if jax.devices()[0].platform != "cpu":
        return Check("threads", True, found)
    if not count:
        found = f"jax has begun without jaxattn: {devices} devices for "
        found += f"{runtime.available_cores()} cores, and slow"
        todo = "call jaxattn.runtime.configure() before jax is used"
        return Check("threads", False, found, todo)
    if not count.isdecimal() or int(count) > devices:
        found += f": more threads than devices ({devices}) take their cores from them"
        return Check("threads", False, found, "unset PJRT_NPROC: jaxattn sets it")
    if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) in (
        os.SCHED_FIFO,
        os.SCHED_RR,
    ):
        found += "; real-time priority, under which waiting threads starve the others"
        return Check("threads", False, found, "start it without chrt")
    return Check("threads", True, found)


def cache() -> Check:
    """The folder of compiled programs."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    todo = "set JAX_COMPILATION_CACHE_DIR to a folder that you may write"
    if not folder:
        found = "no folder to keep compiled programs in: every run compiles anew"
        return Check("cache", False, found, todo)
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
    found = f"{free:.1f} GB free; the default run takes 1.6 GB"
    todo = "end other programs; choose a smaller --batch-size and --lane 1"
    return Check("memory", free >= NEEDED_GB, found, "" if free >= NEEDED_GB else todo)


def data() -> Check:
    """The embedded snippets: prepared and undamaged, or a place to prepare them in."""
    from jaxattn.data import snippets

    folder = snippets.folder_of(None)
    if folder.exists():
        try:
            n = len(snippets.load_snippets(None).ids)
        except (ValueError, OSError) as error:
            found = str(error).partition(";")[0]
            return Check("data", False, found, f"delete {_short(folder)}")
        return Check("data", True, f"{n:,} snippets prepared in {_short(folder)}")
    there = next(p for p in folder.parents if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        found = f"{_short(folder)} cannot be made"
        return Check("data", False, found, "set TFDS_DATA_DIR, or give --data-dir")
    return Check("data", True, "not prepared yet: the first run does it in seconds")


def _short(path: str | Path) -> str:
    """A path as people write it, the home folder as a tilde."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text
