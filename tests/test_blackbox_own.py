"""Explaining functions of the user's: asked once, checked, shown what is selected."""

import dataclasses
import logging
import sys

import jax
import numpy as np
import own_black_box
import own_files
import pytest
import small_run
from small_run import arguments, draw_nothing, keep_compiled, run

from jaxattn import train
from jaxattn.config import Config, Data, check
from jaxattn.data import splits
from jaxattn.data.dataset import Dataset, Split
from jaxattn.experiment import after_training, source, user_black_box
from jaxattn.experiment.plan import check_names, plan
from jaxattn.experiment.source import check_fit
from jaxattn.experiment.wave import Outcome
from jaxattn.reports.results import read_seeds
from jaxattn.training.evaluation.post_hoc import as_many

VOCABULARY = ("<pad>", "<unk>", *own_black_box.EVIDENCE, "film", "a")
T = 5


def make_split(n, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, T + 1, n).astype(np.int32)
    inputs = rng.integers(1, len(VOCABULARY), (n, T)).astype(np.uint8)
    inputs[np.arange(T) >= lengths[:, None]] = 0
    labels = rng.integers(0, 2, n).astype(np.int32)
    truth = np.ones((n, T), bool)
    return Split(inputs, lengths, labels, np.arange(n).astype(str), truth)


