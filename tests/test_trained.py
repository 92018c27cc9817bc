"""A trained model read back does what it did in its run."""

import doctest
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import own_files
import pytest
import small_run
from flax.traverse_util import flatten_dict
from small_run import ROOT, arguments, draw_nothing, flip, keep_compiled, run

import jaxattn
from jaxattn import inference
from jaxattn.experiment import artifacts
from jaxattn.experiment.wave import Outcome
from jaxattn.inference import run_key
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.reports.results import read_seeds
from jaxattn.system import console

STORED = pathlib.Path(__file__).parent / "stored" / "format-1"
EXPECTED = json.loads((STORED / "expected.json").read_text())
WORDS = small_run.WORDS | {"--seeds": "2"}
BASES = {
    "words": WORDS,
    "probe": small_run.PROBE | {"--seeds": "2", "--methods": "joint uniform"},
    "both": WORDS
    | {
        "--model.values": "inputs_and_default_tokens",
        "--methods": "mask_swap",
        "--model.normalizer": "sparsemax",
    },
    "generated": WORDS
    | {
        "--tasks": "syn4",
        "--methods": "joint",
        "--model.normalizer": "gates",
        "--model.query": "none",
        "--model.selector": "tabular",
        "--model.predictor": "tabular",
        "--data.examples": "2048",
        "--data.test-examples": "256",
        "--also": "model.open_at_first=-0.5",
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_dir):
    """Folder of a finished run, by the name of its base."""
    found = {}

    def of(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name) / "run"
            with pytest.MonkeyPatch.context() as monkeypatch:
                keep_compiled(monkeypatch)
                draw_nothing(monkeypatch)
                words = [*arguments(folder, data_dir, BASES[name]), "--quiet"]
                assert run(*words, "--metrics") == 0
            console.settings.quiet = False
            found[name] = folder
        return found[name]

    return of


def masks_of(folder, method):
    with np.load(folder / "masks" / f"{method}.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize(
    "name, method",
    [
        ("words", "joint"),
        ("words", "mask_swap"),
        ("probe", "joint"),
        ("probe", "uniform"),
        ("probe", "full_text"),
        ("both", "mask_swap"),
        ("generated", "joint"),
        ("generated", "joint@model.open_at_first=-0.5"),
    ],
)
def test_the_test_split_is_read_as_the_run_has_read_it(runs, name, method):
    folder = runs(name)
    kept = masks_of(folder, method)
    label, _, setting = method.partition("@")
    metric = "full_text_accuracy" if label == "full_text" else "accuracy"
    accuracies = {
        row.seed: row.value
        for row in read_seeds(folder / "seeds.csv")
        if (row.method, row.metric, row.variant) == (label, metric, setting)
    }
    assert kept["seeds"].tolist() == sorted(accuracies) == [0, 1]
    for i, seed in enumerate(kept["seeds"]):
        model = jaxattn.load_model(folder, method=method, seed=seed)
        if "tokens" in kept:
            inputs, lengths, labels = kept["tokens"], kept["lengths"], kept["labels"]
        else:
            inputs, labels = kept["inputs"][i], kept["labels"][i]
            lengths = np.full(len(inputs), inputs.shape[1])
        answers, masks = jax.jit(model.apply)(
            model.params, inputs, lengths, run_key(int(seed))
        )
        np.testing.assert_allclose(masks, kept["masks"][i], atol=1e-5)
        np.testing.assert_allclose(np.sum(answers, axis=1), 1, atol=1e-5)
        hits = (np.argmax(answers, axis=1) == labels).mean()
        assert hits == pytest.approx(accuracies[seed], abs=1e-6)
        if model.noisy:
            other = model.apply(model.params, inputs, lengths, run_key(7))[1]
            assert np.abs(other - masks).max() > 0.05


def test_all_seeds_at_once_and_each_alone_are_the_same(runs):
    model = jaxattn.load_model(runs("words"), "movie_sentiment", "mask_swap")
    assert model.seeds == (0, 1) and model.classes == ("negative", "positive")
    tokens, lengths = model.encode(["A fine film.", "dull"])
    assert tokens.shape == (2, 8) and lengths.tolist() == [4, 1]
    assert model.vocabulary[tokens[1, 0]] == "dull" or tokens[1, 0] == 1
    every = jax.jit(jax.vmap(model.apply, (0, None, None)))
    answers, masks = every(model.params, tokens, lengths)
    assert answers.shape == (2, 2, 2) and masks.shape == (2, 2, 8)
    np.testing.assert_allclose(masks.sum(axis=2), 1, atol=1e-6)
    assert not masks[:, 0, 4:].any()
    for i, seed in enumerate(model.seeds):
        one = jaxattn.load_model(runs("words"), method="mask_swap", seed=seed)
        alone = one.apply(one.params, tokens, lengths)
        np.testing.assert_allclose(alone[0], answers[i], atol=1e-6)
        np.testing.assert_allclose(alone[1], masks[i], atol=1e-6)
    swapped = jaxattn.load_model(runs("words"), method="mask_swap", seed=[1, 0])
    assert swapped.seeds == (1, 0)
    np.testing.assert_allclose(
        every(swapped.params, tokens, lengths)[1], masks[::-1], atol=1e-6
    )


def test_the_example_in_the_docstring_is_true(runs, tmp_path, monkeypatch):
    shutil.copytree(runs("words"), tmp_path / "runs" / "reviews")
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(inference)
    assert found.attempted == 6 and found.failed == 0


def test_only_fresh_noise_asks_for_a_key(runs):
    noisy = jaxattn.load_model(runs("probe"), method="joint", seed=0)
    x = np.zeros((1, 8), int)
    with pytest.raises(ValueError, match="fresh noise: give a key") as error:
        noisy.apply(noisy.params, x, [1])
    assert "\n" not in str(error.value)
    flat = jaxattn.load_model(runs("probe"), method="uniform", seed=0)
    assert not flat.noisy and NORMALIZERS["gumbel_softmax"].noisy
    np.testing.assert_allclose(flat.apply(flat.params, x, [1])[1], 0.25, atol=1e-6)


def test_nothing_that_trains_is_imported(runs):
    code = (
        "import sys, jaxattn\n"
        f"m = jaxattn.load_model({str(runs('words'))!r}, seed=0)\n"
        "m.apply(m.params, *m.encode('a film'))\n"
        "names = ['training.step', 'nn.adam', 'methods.weighting', 'experiment']\n"
        "bad = [n for n in names if 'jaxattn.' + n in sys.modules]\n"
        "bad += [n for n in ('optax', 'orbax', 'tyro') if n in sys.modules]\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_room_is_kept(runs, tmp_path, data_dir, monkeypatch, capsys):
    """With less room the first seeds are kept, and no number of the run changes."""
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    whole = runs("words")
    files = {p.relative_to(whole): p for p in whole.glob("models/*/*/*.npz")}
    assert len(files) == 4
    size = sum(p.stat().st_size for p in files.values()) / 2 / 1e9
    for gigabytes, seeds, said in (
        (size, {"0"}, "of the first 1 of 2 seeds"),
        (0, set(), "no parameters are kept (--model-gigabytes 0)"),
    ):
        folder = tmp_path / str(len(seeds))
        words = arguments(folder, data_dir, WORDS)
        more = ["--model-gigabytes", str(gigabytes), "--metrics"]
        assert run(*words, *more) == 0
        assert said in capsys.readouterr().out
        names = {p.relative_to(folder) for p in folder.glob("models/*/*/*.npz")}
        assert names == {name for name in files if name.stem in seeds}
        for name in names:
            assert (folder / name).read_bytes() == files[name].read_bytes()
        assert (folder / "seeds.csv").read_text() == (whole / "seeds.csv").read_text()
    with pytest.raises(ValueError, match="keeps no parameters") as error:
        jaxattn.load_model(folder)
    assert "--model-gigabytes" in str(error.value)
    assert run(*words, "--model-gigabytes", "-1") == 2
    assert "must be 0 or more" in capsys.readouterr().err


def test_seeds_that_diverged_are_not_kept(tmp_path):
    params = {"selector": {"w": np.arange(4.0)}, "predictor": {"b": np.ones((4, 2))}}
    cells = [("joint", 0), ("uniform", 0), ("joint", 1), ("uniform", 1)]
    alive = np.array([True, False, True, True])
    outcome = Outcome(cells, alive, {}, {}, {}, params)
    artifacts.keep(tmp_path, "t", outcome, frozenset([0]))
    (path,) = tmp_path.rglob("*.*")
    assert path == tmp_path / "models" / "t" / "joint" / "0.npz"
    with np.load(path) as stored:
        assert sorted(stored.files) == ["predictor/b", "selector/w"]
        assert stored["selector/w"] == 0


def test_own_data_bring_their_tokenizer(tmp_path, monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "by_space_only.py").write_text("def split(t):\n    return t.split()\n")
    rows = [{"text": r["text"], "label": r["label"]} for r in own_files.records(200)]
    path = own_files.write(tmp_path / "mine.jsonl", rows)
    changes = {"--data": str(path), "--tokenizer": "by_space_only:split"}
    changes |= {"--data.min-count": "1", "--batch-size": "32", "--methods": "joint"}
    changes |= {"--epochs": "1", "--also": "model.temperature=2"}
    folder = tmp_path / "run"
    words = arguments(folder, tmp_path, WORDS | changes)
    assert run(*words, "--metrics") == 0
    model = jaxattn.load_model(folder, method="joint@model.temperature=2")
    assert model.task == "own" and model.words("Fine film, A") == ["Fine", "film,", "A"]
    tokens, _ = model.encode("Fine a,")
    assert [model.vocabulary[i] for i in tokens[0, :2]] == ["Fine", "a,"]
    (tmp_path / "by_space_only.py").unlink()
    monkeypatch.delitem(sys.modules, "by_space_only")
    with pytest.raises(ValueError, match="tokenizer 'by_space_only:split'") as error:
        jaxattn.load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", EXPECTED)
def test_models_of_an_earlier_version_answer_as_they_did(task):
    """Format 1. Never write these files again: what they hold must stay readable."""
    expected = EXPECTED[task]
    model = jaxattn.load_model(STORED, task)
    assert model.method == expected["method"] and model.seeds == (0, 1)
    if "texts" in expected:
        inputs, lengths = model.encode(expected["texts"])
        assert inputs.tolist() == expected["tokens"]
        assert lengths.tolist() == expected["lengths"]
    else:
        inputs, lengths = np.array(expected["inputs"]), np.array(expected["lengths"])
    every = jax.vmap(model.apply, (0, None, None))
    answers, masks = every(model.params, inputs, lengths)
    np.testing.assert_allclose(answers, expected["probabilities"], atol=1e-4)
    np.testing.assert_allclose(masks, expected["masks"], atol=1e-4)
    assert np.ptp(expected["masks"]) > 0.2


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(STORED, tmp_path / "run")
    return tmp_path / "run"


def edit(path, **changes):
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | changes))


