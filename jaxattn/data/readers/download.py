"""Fetching what was asked for, and saying soon where that cannot be."""

import contextlib
import hashlib
import http.client
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from jaxattn.data import limits

SILENCE = 20.0
"""Seconds after which a server that sends nothing is given up."""

_BLOCK = 1 << 18


class Archive(NamedTuple):
    """A file on the network whose content is known."""

    file: str
    source: str
    """What --data is for it."""
    url: str
    size: int
    sha256: str


def fetch(
    archive: Archive, folder: Path, say: Callable[[str], None] | None = None
) -> Path:
    """The archive in `folder`, fetched where it is not there, whole or not at all.

    Raises: OSError where it cannot be had, ValueError where it is another file.
    """
    say = say or (lambda line: None)
    target = folder / archive.file
    if target.exists():
        with open(target, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256:
                return target
    say(f"fetching {archive.url} ({archive.size / 1e6:,.0f} MB) to {target}")
    temporary = target.with_name(f".{archive.file}.{os.getpid()}.part")
    try:
        found = _copy(archive, temporary, say)
        if found != archive.sha256:
            raise ValueError(
                f"{archive.url} sends another file than expected (sha256 {found}, not "
                f"{archive.sha256}): find it elsewhere and give --data "
                f"{archive.source}"
            )
        os.replace(temporary, target)
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise OSError(
            f"cannot fetch {archive.url} ({' '.join(str(reason).split())}): find it "
            f"elsewhere and give --data {archive.source}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _copy(archive: Archive, target: Path, say: Callable[[str], None]) -> str:
    state, done, due = hashlib.sha256(), 0, limits.clock()
    with contextlib.ExitStack() as stack:
        answer = stack.enter_context(
            urllib.request.urlopen(archive.url, timeout=SILENCE)
        )
        # Only now: a server that is not there leaves no folder behind.
        target.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(open(target, "wb"))
        while block := answer.read(_BLOCK):
            file.write(block)
            state.update(block)
            done += len(block)
            if due():
                say(f"{done / 1e6:,.0f} of {archive.size / 1e6:,.0f} MB")
    return state.hexdigest()


def check_reachable(urls: Iterable[str]) -> None:
    """Raises OSError where the host of a url has no address.

    TFDS itself tries for more than three minutes before it says so. Behind a proxy
    nothing can be said beforehand.
    """
    if urllib.request.getproxies():
        return
    for host in sorted({urlsplit(url).hostname or "" for url in urls} - {""}):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise OSError(
                f"cannot reach {host} ({error}): is there a network?"
            ) from error
