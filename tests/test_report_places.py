"""Bags with coordinates are drawn as maps."""

import numpy as np
import pytest
from small_run import draw_nothing, run

from jaxattn.reports import examples, page
from jaxattn.reports.examples import choose
from jaxattn.reports.folder import read

GRID = np.array([(x, y) for y in range(4) for x in range(6)])


def test_patches_side_by_side_are_the_cells_of_a_grid():
    at, shape = examples.cells(1000.0 + 224 * GRID[::-1])
    assert shape == (4, 6)
    np.testing.assert_array_equal(at, GRID[::-1, ::-1])
    places = 1000.0 + 224 * GRID[::-1]
    drawn = examples.picture_of(np.arange(24.0), places, spread=False)
    np.testing.assert_array_equal(drawn.ravel(), np.arange(24)[::-1])


def test_where_there_is_no_instance_there_is_nothing():
    places = np.array([[0, 0], [512, 256]])
    drawn = examples.picture_of(np.array([0.25, 0.75]), places, spread=False)
    assert drawn.shape == (2, 3) and np.isnan(drawn).sum() == 4
    assert drawn[0, 0] == 0.25 and drawn[1, 2] == 0.75
    one, shape = examples.cells(np.array([[7, 7]]))
    assert shape == (1, 1) and (one == 0).all()


def test_a_large_plane_is_drawn_coarser_and_loses_no_weight():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1e5, (5000, 2))
    weights = rng.dirichlet(np.ones(5000))
    whole = examples.picture_of(weights, places, spread=False)
    assert max(whole.shape) <= examples.MOST_CELLS + 1
    assert np.nansum(whole) == pytest.approx(1)
    largest = examples.picture_of(weights, places, spread=True)
    assert np.nanmax(largest) == weights.max()


def test_a_run_of_bags_has_maps_on_its_page(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="h5py is an extra: jaxattn[h5]")
    draw_nothing(monkeypatch)
    rng, rows = np.random.default_rng(0), ["slide_id,label"]
    for i in range(60):
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["features"] = rng.normal(size=(12 + i % 12, 3)) * 40
            file["coords"] = 256 * GRID[: 12 + i % 12]
        rows.append(f"s{i},{i % 2}")
    (tmp_path / "slides.csv").write_text("\n".join(rows) + "\n")
    folder = tmp_path / "run"
    words = ["--config", "configs/bags.py", "--data", f"bags:{tmp_path}/slides.csv"]
    words += "--seeds 2 --epochs 1 --batch-size 16 --methods joint".split()
    assert run(*words, "--workdir", str(folder)) == 0
    # Features that are no greys are not kept as pictures.
    assert not (folder / "data/own.npz").exists()
    shown, _ = choose(read(folder), "own")
    assert shown
    for one in shown:
        assert one.strips and [m.name for m in one.maps] == [
            "joint, mean of 2 seeds",
            "joint, spread of 2 seeds",
        ]
        assert "in row" in one.maps[0].told
    assert '<div class="maps">' in page.render([read(folder)])