METHOD = json.loads((STORED / "models" / "syn1.json").read_text())["methods"]["joint"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"format": 2}, "format 2, and this jaxattn reads up to 1"),
        ({"format": "x"}, "damaged or cut off"),
        ({"methods": {}}, "damaged or cut off"),
        ({"inputs": {"kind": "scalars"}}, "damaged: 'size'"),
        ({"methods": {"joint": {"model": {}}}}, "damaged"),
        (
            {"methods": {"joint": METHOD | {"model": {"depth": 3}}}},
            "damaged: .*unexpected keyword argument 'depth'",
        ),
        (
            {
                "methods": {
                    "joint": METHOD | {"model": METHOD["model"] | {"temperature": -1}}
                }
            },
            "model.temperature = -1: allowed is",
        ),
        (
            {"methods": {"joint": METHOD | {"model": METHOD["model"] | {"hidden": 7}}}},
            r"0.npz does not fit its model: .* expected \(",
        ),
    ],
)
def test_a_description_that_is_not_ours_is_refused(copy, changes, said):
    edit(copy / "models" / "syn1.json", **changes)
    with pytest.raises(ValueError, match=said) as error:
        jaxattn.load_model(copy, "syn1")
    assert "\n" not in str(error.value)


def test_a_field_that_was_not_there_yet_has_its_default(copy):
    model = {k: v for k, v in METHOD["model"].items() if k != "penalty"}
    edit(copy / "models" / "syn1.json", methods={"joint": METHOD | {"model": model}})
    assert jaxattn.load_model(copy, "syn1").seeds == (0, 1)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_noticed(copy, place):
    path = copy / "models" / "syn1" / "joint" / "1.npz"
    with np.load(path) as stored:
        before = {name: stored[name] for name in stored.files}
    flip(path, place)
    try:
        model = jaxattn.load_model(copy, "syn1", seed=1)
    except ValueError as error:
        assert "1.npz" in str(error) and "\n" not in str(error)
    else:
        # A bit of the archive's table that decides nothing.
        after = flatten_dict(model.params, sep="/")
        assert set(after) == set(before)
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="1.npz is damaged: "):
        jaxattn.load_model(copy, "syn1")


