"""What `--metrics` adds, on cells that a whole command has trained."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_run import WORDS, arguments, draw_nothing, run

from jaxattn.config import Config, Data, Model, check
from jaxattn.methods.table import METHODS
from jaxattn.metrics.ranking import auroc, document_frequency
from jaxattn.nn.embedding import Inputs
from jaxattn.reports import folder as folders
from jaxattn.reports import page
from jaxattn.reports.folder import values
from jaxattn.reports.results import read_results
from jaxattn.training.cell import Task, make_cell
from jaxattn.training.evaluation import (
    adversary,
    attention,
    faithfulness,
    plausibility,
)

GROUPS = "agreement plausibility faithfulness attention robustness adversary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_dir):
    """The folder of a run with every group."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr(attention, "EXAMPLES", 64)
        patch.setattr(attention, "ADVERSARIES", 4)
        folder = tmp_path_factory.mktemp("scrutiny") / "run"
        words = arguments(
            folder, data_dir, WORDS, methods="joint uniform", metrics=GROUPS, seeds="2"
        )
        assert run(*words) == 0
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """Means by method, metric and variant."""
    results = read_results(folder / "results.csv")
    kept = [r for r in results if r.split == "test"]
    return {(r.method, r.metric, r.variant): r for r in kept}


def mean(found, method, name):
    metric, _, variant = name.partition(":")
    return found[method, metric, variant].mean


def test_every_group_reports_its_numbers(found):
    for name in (
        "comprehensiveness comprehensiveness:random sufficiency:random decision_flip "
        "decision_flip:gradient decision_flip:product permuted_tvd adversarial_jsd "
        "lexicon_auroc lexicon_auroc:idf lexicon_auroc:position single_weight_js "
        "deletion_area insertion_area gradient_tau leave_one_out_tau ceiling_tau "
        "leave_one_out_tau:attention_fixed gradient_tau:through_attention "
        "gradient_tau:norm gradient_tau:integrated ceiling_tau:integrated lexicon_ap "
        "normalised_sufficiency:random infidelity infidelity:random max_sensitivity "
        "tokens_to_flip tokens_to_flip:random model_adversary_jsd seed_jsd"
    ).split():
        value = mean(found, "joint", name)
        assert np.isfinite(value) and -1 <= value <= 1, name
    for metric in ("comprehensiveness", "sufficiency"):
        for variant in ("ferret", "ferret random"):
            assert -1 <= found["joint", metric, variant].mean <= 1
    for rate in adversary.RATES:
        for name in ("model_adversary_tvd", "model_adversary_accuracy"):
            assert 0 <= found["joint", name, f"rate {rate:g}"].mean <= 1
    for name in (
        *("deletion_area", "insertion_area", "decision_flip", "permuted_tvd"),
        *("infidelity", "max_sensitivity", "seed_jsd", "model_adversary_jsd"),
    ):
        assert mean(found, "joint", name) >= 0
    assert 0 <= mean(found, "joint", "adversarial_jsd") <= np.log(2) + 1e-6


def test_what_is_kept_of_examples_is_what_means_are_made_of(folder):
    """... and the report shows gradients, ratings and removal."""
    read = folders.read(folder)
    (task,) = read.tasks
    kept = read.masks[task]["joint"]
    bits = values(read, task, "joint", "leak_bits")
    assert kept["leak_bits"].mean(axis=1) == pytest.approx(
        list(bits.values()), abs=1e-5
    )
    assert kept["gradient"].shape == (2, 64, 8) and np.isfinite(kept["gradient"]).all()
    lengths = kept["lengths"][kept["gradient_rows"][0]]
    assert not kept["gradient"][:, np.arange(8) >= lengths[:, None]].any()
    for share in (1, 5, 10, 20, 50):
        for name in (f"without {share}%", f"only {share}%", f"only {share}% random"):
            seeds = values(read, task, "joint", f"removal_curve:{name}")
            assert len(seeds) == 2 and all(0 < p < 1 for p in seeds.values())
    text = page.render([read])
    for said in ("gradient times input", "people&#39;s ratings", "random order"):
        assert said in text


