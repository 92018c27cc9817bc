"""The folder of a run: one configuration, one data set, one process at a time."""

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxattn.config import Config, differences, fingerprint, to_dict
from jaxattn.system import runtime
from jaxattn.system.files import write_text

LOCK = ".lock"


@contextlib.contextmanager
def hold(config: Config, workdir: Path) -> Iterator[bool]:
    """Holds the folder for this process; gives whether a run was begun there before.

    Raises: ValueError where another configuration or another process holds it, or it
    holds something else; OSError where it cannot be written.
    """
    if workdir.exists() and not workdir.is_dir():
        raise OSError(f"workdir {workdir} is a file; name a folder with --workdir")
    made = [p for p in (workdir, *workdir.parents) if not p.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / LOCK, "w")
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
    written = workdir / "config.json"
    try:
        begun = written.exists()
        # What a run may have left that was killed before it claimed the folder.
        ours = LOCK, ".config.json."
        if begun:
            _compare(config, workdir, written)
        elif not all(p.name.startswith(ours) for p in workdir.iterdir()):
            raise ValueError(
                f"workdir {workdir} is not empty and holds no run; choose another "
                "--workdir"
            )
        # Of a run that was killed; while this one has the lock no other writes.
        for left in workdir.rglob(".*.tmp"):
            left.unlink(missing_ok=True)
        yield begun
    finally:
        if not written.exists():
            (workdir / LOCK).unlink(missing_ok=True)
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        lock.close()


def _compare(config: Config, workdir: Path, written: Path) -> None:
    try:
        old = dict(json.loads(written.read_text(encoding="utf-8"))["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{written} is damaged; delete {workdir} or choose another --workdir"
        ) from error
    # A field that a later version added had its default before there was one.
    changed = differences(_filled(old, to_dict(Config())), to_dict(config))
    if changed:
        raise ValueError(
            f"workdir {workdir} holds a run of another configuration "
            f"({'; '.join(changed)}); choose another --workdir or delete it"
        )


def _filled(old: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the default of every field that it lacks."""
    filled = default | old
    for name, value in default.items():
        if isinstance(value, dict) and isinstance(filled[name], dict):
            filled[name] = _filled(filled[name], value)
    return filled


def claim(config: Config, workdir: Path, digest: str) -> None:
    """Writes config and environment once all of the input has proved good.

    Raises: ValueError where the folder holds a run on other data.
    """
    path = workdir / "config.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8")).get("data_digest")
        if old != digest:
            raise ValueError(
                f"workdir {workdir} was made from other data (digest {str(old)[:12]}, "
                f"now {digest[:12]}); choose another --workdir"
            )
    else:
        text = {"config": to_dict(config), "fingerprint": fingerprint(config)}
        text["data_digest"] = digest
        write_text(path, json.dumps(text, indent=2) + "\n")
    # Notes this start, and says so if it runs on other versions than the last.
    path, starts = workdir / "environment.json", []
    with contextlib.suppress(OSError, ValueError):
        starts = list(json.loads(path.read_text(encoding="utf-8")))
    now = runtime.environment()
    before = starts[-1].get("versions", {}) if starts else now["versions"]
    changed = differences(before, now["versions"])
    if changed:
        logging.getLogger("jaxattn").info(
            "this run was begun with other versions, so that the last digits may "
            f"differ: {'; '.join(changed)}"
        )
    write_text(path, json.dumps([*starts, now], indent=2) + "\n")
