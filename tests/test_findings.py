import dataclasses
import math

import pytest

from jaxattn.config import Config, Model
from jaxattn.metrics import definitions
from jaxattn.reports import findings
from jaxattn.reports.results import Result

MAJORITY = 0.51


def result(method, metric, mean, width=0.01, null=math.nan, split="test", n=16):
    low, high = mean - width, mean + width
    defined = definitions.metric(metric)
    return Result(
        "movie_sentiment", method, metric, "", split, n, mean, low, high, null,
        defined.unit, defined.direction,
    )  # fmt: skip


def accuracy(method, mean, width=0.01):
    return result(method, "accuracy", mean, width, MAJORITY)


def trained(method, mean, width=0.01, nll=0.693):
    """Accuracy, and an NLL beside the entropy of 0.693."""
    return [
        accuracy(method, mean, width),
        result(method, "nll", nll, 0.001, null=0.693),
    ]


def said(*results, diverged=(), missing=0, config=None):
    config = config or Config()
    return findings.sentences(config, list(results), list(diverged), missing)


def about(sentences, words):
    return [s for s in sentences if words in s]


def values(name):
    return dataclasses.replace(Config(), model=Model(values=name))


def test_where_nothing_is_to_be_said_nothing_is():
    for name in ("default_tokens", "inputs", "inputs_and_default_tokens"):
        assert said(result("joint", "leak_bits", 0.2), config=values(name)) == []


def test_joint_is_compared_with_majority_and_words():
    (sentence,) = said(
        accuracy("joint", 0.72),
        result("full_text", "full_text_accuracy", 0.75),
        result("joint", "leak_share", 0.31),
    )
    assert "4 meaningless tokens" in sentence and "0.720 [0.710, 0.730]" in sentence
    assert "majority 0.510, the words 0.750 (96% of it)" in sentence
    assert "31% of the label's bits" in sentence


@pytest.mark.parametrize("mean, low", [(0.50, True), (0.51, True), (0.55, False)])
def test_where_joint_learns_nothing_no_shortcut_is_claimed(mean, low):
    # Its interval must lie above the majority.
    (sentence,) = said(accuracy("joint", mean, 0.02))
    assert ("no shortcut was learnt" in sentence) == low
    assert ("meaningless tokens predicts" in sentence) == (not low)
    assert "majority 0.510" in sentence


@pytest.mark.parametrize(
    "mean, width, nll, closed",
    [
        (0.51, 0.01, 0.693, True),
        (0.49, 0.01, 0.693, True),  # always the smaller class is below the majority
        (0.51, 0.0399, 0.693, True),
        (0.51, 0.0401, 0.693, False),  # the whole interval, not the mean
        (0.56, 0.001, 0.693, False),
        (0.72, 0.01, 0.60, False),
        (0.51, 0.01, 0.7129, True),
        (0.51, 0.01, 0.7131, False),
        (0.51, 0.01, 0.6729, False),
        (0.28, 0.01, 1.5, False),  # worse than chance is knowing something
    ],
)
def test_a_shortcut_is_closed_where_interval_and_nll_are_those_of_nothing(
    mean, width, nll, closed
):
    sentences = said(*trained("mask_swap", mean, width, nll))
    assert bool(about(sentences, "Shortcut closed")) == closed
    assert bool(about(sentences, "Shortcut not closed")) == (not closed)
    assert "mask_swap" in sentences[0]


def test_the_threshold_is_the_one_stated():
    assert (findings.CLOSED, findings.FLAT) == (0.04, 0.02)
    (sentence,) = said(*trained("mask_swap", 0.51))
    assert "at most 0.04 above the majority" in sentence
    assert "within 0.02 nats of the label entropy" in sentence


def test_remedies_with_an_nll_are_judged_and_nothing_else():
    assert about(said(accuracy("mask_swap", 0.51)), "Shortcut closed") == []
    sentences = said(*trained("joint", 0.51), *trained("uniform", 0.51))
    assert about(sentences, "Shortcut") == []


