import itertools

import numpy as np
import pytest
import small_run
from small_run import (
    PROBE,
    arguments,
    contents,
    draw_nothing,
    keep_compiled,
    run,
    unlike,
)

from jaxattn.experiment import placement
from jaxattn.experiment import wave as waves
from jaxattn.experiment.wave import Shape
from jaxattn.reports.results import read_seeds

# Two methods of one program: four cells with two seeds, two on each device.
WORDS = small_run.WORDS | {"--methods": "joint uniform"}


class Mesh:
    """As much of a mesh as the arithmetic looks at."""

    def __init__(self, size, platform="cpu"):
        self.size = size
        device = type("Device", (), {"platform": platform})()
        self.devices = np.array([device] * size)


class Program:
    label = "program"

    def __init__(self, cells):
        self.cells = [("joint", i) for i in range(cells)]


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data_dir):
    """A run whose four cells take two waves of one cell on each device."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        draw_nothing(monkeypatch)
        assert run(*arguments(folder, data_dir, WORDS, seeds="2")) == 0
    return folder


def alike(folder, other) -> None:
    """Both have the same seeds.csv, but for the last digits."""
    one, two = (
        {row[:-1]: row.value for row in read_seeds(f / "seeds.csv")}
        for f in (folder, other)
    )
    assert set(one) == set(two)
    for key, value in one.items():
        close = 5e-3 if "tau" in key[3] else 1e-5
        assert two[key] == pytest.approx(value, abs=close, nan_ok=True), key


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("lane", [0, 1, 4, 7])
def test_a_guess_has_room_for_all_cells_in_few_waves(lane, platform):
    for cells, devices in itertools.product((1, 3, 64, 1000, 5000), (1, 2, 8)):
        mesh, program = Mesh(devices, platform), Program(cells)
        shape = placement.guess(program, mesh, lane)
        assert 1 <= placement.waves(cells, shape, mesh) <= placement.WAVES
        share = -(-cells // devices)
        assert shape.lane < 2 * share, "not twice as many as there are"
        if lane:
            assert shape.lane <= lane
        elif platform == "cpu":
            assert shape.lane == 1
        else:
            assert shape.lane >= min(share, placement.WIDEST)


def test_halving_ends_at_one_cell():
    shape, seen = Shape(8, 2), []
    while shape is not None:
        seen.append(shape)
        shape = placement.halved(shape)
    assert seen[0] == Shape(8, 2) and seen[-1] == Shape(1, 1)
    cells = [s.lane * s.depth for s in seen]
    assert cells == sorted(cells, reverse=True) and len(set(seen)) == len(seen)


def test_lanes_one_after_another_change_nothing(
    tmp_path, data_dir, monkeypatch, straight
):
    """Two lanes in one call of the program, and two calls."""
    monkeypatch.setattr(placement, "WAVES", 1)
    assert run(*arguments(tmp_path / "lanes", data_dir, WORDS, seeds="2")) == 0
    many, one = (
        list((folder / "checkpoints/program-0").glob("*.npz"))
        for folder in (straight, tmp_path / "lanes")
    )
    assert len(many) == 2 and len(one) == 1
    alike(straight, tmp_path / "lanes")


def out_of_memory(*_, **__):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")


def test_a_lane_that_memory_cannot_hold_is_halved_and_said(
    tmp_path, data_dir, capsys, monkeypatch
):
    compile_training, tried = waves.compile_training, []

    def small_only(job, shape):
        tried.append(shape.lane)
        if shape.lane > 1:
            out_of_memory()
        return compile_training(job, shape)

    monkeypatch.setattr(waves, "compile_training", small_only)
    words = arguments(tmp_path / "run", data_dir, WORDS, lane="2", seeds="2")
    assert run(*words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert tried == [2, 1]
    assert "does not fit into memory with 2 cells side by side: goes on with 1" in out


def test_a_tenth_of_memory_is_left_free(monkeypatch):
    monkeypatch.setattr(waves, "compile_training", lambda job, shape: shape)
    monkeypatch.setattr(placement, "available", lambda mesh: 1000)
    taken = {2: 950, 1: 900}
    monkeypatch.setattr(placement, "memory", lambda shape: taken[shape.lane])
    job = waves.Job(0, Program(2), None, Mesh(1), [])
    assert placement.fitting(job, Shape(2)) == Shape(1, 2)


def test_memory_that_runs_out_in_a_wave_halves_it_and_goes_on(
    tmp_path, data_dir, capsys, monkeypatch, straight
):
    run_wave, failed = waves.run_wave, []

    def fails_once(job, *more, **named):
        if job.compiled.shape.lane > 1 and not failed:
            failed.append(job.compiled.shape)
            out_of_memory()
        return run_wave(job, *more, **named)

    monkeypatch.setattr(waves, "run_wave", fails_once)
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS, lane="2", seeds="2")
    assert run(*words) == 0
    assert failed and "goes on with 1" in " ".join(capsys.readouterr().out.split())
    alike(straight, folder)
    # Two lanes of one cell, one after another: still one wave of four.
    assert len(contents(folder)["metrics.jsonl"]) == 3, "each chunk once"


def test_memory_that_runs_out_in_the_timed_chunk_halves_the_lane(
    tmp_path, data_dir, capsys, monkeypatch
):
    seconds = placement.seconds

    def narrow_only(job):
        if job.compiled.shape.lane > 1:
            out_of_memory()
        return seconds(job)

    monkeypatch.setattr(placement, "seconds", narrow_only)
    folder = tmp_path / "run"
    assert run(*arguments(folder, data_dir, WORDS, lane="2", seeds="2")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "has run out of memory with 2 cells side by side: goes on with 1" in out
    assert (folder / "checkpoints/shapes.json").read_text() == '{"0": [1, 2]}\n'


def test_where_nothing_fits_it_says_so(tmp_path, data_dir, capsys, monkeypatch):
    monkeypatch.setattr(placement, "available", lambda mesh: 1000)
    folder = tmp_path / "run"
    assert run(*arguments(folder, data_dir, WORDS, lane="2")) == 2
    err = capsys.readouterr().err
    assert "with one cell at a time: choose a smaller" in err and err.count("\n") == 1


def test_a_long_program_takes_the_fastest_lane(tmp_path, data_dir, monkeypatch, capsys):
    """The measurement is made up; what follows from it is not."""
    monkeypatch.setattr(placement, "TRIAL_SECONDS", 0.0)
    took = {1: 1.0, 2: 1.2, 4: 4.0}
    monkeypatch.setattr(placement, "seconds", lambda job: took[job.compiled.shape.lane])
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS, lane="0", seeds="2")
    assert run(*words) == 0
    assert (folder / "checkpoints/shapes.json").read_text() == '{"0": [2, 1]}\n'
    assert "2 cells side by side" in capsys.readouterr().out
    # A lane that was asked for is not questioned.
    words = arguments(tmp_path / "asked", data_dir, WORDS, lane="1", seeds="2")
    assert run(*words) == 0
    text = (tmp_path / "asked/checkpoints/shapes.json").read_text()
    assert text == '{"0": [1, 1]}\n'


def test_dry_run_tells_the_plan_and_leaves_nothing(tmp_path, data_dir, capsys):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, PROBE, seeds="4")
    assert run(*words, "--dry-run", "--sweep", "model.hidden=4,8") == 0
    out = capsys.readouterr().out
    assert not folder.exists()
    plan = [line.split() for line in out.splitlines() if " GB " in line]
    assert [line[0] for line in plan] == ["joint", "mask_swap", "joint", "mask_swap",
                                          "full"]  # fmt: skip
    assert [line[-8] for line in plan] == ["4"] * 5, "cells"
    assert "training takes about" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_plan_of_a_finished_run(tmp_path, data_dir, capsys):
    folder = tmp_path / "run"
    words = arguments(folder, data_dir, WORDS)
    assert run(*words) == 0
    before = contents(folder)
    capsys.readouterr()
    assert run(*words, "--dry-run") == 0
    assert "all of its cells are finished" in capsys.readouterr().out
    assert unlike(contents(folder), before) == []
    # What is damaged is named, and stays for the run that will replace it.
    wave = next((folder / "checkpoints/program-0").glob("*.npz"))
    wave.write_bytes(wave.read_bytes()[:-9])
    before = contents(folder)
    assert run(*words, "--dry-run") == 0
    assert "is damaged" in capsys.readouterr().out
    assert unlike(contents(folder), before) == []
