"""The fields of an experiment as frozen dataclasses, and which of them are numbers.

A field made by `number` may differ between the cells of one compiled program; every
other field is structure, and another value of it is another program.
"""

import dataclasses
from typing import Any, Literal

TaskName = Literal[
    "movie_sentiment",
    "sentiment",
    "sources",
    "planted",
    "bags",
    "digits_pixels",
    "digits_patches",
    "xor",
    "orange_skin",
    "nonlinear_additive",
    "nonlinear_additive_paper",
    "switch",
    "switch_paper",
    "switch_published",
    "syn1",
    "syn2",
    "syn3",
    "syn4",
    "syn5",
    "syn6",
    "syn3_paper",
    "syn5_paper",
    "syn6_paper",
    "syn1_100",
    "syn2_100",
    "syn3_100",
    "syn4_100",
    "syn5_100",
    "syn6_100",
    "explain_linear",
    "explain_cnn",
    "explain_gru",
    "explain_digits_pixels",
    "explain_digits_patches",
    "own",
    "explain_own",
]
MethodName = Literal[
    "joint",
    "random_pretraining",
    "random_pretraining_annealed",
    "random_pretraining_averaged",
    "instance_weighting",
    "mask_swap",
    "random_always",
    "mask_mix",
    "mask_mix_delayed",
    "invase",
    "realx",
    "uniform",
    "random_selection",
    "gradient",
    "leave_one_out",
]
Statistic = Literal["mean", "iqm"]
MetricGroup = Literal[
    "agreement",
    "plausibility",
    "faithfulness",
    "attention",
    "robustness",
    "adversary",
    "leak",
]
DEFAULT_METHODS: tuple[MethodName, ...] = (
    "joint",
    "random_pretraining",
    "instance_weighting",
    "mask_swap",
    "random_always",
    "mask_mix",
    "uniform",
)


