"""What a run writes to the terminal: lines, tables, progress and errors."""

import contextlib
import dataclasses
import io
import logging
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

WIDTH = 80

PLAIN_SECONDS = 5.0

NUMBER = re.compile(r"\s*[-+]?[\d.].*|\s*-?\s*|nan|-?inf")

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclasses.dataclass
class Settings:
    """Settings of this process: `quiet` silences `say` and `bar`."""

    quiet: bool = False


settings = Settings()

logger = logging.getLogger("jaxattn")


class _ToTerminal(logging.Handler):
    """Writes information to standard output and warnings to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warn(record.getMessage())
        else:
            paragraph(record.getMessage())


def show_messages(quiet: bool = False) -> None:
    """Shows on the terminal what modules log to "jaxattn": every command calls it."""
    settings.quiet = quiet
    if not any(isinstance(handler, _ToTerminal) for handler in logger.handlers):
        logger.addHandler(_ToTerminal())
        logger.setLevel(logging.INFO)


@contextlib.contextmanager
def messages_shown(quiet: bool) -> Iterator[None]:
    """As `show_messages`, for a function called from Python: afterwards as before."""
    before = list(logger.handlers), logger.level, settings.quiet
    show_messages(quiet or settings.quiet)
    try:
        yield
    finally:
        logger.handlers, level, settings.quiet = before
        logger.setLevel(level)


def say(text: str) -> None:
    """Write a line to standard output as it is, unless quiet."""
    if not settings.quiet:
        _write(text, sys.stdout)


def paragraph(text: str) -> None:
    """Write text in lines of 80 columns, unless quiet; long words stay whole."""
    say(folded(text))


def folded(text: str) -> str:
    """Text in lines of 80 columns, the later ones indented; long words stay whole."""
    return textwrap.fill(
        text,
        WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def urgent(text: str) -> None:
    """Write a line to standard error from within a signal handler, unless quiet."""
    # Not print: the signal may have come in the middle of one.
    if not settings.quiet:
        os.write(2, f"{text}\n".encode())


def warn(message: object) -> None:
    """Write `warning: message` to standard error in one line, unless quiet."""
    if not settings.quiet:
        _write("warning: " + " ".join(str(message).split()), sys.stderr)


def error(message: object) -> None:
    """Write `error: message` to standard error in one line."""
    _write("error: " + " ".join(str(message).split()), sys.stderr)


def reason(error: object, doing: str) -> object:
    """What to tell of an error that ended a command while `doing` something."""
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"{error.filename or f'while {doing}'}: {error.strerror}"
    return error


def table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str = ""
) -> None:
    """Write a table to standard output, as wide as the terminal, at most 80 columns."""
    terminal = _console(sys.stdout)
    width = min(WIDTH, terminal.width) if terminal.is_terminal else WIDTH
    _write(text_table(headers, rows, title, width), sys.stdout)


def text_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str = "",
    width: int = WIDTH,
) -> str:
    """A table of at most `width` columns as text.

    Columns of numbers are right-aligned; floats get three decimals, None and NaN a
    dash. Text that is too long continues below.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    # No box and no outer padding: three intervals must fit into 80 columns.
    grid = Table(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        title=title and Text(title),
        title_justify="left",
    )
    for i, header in enumerate(headers):
        number = all(NUMBER.fullmatch(row[i]) for row in cells)
        grid.add_column(
            Text(header),
            justify="right" if number else "left",
            # Otherwise a narrow terminal would break numbers before it breaks words.
            min_width=max((len(row[i]) for row in cells), default=0)
            if number
            else None,
            overflow="fold",
        )
    for row in cells:
        grid.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as written:
        console.print(grid)
    lines = [line.rstrip() for line in written.get().splitlines()]
    return "\n".join(lines).strip("\n")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


@dataclasses.dataclass
class Progress:
    """How far a program is: `done` of `total` chunks; times are monotonic seconds."""

    label: str
    total: int
    unit: str
    done: int
    started: float
    examples: int = 0
    note: str = "compiling"
    last: float | None = None
    # (time, done, examples) after the first chunk: that one holds the compilation.
    first: tuple[float, int, int] | None = None


