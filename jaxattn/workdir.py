"""The folder of a run: one configuration, one data set, one process at a time."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from jaxattn import runtime
from jaxattn.config import Config, differences, fingerprint, to_dict
from jaxattn.files import write_text


@contextlib.contextmanager
def hold(config: Config, workdir: Path) -> Iterator[bool]:
    """Holds the folder for this process; gives whether a run was begun there before.

    Raises: ValueError where another configuration or another process holds it, or it
    holds something else; OSError where it cannot be written.
    """
    written = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise OSError(f"workdir {workdir} is a file; name a folder with --workdir")
    begun = written.exists()
    if begun:
        try:
            old = json.loads(written.read_text(encoding="utf-8"))["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{written} is damaged; delete {workdir} or choose another --workdir"
            ) from error
        found = differences(old, to_dict(config))
        if found:
            raise ValueError(
                f"workdir {workdir} holds a run of another configuration "
                f"({'; '.join(found)}); choose another --workdir or delete it"
            )
    elif workdir.is_dir() and any(p.name != "lock" for p in workdir.iterdir()):
        raise ValueError(
            f"workdir {workdir} is not empty and holds no run; choose another --workdir"
        )
    new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / "lock", "w")
    except OSError as error:
        raise OSError(f"cannot write in workdir {workdir}: {error.strerror}") from error
    try:
        # The system drops the lock with the process, so a crash leaves none behind.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ValueError(
            f"another run is under way in {workdir}; wait for it or choose another "
            "--workdir"
        ) from error
    try:
        yield begun
    finally:
        lock.close()
        (workdir / "lock").unlink(missing_ok=True)
        if new and not any(workdir.iterdir()):
            workdir.rmdir()


def claim(config: Config, workdir: Path, digest: str) -> None:
    """Writes config and environment once all of the input has proved good."""
    text = {"config": to_dict(config), "fingerprint": fingerprint(config)}
    path = workdir / "config.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8")).get("data_digest")
        if old != digest:
            raise ValueError(
                f"workdir {workdir} was made from other data (digest {str(old)[:12]}, "
                f"now {digest[:12]}); choose another --workdir"
            )
    write_text(path, json.dumps(text | {"data_digest": digest}, indent=2) + "\n")
    environment = json.dumps(runtime.environment(), indent=2) + "\n"
    write_text(workdir / "environment.json", environment)