def test_uniform_attention_is_the_null_of_itself(found):
    # Equal weights rank nothing, and shuffling them changes nothing.
    assert mean(found, "uniform", "lexicon_auroc") == pytest.approx(0.5, abs=1e-6)
    assert mean(found, "uniform", "permuted_tvd") == pytest.approx(0, abs=1e-5)
    # It does not move, nor can another uniform model attend elsewhere.
    for name in ("max_sensitivity", "seed_jsd", "model_adversary_jsd"):
        assert mean(found, "uniform", name) == pytest.approx(0, abs=1e-6)
    assert found["uniform", "gradient_tau", ""].n_seeds == 0  # undefined: all are tied


def test_rankings_without_a_model_are_the_same_for_every_method(found):
    for variant in ("idf", "position"):
        name = f"lexicon_auroc:{variant}"
        assert mean(found, "joint", name) == mean(found, "uniform", name)


def test_the_null_is_in_the_row(found):
    row = found["joint", "comprehensiveness", ""]
    assert row.null == pytest.approx(mean(found, "joint", "comprehensiveness:random"))
    assert found["joint", "lexicon_auroc", ""].null == 0.5
    ferret = found["joint", "comprehensiveness", "ferret"]
    null = found["joint", "comprehensiveness", "ferret random"]
    assert ferret.null == pytest.approx(null.mean) and np.isnan(null.null)


def cell_of(**model):
    config = Config(
        batch_size=8, data=Data(length=6), model=Model(features=4, hidden=4, **model)
    )
    return make_cell(config, METHODS["joint"], Task(Inputs("tokens", 50, 6), 2, 64))


def test_it_applies_to_attention_over_words_only():
    assert attention.applies(cell_of(values="inputs", normalizer="softmax"))
    assert attention.applies(cell_of(values="inputs", normalizer="sparsemax"))
    assert not attention.applies(cell_of())  # default tokens
    assert not attention.applies(cell_of(values="inputs", normalizer="gates"))


def test_plausibility_is_the_area_over_rated_words():
    tokens = jnp.array([4, 7, 9, 7, 0, 0])
    valid = jnp.arange(6) < 4
    lexicon = jnp.zeros(50, bool).at[jnp.array([7, 0])].set(True)
    mask = jnp.array([0.1, 0.5, 0.3, 0.1, 0, 0])
    counts = document_frequency(jnp.stack([tokens, tokens[::-1]]), valid | True, 50)
    assert counts[7] == 2 and counts[4] == 2 and counts[5] == 0
    counts = counts.at[7].add(1)
    words = plausibility.Words(lexicon, counts)
    made = plausibility.rated(words, tokens, valid, mask)
    # Rated at places 1 and 3; padding counts for nothing though 0 is rated, too.
    assert made["lexicon_auroc"] == pytest.approx((2 + 0.5) / 4)
    rated = jnp.array([False, True, False, True, False, False])
    assert made["lexicon_auroc"] == auroc(mask, rated, valid)
    # Word 7 is the most frequent of those met, so that rarity ranks it last.
    assert made["lexicon_auroc:idf"] == 0
    assert made["lexicon_auroc:position"] == pytest.approx(1 / 4)
    assert made["lexicon_ap"] == pytest.approx((1 + 2 / 4) / 2)
    assert made["lexicon_ap:random"] == pytest.approx(2 / 4)
    # Of planted evidence, rankings without a model find as much as they do.
    baselines = plausibility.planted(words, tokens, valid, rated)
    assert baselines["evidence_auroc:lexicon"] == 1
    assert baselines["evidence_auroc:idf"] == 0


def test_normalised_shares_are_of_the_fall_without_any_word():
    falls = (("nothing", 0.4), ("without", 0.3), ("only", 0.1))
    means = {name + v: x for v in ("", ":random") for name, x in falls}
    shares = faithfulness.normalised(means)
    assert list(shares.values()) == pytest.approx([0.75] * 4)
    assert {name.partition(":")[0] for name in shares} == {
        "normalised_comprehensiveness",
        "normalised_sufficiency",
    }


def test_expensive_groups_have_a_price():
    prices = attention.prices(Config(epochs=3), 32)
    assert set(prices) == {"faithfulness", "attention", "robustness", "adversary"}
    assert "266 passes for each of 256 examples" in prices["faithfulness"]
    price = "4 trainings more of 3 epochs (reviews: 2 s an epoch)"
    assert prices["adversary"] == price


def test_a_wrong_group_is_met_with_a_suggestion():
    with pytest.raises(ValueError, match=r"metrics\[0\].*perhaps you meant attention"):
        check(Config(metrics=("atention",)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="metrics names attention more than once"):
        check(Config(metrics=("attention", "attention")))
    assert check(Config(metrics=())).metrics == ()
