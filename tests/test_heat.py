import html

import numpy as np
import pytest

import jaxattn
from jaxattn.reports import heatmap


def test_a_heat_map_in_text_and_html(tmp_path):
    words = ["a", "\x1b[31mred", "<b>", "x" * 500, "\N{GRINNING FACE}"]
    weights = {"one": [0, 0.5, -0.25, 0.1, 0.15], "two": np.full(5, 0.2)}
    drawn = jaxattn.show(words, weights, tmp_path / "heat.html")
    lines = repr(drawn).splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in repr(drawn)
    assert "█ .50" in repr(drawn) and "-.25" in repr(drawn) and "· .00" in repr(drawn)
    saved = (tmp_path / "heat.html").read_text()
    assert "&lt;b&gt;" in saved and "<b>" not in saved and "x" * 200 not in saved
    assert html.escape("one") in drawn._repr_html_() and "all alike" in saved
    assert [name for name, _ in jaxattn.show(["a"], [[1], [0]]).rows] == [
        "mask 1",
        "mask 2",
    ]
    for wrong, said in (
        ([0.5], "has shape"),
        ({"m": [np.nan] * 5}, "m has weights that are not finite"),
        ([[["x"]]], "expected"),
        (np.zeros((1, 1, 5)), "expected"),
    ):
        with pytest.raises(ValueError, match=said):
            jaxattn.show(words, wrong)


def test_the_largest_weights_in_words_are_those_of_largest_size():
    (line,) = heatmap.lines(jaxattn.show(list("abcd"), [0.1, -0.9, 0.5, 0.2]))
    assert line.most == "b -0.90, c 0.50, d 0.20"
