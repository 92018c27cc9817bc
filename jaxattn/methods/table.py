"""Methods: which masks the predictor learns from, and with which example weights.

The selector always learns through its own mask. A method is a row of numbers, which
may differ inside one program, and a structure, which makes another program. A row that
is put into METHODS is a method: its name can be given wherever these can. This module
imports no jax.
"""

from typing import Any, NamedTuple


class Numbers(NamedTuple):
    """The part of a method that may differ inside one program: shares in [0, 1].

    In a program they are traced arrays.
    """

    foreign: float | Any = 0.0
    """Share of examples whose predictor sees another example's mask."""
    random: float | Any = 0.0
    """Share of examples whose predictor sees a random mask."""
    uniform: float | Any = 0.0
    """1: the model's own mask is replaced by the uniform one."""
    pretraining: float | Any = 0.0
    """1: the predictor learns alone, then is frozen while the selector learns."""
    annealed: float | Any = 0.0
    """1: the predictor's steps shrink to zero before it is frozen."""
    delayed: float | Any = 0.0
    """1: the selector starts late, and the predictor never stops learning."""


class Structure(NamedTuple):
    """The part of a method that decides the program: equal ones share it."""

    mixed: bool = False
    """The predictor may see masks other than its own, and then takes a pass more."""
    weighted: bool = False
    """Example weights P(y) / P(y given m), from an estimator trained alongside."""
    averaged: bool = False
    """The frozen predictor is the mean over the second half of its training."""
    gradient: str = "relaxed"
    """How the selector learns: through the relaxed mask, or by a score function
    (`reinforce` with the loss on all of the input as baseline, or `rebar`)."""
    scores: str = "selector"
    """Where the scores come from: the selector, or what needs no training: `random`,
    or an attribution that comes with the data."""


class Method(NamedTuple):
    numbers: Numbers = Numbers()
    structure: Structure = Structure()


_MIXED = Structure(mixed=True)
METHODS: dict[str, Method] = {
    "joint": Method(),
    "random_pretraining": Method(Numbers(random=1, pretraining=1), _MIXED),
    "random_pretraining_annealed": Method(
        Numbers(random=1, pretraining=1, annealed=1), _MIXED
    ),
    "random_pretraining_averaged": Method(
        Numbers(random=1, pretraining=1), Structure(mixed=True, averaged=True)
    ),
    "instance_weighting": Method(structure=Structure(weighted=True)),
    "mask_swap": Method(Numbers(foreign=1), _MIXED),
    "random_always": Method(Numbers(random=1), _MIXED),
    "mask_mix": Method(Numbers(foreign=0.5, random=0.5), _MIXED),
    "mask_mix_delayed": Method(Numbers(foreign=0.5, random=0.5, delayed=1), _MIXED),
    "invase": Method(structure=Structure(gradient="reinforce")),
    "realx": Method(Numbers(random=1), Structure(mixed=True, gradient="rebar")),
    "uniform": Method(Numbers(uniform=1)),
    "random_selection": Method(structure=Structure(scores="random")),
    "gradient": Method(structure=Structure(scores="gradient")),
    "leave_one_out": Method(structure=Structure(scores="leave_one_out")),
}
"""Methods by the name that `--methods` takes."""
FULL_TEXT = "full_text"
"""The reference cell: `joint` with attention over the inputs."""
CONTROLS = ("uniform", "random_selection", "gradient", "leave_one_out")
"""Methods whose masks are not learnt."""