def test_what_is_not_there_is_said_in_one_line(copy, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for path, more, said in (
        (tmp_path / "none", {}, "is missing"),
        (tmp_path / "file", {}, "is a file"),
        (tmp_path / "empty", {}, "holds no run"),
        (copy, {}, "several tasks, name one: movie_sentiment, syn1"),
        (copy, {"task": "syn2"}, "perhaps you meant syn1"),
        (copy, {"task": "syn1", "method": "join"}, "perhaps you meant joint"),
        (copy, {"task": "syn1", "seed": 5}, "seed 5: .* has 0, 1"),
        (copy, {"task": "syn1", "seed": (0, 5)}, "seed 5: "),
    ):
        with pytest.raises(ValueError, match=said) as error:
            jaxattn.load_model(path, **more)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="inputs are scalars, not texts"):
        jaxattn.load_model(copy, "syn1").encode("a")
    (copy / "config.json").touch()
    with pytest.raises(ValueError, match="no finished run: run its command again"):
        jaxattn.load_model(copy, "syn1")
    (copy / "results.csv").touch()
    assert jaxattn.load_model(copy, "syn1").task == "syn1"
    shutil.rmtree(copy / "models" / "syn1")
    with pytest.raises(ValueError, match="no parameters were kept there"):
        jaxattn.load_model(copy, "syn1")