DATA = Dataset(
    name="movie_sentiment",
    classes=("bad", "good"),
    vocabulary=VOCABULARY,
    kind=np.ones(len(VOCABULARY), np.uint8),
    lexicon=np.full(len(VOCABULARY), np.nan, np.float32),
    train=make_split(64, 0),
    validation=make_split(20, 1),
    test=make_split(30, 2),
    cut={},
    digest="tiny",
)
ARRAYS = DATA._replace(
    vocabulary=(),
    **{
        side: getattr(DATA, side)._replace(
            inputs=np.random.default_rng(i).random((n, T, 3), np.float32)
        )
        for i, (side, n) in enumerate((("train", 64), ("validation", 20), ("test", 30)))
    },
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(user_black_box, "PART", 16)
    own_black_box.asked.clear()


def config_of(function="words", methods=("joint",), **changes):
    given = {"black_box": f"own_black_box:{function}", **changes}
    return Config(tasks=("explain_own",), methods=methods, data=Data(**given))


def explained(function="words", methods=("joint",), cache=None, dataset=DATA):
    return user_black_box.explained(config_of(function, methods), dataset, cache)


def texts_of(split):
    return [" ".join(VOCABULARY[i] for i in row if i) for row in split.inputs]


def test_labels_are_its_answers_and_it_is_asked_once():
    made, box = explained()
    for side in splits.SPLITS:
        split, old = getattr(made, side), getattr(DATA, side)
        expected = own_black_box.words(texts_of(old))
        np.testing.assert_allclose(split.targets, expected, atol=1e-6)
        np.testing.assert_array_equal(split.labels, expected.argmax(axis=1))
        assert split.attributions == {} and split.truth is None
    rows = 64 + 20 + 30
    # Then a few once more, and here for what is expected.
    assert sum(own_black_box.asked) == rows + user_black_box.REPEATED + rows
    assert max(own_black_box.asked[:-3]) <= 16
    assert box.accuracy == (made.test.labels == DATA.test.labels).mean()
    assert made.classes == DATA.classes and made.digest != DATA.digest
    assert f"has accuracy {box.accuracy:.3f}" in box.told


def test_leave_one_out_is_what_the_weights_say():
    made, _ = explained(methods=("joint", "leave_one_out"))
    for side in splits.SPLITS:
        split = getattr(made, side)
        found = split.attributions["leave_one_out"]
        for i, text in enumerate(texts_of(getattr(DATA, side))):
            words = text.split()
            rest = [" ".join(words[:t] + words[t + 1 :]) for t in range(len(words))]
            chosen = split.labels[i]
            less = own_black_box.words(rest)[:, chosen]
            expected = own_black_box.words([text])[0, chosen] - less
            np.testing.assert_allclose(found[i, : len(words)], expected, atol=1e-5)
            assert not found[i, len(words) :].any()


def test_it_may_have_other_classes_than_the_task():
    made, box = explained("three")
    assert made.classes == ("class 0", "class 1", "class 2")
    assert np.isnan(box.accuracy) and box.told == "has other classes than the task"
    np.testing.assert_allclose(made.test.targets.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("function", ["tensor", "pipeline.predict_proba"])
def test_tensors_and_methods_are_functions_too(function):
    if function == "tensor":
        pytest.importorskip("torch")
    made, _ = explained(function)
    assert made.digest == explained()[0].digest


def test_what_is_shown():
    """Words that are kept, in order; in arrays 0 in place of what is not."""
    inputs = np.array([[2, 7, 5, 0, 0]])
    keep = np.array([[True, False, True, True, True]])
    lengths = np.array([3])
    assert user_black_box.shown(DATA, inputs, lengths, keep) == ["good bad"]
    assert user_black_box.shown(DATA, inputs, lengths, ~keep) == ["film"]
    assert user_black_box.shown(DATA, inputs, lengths, keep & False) == [""]
    x = np.arange(1, 11.0).reshape(1, 5, 2)
    found = user_black_box.shown(ARRAYS, x, lengths, keep)
    expected = [[[1, 2], [0, 0], [5, 6], [0, 0], [0, 0]]]
    np.testing.assert_array_equal(found, expected)
    flat = user_black_box.shown(ARRAYS, x[:, :, 0], lengths, keep)
    np.testing.assert_array_equal(flat, [[1, 0, 5, 0, 0]])


def test_arrays_are_given_as_arrays(monkeypatch):
    function = own_black_box.array
    monkeypatch.setattr(own_black_box, "array", lambda x: function(x * 0.12))
    made, _ = explained("array", ("leave_one_out",), dataset=ARRAYS)
    split, old = made.test, ARRAYS.test
    seen = np.arange(T) < old.lengths[:, None]
    whole = np.where(seen[..., None], old.inputs, 0)
    np.testing.assert_allclose(split.targets, own_black_box.array(whole), atol=1e-6)
    less = whole.copy()
    less[:, 0] = 0
    chosen = np.arange(len(less)), split.labels
    drop = split.targets[chosen] - own_black_box.array(less)[chosen]
    found = split.attributions["leave_one_out"][:, 0]
    np.testing.assert_allclose(found, drop, atol=1e-5)


def test_answers_are_kept_until_the_model_changes(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "jaxattn")
    first, _ = explained(cache=tmp_path)
    own_black_box.asked.clear()
    again, _ = explained(cache=tmp_path)
    assert again.digest == first.digest and caplog.messages == []
    assert sum(own_black_box.asked) == user_black_box.REPEATED
    # Another method, another question.
    explained(methods=("leave_one_out",), cache=tmp_path)
    assert "another recipe" in caplog.text
    explained(cache=tmp_path)
    caplog.clear()
    monkeypatch.setitem(own_black_box.EVIDENCE, "film", 3.0)
    changed, _ = explained(cache=tmp_path)
    assert "answers otherwise than before" in caplog.text
    assert changed.digest != first.digest


@pytest.mark.parametrize(
    "function, said",
    [
        ("fails", "rows 0 to 15: RuntimeError: no device was found"),
        ("leaves", "SystemExit: 3"),
        ("scores", r"row 0 is no distribution \(sum 3"),
        ("negative", "is no distribution .* give probabilities, not scores"),
        ("labels", r"shape \[16\], expected \[16, classes\]"),
        ("short", r"shape \[15, 2\], expected \[16, classes\]"),
        ("one_column", r"shape \[16, 1\], expected"),
        ("not_finite", "row 5 is not finite"),
        ("text", "no array of numbers"),
        ("ragged", "no array of numbers"),
        ("random", "gets another answer when it is asked again"),
        ("by_batch", "gets another answer when it is asked again"),
        ("constant", "the same class for every training example"),
        ("number", "number is no function"),
        ("wordz", "no wordz; perhaps you meant words"),
        ("pipeline.predict", "no predict; perhaps you meant predict_proba"),
    ],
)
def test_functions_that_cannot_be_explained(tmp_path, function, said):
    with pytest.raises(ValueError, match=said) as error:
        explained(function, cache=tmp_path)
    assert "\n" not in str(error.value) and "own_black_box" in str(error.value)
    assert not list(tmp_path.iterdir()), "nothing is kept of it"


def test_where_classes_change_between_parts():
    def two_then_three(rows):
        return np.full((len(rows), 2 + (rows[0] != "0")), 1 / (2 + (rows[0] != "0")))

    with pytest.raises(ValueError, match="gave 3 classes for rows from 16, and 2 befo"):
        user_black_box.answers_of(two_then_three, "f", [str(i) for i in range(32)])


@pytest.mark.parametrize(
    "name, files, said",
    [
        ("mymodel", {}, "not of the form MODULE:FUNCTION"),
        (":f", {}, "not of the form"),
        ("m:", {}, "not of the form"),
        ("no_such_module:f", {}, "no module no_such_module in the current folder"),
        ("needs_more:f", {"needs_more": "import no_such_thing"}, "'no_such_thing'"),
        ("wrong:f", {"wrong": "x = ("}, "its module fails: SyntaxError"),
        ("stops:f", {"stops": "raise SystemExit(1)"}, "its module fails: SystemExit"),
        ("m..a:f", {}, "black box m..a:f"),
    ],
)
def test_modules_that_are_not_there_or_fail(tmp_path, monkeypatch, name, files, said):
    for module, text in files.items():
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ValueError, match=said) as error:
        user_black_box.resolve(name)
    assert "\n" not in str(error.value)


def test_a_module_beside_the_command_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_the_command.py").write_text("def f(x):\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert user_black_box.resolve("beside_the_command:f")(0) == 7


def test_leave_one_out_that_would_take_for_ever(monkeypatch):
    monkeypatch.setattr(user_black_box, "LONGEST", 0.0)
    with pytest.raises(ValueError, match="leave it out of --methods"):
        explained(methods=("leave_one_out",))


def test_what_does_not_fit_is_refused():
    top = dataclasses.replace(Config().model, values="inputs", normalizer="top_k")
    config = dataclasses.replace(config_of(methods=("gradient",)), model=top)
    with pytest.raises(ValueError, match="gives answers only: leave it out"):
        check_fit(config, "explain_own")
    data = Data(black_box="a:b", asked_about="digits_pixels")
    config = dataclasses.replace(config, methods=("leave_one_out",), data=data)
    with pytest.raises(ValueError, match="784 positions"):
        check_fit(config, "explain_own")
    with pytest.raises(ValueError, match="needs a model: give --data.black-box"):
        check(Config(tasks=("explain_own",)))
    with pytest.raises(ValueError, match="is for task explain_own"):
        check(Config(data=Data(black_box="a:b")))
    with pytest.raises(ValueError, match="asked_about = 'bag': perhaps you meant bags"):
        check_names(check(config_of(asked_about="bag")))


def test_the_command_line_makes_it_the_task():
    file = str(small_run.ROOT / "configs" / "explain.py")
    words = ["--config", file, "--data.black-box", "my.model:predict"]
    config = train.parse(words).config
    assert config.tasks == ("explain_own",) and config.name == "explain_model"
    assert "gradient" not in config.methods and "leave_one_out" in config.methods
    named = train.parse([*words, "--methods", "joint", "gradient"]).config
    assert named.methods == ("joint", "gradient"), "what was asked for is refused later"
    with pytest.raises(ValueError, match="add it to tasks"):
        train.parse([*words, "--tasks", "bags"])
    # As `also` changes the config of a program.
    tiny = load_tiny(dataclasses.replace(config, batch_size=16))
    assert plan(dataclasses.replace(config, batch_size=16), tiny)


def test_it_may_be_asked_about_data_of_ones_own(tmp_path):
    path = own_files.write(tmp_path / "mine.jsonl", own_files.records(200))
    words = ["--data", str(path), "--data.black-box", "own_black_box:words"]
    words += ["--model.values", "inputs", "--model.normalizer", "top_k"]
    config = train.parse([*words, "--methods", "joint", "--batch-size", "16"]).config
    assert config.tasks == ("explain_own",) and config.data.asked_about == "own"
    assert config.name == "probe_mine_own_black_box"
    found = source.load(config, "explain_own", source.Loading())
    assert found.dataset is not None and found.dataset.name == "explain_own"
    assert found.classes == ("neg", "pos") and found.black_box.accuracy > 0.4
    settings = dataclasses.replace(config, also=("model.budget=3",))
    (program,) = plan(settings, found)
    assert len(program.cells) == 2 * config.seeds


def load_tiny(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source.tasks, "load", lambda *a: DATA)
        data = dataclasses.replace(config.data, black_box="own_black_box:words")
        config = dataclasses.replace(config, data=data)
        return source.load(config, "explain_own", source.Loading())


def test_the_model_is_shown_what_each_cell_selected():
    config = config_of(asked_again=20, methods=("joint",))
    model = dataclasses.replace(
        config.model, values="inputs", normalizer="top_k", features=2, hidden=2
    )
    config = dataclasses.replace(config, model=model, batch_size=16, metrics=())
    tiny = load_tiny(config)
    (program,) = plan(config, tiny)
    (price,) = after_training.prices([program])
    assert "asked 40 times for each of" in price
    masks = np.zeros((3, 30, T), np.uint8)
    masks[0] = 1
    masks[1, :, 0] = 1
    cells = [("joint", 0), ("joint", 1), ("joint", 2)]
    alive = np.array([True, True, False])
    outcome = Outcome(cells, alive, {}, {}, {"masks": masks})
    found = after_training.with_post_hoc_accuracy(program, outcome).measured
    first = texts_of(DATA.test)[:20]
    labels = tiny.dataset.test.labels[:20]
    hits = own_black_box.words([t.split()[0] for t in first]).argmax(axis=1) == labels
    assert found["post_hoc_accuracy"][0] == 1, "all of the input is seen"
    assert found["post_hoc_accuracy"][1] == pytest.approx(hits.mean())
    assert np.isnan(found["post_hoc_accuracy"][2])
    chance = found["post_hoc_accuracy:shuffled"]
    assert chance[0] == 1 and 0 < chance[1] < 1
    none = dataclasses.replace(
        config, data=dataclasses.replace(config.data, asked_again=0)
    )
    (program,) = plan(none, tiny)
    assert after_training.prices([program]) == []


def test_chance_selects_as_many():
    rng = np.random.default_rng(0)
    valid = np.arange(T) < rng.integers(1, T + 1, 50)[:, None]
    selected = valid & (rng.random((50, T)) < 0.5)
    drawn = np.asarray(as_many(jax.random.key(3), selected, valid))
    assert not (drawn & ~valid).any() and (drawn != selected).any()
    np.testing.assert_array_equal(drawn.sum(axis=1), selected.sum(axis=1))


def test_a_run_explains_it_and_goes_on(tmp_path, data_dir, monkeypatch, capsys):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    monkeypatch.setattr(user_black_box, "PART", 1000)
    base = small_run.WORDS | {
        "--data.black-box": "own_black_box:words",
        "--tasks": "explain_own",
        "--methods": "leave_one_out",
        "--seeds": "2",
        "--epochs": "2",
        "--model.normalizer": "top_k",
        "--model.budget": "2",
        "--also": "model.budget=3",
        "--data.asked-again": "200",
    }
    folder = tmp_path / "run"
    words = [*arguments(folder, data_dir, base), "--metrics"]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "has accuracy 0." in out and "asked 400 times for each of 4 cells" in out
    found = {
        (r.method, r.metric, r.variant): r.value
        for r in read_seeds(folder / "seeds.csv")
        if r.seed == 1
    }
    # Two words decide nearly always, and leaving one out finds them.
    best = found["leave_one_out", "post_hoc_accuracy", ""]
    assert best > 0.9
    assert found["leave_one_out", "post_hoc_accuracy", "model.budget=3"] > 0.9
    assert best > found["leave_one_out", "post_hoc_accuracy", "shuffled"]
    assert ("leave_one_out", "gradient_overlap", "") not in found
    assert found["leave_one_out", "leave_one_out_overlap", ""] == 1
    before = (folder / "seeds.csv").read_bytes()
    assert run(*words) == 0
    assert (folder / "seeds.csv").read_bytes() == before
    capsys.readouterr()
    monkeypatch.setitem(own_black_box.EVIDENCE, "film", 5.0)
    assert run(*words) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("error: ") and "was made from other data" in err[-1]
