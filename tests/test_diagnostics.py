"""Numbers made of what a run keeps: masks of all seeds, and instance weights."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from jaxattn.experiment import seed_diagnostics
from jaxattn.experiment.wave import Outcome
from jaxattn.metrics.weights import ess_share

RNG = np.random.default_rng(0)


def masks(*shape):
    made = RNG.random(shape).astype(np.float32)
    return made / made.sum(axis=-1, keepdims=True)


def test_distance_between_seeds_is_scipys():
    made = masks(3, 20, 5)
    alive = np.array([True] * 3)
    # SciPy gives the root.
    pairs = {
        (i, j): np.mean(jensenshannon(made[i], made[j], axis=1) ** 2)
        for i in range(3)
        for j in range(3)
    }
    for i, value in enumerate(seed_diagnostics.seed_jsd(made, alive)):
        others = [pairs[i, j] for j in range(3) if j != i]
        assert value == pytest.approx(np.mean(others), rel=1e-5)


def test_equal_seeds_are_at_0_and_opposite_ones_at_ln_2():
    one = np.eye(4, dtype=np.float32)[None].repeat(2, axis=0)
    alive = np.array([True, True])
    np.testing.assert_allclose(seed_diagnostics.seed_jsd(one, alive), 0)
    one[1] = one[1][[1, 0, 3, 2]]
    np.testing.assert_allclose(seed_diagnostics.seed_jsd(one, alive), np.log(2))


def test_a_seed_that_diverged_is_nobodys_other():
    made = masks(3, 20, 5)
    both = seed_diagnostics.seed_jsd(made[:2], np.array([True, True]))
    made[2] = np.nan
    found = seed_diagnostics.seed_jsd(made, np.array([True, True, False]))
    np.testing.assert_array_equal(found[:2], both)
    assert np.isnan(found[2])
    assert np.isnan(
        seed_diagnostics.seed_jsd(made, np.array([True, False, False]))
    ).all()


def test_many_seeds_are_compared_with_some_others():
    one = masks(1, 4, 3).repeat(40, axis=0)
    assert seed_diagnostics.seed_jsd(one, np.ones(40, bool)).max() == pytest.approx(0)


def outcome(weights, made, labels):
    examples = {"instance_weights": weights, "masks": made, "labels": labels}
    n = len(weights)
    cells = [("instance_weighting", seed) for seed in range(n)]
    return Outcome(cells, np.ones(n, bool), {}, {}, examples)


def test_weights_that_undo_a_difference_balance_it():
    n = 4000
    labels = RNG.integers(0, 2, n)
    sharp = RNG.random(n) < np.where(labels == 1, 0.7, 0.3)
    made = np.where(sharp[:, None], [0.9, 0.1], [0.5, 0.5])
    own = np.where(sharp == labels, 0.7, 0.3)
    weights = 0.5 / own
    made, labels = made[None], labels[None]
    found = seed_diagnostics.by_seed(
        outcome(weights[None], made, labels), None, words=False
    )
    assert found["imbalance:unweighted"][0] > 0.5
    assert found["imbalance"][0] < 0.1
    assert found["weight_mean"][0] == pytest.approx(1, abs=0.05)
    low, high = np.percentile(weights, [5, 95])
    cut = np.clip(weights, low, high)
    assert found["ess_share:cut at 5 %"][0] == pytest.approx(ess_share(cut))
    assert "seed_jsd" not in found


def test_heavy_weights_have_a_large_pareto_shape():
    made, labels = masks(2, 3000, 4), RNG.integers(0, 2, (2, 3000))
    heavy = RNG.pareto(1.0, 3000) + 1
    light = RNG.random(3000) + 0.5
    found = seed_diagnostics.by_seed(
        outcome(np.stack([heavy, light]), made, labels), None, False
    )
    assert found["pareto_k"][0] > 0.7 > 0.3 > found["pareto_k"][1]
    assert found["largest_weight_share"][0] > 10 * found["largest_weight_share"][1]


def test_a_seed_that_diverged_has_no_diagnostics():
    made, labels = masks(1, 200, 4), RNG.integers(0, 2, (1, 200))
    dead = outcome(RNG.random((1, 200)) + 0.5, made, labels)._replace(
        alive=np.array([False])
    )
    found = seed_diagnostics.by_seed(dead, None, words=False)
    assert all(np.isnan(values).all() for values in found.values())