def advanced(
    state: Progress, now: float, chunks: int, examples: int, note: str
) -> None:
    """Record in `state` that `chunks` with `examples` in all were done by `now`."""
    state.done += chunks
    state.examples += examples
    state.note = note
    state.last = now
    state.first = state.first or (now, state.done, state.examples)


def progress_line(
    state: Progress, now: float, width: int = WIDTH, cells: int = 0
) -> str:
    """The line for `state` at the time `now`, its bar at most `cells` wide."""
    share = min(1.0, state.done / state.total) if state.total else 1.0
    parts = [f"{math.floor(share * 100):3d} %"]
    left = 0.0
    if state.first is not None and state.last is not None:
        since, chunks, examples = state.first
        if state.done == chunks and state.done >= state.total:
            since, chunks, examples = state.started, 0, 0  # a run of one chunk
        seconds = state.last - since
        if state.done > chunks and seconds > 0:
            rate = (state.examples - examples) / seconds
            parts.append(f"{rate:,.0f} {state.unit}/s")
            left = (state.total - state.done) * seconds / (state.done - chunks)
            left = max(1.0, left - (now - state.last)) if left else 0.0
    parts.append(clock(now - state.started))
    parts += [f"{clock(left)} left"] if left else []
    parts += [state.note] if state.note else []
    rest = "  ".join(parts)
    room = width - len(rest) - 2
    label = state.label if len(state.label) <= room else state.label[: max(0, room)]
    cells = min(cells, room - len(label) - 2)
    filled = round(cells * share)
    bar = ["\u2501" * filled + "\u2508" * (cells - filled)] if cells >= 4 else []
    return "  ".join([label, *bar, rest])[:width]


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@contextlib.contextmanager
def bar(
    label: str,
    total: int,
    unit: str = "examples",
    done: int = 0,
    note: str = "compiling",
) -> Iterator[Callable[..., None]]:
    """Show progress over `total` chunks, `done` of them in an earlier run.

    `note` stands at its end until there is another.

    Yields `advance(chunks_done=1, examples=0, note="")`, to be called after each chunk
    with what was done since the last call. A terminal gets one live line, anything else
    plain lines, at most one in five seconds and one at the end. It goes to standard
    error.
    """
    state = Progress(label, total, unit, done, started=time.monotonic(), note=note)
    live = sys.stderr.isatty() and not _console(sys.stderr).is_dumb_terminal
    display = _live if live else _plain
    with contextlib.nullcontext() if settings.quiet else display(state) as show:

        def advance(chunks_done: int = 1, examples: int = 0, note: str = "") -> None:
            advanced(state, time.monotonic(), chunks_done, examples, note)
            if show is not None:
                show()

        yield advance


@contextlib.contextmanager
def _live(state: Progress) -> Iterator[Callable[[], None]]:
    console = _console(sys.stderr)
    bars = sys.stderr.encoding.lower().startswith("utf")

    def line() -> Text:
        width = min(WIDTH, console.width) - 1
        return Text(progress_line(state, time.monotonic(), width, 20 * bars))

    # A standard output that is piped must keep its lines, so only one that is the
    # same terminal is drawn above the bar.
    with Live(
        console=console, get_renderable=line, redirect_stdout=sys.stdout.isatty()
    ) as live:
        live.refresh()
        yield lambda: None


@contextlib.contextmanager
def _plain(state: Progress) -> Iterator[Callable[[], None]]:
    written = (-math.inf, -1)  # when, and how many chunks were done

    def write() -> None:
        nonlocal written
        written = (time.monotonic(), state.done)
        _write(progress_line(state, written[0]), sys.stderr)

    def show() -> None:
        if time.monotonic() - written[0] >= PLAIN_SECONDS:
            write()

    write()
    try:
        yield show
    finally:
        if written[1] != state.done:
            write()


def _console(stream: TextIO) -> Console:
    # Not rich's own test: FORCE_COLOR would put control codes into files.
    return Console(file=stream, force_terminal=stream.isatty(), highlight=False)


def _write(text: str, stream: TextIO) -> None:
    text = CONTROL.sub("\ufffd", text)  # names and tokens are anybody's text
    encoding = stream.encoding or "utf-8"
    # A terminal that cannot show a character must not end a run.
    text = text.encode(encoding, "replace").decode(encoding)
    print(text, file=stream, flush=True)