def test_scores_from_outside_must_be_given(copy):
    """Methods whose scores are an attribution: the model that is explained gives it."""
    method = METHOD | {"scores": "gradient"}
    fields = method["model"] | {"normalizer": "top_k", "budget": 2.0}
    edit(
        copy / "models" / "syn1.json",
        methods={"joint": method | {"model": fields}},
    )
    model = jaxattn.load_model(copy, "syn1", seed=0)
    x, n = np.ones((2, 11)), np.full(2, 11)
    with pytest.raises(ValueError, match="give scores"):
        model.apply(model.params, x, n)
    scores = np.zeros((2, 11))
    scores[0, [3, 5]] = scores[1, [0, 1]] = 1
    masks = model.apply(model.params, x, n, scores=scores)[1]
    np.testing.assert_array_equal(masks, scores)


def test_random_selections_are_as_random_as_in_the_run(copy):
    fields = METHOD["model"] | {"normalizer": "top_k", "budget": 2.0}
    method = METHOD | {"scores": "random", "model": fields}
    edit(copy / "models" / "syn1.json", methods={"joint": method})
    model = jaxattn.load_model(copy, "syn1", seed=0)
    assert model.noisy
    found = [
        model.apply(model.params, np.ones((20, 11)), np.full(20, 11), run_key(seed))[1]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert (found[0].sum(axis=1) == 2).all() and (found[0].sum(axis=0) > 0).all()
