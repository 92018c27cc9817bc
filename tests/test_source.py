import dataclasses

import numpy as np
import pytest

from jaxattn.config import Config, Data
from jaxattn.data.dataset import Dataset, Split
from jaxattn.experiment import source
from jaxattn.nn.embedding import Inputs
from jaxattn.train import parse


def dataset(inputs, vocabulary=(), full=False):
    n, length = inputs.shape[:2]
    lengths = np.full(n, length if full else length - 1, np.int32)
    split = Split(
        inputs, lengths, np.array([0, 0, 1], np.int32), np.arange(3).astype(str)
    )
    none = np.zeros(0)
    return Dataset(
        "x", ("a", "b"), vocabulary, none, none, split, split, split, {}, "d"
    )


@pytest.mark.parametrize(
    "made, expected",
    [
        (dataset(np.zeros((3, 4), np.uint8), ("p", "u")), Inputs("tokens", 2, 4)),
        (dataset(np.zeros((3, 4, 5), "f4")), Inputs("vectors", 5, 4)),
        (dataset(np.zeros((3, 4, 5), "f4"), full=True), Inputs("vectors", 5, 4, True)),
        (dataset(np.zeros((3, 7), "f4"), full=True), Inputs("scalars", 1, 7, True)),
    ],
    ids=["tokens", "vectors", "fixed vectors", "scalars"],
)
def test_the_kind_of_inputs_is_read_off_the_arrays(made, expected):
    assert source.inputs_of(made) == expected


def load(task, config=None):
    return source.load(config or Config(), task, source.Loading())


def test_generated_tasks_know_their_family_control_and_size():
    syn4, switch = load("syn4"), load("switch")
    assert (syn4.family, syn4.control, syn4.budget) == ("syn", 10, 5)
    assert (switch.family, switch.control, switch.budget) == ("l2x", 9, 5)
    assert load("syn1").control == -1
    assert syn4.known and syn4.dataset is None and syn4.black_box is None
    assert source.majority(syn4, "test") is None
    assert syn4.inputs == Inputs("scalars", 1, 11, True)


def test_the_digest_follows_everything_that_decides_the_data():
    base = load("syn4").digest
    assert base == load("syn4").digest
    changed = [load("syn5").digest]
    for field, value in (("examples", 50), ("test_examples", 50), ("fresh", True)):
        data = dataclasses.replace(Data(), **{field: value})
        changed.append(load("syn4", Config(data=data)).digest)
    assert len({base, *changed}) == 5


def test_shares_of_a_stored_split():
    made = load("syn4")._replace(dataset=dataset(np.zeros((3, 4, 5), "f4")))
    np.testing.assert_allclose(source.majority(made, "test"), [2 / 3, 1 / 3])


@pytest.mark.parametrize(
    "words",
    [
        ["--tasks", "syn4,syn5", "--methods", "joint,invase"],
        ["--tasks=syn4,syn5", "--methods", "joint", "invase"],
        ["--tasks", "syn4", "syn5", "--methods=joint,invase,"],
    ],
)
def test_lists_may_be_written_with_commas(words):
    config = parse([*words, "--seeds", "3"]).config
    assert config.tasks == ("syn4", "syn5") and config.methods == ("joint", "invase")
    assert config.seeds == 3


def test_settings_keep_their_equals_sign():
    config = parse(["--also", "model.penalty=0.1,model.penalty=1"]).config
    assert config.also == ("model.penalty=0.1", "model.penalty=1")