def test_closed_and_open_are_listed_apart():
    sentences = said(
        *trained("mask_swap", 0.50),
        *trained("random_pretraining", 0.65, nll=0.65),
        *trained("mask_mix", 0.52),
    )
    (closed,) = about(sentences, "Shortcut closed")
    (not_closed,) = about(sentences, "Shortcut not closed")
    assert "mask_swap" in closed and "mask_mix" in closed
    assert "random_pretraining" in not_closed and "mask" not in not_closed


def test_one_seed_has_no_interval_and_is_judged_by_its_mean():
    one, nll = trained("mask_swap", 0.53, math.nan)
    (closed,) = about(said(one, nll), "Shortcut closed")
    assert "mask_swap 0.530." in closed and "nan" not in closed
    high = one._replace(mean=0.56)
    assert about(said(high, nll), "not closed")
    joint = accuracy("joint", 0.7, math.nan)
    assert "accuracy 0.700; majority 0.510" in said(joint)[0]


def test_a_method_whose_seeds_have_all_diverged_is_not_judged():
    nothing = accuracy("mask_swap", math.nan, math.nan)
    sentences = said(nothing, diverged=[("mask_swap", 0)])
    assert about(sentences, "Shortcut") == [] and "nan" not in str(sentences)


def weighting(ess, overlap, method="instance_weighting", split="test"):
    other = "train" if split == "test" else "test"
    return [
        result(method, "ess_share", 0.9, split=other),
        result(method, "overlap_share", 0.9, split=other),
        result(method, "ess_share", ess, split=split),
        result(method, "overlap_share", overlap, split=split),
    ]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "ess, overlap, cannot",
    [
        (0.60, 0.90, False),
        (0.10, 0.50, False),
        (0.0999, 0.90, True),
        (0.60, 0.4999, True),
        (0.01, 0.01, True),
    ],
)
def test_weighting_that_cannot_work_is_said(ess, overlap, cannot, split):
    sentences = said(*weighting(ess, overlap, split=split))
    assert len(sentences) == len(about(sentences, "cannot work here")) == cannot
    if cannot:
        assert f"effective sample size {ess:.0%}" in sentences[0]
        assert f"{overlap:.0%} of examples with overlap" in sentences[0]
        assert "--model.temperature" in sentences[0] and "mask_swap" in sentences[0]


def test_only_methods_that_weigh_are_judged_for_it_whatever_the_values_are():
    nothing = [r._replace(mean=math.nan) for r in weighting(1.0, 1.0)]
    assert said(*nothing) == []
    assert about(said(*weighting(0.01, 0.01, "mask_swap")), "cannot work") == []
    for name in ("default_tokens", "inputs", "inputs_and_default_tokens"):
        sentences = said(*weighting(0.05, 0.9), config=values(name))
        assert about(sentences, "cannot work here")


def test_diverged_seeds_are_named():
    sentences = said(accuracy("joint", 0.7), diverged=[("joint", 3), ("mask_swap", 11)])
    (sentence,) = about(sentences, "Diverged")
    assert "joint seed 3, mask_swap seed 11" in sentence
    assert "left out of every mean" in sentence and "learning-rate" in sentence
    assert about(said(accuracy("joint", 0.7)), "Diverged") == []


@pytest.mark.parametrize("seeds, few", [(1, True), (7, True), (8, False), (16, False)])
def test_few_seeds_are_remarked_on(seeds, few):
    # It is the fewest that counts: some may have diverged.
    joint = accuracy("joint", 0.7)._replace(n_seeds=seeds)
    sentences = about(said(joint, accuracy("uniform", 0.51)), "Only")
    assert len(sentences) == few
    if few:
        assert f"Only {seeds} seed{'s' * (seeds > 1)} " in sentences[0]
        assert "no fewer than 8" in sentences[0]


