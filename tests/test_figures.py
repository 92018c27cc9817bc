import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from jaxattn.metrics.statistics import mean_interval
from jaxattn.reports.figures import (
    accuracy_by_method,
    codes,
    leak_by_method,
    learning_curves,
    overlap,
)

SVG = "{http://www.w3.org/2000/svg}"
METHODS = [
    "joint", "random_pretraining", "random_pretraining_annealed",
    "instance_weighting", "mask_swap", "random_always", "mask_mix", "uniform",
]  # fmt: skip
RNG = np.random.default_rng(0)
SEEDS = {m: RNG.normal(0.8 - 0.04 * i, 0.01, 16) for i, m in enumerate(METHODS)}
EPOCHS = {m: np.sort(RNG.normal(0.6, 0.1, (16, 9))) for m in METHODS}
MEANS = {m: RNG.dirichlet(np.ones(4), (16, 2)).swapaxes(1, 2) for m in METHODS}


def accuracy(path, values=SEEDS, full_text=(0.8, 0.79, 0.81)):
    intervals = {m: mean_interval(np.ravel(x)) for m, x in values.items()}
    svg = accuracy_by_method(values, intervals, 0.517, full_text, "Accuracy")
    path.write_text(svg)


def leak(path, values=SEEDS):
    null = {m: 0.01 * x for m, x in values.items()}
    path.write_text(leak_by_method(values, null, 1.0, "Leak"))


def curves(path, values=EPOCHS):
    path.write_text(learning_curves(values, "accuracy", "Learning", 0.517))


def code(path, values=MEANS):
    path.write_text(codes(values, ["negative", "positive"], "Codes"))


DRAW = [(accuracy, SEEDS), (leak, SEEDS), (curves, EPOCHS), (code, MEANS)]
each_figure = pytest.mark.parametrize(("draw", "values"), DRAW)


def group(path, gid):
    groups = ElementTree.parse(path).iter(f"{SVG}g")
    return next(g for g in groups if g.get("id") == gid)


def dots(path, gid):
    return len(list(group(path, gid).iter(f"{SVG}use")))


def text(path):
    return {"".join(t.itertext()) for t in ElementTree.parse(path).iter(f"{SVG}text")}


@each_figure
def test_bytes_are_the_same_each_time_and_settings_stay(draw, values, tmp_path):
    before = dict(matplotlib.rcParams)
    draw(tmp_path / "a.svg")
    with matplotlib.rc_context({"svg.hashsalt": "other"}):
        draw(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a.svg").read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.svg", "b.svg"]


@each_figure
def test_every_method_is_named_inside_the_picture(draw, values, tmp_path):
    draw(tmp_path / "a.svg")
    assert set(METHODS) <= text(tmp_path / "a.svg")
    width, height = map(
        float,
        ElementTree.parse(tmp_path / "a.svg").getroot().get("viewBox").split()[2:],
    )
    # No smaller than 9 points at 576 points: 12 pixels in a picture 800 pixels wide.
    assert width == 576 and height < 1.6 * width
    source = (tmp_path / "a.svg").read_text()
    sizes = re.findall(r"(?:font-size|font): (?:\w+ )*([\d.]+)px", source)
    assert sizes and min(map(float, sizes)) >= 9


@each_figure
def test_diverged_seeds_and_methods_do_not_break_it(draw, values, tmp_path):
    broken = {m: x.copy() for m, x in values.items()}
    broken["joint"][3] = np.nan
    broken["uniform"][:] = np.nan
    draw(tmp_path / "a.svg", broken)
    words = " ".join(text(tmp_path / "a.svg"))
    if draw is code:
        assert "diverged" in words
    else:
        assert "(15 of 16 seeds)" in words and "(0 of 16 seeds)" in words


@each_figure
def test_one_seed_can_be_drawn_and_bad_input_is_refused(draw, values, tmp_path):
    draw(tmp_path / "a.svg", {"joint": values["joint"][:1]})
    assert "joint" in text(tmp_path / "a.svg")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(tmp_path / "a.svg", {})
    with pytest.raises(ValueError, match="cannot draw joint: shape"):
        draw(tmp_path / "a.svg", {"joint": values["joint"][0][..., None, None, None]})


def test_one_dot_for_each_finite_seed(tmp_path):
    values = {m: x.copy() for m, x in SEEDS.items()}
    values["mask_mix"][:2] = np.nan
    accuracy(tmp_path / "a.svg", values)
    leak(tmp_path / "b.svg", values)
    for method in METHODS:
        expected = 14 if method == "mask_mix" else 16
        assert dots(tmp_path / "a.svg", f"seeds-{method}") == expected
        assert dots(tmp_path / "b.svg", f"seeds-{method}") == expected
        assert dots(tmp_path / "b.svg", f"null-{method}") == expected


def test_dots_lie_in_order_and_reference_lines_are_named(tmp_path):
    accuracy(tmp_path / "a.svg")
    uses = group(tmp_path / "a.svg", "seeds-joint").iter(f"{SVG}use")
    x = [float(use.get("x")) for use in uses]
    assert np.corrcoef(x, SEEDS["joint"])[0, 1] == pytest.approx(1, abs=1e-6)

    assert {"majority class (0.517)", "attention over the words (0.800)"} <= text(
        tmp_path / "a.svg"
    )
    accuracy(tmp_path / "b.svg", full_text=None)
    assert "words" not in " ".join(text(tmp_path / "b.svg"))


def test_codes_show_the_first_six_seeds_and_say_so(tmp_path):
    code(tmp_path / "a.svg")
    words = text(tmp_path / "a.svg")
    assert {"seed 0", "seed 5", "negative", "positive"} <= words
    assert "seed 6" not in words and "(first 6 of 16 seeds)" in " ".join(words)
    # A method with fewer seeds leaves room.
    code(tmp_path / "a.svg", {"joint": MEANS["joint"], "uniform": MEANS["uniform"][:2]})
    assert "seed 5" in text(tmp_path / "a.svg")


def test_overlap_shows_every_class_and_where_it_would_lie_without_a_leak(tmp_path):
    labels = RNG.integers(0, 2, 400)
    prior = np.bincount(labels) / 400
    said_nothing = np.ones((8, 400))
    path = tmp_path / "overlap.svg"
    path.write_text(overlap(said_nothing, labels, None, ["no", "yes"], "Overlap"))
    assert {f"no ({prior[0]:.3f})", f"yes ({prior[1]:.3f})"} <= text(path)
    assert group(path, "class-0") is not None and group(path, "class-1") is not None
    each = np.broadcast_to(labels, (8, 400))
    of_each_seed = overlap(said_nothing, each, prior, ["no", "yes"], "Overlap")
    assert of_each_seed == path.read_text()
    other = overlap(said_nothing * 3, labels, prior, ["no", "yes"], "Overlap")
    assert other != path.read_text()
