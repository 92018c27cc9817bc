"""A real browser opens reports: offline, silent, narrow and dark."""

import re

import browser
import pytest
from made_run import config_of, make
from test_report import HOSTILE

from jaxattn.reports import folder, page


@pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed here")
def test_a_browser_opens_it_offline_and_it_works(tmp_path):
    hostile = make(
        tmp_path / "run",
        words=("<pad>", "<unk>", *HOSTILE),
        ids=[f"{HOSTILE[i % len(HOSTILE)]}{i}"[:200] for i in range(40)],
    )
    path = tmp_path / "words.html"
    path.write_text(page.render([folder.read(hostile)]))
    probe = make(tmp_path / "probe", config_of(values="default_tokens"))
    text = page.render([folder.read(f) for f in (probe, probe)])
    (tmp_path / "probe.html").write_text(text)
    with browser.chromium(tmp_path / "profile") as open_:
        for file in (path, tmp_path / "probe.html"):
            for width in (1280, 400):
                opened = open_(file, width)
                across = "document.documentElement.scrollWidth"
                assert opened.run(across) == width
            assert opened.run("getComputedStyle(document.body).color") != ""
            wide = opened.run("document.querySelector('figure svg').clientWidth")
            assert wide > 400  # it scrolls in a box of its own
        works(open_(path))
        dark = open_(path, dark=True)
        paper = "getComputedStyle(document.body).backgroundColor"
        assert dark.run(paper) == "rgb(22, 27, 33)"
        assert browser.complaints(dark) == []
        assert set(browser.requests(dark)) == {
            file.resolve().as_uri() for file in (path, tmp_path / "probe.html")
        }


def works(opened):
    """The filter hides what does not match; a click on a head sorts by its numbers."""
    count = "[...document.querySelectorAll('.shown')].filter(e => !e.hidden).length"
    whole = opened.run(count)
    assert whole > 1
    first = opened.run("document.querySelectorAll('.shown')[0].textContent")
    name = re.search(r"(\w+)\s*· label", first)
    assert name
    typed = (
        "(() => {{ const e = document.querySelector('input[type=search]'); "
        "e.value = {0!r}; e.dispatchEvent(new Event('input')); }})()"
    )
    opened.run(typed.format(name.group(1)))
    assert 1 <= opened.run(count) < whole
    told = opened.run("document.querySelector('.filter [role=status]').textContent")
    assert told == f"{opened.run(count)} of {whole} examples"
    opened.run(typed.format(""))
    assert opened.run(count) == whole
    opened.run("document.querySelectorAll('table.sorts thead button')[1].click()")
    values = opened.run(
        "[...document.querySelector('table.sorts').tBodies[0].rows]"
        ".map(r => Number(r.cells[1].dataset.order))"
    )
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
