"""A headless Chromium that is told what to do over a pipe, as its DevTools are."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# The browser reads commands from descriptor 3 and answers on 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
SECONDS = 60


class Page(NamedTuple):
    """An open page: `ask` sends a command, `run` gives the value of an expression."""

    ask: Callable[..., dict]
    run: Callable[[str], Any]
    events: list[dict]
    """All that the browser has told of the page."""


@contextlib.contextmanager
def chromium(folder: pathlib.Path) -> Iterator[Callable[..., Page]]:
    """A browser that keeps its things in `folder` and has no network; gives `open_`."""
    read, theirs = os.pipe()
    ours, write = os.pipe()
    assert CHROMIUM
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars "
        "--remote-debugging-pipe --disable-dev-shm-usage "
        "--disable-background-networking"
    ).split()
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}"]
    words = [sys.executable, "-c", START, str(ours), str(theirs), CHROMIUM, *options]
    process = subprocess.Popen(
        words, pass_fds=(ours, theirs), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    os.set_blocking(read, False)
    events: list[dict] = []
    state = {"number": 0, "rest": b""}

    def receive(until: Callable[[dict], bool]) -> dict:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                part = os.read(read, 1 << 20)
                assert part, "the browser has ended"
                state["rest"] += part
            *whole, state["rest"] = state["rest"].split(b"\0")
            for message in map(json.loads, whole):
                events.append(message)
            for message in events[state.get("seen", 0) :]:
                state["seen"] = state.get("seen", 0) + 1
                if until(message):
                    return message
            time.sleep(0.01)
        raise TimeoutError(f"the browser did not answer within {SECONDS} s")

    def ask(method: str, session: str = "", **values) -> dict:
        state["number"] += 1
        number = state["number"]
        message: dict = {"id": number, "method": method, "params": values}
        message |= {"sessionId": session} if session else {}
        raw = json.dumps(message).encode() + b"\0"
        while raw:
            raw = raw[os.write(write, raw) :]
        answer = receive(lambda m: m.get("id") == number)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open_(path: pathlib.Path, width: int = 1280, dark: bool = False) -> Page:
        target = ask("Target.createTarget", url="about:blank")["targetId"]
        session = ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]

        def on_page(method: str, **values) -> dict:
            return ask(method, session, **values)

        for domain in ("Page", "Runtime", "Log", "Network"):
            on_page(f"{domain}.enable")
        on_page("Network.emulateNetworkConditions", offline=True, latency=0,
                downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        on_page("Emulation.setDeviceMetricsOverride", width=width, height=900,
                deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        on_page("Emulation.setEmulatedMedia", features=[scheme])
        before = len(events)
        on_page("Page.navigate", url=path.resolve().as_uri())
        told = [e for e in events[before:] if e.get("method") == "Page.loadEventFired"]
        if not told:
            receive(lambda m: m.get("method") == "Page.loadEventFired")

        def run(expression: str) -> Any:
            found = on_page("Runtime.evaluate", expression=expression,
                            returnByValue=True, awaitPromise=True)  # fmt: skip
            assert "exceptionDetails" not in found, found
            return found["result"].get("value")

        return Page(on_page, run, events)

    try:
        yield open_
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


def complaints(page: Page) -> list[dict]:
    """Everything that went to the console: messages, errors, exceptions."""
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [e["params"] for e in page.events if e.get("method") in kinds]


def requests(page: Page) -> list[str]:
    """The addresses that were asked for, data in the page itself left out."""
    urls = [
        e["params"]["request"]["url"]
        for e in page.events
        if e.get("method") == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith("data:")]
