"""Settings that must be in place before jax is imported, and facts about the run."""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import signal
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

DEVICES_FLAG = "--xla_force_host_platform_device_count"
CACHE_VARIABLE = "JAXATTN_CACHE_DIR"
"""The environment variable that moves the compiled programs out of ~/.cache/jaxattn."""
CACHE_BYTES = 2 << 30
"""The most that compiled programs take; each start removes those used longest ago."""
PACKAGES = (
    "jaxattn jax jaxlib flax optax orbax-checkpoint tensorflow-datasets numpy"
).split()


def available_cores() -> int:
    """Number of cores this process may use, at least 1 (affinity, container quota)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Of a container: limit and use, in /sys/fs/cgroup, of either version."""


def available_memory() -> int:
    """Bytes that are free: of the machine, or of the container where that is less."""
    free = sys.maxsize
    with contextlib.suppress(OSError, ValueError, AttributeError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = pathlib.Path("/proc/meminfo").read_text()
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    for limit, used in _LIMITS:
        # There may be no such limit, or "max".
        with contextlib.suppress(OSError, ValueError):
            group = pathlib.Path("/sys/fs/cgroup")
            most, taken = (int((group / x).read_text()) for x in (limit, used))
            free = min(free, max(most - taken, 0))
    return free


def configure(cpu_devices: int | None = None, cache: bool = True) -> None:
    """Prepare the environment for jax: call it before jax is imported.

    One virtual CPU device per available core (or `cpu_devices`), a thread for each,
    and a persistent compilation cache. What the user has set stays.
    Nothing happens once jax has started its devices.
    """
    # jax has no public way to ask whether its devices exist without creating them.
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge and getattr(bridge, "backends_are_initialized", lambda: True)():
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags = os.environ.get("XLA_FLAGS", "")
    if DEVICES_FLAG not in flags:
        count = available_cores() if cpu_devices is None else cpu_devices
        os.environ["XLA_FLAGS"] = f"{flags} {DEVICES_FLAG}={count}".strip()
    # XLA makes its pool at least as large as there are devices: then each has a thread
    # of its own. Further ones take the cores from those that compute: with 8 a device a
    # sweep was measured to be 1.2 to 2.5 times slower. No program may call LAPACK then,
    # see `metrics.inverse`.
    os.environ.setdefault("PJRT_NPROC", "1")
    if cache:
        _use_cache()


def _use_cache() -> None:
    # jax only warns of an entry that it cannot read or write, and compiles: no harm.
    warnings.filterwarnings(
        "ignore", r"Error (reading|writing) persistent compilation cache"
    )
    settings: dict[str, Any] = {"jax_persistent_cache_min_compile_time_secs": 0.1}
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        folder = _cache_folder()
        if folder is None:
            return
        settings["jax_compilation_cache_dir"] = folder
    for name, value in settings.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            if "jax" in sys.modules:  # it has read its environment already
                sys.modules["jax"].config.update(name, value)


def _cache_folder() -> str | None:
    """A writable folder for this kind of CPU, or None."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parent = os.environ.get(CACHE_VARIABLE) or os.path.join(home, "jaxattn")
    # Compiled code holds instructions other CPUs may lack, and a home folder may be
    # shared by unlike machines.
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        text = pathlib.Path("/proc/cpuinfo").read_text()
        flags = re.search(r"^(flags|Features)\s*:.*$", text, re.MULTILINE)
        kind += flags.group() if flags else ""
    folder = pathlib.Path(parent, "xla", hashlib.sha256(kind.encode()).hexdigest()[:12])
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        return str(folder)
    return None


def _tidy(folder: pathlib.Path) -> None:
    """Removes damaged entries of the cache, and the oldest where it is too large.

    jax compiles a program whose entry is damaged, but never replaces the entry, so that
    the program would be compiled in every run. What damages one is a process that is
    killed while it writes: hence only what was written since the last start is read.
    jax's own bound on the size is not used: one entry that has no time stamp, as a
    killed process leaves it, makes it refuse every new one.
    """
    marker, started = folder / "checked", folder / f"checked.{os.getpid()}"
    # Its time is that of the file system, as the times of the entries are.
    started.touch()
    try:
        last = marker.stat().st_mtime_ns if marker.exists() else 0
        entries = {}
        for entry in folder.glob("*-cache"):
            with contextlib.suppress(FileNotFoundError):  # another start removes it
                status = entry.stat()
                if status.st_mtime_ns >= last and not _whole(entry):
                    entry.unlink()
                else:
                    used = max(status.st_atime, status.st_mtime)
                    entries[entry] = used, status.st_size
        size = sum(size for _, size in entries.values())
        for entry, (_, its_size) in sorted(entries.items(), key=lambda e: e[1]):
            if size <= CACHE_BYTES:
                break
            entry.unlink(missing_ok=True)
            size -= its_size
        started.replace(marker)
    finally:
        started.unlink(missing_ok=True)


def _whole(entry: pathlib.Path) -> bool:
    content = entry.read_bytes()
    with contextlib.suppress(zlib.error):
        return content[:1] not in (b"", b"x") or bool(zlib.decompress(content))
    return False


def versions() -> dict[str, str | None]:
    """Of python and of the packages that decide numbers; None where one is missing."""
    by_name: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        by_name[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            by_name[name] = importlib.metadata.version(name)
    return by_name


def environment() -> dict[str, Any]:
    """Versions, devices, settings, date and command line, without absolute paths."""
    import jax

    devices = jax.devices()
    return {
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cores": available_cores(),
        "PJRT_NPROC": os.environ.get("PJRT_NPROC"),
        "XLA_FLAGS": _no_paths(os.environ.get("XLA_FLAGS", "").split()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _no_paths(sys.orig_argv),
    }


def _no_paths(words: list[str]) -> list[str]:
    """The words, with paths outside the working directory cut to their last part."""

    def short(match: re.Match[str]) -> str:
        path = match.group(2)
        inside = os.path.relpath(os.path.expanduser(path))
        outside = inside.startswith("..") or path.startswith("~")
        return match.group(1) + (os.path.basename(inside) if outside else inside)

    return [re.sub(r"(^|[=:,])((?:~|\.\.)?/[^=:,]*)", short, word) for word in words]


@dataclasses.dataclass
class Stop:
    """Whether the run was asked to end: the number of the first signal, or None."""

    received: int | None = None


@contextlib.contextmanager
def stop_signal(notify: Callable[[str], Any] = lambda text: None) -> Iterator[Stop]:
    """Record the first SIGINT or SIGTERM instead of ending the process.

    Ctrl-C after that raises KeyboardInterrupt, as `notify` is told. Outside the main
    thread nothing is caught, since Python allows signal handlers only there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if stop.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if stop.received is None:
            stop.received = number
            notify("stopping after this chunk; Ctrl-C again stops at once ...")

    old = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            # None: a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Check(NamedTuple):
    """What was looked at, and what to do where it is not right."""

    state: str
    todo: str = ""

    @property
    def ok(self) -> bool:
        return not self.todo


def threads() -> Check:
    """The thread pool of XLA's CPU runtime, which is slow where it is too large."""
    import jax

    count = os.environ.get("PJRT_NPROC", "")
    devices = len(jax.local_devices())
    state = f"PJRT_NPROC={count}, XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"
    todo = ""
    real_time = [getattr(os, name, None) for name in ("SCHED_FIFO", "SCHED_RR")]
    if jax.devices()[0].platform != "cpu":
        pass
    elif not count:
        state = f"jax has begun without jaxattn: {devices} devices for "
        state += f"{available_cores()} cores, and slow"
        todo = "call jaxattn.system.runtime.configure() before jax is used"
    elif not count.isdecimal() or int(count) > devices:
        state += f": more threads than devices ({devices}) take their cores from them"
        todo = "unset PJRT_NPROC: jaxattn sets it"
    elif hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in real_time:
        state += "; real-time priority, under which waiting threads starve the others"
        todo = "start it without chrt"
    return Check(state, todo)
