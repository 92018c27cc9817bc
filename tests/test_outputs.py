import numpy as np

from jaxattn.config import Config
from jaxattn.experiment.outputs import collect
from jaxattn.experiment.plan import plan
from jaxattn.experiment.source import Source
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.nn.embedding import Inputs

TEXTS = Source("movie_sentiment", Inputs("tokens", 10, 8), ("a", "b"), 64, "digest")


def outcome(cells):
    return Outcome(cells, np.ones(len(cells), bool), {}, {}, {})


def test_methods_come_in_the_order_of_the_config_and_seeds_in_their_own():
    names = ("uniform", "mask_swap", "joint", "instance_weighting")
    also = ("model.penalty=1",)
    config = Config(methods=names, also=also, seeds=2, batch_size=32)
    programs = plan(config, TEXTS)
    assert len(programs) > 2
    outcomes = [[outcome([cell]) for cell in p.cells[::-1]] for p in programs]
    (found,) = collect(config, programs[::-1], outcomes[::-1]).values()
    settings = [f"{name}@{also[0]}" for name in names]
    assert list(found) == [*names, *settings, FULL_TEXT]
    assert all([seed for _, seed in o.cells] == [0, 1] for o in found.values())
