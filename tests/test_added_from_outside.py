"""A method, a selector, a metric and a task from outside: a row each, and no edit."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest
from small_run import draw_nothing

import jaxattn
from jaxattn.config import Config, Model, check
from jaxattn.data import tasks
from jaxattn.data.dataset import Split, assemble
from jaxattn.experiment.plan import check_names
from jaxattn.methods.table import METHODS, Method, Numbers, Structure
from jaxattn.metrics.definitions import METRICS, Metric
from jaxattn.nn.selectors import SELECTORS
from jaxattn.reports.results import read_results

N, T, D = 64, 5, 3


class Linear(nn.Module):
    """A selector: one weight for each feature of a key."""

    hidden: int

    @nn.compact
    def __call__(self, query, keys, valid=None):
        return nn.Dense(1, name="score")(keys)[:, 0], {}


def largest_weight(evaluated):
    """A metric: the mean of each mask's largest weight, and of random ones."""
    valid = evaluated.examples.valid
    return {"": evaluated.masks.max(axis=1).mean(), "flat": 1 / valid.sum(axis=1).max()}


def load_signs(length, min_count, data_dir):
    """A task: of which sign is the first number of a bag's first vector?"""

    def split(seed):
        x = np.random.default_rng(seed).normal(size=(N, T, D)).astype(np.float32)
        labels = (x[:, 0, 0] > 0).astype(np.int32)
        ids = np.arange(N).astype(str)
        return Split(x, np.full(N, T, np.int32), labels, ids)

    sides = {s: split(i) for i, s in enumerate(("train", "validation", "test"))}
    return assemble("signs", ("negative", "positive"), sides)


CONFIG = Config(
    name="added",
    tasks=("signs",),
    methods=("joint", "half_foreign"),
    seeds=2,
    epochs=2,
    batch_size=32,
    model=Model(values="inputs", query="none", selector="linear", features=4, hidden=4),
)


@pytest.fixture
def added(monkeypatch):
    row = Method(Numbers(foreign=0.5), Structure(mixed=True))
    monkeypatch.setitem(METHODS, "half_foreign", row)
    monkeypatch.setitem(SELECTORS, "linear", Linear)
    told = "Mean of the largest weight of each mask."
    row = Metric(told, "share", "none", null=":flat", compute=largest_weight)
    monkeypatch.setitem(METRICS, "largest_weight", row)
    row = tasks.Task("which sign the first number has", 3 * N, 2, load_signs)
    monkeypatch.setitem(tasks.TASKS, "signs", row)


def test_what_is_added_runs_like_what_is_there(added, monkeypatch, tmp_path):
    draw_nothing(monkeypatch)
    jaxattn.run(CONFIG, tmp_path / "run")
    results = {
        (r.method, r.metric, r.variant): r
        for r in read_results(tmp_path / "run" / "results.csv")
        if r.split == "test"
    }
    for method in CONFIG.methods:
        weight = results[method, "largest_weight", ""]
        assert weight.n_seeds == 2 and weight.unit == "share"
        assert weight.null == pytest.approx(1 / T) and 1 / T < weight.mean < 1
        assert 0 <= results[method, "accuracy", ""].mean <= 1
    said = (tmp_path / "run" / "results.md").read_text()
    assert "largest_weight" in said and "half_foreign" in said
    model = jaxattn.load_model(tmp_path / "run", method="half_foreign", seed=1)
    assert set(model.params["selector"]["scorer"]) == {"score"}


def test_a_name_is_known_once_it_is_in_its_registry(added):
    check_names(check(CONFIG))
    for wrong, meant in (
        ({"methods": ("half_foreing",)}, "perhaps you meant half_foreign"),
        ({"tasks": ("sings",)}, "perhaps you meant signs"),
        ({"model": Model(selector="linaer")}, "perhaps you meant linear"),
        ({"also": ("model.selector=linaer",)}, "perhaps you meant linear"),
    ):
        with pytest.raises(ValueError, match=meant) as error:
            check_names(check(dataclasses.replace(CONFIG, **wrong)))
        assert "\n" not in str(error.value)
