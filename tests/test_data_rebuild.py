"""The script that rebuilds what is embedded."""

import bz2
import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "launch" / "rebuild_snippets.py"
SPEC = importlib.util.spec_from_file_location("rebuild_snippets", SCRIPT)

assert SPEC is not None and SPEC.loader is not None

rebuild = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rebuild)
HUTTO = rebuild.FOLDER
ARCHIVE = os.environ.get("JAXATTN_VADER_ARCHIVE", "")


def test_notice_names_what_is_shipped():
    notice = (HUTTO / "NOTICE").read_text()
    for name in ("snippets.tsv.bz2", "lexicon.tsv.bz2"):
        found = hashlib.sha256((HUTTO / name).read_bytes()).hexdigest()
        assert f"{found}  {name}" in notice
    assert rebuild.ARCHIVE_SHA256 in notice
    for word in ("Rotten Tomatoes", "Amazon", "New York Times", "Twitter", "Gilbert"):
        assert word in notice
    assert "Permission is hereby granted" in notice and "C.J. Hutto" in notice
    lexicon = bz2.decompress((HUTTO / "lexicon.tsv.bz2").read_bytes()).decode()
    assert lexicon.count("\n") == 7_521  # with the head line
    assert sum(path.stat().st_size for path in HUTTO.iterdir()) < 1_000_000


@pytest.mark.skipif(
    not Path(ARCHIVE).is_file(),
    reason="JAXATTN_VADER_ARCHIVE does not name vaderSentiment-3.3.2.tar.gz",
)
def test_rebuilding_gives_the_shipped_bytes(tmp_path, capsys):
    assert rebuild.main([ARCHIVE, "--output", str(tmp_path / "new")]) == 0
    shipped = {path.name for path in HUTTO.iterdir()} - {"NOTICE"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == shipped
    for name in shipped:
        assert (tmp_path / "new" / name).read_bytes() == (HUTTO / name).read_bytes()
    whole = Path(ARCHIVE).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-1000])
    assert rebuild.main([str(tmp_path / "cut")]) == 2
    assert "cut off" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_rebuild_refuses_another_archive(tmp_path, capsys, content):
    path = tmp_path / "some.tar.gz"
    if content is not None:
        path.write_bytes(content)
    out = tmp_path / "out"
    assert rebuild.main([str(path), "--output", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.startswith("error: ")
    assert str(path) in message and not out.exists()


@pytest.mark.parametrize(
    "escaped, plain",
    [
        ("a &amp; b", "a & b"),
        ("at &amp;#38; t", "at & t"),
        ("&lt;3 &gt;:(", "<3 >:("),
        ("you&amp;#39;d", "you'd"),
        ("R&D &copy; &nothing;", "R&D &copy; &nothing;"),
        ("&amp;lt", "&lt"),
    ],
)
def test_unescape(escaped, plain):
    assert rebuild.unescape(escaped) == plain
