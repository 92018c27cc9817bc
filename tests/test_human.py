"""Maps against what people marked: by hand, by other code, and in a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics
from small_run import WORDS, arguments, draw_nothing, run

from jaxattn.data import tasks
from jaxattn.reports import folder
from jaxattn.reports.results import read_results
from jaxattn.training.cell import Arrays, unpack
from jaxattn.training.evaluation import plausibility

N, T, V = 40, 9, 12
SPLIT = Arrays(
    inputs=np.random.default_rng(0).integers(2, V, (N, T)).astype(np.uint8),
    lengths=np.random.default_rng(1).integers(3, T + 1, N).astype(np.int32),
    labels=np.zeros(N, np.int32),
)
VALID = np.arange(T) < SPLIT.lengths[:, None]
MARKS = np.random.default_rng(2).random((N, T)).round(1).astype(np.float32)


def trapezoids(human, scores):
    precision, recall, _ = metrics.precision_recall_curve(human, scores)
    return metrics.auc(recall, precision)


# Every third example was shown to nobody.
MARKS[::3] = np.nan
MARKS[~VALID] = np.nan
MASKS = np.random.default_rng(3).integers(0, 4, (N, T)) / 4 * VALID
RATED = np.arange(V) % 3 == 0


@jax.jit
def measure(train, test, masks, rated):
    words = plausibility.words_of(unpack(train), rated)
    return plausibility.marked(unpack(test), masks, words)


def marked(evidence, masks=MASKS, split=SPLIT, rated=RATED):
    return measure(split, split._replace(evidence=evidence), jnp.array(masks), rated)


def test_areas_are_those_of_the_other_implementation_over_marked_examples():
    found = marked(MARKS)
    shown = np.isfinite(MARKS).any(axis=1)
    human, valid = np.nan_to_num(MARKS[shown]) >= plausibility.MARKED, VALID[shown]
    both = human.any(axis=1) & (valid & ~human).any(axis=1)
    human, valid = human[both], valid[both]
    position = np.broadcast_to(-np.arange(T, dtype=float), (N, T))
    rankings = {"": MASKS, ":position": position, ":lexicon": RATED[SPLIT.inputs]}
    for name, scores in rankings.items():
        scores = scores[shown][both].astype(float)
        each = [(h[v], s[v]) for h, s, v in zip(human, scores, valid, strict=True)]
        for metric, of_one in (
            ("human_auroc", metrics.roc_auc_score),
            ("human_auprc", trapezoids),
            ("human_ap", metrics.average_precision_score),
        ):
            mean = np.mean([of_one(*example) for example in each])
            assert found[f"{metric}{name}"] == pytest.approx(mean, abs=1e-6)
    chance = (human.sum(axis=1) / valid.sum(axis=1)).mean()
    assert found["human_ap:random"] == pytest.approx(chance, abs=1e-6)
    assert found["human_mass:uniform"] == pytest.approx(chance, abs=1e-6)
    # Of random scores the area by trapezoids is near to chance, from above.
    assert abs(found["human_auprc:random"] - chance) < 0.2


def test_a_map_of_the_marks_is_perfect_and_idf_ranks_by_rarity():
    marks = np.where(VALID, (SPLIT.inputs == 2).astype(np.float32), np.nan)
    masks = np.nan_to_num(marks)
    found = marked(marks, masks)
    for name in ("human_auroc", "human_ap", "human_auprc", "human_mass"):
        assert found[name] == pytest.approx(1)
    # A word of every text is the commonest of all: rarity ranks it last.
    inputs = SPLIT.inputs.copy()
    inputs[:, 0] = 2
    common = SPLIT._replace(inputs=inputs)
    marks = np.where(VALID, np.arange(T) == 0, np.nan).astype(np.float32)
    inputs[:, 1:][inputs[:, 1:] == 2] = 3
    found = marked(marks, masks, common)
    assert found["human_auroc:idf"] == 0
    assert found["human_auroc:position"] == 1


def test_what_nobody_marked_and_what_lies_in_padding_changes_nothing():
    whole, again = marked(MARKS), marked(MARKS, np.where(np.isfinite(MARKS), MASKS, 7))
    for name, value in whole.items():
        if name != "human_mass":  # a share of the whole mask, which is 0 in padding
            assert again[name] == pytest.approx(float(value), abs=1e-6), name


def test_nothing_marked_is_no_number():
    marks = np.where(VALID, 0, np.nan).astype(np.float32)
    found = marked(marks)
    assert all(np.isnan(value) for value in found.values())


def test_vectors_have_no_words_to_rank_by():
    inputs = np.random.default_rng(4).random((N, T, 2)).astype(np.float32)
    bags = SPLIT._replace(inputs=inputs)
    found = marked(MARKS, split=bags, rated=np.zeros(0, bool))
    assert "human_auroc:idf" not in found and "human_auroc:position" in found
    assert np.isfinite(found["human_auroc"])


def test_a_run_says_how_its_maps_lie_to_the_marks(tmp_path, data_dir, monkeypatch):
    draw_nothing(monkeypatch)
    load = tasks.load

    def with_marks(*args):
        made = load(*args)
        test = made.test
        rated = ~np.isnan(made.lexicon)[test.inputs]
        there = np.arange(test.inputs.shape[1]) < test.lengths[:, None]
        evidence = np.where(there, rated, np.nan).astype(np.float32)
        return made._replace(test=test._replace(evidence=evidence))

    monkeypatch.setattr(tasks, "load", with_marks)
    asked = {"methods": "joint uniform", "metrics": "plausibility"}
    small = {"seeds": "2", "epochs": "1"}
    words = arguments(tmp_path / "run", data_dir, WORDS, **asked, **small)
    assert run(*words) == 0
    results = read_results(tmp_path / "run" / "results.csv")
    found = {(r.method, r.metric, r.variant): r for r in results if r.split == "test"}
    assert found["joint", "human_auroc", "lexicon"].mean == pytest.approx(1)
    assert found["uniform", "human_auroc", ""].mean == pytest.approx(0.5)
    assert found["joint", "human_auroc", ""].null == 0.5
    of_random = found["joint", "human_ap", "random"].mean
    assert found["joint", "human_ap", ""].null == of_random
    # On the few examples of `lexicon_auroc` it is the same question.
    near = found["joint", "lexicon_auroc", ""].mean
    assert found["joint", "human_auroc", ""].mean == pytest.approx(near, abs=0.1)
    assert ("uniform", "human_auroc_vs_joint", "") in found
    said = (tmp_path / "run" / "results.md").read_text()
    assert "What people marked, AUROC within each text" in said
    kept = folder.read(tmp_path / "run").masks["movie_sentiment"]["joint"]
    assert kept["evidence"].shape == kept["tokens"].shape
