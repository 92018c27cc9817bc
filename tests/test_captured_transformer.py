"""The experiment on a transformer's CLS attention, small enough to see that it runs."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxattn

FOLDER = pathlib.Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module")
def experiment():
    sys.path.insert(0, str(FOLDER))
    try:
        import captured_transformer

        yield captured_transformer
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def test_set(experiment, data_dir):
    dataset = jaxattn.load_task("movie_sentiment", 30, data_dir=data_dir)
    return dataset, experiment.reviews(dataset.test, dataset)


def test_reviews_are_framed_and_every_position_has_one_kind(test_set):
    dataset, found = test_set
    size = len(dataset.vocabulary)
    lengths = dataset.test.lengths
    rows = np.arange(len(lengths))
    assert (found.tokens[:, 0] == size).all()
    assert (found.tokens[rows, lengths + 1] == size + 1).all()
    assert ((found.tokens > 0).sum(1) == lengths + 2).all()
    parts = [found.kinds[k] for k in ("[CLS]", "[SEP]", "punctuation", "words")]
    np.testing.assert_array_equal(sum(p.astype(int) for p in parts), found.tokens > 0)
    rated = found.kinds["words that people rated"]
    assert rated.any() and not (rated & ~(parts[2] | parts[3])).any()
    for i, length in ((0, lengths[0]), (7, lengths[7])):
        np.testing.assert_array_equal(
            found.tokens[i, 1 : length + 1], dataset.test.inputs[i, :length]
        )


def test_without_noise_select_and_predict_are_the_model_itself(experiment, test_set):
    dataset, found = test_set
    tokens = jnp.asarray(found.tokens[:8])
    model = experiment.Encoder(len(dataset.vocabulary) + 2)
    params = model.init(jax.random.key(0), tokens)
    batch = tokens, jnp.ones(tokens.shape)
    for noisy in (False, True):
        select, predict = experiment.functions(model, noisy)
        masks = select(params, batch, jax.random.key(1))
        assert (np.asarray(masks)[(tokens == 0)[:, None].repeat(4, 1)] == 0).all()
        np.testing.assert_allclose(masks.sum(-1), 1, atol=1e-5)
        same = np.allclose(
            predict(params, batch, masks), model.apply(params, tokens), atol=1e-5
        )
        assert same == (not noisy)


def test_the_experiment_runs_and_writes_its_page(experiment, data_dir, tmp_path):
    path = experiment.main(
        ["--quick", "--data-dir", str(data_dir), "--out", str(tmp_path)]
    )
    text = path.read_text()
    assert path.name == "RESULTS_CAPTURE.md" and "nan [" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("[SEP]" in line for line in lines) == 2
    for name in ("accuracy", "leak of the CLS row, bits"):
        (line,) = [x for x in lines if x.startswith(f"| {name} |")]
        assert line.count("[") == 1


@pytest.mark.parametrize("kind", ["[CLS]", "words"])
def test_the_null_of_rollout_is_the_rollout_of_uniform_attention(experiment, kind):
    masks = {str(i): jnp.full((1, 2, 4, 4), 1 / 4) for i in range(experiment.LAYERS)}
    rolled = jaxattn.Captured(None, masks, tuple(masks)).rollout()[0, 0]
    place = slice(0, 1) if kind == "[CLS]" else slice(1, 3)
    share = 1 / 4 * (place.stop - place.start)
    null = experiment.flat(share, kind, "rollout")
    np.testing.assert_allclose(rolled[place].sum(), null, rtol=1e-6)
    assert experiment.flat(share, kind, "attention") == share
