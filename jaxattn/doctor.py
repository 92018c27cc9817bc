"""Is this machine ready? `python -m jaxattn.doctor` says so, line by line."""

import argparse
import json
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

from jaxattn import machine, runtime
from jaxattn.machine import Check

FINE, FAILED = 0, 1
LIMIT = 180.0
"""Seconds until whatever is under way counts as hanging."""
REPORT = "report these lines in an issue"
LINES: tuple[tuple[str, Callable[[], Check], str], ...] = (
    ("packages", machine.packages, machine.INSTALL),
    ("devices", machine.devices, "see the message; JAX_PLATFORMS=cpu does without"),
    ("threads", machine.threads, "unset PJRT_NPROC and XLA_FLAGS"),
    ("cache", machine.cache, "set JAX_COMPILATION_CACHE_DIR to a writable folder"),
    ("memory", machine.memory, "see the message"),
    ("data", machine.data, machine.INSTALL),
)
"""Name, check, and what to do where the check itself cannot be made."""


def checks(quick: bool = False) -> Iterator[Check]:
    """All checks, as they are made; `quick` leaves out the self-test."""
    failed = set()
    for name, check, todo in LINES:
        found = _made(name, check, todo)
        failed |= set() if found.ok else {name}
        yield found
    if quick:
        return
    needed = failed & {"devices", "threads"}
    if needed:
        text = f"not run, since it needs the {' and '.join(sorted(needed))} above"
        yield Check("self-test", False, text, "mend these first")
        return
    print("self-test: at most 20 s ...", file=sys.stderr, flush=True)
    try:
        from jaxattn import selftest

        for answer in selftest.answers():
            todo = "" if answer.right else REPORT
            yield Check("self-test", answer.right, answer.text, todo)
    except Exception as error:  # whatever it is, that is the finding
        yield _broken("self-test", error, REPORT)


def _made(name: str, check: Callable[[], Check], todo: str) -> Check:
    try:
        return check()
    except Exception as error:
        return _broken(name, error, todo)


def _broken(name: str, error: Exception, todo: str) -> Check:
    text = " ".join(str(error).split())[:300]
    return Check(name, False, f"{type(error).__name__}: {text}", todo)


def line(check: Check, colour: bool = False) -> str:
    """A check as text of 80 columns."""
    word = "ok" if check.ok else "FAIL"
    text = f"{word:<4}  {check.name:<9}  {check.found}"
    if check.todo:
        text += f" -> {check.todo}"
    text = textwrap.fill(text, 80, subsequent_indent=" " * 17, break_on_hyphens=False)
    code = 32 if check.ok else 31
    return text.replace(word, f"\x1b[{code}m{word}\x1b[0m", 1) if colour else text


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    # Not tyro: a package that is missing is what this command is to find.
    parser = argparse.ArgumentParser(
        prog="python -m jaxattn.doctor",
        description="Is this machine ready for jaxattn? Each line that fails says what "
        "to do. Exit codes: 0 all is well, 1 something failed, 2 wrong usage.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="leave out the self-test, some 15 s"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )
    flags = parser.parse_args(arguments)
    runtime.configure()
    found: list[Check] = []

    def give_up() -> None:
        text = f"no answer after {LIMIT:.0f} s: a program hangs"
        found.append(Check("self-test", False, text, REPORT))
        print(line(found[-1]), flush=True)
        code = _end(found, flags)
        sys.stdout.flush()
        os._exit(code)  # what hangs cannot be interrupted

    watch = threading.Timer(LIMIT, give_up)
    watch.daemon = True
    watch.start()
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    colour = terminal and not os.environ.get("NO_COLOR")
    try:
        for check in checks(flags.quick):
            found.append(check)
            print(line(check, colour), flush=True)
    except KeyboardInterrupt:
        print("error: stopped", file=sys.stderr)
        return 130
    finally:
        watch.cancel()
    return _end(found, flags)


def _end(found: list[Check], flags: argparse.Namespace) -> int:
    failed = sum(not check.ok for check in found)
    if failed:
        print(f"{failed} of {len(found)} lines failed")
    elif flags.quick:
        print("all is well, as far as was looked")
    else:
        print("all is well; next: python -m jaxattn.train --config configs/probe.py")
    if flags.json:
        lines = [check._asdict() for check in found]
        print(json.dumps({"ok": not failed, "checks": lines}))
    return FAILED if failed else FINE


if __name__ == "__main__":
    sys.exit(main())
