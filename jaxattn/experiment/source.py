"""What a task gives a run: examples or a generator, and what is known of them."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxattn.config import Config
from jaxattn.data import tasks
from jaxattn.data.dataset import Dataset
from jaxattn.data.sources.synthetic import SYNTHETIC, members
from jaxattn.data.splits import SPLITS
from jaxattn.methods.table import METHODS
from jaxattn.nn.embedding import Inputs


class Source(NamedTuple):
    """A task as the engine needs it."""

    task: str
    inputs: Inputs
    classes: tuple[str, ...]
    examples: int
    """In the training split."""
    digest: str
    """Of everything that decides the numbers of a run."""
    dataset: Dataset | None = None
    family: str = ""
    """Of a generated task; stored ones have none."""
    which: int = 0
    """The task's place in its family."""
    control: int = -1
    """The position that decides which others matter; -1 where there is none."""
    budget: float = 0
    known: bool = False
    """Whether the right explanation of each example is known."""
    black_box: Any = None
    """The model that is explained, where there is one."""


def check_fit(config: Config, task: str) -> None:
    """Raises ValueError where a task and the rest of a config do not fit together.

    Before anything is loaded: a black box takes a minute to train.
    """
    normalizer, explains = config.model.normalizer, task.startswith("explain_")
    subset = normalizer in ("top_k", "gumbel_top_k")
    budget = config.model.budget or tasks.row(task).budget
    if subset and not budget:
        raise ValueError(
            f"{task} does not say how many positions {normalizer} selects: "
            "give --model.budget"
        )
    if explains and not (subset or normalizer == "gates"):
        raise ValueError(
            f"{task} asks which positions are selected: model.normalizer must be "
            f"top_k, gumbel_top_k or gates, not {normalizer}"
        )
    for name in config.methods:
        scores = METHODS[name].structure.scores
        if scores in ("gradient", "leave_one_out") and not explains:
            raise ValueError(
                f"method {name} needs a model to explain, and {task} has none: "
                "choose a task explain_..., or leave it out"
            )
        if scores == "gradient" and task == "explain_own":
            raise ValueError(
                "method gradient needs the gradient of the model, and data.black_box "
                "gives answers only: leave it out"
            )
        pixels = config.data.asked_about if task == "explain_own" else task
        if scores == "leave_one_out" and pixels.endswith("digits_pixels"):
            raise ValueError(
                f"{task} has 784 positions, too many for method {name} to blank one by "
                "one: choose explain_digits_patches, or leave it out"
            )
        if scores != "selector" and config.model.values != "inputs":
            raise ValueError(
                f"method {name} scores the inputs: model.values must be inputs"
            )


class Loading(NamedTuple):
    """Where data come from."""

    data_dir: Path | None = None
    """Where the embedded ones are prepared; TFDS's usual place if None."""
    cache: Path | None = None
    """Keeps what takes long to make."""
    download: bool = False
    """Whether data may be fetched from the network."""


def load(config: Config, task: str, loading: Loading) -> Source:
    """The source of a task.

    Raises: ValueError or OSError, one line, for whatever the user can put right.
    """
    check_fit(config, task)
    if task in SYNTHETIC:
        return _generated(config, task)
    black_box = None
    # Here, since most runs need none of it.
    if task == "explain_own":
        from jaxattn.experiment import user_black_box

        dataset = _stored(config, config.data.asked_about, loading)
        dataset, black_box = user_black_box.explained(config, dataset, loading.cache)
    elif task.startswith("explain_"):
        from jaxattn.experiment import black_box

        about = _stored(config, black_box.EXPLAINED[task].task, loading)
        dataset, black_box = black_box.explained(task, about, loading.cache)
    else:
        dataset = _stored(config, task, loading)
    return Source(
        task=task,
        inputs=inputs_of(dataset),
        classes=dataset.classes,
        examples=len(dataset.train.labels),
        digest=dataset.digest,
        dataset=dataset,
        budget=tasks.TASKS[task].budget,
        known=dataset.train.truth is not None,
        black_box=black_box,
    )


def _stored(config: Config, task: str, loading: Loading) -> Dataset:
    own = config.data
    if task != "own":
        return tasks.load(task, own.length, own.min_count, loading.data_dir)
    # Here, since most runs need none of it.
    from jaxattn.data import readers
    from jaxattn.data.readers.options import Options

    options = own.length, own.min_count, loading.data_dir, own.fields, loading.download
    return readers.load_own(own.source, Options(*options, own.tokenizer))


def _generated(config: Config, task: str) -> Source:
    made = SYNTHETIC[task]
    row = made._asdict()
    del row["make"]
    recipe = [1, row, config.data.examples, config.data.test_examples]
    text = json.dumps([*recipe, config.data.fresh, task])
    return Source(
        task=task,
        inputs=Inputs("scalars", 1, made.features, fixed=True),
        classes=("0", "1"),
        examples=config.data.examples,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        family=made.family,
        which=members(made.family).index(task),
        control=-1 if made.control is None else made.control,
        budget=made.budget,
        known=True,
    )


def inputs_of(dataset: Dataset) -> Inputs:
    """What the inputs of a data set are: tokens, vectors or scalars."""
    _, length, *size = dataset.train.inputs.shape
    fixed = all((getattr(dataset, side).lengths == length).all() for side in SPLITS)
    if dataset.vocabulary:
        return Inputs("tokens", len(dataset.vocabulary), length, fixed)
    return Inputs("vectors" if size else "scalars", sum(size) or 1, length, fixed)


def majority(source: Source, split: str) -> np.ndarray | None:
    """Shares of the classes of a stored split; None where examples are generated."""
    if source.dataset is None:
        return None
    labels = getattr(source.dataset, split).labels
    return np.bincount(labels, minlength=len(source.classes)) / len(labels)
