"""What a run writes to the terminal: lines, tables, progress and errors."""

import contextlib
import io
import logging
import math
import os
import re
import sys
import textwrap
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

WIDTH = 80
PLAIN_SECONDS = 5.0
NUMBER = re.compile(r"\s*[-+]?[\d.].*|\s*-?\s*|nan|-?inf")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
settings = types.SimpleNamespace(quiet=False)
"""Of this process: `quiet` silences everything but tables and errors."""

logger = logging.getLogger("jaxattn")


class _ToTerminal(logging.Handler):
    """Writes information to standard output and warnings to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        tell = warn if record.levelno >= logging.WARNING else paragraph
        tell(record.getMessage())


@contextlib.contextmanager
def messages_shown(quiet: bool = False) -> Iterator[None]:
    """Shows on the terminal what modules log to "jaxattn"; afterwards all is as before.

    Every command has it as a decorator. With `quiet` the rest is silenced as well.
    """
    before = settings.quiet, list(logger.handlers), logger.level, logger.propagate
    settings.quiet = quiet or settings.quiet
    logger.handlers = [_ToTerminal()]
    logger.setLevel(logging.INFO)
    # Some packages give the root logger a handler, which would show it again.
    logger.propagate = False
    try:
        yield
    finally:
        settings.quiet, logger.handlers, level, logger.propagate = before
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
    whole: Any = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", **whole)


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
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    grid.title = title and Text(title)
    for i, header in enumerate(headers):
        how: Any = {"overflow": "fold"}
        if all(NUMBER.fullmatch(row[i]) for row in cells):
            # Otherwise a narrow terminal would break numbers before it breaks words.
            widest = max((len(row[i]) for row in cells), default=0)
            how |= {"justify": "right", "min_width": widest}
        grid.add_column(Text(header), **how)
    for row in cells:
        grid.add_row(*map(Text, row))
    written = io.StringIO()
    Console(file=written, width=width, color_system=None).print(grid)
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    return "\n".join(lines).strip("\n")


def markdown_table(aligned: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown, heads first; `aligned` is < or > by column."""
    head, *body = [[text.replace("|", "\\|") for text in row] for row in rows]
    rule = "".join({"<": ":--|", ">": "--:|"}[side] for side in aligned)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *body)]
    return [lines[0], f"|{rule}", *lines[1:]]


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@contextlib.contextmanager
def bar(
    label: str, total: int, unit: str = "examples", note: str = "compiling"
) -> Iterator[Callable[..., None]]:
    """Shows progress over `total` units; `note` stands at its end until another does.

    Yields `advance(units=1, note="")`, to be called with what was done since the last
    call. Speed and the time that is left are told from what follows the first call,
    which holds the compilation. A terminal gets one live line, anything else plain
    lines, at most one in five seconds and one at the end. It goes to standard error.
    """
    terminal = _console(sys.stderr)
    live = terminal.is_terminal and not terminal.is_dumb_terminal
    bars = live and terminal.encoding.startswith("utf")
    label_column, speed_column, rest_column = (
        TextColumn(f"{{task.{part}}}", markup=False, table_column=Column(no_wrap=True))
        for part in ("description", "fields[speed]", "fields[rest]")
    )
    progress = Progress(
        label_column,
        *([BarColumn(None)] if bars else []),
        speed_column,
        TimeElapsedColumn(),
        rest_column,
        console=terminal,
        redirect_stdout=sys.stdout.isatty(),  # a pipe must keep its lines
        speed_estimate_period=86_400,
        get_time=lambda: time.monotonic(),
        disable=settings.quiet or not live,
    )
    terminal.width = min(terminal.width, WIDTH)
    progress.add_task(label[:30], total=total, speed="  0 %", rest=note)
    (task,) = progress.tasks
    written = (-math.inf, -1.0)  # when, and how much was done

    def write(least_seconds: float = 0.0) -> None:
        nonlocal written
        now = time.monotonic()
        if live or settings.quiet or now - written[0] < least_seconds:
            return
        written = now, task.completed
        parts = [task.description, task.fields["speed"], clock(task.elapsed or 0)]
        _write("  ".join([*parts, task.fields["rest"]])[:WIDTH].rstrip(), sys.stderr)

    def advance(units: float = 1, note: str = "") -> None:
        progress.update(task.id, advance=units)
        share = min(1.0, task.completed / total) if total else 1.0
        speed = f"{math.floor(100 * share):3d} %"
        speed += f"  {task.speed:,.0f} {unit}/s" if task.speed else ""
        left = task.time_remaining
        rest = "  ".join(filter(None, [f"{clock(left)} left" if left else "", note]))
        progress.update(task.id, speed=speed, rest=rest)
        write(PLAIN_SECONDS)

    with progress:
        write()
        try:
            yield advance
        finally:
            if written[1] != task.completed:
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
