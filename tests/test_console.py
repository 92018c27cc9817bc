import contextlib
import io
import logging
import os
import pathlib
import pty
import re
import subprocess
import sys
import textwrap

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxattn.system import console

ROOT = pathlib.Path(__file__).parents[1]
RUN = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from jaxattn.system import console
    with console.bar("joint", 4000) as advance:
        for i in range(4):
            time.sleep(0.15)
            advance(1000, note=f"loss 0.{9 - i}")
            if i == 1:
                console.say("a [red]plain[/red] line: 12")
    console.table(["method", "n"], [["joint", 16]])
"""


def command(code: str = RUN) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), str(ROOT)]


def environ(**variables: str) -> dict[str, str]:
    known = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "COLORTERM")
    kept = {k: v for k, v in os.environ.items() if k not in known}
    return kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | variables


def on_a_terminal(**variables: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(), stdin=theirs, stdout=theirs, stderr=theirs, env=environ(**variables)
    ) as process:
        os.close(theirs)
        chunks = []
        try:
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)
        except OSError:  # Linux: the other end is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return b"".join(chunks).decode()


def test_live_line_on_a_terminal():
    text = on_a_terminal(COLUMNS="80")
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # cursor hidden, shown again
    assert "a [red]plain[/red] line: 12" in text
    assert "compiling" in text and "100 %" in text and "examples/s" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text)
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 80


def test_no_colour_is_honoured():
    assert not re.search(r"\x1b\[(3|4|9)\d", on_a_terminal(NO_COLOR="1"))


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_pipes_get_plain_lines(variables):
    ran = subprocess.run(
        command(), capture_output=True, text=True, env=environ(**variables)
    )
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout + ran.stderr and "\r" not in ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[0] == "a [red]plain[/red] line: 12"
    first, last = ran.stderr.splitlines()
    assert first == "joint    0 %  0:00  compiling"
    assert re.fullmatch(r"joint  100 %  [\d,]+ examples/s  0:00  loss 0.6", last)


def test_a_stream_that_lacks_a_character_does_not_end_the_run():
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from jaxattn.system import console
        console.say("na\\u00efve \\u2501")
        console.error("\\u2501")
        console.table(["m"], [["\\u2501 x"]], "t")
    """
    ran = subprocess.run(
        command(code), capture_output=True, env=environ(PYTHONIOENCODING="ascii")
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith(b"na?ve ?\n") and ran.stderr == b"error: ?\n"


def test_plain_lines_come_every_five_seconds(capsys, monkeypatch):
    """The first call holds the compilation, which is left out of the speed."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.bar("x", 20_000) as advance:
        now[0] += 60.0
        advance(500)
        for _ in range(39):
            now[0] += 1.0
            advance(500, note="")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["x    0 %  0:00  compiling", "x    2 %  1:00"]
    assert lines[2] == "x   15 %  500 examples/s  1:05  0:34 left"
    assert len(lines) == 1 + 1 + 7 + 1  # the last of them is the end
    assert lines[-1] == "x  100 %  500 examples/s  1:39"


def test_the_end_is_written_when_the_run_fails(capsys):
    with pytest.raises(ZeroDivisionError), console.bar("x", 3) as advance:
        advance(note="first")
        raise ZeroDivisionError
    assert capsys.readouterr().err.splitlines()[-1] == "x   33 %  0:00  first"


@hypothesis.given(
    label=st.text("abc_", max_size=90),
    total=st.integers(0, 10**6),
    done=st.integers(0, 10**6),
    note=st.text("xyz ", max_size=90),
)
def test_a_line_never_exceeds_80_columns(label, total, done, note):
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        with console.bar(label, total) as advance:
            advance(done, note)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    # Nothing but completion reads as such.
    assert ("100 %" in lines[-1]) <= (done >= total)


def test_messages_are_shown_for_the_time_of_a_command(capsys):
    logger = logging.getLogger("jaxattn")
    with console.messages_shown():
        logger.info("of data %d " * 20, *range(20))
        logger.warning("odd\nthing")
    logger.info("nobody has asked for this")
    out, err = capsys.readouterr()
    assert err == "warning: odd thing\n"
    assert "of data 19" in out and "nobody" not in out
    assert len(out.splitlines()) == 3 and max(map(len, out.splitlines())) <= 80
    with console.messages_shown(quiet=True):
        logger.info("x")
        logger.warning("x")
    assert capsys.readouterr() == ("", "") and not console.settings.quiet


def test_quiet_silences_all_but_tables_and_errors_of_one_line(capsys, monkeypatch):
    monkeypatch.setattr(console.settings, "quiet", True)
    console.say("x")
    with console.bar("x", 1) as advance:
        advance(1, note="x")
    assert capsys.readouterr() == ("", "")
    console.error(ValueError("a\n  b\t[c]"))
    console.table(["a", "b"], [])
    out, err = capsys.readouterr()
    assert out.split() == ["a", "b"] and err == "error: a b [c]\n"


def test_table(capsys):
    console.table(
        ["method", "n", "accuracy", "note"],
        [["joint", 16, 0.78149, None], ["mask_swap", 1600, float("nan"), "[b]x[/b]"]],
        "Test [split]",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Test [split]"
    assert lines[1].split() == ["method", "n", "accuracy", "note"]
    assert lines[2].split() == ["joint", "16", "0.781", "-"]
    assert lines[3].split() == ["mask_swap", "1,600", "-", "[b]x[/b]"]
    assert lines[2].index("16") + 2 == lines[3].index("1,600") + 5  # right-aligned
    assert lines[2].index("joint") == lines[3].index("mask_swap")


@hypothesis.given(
    st.lists(
        st.lists(
            st.one_of(
                st.text("ab -", max_size=60), st.floats(0, 1), st.integers(0, 10**6)
            ),
            min_size=4,
            max_size=4,
        ),
        max_size=4,
    )
)
def test_a_table_fits_and_keeps_its_numbers(rows):
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        console.table(["a", "b", "c", "d"], rows)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    for column in zip(*rows, strict=True):
        if all(isinstance(value, float) for value in column):
            assert all(f"{value:.3f}" in stream.getvalue() for value in column)