def number(default: float, low: float, high: float) -> Any:
    """A field that may differ between the cells of one program, within [low, high]."""
    metadata = {"sweep": True, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def count(default: int, low: int, high: int = 10**9) -> Any:
    """A whole-number field of the structure, within [low, high]."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Data:
    length: int = count(32, 1, 4096)
    """Tokens kept of each text; the rest is cut, counted and reported."""
    min_count: int = count(2, 1)
    """Words seen less often in the training split become <unk>."""
    examples: int = count(10_000, 2, 10**8)
    """Training examples of generated tasks; each seed has its own."""
    test_examples: int = count(10_000, 2, 10**8)
    """Test examples of generated tasks, never the training ones."""
    fresh: bool = False
    """Draw new training examples in every epoch (generated tasks)."""
    source: str = ""
    """Data of one's own (task own), as --data gives it."""
    fields: tuple[str, ...] = ()
    """Which field of one's own data is what, as --fields gives it: ROLE=FIELD."""
    tokenizer: str = ""
    """Of one's own texts, as --tokenizer gives it; the package's own if not given."""
    black_box: str = ""
    """A model of one's own to explain (task explain_own), MODULE:FUNCTION: a list of
    texts, or an array [N, T] or [N, T, D], in; probabilities [N, classes] out."""
    asked_about: Literal[
        "movie_sentiment",
        "sentiment",
        "sources",
        "planted",
        "bags",
        "digits_pixels",
        "digits_patches",
        "own",
    ] = "movie_sentiment"
    """The task whose inputs that model is asked about."""
    asked_again: int = count(1000, 0)
    """Test examples of which it is shown what each seed selected, and as many of what
    chance selects (post_hoc_accuracy)."""


@dataclasses.dataclass(frozen=True)
class Model:
    values: Literal["default_tokens", "inputs", "inputs_and_default_tokens"] = (
        "default_tokens"
    )
    """What the mask selects from: the example's own tokens, features or instances,
    or default tokens, which are the same for every example."""
    default_tokens: int = count(4, 2, 1024)
    """How many contentless tokens there are (unused where values are inputs)."""
    query: Literal["bag", "gru", "bigru", "bilstm", "cnn", "transformer", "none"] = (
        "bag"
    )
    """Encoder of the whole example into the query."""
    selector: Literal["additive", "dot_product", "multi_head", "gated", "tabular"] = (
        "additive"
    )
    normalizer: Literal[
        "softmax",
        "gumbel_softmax",
        "sparsemax",
        "entmax15",
        "top_k",
        "gumbel_top_k",
        "gates",
        "hard_concrete",
        "hard_kuma",
    ] = "gumbel_softmax"
    """Turns scores into the mask; gumbel_softmax adds fresh noise, in tests too."""
    temperature: float = number(1.0, 1e-3, 1e3)
    """Divides the (noisy) scores before the softmax or the sigmoid."""
    budget: float = number(0, 0, 1e6)
    """Positions that top_k and gumbel_top_k select; 0 is the task's own number."""
    penalty: float = number(0.0, 0.0, 1e3)
    """Nats that each selected position costs the selector (gates)."""
    open_at_first: float = number(2.0, -20.0, 20.0)
    """Added to the scores of gates, so that they begin open (log-odds)."""
    predictor: Literal["pooling", "positionwise", "cnn", "recurrent", "tabular"] = (
        "pooling"
    )
    features: int = count(32, 1, 65536)
    """Width of every embedding."""
    hidden: int = count(32, 1, 65536)
    """Width of the hidden layers of predictor and selector."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = number(3e-3, 1e-9, 1e3)
    """Of Adam, for selector and predictor."""


@dataclasses.dataclass(frozen=True)
class Weighting:
    """The estimator of P(y given m) behind `instance_weighting`, and its weights."""

    hidden: int = count(32, 1, 65536)
    learning_rate: float = number(1e-2, 1e-9, 1e3)
    updates: int = count(1, 1, 100)
    """Estimator updates in each training step, on that step's masks."""
    truncation: float = number(20.0, 1.0, 1e6)
    """Weights are cut to [1/truncation, truncation]."""


@dataclasses.dataclass(frozen=True)
class RandomMasks:
    pretraining_share: float = number(0.5, 0.05, 0.95)
    """Share of the steps in which only the predictor learns (methods that begin so)."""
    low: float = number(0.5, 1e-6, 1e3)
    """Smallest standard deviation of the random scores behind a random mask."""
    high: float = number(8.0, 1e-6, 1e3)
    """Largest one; each mask draws its own, log-uniformly."""


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "probe"
    """The run's name; outputs go to runs/NAME."""
    tasks: tuple[TaskName, ...] = ("movie_sentiment",)
    methods: tuple[MethodName, ...] = DEFAULT_METHODS
    also: tuple[str, ...] = ()
    """More settings, run beside the main one: NUMBER=VALUE, as model.penalty=0.1."""
    metrics: tuple[MetricGroup, ...] = ("agreement", "plausibility")
    """What more is measured of attention over words or instances: agreement with
    gradients and leave-one-out, plausibility by rated words, and, for a price that is
    said, faithfulness by removal, tests of attention itself, robustness to small
    changes, an adversary (another model, trained to answer alike and attend
    elsewhere), and where masks leak the label, by the audit of each seed."""
    statistic: Statistic = "mean"
    """What is reported over seeds: the mean, or the interquartile mean (iqm)."""
    seeds: int = count(16, 1, 100_000)
    """Replications of each method; the unit of every interval."""
    first_seed: int = count(0, 0, 2**31 - 1)
    epochs: int = count(8, 1, 100_000)
    full_text_epochs: int = count(2, 1, 100_000)
    """Of the full-text reference, which overfits sooner than the probe."""
    batch_size: int = count(128, 2, 1_000_000)
    lane: int = count(0, 0, 100_000)
    """Cells that run side by side on one device; 0 chooses by a short measurement."""
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    weighting: Weighting = Weighting()
    random_masks: RandomMasks = RandomMasks()
