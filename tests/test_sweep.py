import dataclasses
import math

import jax
import numpy as np
import pytest
from small_run import (
    arguments,
    contents,
    draw_nothing,
    keep_compiled,
    run,
    unlike,
)

from jaxattn import config, train
from jaxattn.experiment import plan, source
from jaxattn.experiment import wave as waves
from jaxattn.experiment.source import Source
from jaxattn.experiment.wave import (
    Shape,
    functions,
    make_splits,
    mesh_of_all_devices,
    stack,
)
from jaxattn.methods import table
from jaxattn.nn.embedding import Inputs
from jaxattn.reports.results import read_results, read_seeds
from jaxattn.training import step
from jaxattn.training.evaluation import measure


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    keep_compiled(monkeypatch)


@pytest.fixture(scope="module")
def sweep(tiny):
    """Two programs, and measurements that need a trained model."""
    return tiny | {"--methods": "joint mask_swap", "--metrics": "agreement"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sweep):
    """The folder of a run of four seeds."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        assert run(*arguments(folder, "x", sweep, seeds="4")) == 0
    return folder


TEXTS = Source("sentiment", Inputs("tokens", 10, 8), ("a", "b"), 64, "digest")
SYN4 = Source(
    "syn4", Inputs("scalars", 1, 11, True), ("0", "1"), 64, "digest", family="syn",
    which=3, control=10, budget=5, known=True,
)  # fmt: skip
GATES = config.Model(
    values="inputs",
    query="none",
    selector="tabular",
    normalizer="gates",
    predictor="tabular",
)


def planned(source=TEXTS, **changes):
    small = config.Config(batch_size=32, seeds=3)
    return plan.plan(dataclasses.replace(small, **changes), source)


def test_methods_of_one_structure_share_a_program():
    names = tuple(m for m in table.METHODS if m not in NEED_MORE)
    programs = planned(methods=names)
    assert [p.label for p in programs] == [
        "2 methods",
        f"{len(names) - 4} methods",
        "random_pretraining_averaged",
        "instance_weighting",
        "full text",
    ]
    cells = [cell for p in programs for cell in p.cells]
    expected = {(m, s) for m in (*names, table.FULL_TEXT) for s in range(3)}
    assert len(cells) == len(set(cells)) and set(cells) == expected
    for program in programs[:-1]:
        for name, _ in program.cells:
            assert table.METHODS[name].structure == program.cell.structure


NEED_MORE = ("invase", "realx", "random_selection", "gradient", "leave_one_out")
"""Methods that the probe of default tokens cannot have."""


@pytest.mark.parametrize("name", NEED_MORE)
def test_methods_that_do_not_fit_are_refused_in_one_line(name):
    with pytest.raises(ValueError, match="need|must be inputs") as error:
        planned(methods=(name,))
    assert "\n" not in str(error.value) and name.split("_")[0] in str(error.value)


def test_tasks_of_a_family_ask_for_the_same_program():
    other = SYN4._replace(task="syn1", which=0, control=-1, budget=2)
    one, two = (planned(s, methods=("joint",), model=GATES)[0] for s in (SYN4, other))
    assert one.structure == two.structure
    assert hash(one.structure) == hash(two.structure)
    assert one.cell.evaluated and not planned()[0].cell.evaluated


def test_settings_are_cells_of_the_same_program():
    also = ("model.penalty=0.1", "optimizer.learning_rate=0.5")
    (program,) = planned(SYN4, methods=("joint",), model=GATES, also=also, seeds=2)
    labels = ["joint", *(f"joint@{setting}" for setting in also)]
    assert [label for label, _ in program.cells] == 2 * labels
    cells = list(program.cells)[:3] * mesh_of_all_devices().size
    stacked = stack(program, cells, mesh_of_all_devices())
    stacked = jax.tree.map(lambda x: x[:3], stacked)
    base = config.Config()
    np.testing.assert_allclose(stacked.config.model.penalty, [0, 0.1, 0])
    rates = [base.optimizer.learning_rate] * 2 + [0.5]
    np.testing.assert_allclose(stacked.config.optimizer.learning_rate, rates)
    # The task's own number of evidence positions, where nothing else is asked.
    np.testing.assert_array_equal(stacked.config.model.budget, 5)
    np.testing.assert_array_equal(stacked.control, 10)


def test_a_subset_needs_a_size():
    model = config.Model(values="inputs", normalizer="top_k")
    with pytest.raises(ValueError, match="give --model.budget"):
        planned(model=model)
    assert planned(model=dataclasses.replace(model, budget=3.0))


def test_the_reference_sees_words_without_noise():
    reference = planned()[-1].cell
    assert reference.config.model.values == "inputs"
    assert reference.config.model.normalizer == "softmax"
    assert reference.config.epochs == config.Config().full_text_epochs
    assert reference.structure == table.Structure()
    words = planned(model=config.Model(values="inputs"))
    assert table.FULL_TEXT not in {m for p in words for m, _ in p.cells}


def test_seeds_count_from_the_first():
    (program, _) = planned(methods=("joint",), first_seed=5, seeds=2)
    assert program.cells == (("joint", 5), ("joint", 6))


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ValueError, match="batch_size = 65: .* only 64 examples"):
        planned(batch_size=65)


def test_a_program_is_traced_once_for_all_its_waves(monkeypatch, tmp_path, tiny):
    monkeypatch.undo()  # this one compiles
    draw_nothing(monkeypatch)
    counts = {"init": 0, "chunk": 0, "measure": 0}

    def counted(module, name):
        function = getattr(module, name)

        def wrapped(*given):
            counts[name] += 1
            return function(*given)

        monkeypatch.setattr(module, name, wrapped)

    counted(step, "init")
    counted(step, "chunk")
    counted(measure, "measure")
    words = arguments(tmp_path / "run", "x", tiny, seeds="5", methods="joint,uniform")
    assert run(*words) == 0
    assert len(list((tmp_path / "run/checkpoints").glob("*/*.npz"))) == 5
    assert counts == {"init": 1, "chunk": 1, "measure": 1}


def test_another_learning_rate_is_the_same_program(tiny):
    """Numbers are arguments: nothing in the program may depend on their values."""
    mesh = mesh_of_all_devices()
    given = train.parse(arguments("x", "x", tiny)).config
    texts = source.load(given, "own", source.Loading())
    splits = make_splits(texts, mesh)

    def text(**numbers):
        words = arguments("x", "x", tiny, **numbers)
        program, *_ = plan.plan(train.parse(words).config, texts)
        cells = stack(program, [program.cells[0]] * 2, mesh)
        init, chunk, _ = functions(mesh, Shape(1))
        state = jax.eval_shape(init, cells)
        return chunk.lower(state, cells, splits.stored).as_text()

    changed = {
        "optimizer__learning_rate": "0.5",
        "model__temperature": "2",
        "random_masks__high": "4",
        "first_seed": "7",
        "seeds": "1",
    }
    assert text() == text(**changed)


def test_the_same_command_gives_the_same_bytes(whole, sweep, tmp_path):
    folder = tmp_path / "again"
    assert run(*arguments(folder, "x", sweep, seeds="4")) == 0
    assert unlike(contents(folder), contents(whole)) == []
    for figure in (whole / "figures").iterdir():
        assert (folder / "figures" / figure.name).read_bytes() == figure.read_bytes()


def numbers(folder, seed):
    """Of one seed, without what compares it with the other seeds."""
    rows = read_seeds(folder / "seeds.csv")
    own = [row for row in rows if row.seed == seed and "seed_" not in row.metric]
    return {row[:-1]: row.value for row in own}


def close(one, among):
    """All numbers of the first are among the others, but for the last digits."""
    wanted = {key: among[key] for key in one}
    assert one == pytest.approx(wanted, abs=1e-5)


def test_a_seed_alone_equals_the_seed_among_others(monkeypatch, whole, sweep, tmp_path):
    draw_nothing(monkeypatch)
    folder = tmp_path / "alone"
    words = arguments(folder, "x", sweep, seeds="1", first_seed="3")
    assert run(*words) == 0
    one, among = numbers(folder, 3), numbers(whole, 3)
    assert set(one) == set(among) and len(one) > 20
    close(one, among)
    with np.load(folder / "masks/joint.npz") as a:
        with np.load(whole / "masks/joint.npz") as b:
            np.testing.assert_allclose(a["masks"][0], b["masks"][3], atol=1e-5)


def test_seeds_differ(whole):
    rows = read_seeds(whole / "seeds.csv")
    own = [r for r in rows if (r.method, r.metric, r.variant) == ("joint", "nll", "")]
    assert len({row.value for row in own if row.split == "test"}) == 4


def test_a_method_alone_equals_the_method_among_others(
    monkeypatch, whole, sweep, tmp_path
):
    draw_nothing(monkeypatch)
    folder = tmp_path / "alone"
    words = arguments(folder, "x", sweep, seeds="2", methods="mask_swap")
    assert run(*words) == 0
    one, among = numbers(folder, 1), numbers(whole, 1)
    assert any(key[1] == "mask_swap" for key in one)
    close(one, among)


def test_how_many_run_side_by_side_does_not_matter(monkeypatch, tmp_path, tiny):
    draw_nothing(monkeypatch)
    folders = [tmp_path / lane for lane in ("1", "2")]
    for folder in folders:
        words = arguments(folder, "x", tiny, lane=folder.name, methods="joint uniform")
        assert run(*words) == 0
    for seed in range(2):
        one, two = (numbers(folder, seed) for folder in folders)
        assert set(one) == set(two)
        close(one, two)


def diverge(monkeypatch, *cells):
    """Gives these cells a learning rate that is no number."""
    stack = waves.stack

    def with_nan(program, wanted, mesh):
        stacked = stack(program, wanted, mesh)
        old = stacked.config.optimizer.learning_rate
        rate = np.array(old)
        for i, cell in enumerate(wanted):
            if cell in cells:
                rate[i] = math.nan
        rate = jax.device_put(rate, old.sharding)
        path = "optimizer.learning_rate"
        swept = config.replaced(stacked.config, path, rate)
        return dataclasses.replace(stacked, config=swept)

    monkeypatch.setattr(waves, "stack", with_nan)


def test_a_cell_that_diverges_is_named_and_left_out(
    monkeypatch, capsys, whole, sweep, tmp_path
):
    folder = tmp_path / "run"
    diverge(monkeypatch, ("joint", 2))
    assert run(*arguments(folder, "x", sweep, seeds="4")) == 0
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    said = "Diverged, frozen and left out of every mean: joint seed 2."
    assert said in " ".join(out.split())
    assert said in (folder / "results.md").read_text()
    assert "| joint | 3 |" in (folder / "results.md").read_text()
    assert "| mask_swap | 4 |" in (folder / "results.md").read_text()
    assert "3 of 4 seeds" in out
    results = {
        (r.method, r.metric, r.variant): r for r in read_results(folder / "results.csv")
    }
    for (method, metric, _), result in results.items():
        paired = metric == "accuracy_vs_joint"
        assert result.n_seeds == (3 if method == "joint" or paired else 4)
        assert math.isfinite(result.mean), (method, metric)
    # The others do not notice.
    for seed in range(4):
        one, other = numbers(folder, seed), numbers(whole, seed)
        for key, value in other.items():
            if key[1:3] != ("joint", 2):
                assert one[key] == value, key
    with np.load(folder / "checkpoints/program-0/joint-2.npz") as wave:
        cells = list(zip(wave["methods"], wave["seeds"], strict=True))
        dead = [c for c, ok in zip(cells, wave["alive"], strict=True) if not ok]
    assert dead == [("joint", 2)]


def test_all_cells_may_diverge(monkeypatch, capsys, tmp_path, sweep):
    folder = tmp_path / "run"
    cells = [(m, s) for m in ("joint", "mask_swap") for s in range(2)]
    diverge(monkeypatch, *cells)
    assert run(*arguments(folder, "x", sweep), "--json") == 0
    out, err = capsys.readouterr()
    assert "Traceback" not in err and "Warning" not in err
    assert all(f"{m} seed {s}" in " ".join(out.split()) for m, s in cells)
    for result in read_results(folder / "results.csv"):
        if result.method in ("joint", "mask_swap"):
            assert result.n_seeds == 0 and math.isnan(result.mean)


def test_a_huge_learning_rate_does_not_end_the_run(
    monkeypatch, capsys, tmp_path, sweep
):
    draw_nothing(monkeypatch)
    folder = tmp_path / "run"
    assert run(*arguments(folder, "x", sweep, optimizer__learning_rate="1000")) == 0
    assert "Traceback" not in capsys.readouterr().err
    lines = contents(folder)["metrics.jsonl"]
    assert len(lines) == 2 * 3