def test_an_unfinished_run_says_so_first():
    sentences = said(accuracy("joint", 0.7), missing=12)
    assert sentences[0].startswith("Unfinished: 12 cells")
    assert about(said(accuracy("joint", 0.7)), "Unfinished") == []


@pytest.mark.parametrize("mean, above", [(0.65, True), (0.52, False)])
def test_pretraining_is_explained_where_something_is_left(mean, above):
    nll = result("random_pretraining", "nll", 0.69, null=0.693)
    sentences = said(accuracy("random_pretraining", mean, 0.02), nll)
    assert bool(about(sentences, "stays above the majority")) == above


def test_over_words_the_cost_against_joint_is_what_counts():
    sentences = said(
        accuracy("joint", 0.75),
        accuracy("mask_swap", 0.74),
        result("mask_swap", "accuracy_vs_joint", -0.012, 0.005, 0.0),
        result("joint", "lexicon_mass", 0.2, 0.01, 0.1),
        config=values("inputs"),
    )
    bags = said(accuracy("joint", 0.75), config=values("inputs"))
    assert "with attention over the inputs; majority" in bags[0]
    assert "0.750 [0.740, 0.760] with attention over the words" in sentences[0]
    (cost,) = about(sentences, "against joint")
    assert "mask_swap -0.012 [-0.017, -0.007]" in cost
    assert about(sentences, "Shortcut") == []


def test_with_one_seed_no_interval_of_the_cost_is_printed():
    lone = result("mask_swap", "accuracy_vs_joint", -0.012, math.nan, 0.0)
    assert "nan" not in str(said(lone, config=values("inputs")))


def test_in_competition_the_mass_on_default_tokens_is_what_counts():
    sentences = said(
        result("joint", "default_token_mass", 0.41, null=0.11),
        result("mask_swap", "default_token_mass", 0.12, null=0.11),
        config=values("inputs_and_default_tokens"),
    )
    (mass,) = about(sentences, "meaningless default tokens")
    assert "0.110 if uniform" in mass
    assert "joint 0.410 [0.400, 0.420]; mask_swap 0.120" in mass


def test_every_sentence_is_one_line_and_ends():
    sentences = said(
        accuracy("joint", 0.72)._replace(n_seeds=3),
        *trained("mask_swap", 0.50),
        *trained("random_pretraining", 0.65),
        *weighting(0.01, 0.2),
        diverged=[("joint", 0)],
        missing=2,
    )
    assert len(sentences) == 8
    assert all(s.endswith(".") and "\n" not in s for s in sentences)


def known(method, own, right, control=None):
    null = 0.52
    rows = [
        result(method, "accuracy", own, null=null),
        result(method, "true_mask_accuracy", right, null=null),
    ]
    if control is not None:
        rows.append(result(method, "control_rate", control, null=0.3))
    return rows


def test_a_predictor_that_reads_a_code_is_named():
    rows = known("joint", 0.68, 0.58, 0.6) + known("mask_swap", 0.66, 0.65, 1.0)
    sentences = said(*rows, config=values("inputs"))
    (joint,) = about(sentences, "joint: accuracy 0.680")
    assert "under the true mask" in joint and "it reads a code" in joint
    assert "control feature shown in 60% of masks" in joint
    (swap,) = about(sentences, "mask_swap: accuracy 0.660")
    assert "code" not in swap


def test_faithfulness_is_told_where_a_model_is_explained():
    rows = []
    for method, kept in (("joint", 0.9), ("mask_swap", 0.8)):
        rows += [
            result(method, "post_hoc_accuracy", kept, null=0.7),
            result(method, "evalx_accuracy", kept - 0.1, null=0.6),
        ]
    (sentence,) = about(
        said(*rows, config=values("inputs")), "the selection alone gives"
    )
    assert "0.700" in sentence and "joint 0.900" in sentence and "0.700 [" in sentence
