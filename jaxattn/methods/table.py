"""Methods: which masks the predictor learns from, and with which example weights.

The selector always learns through its own mask. A method is a row of numbers, which
may differ inside one program, and a structure, which makes another program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.nn.masks import foreign_masks
from jaxattn.nn.normalizers import uniform


class Numbers(NamedTuple):
    """The part of a method that may differ inside one program; shares in [0, 1]."""

    foreign: float | Array = 0.0
    """Share of examples whose predictor sees another example's mask."""
    random: float | Array = 0.0
    """Share of examples whose predictor sees a random mask."""
    uniform: float | Array = 0.0
    """1: the model's own mask is replaced by the uniform one."""
    pretraining: float | Array = 0.0
    """1: the predictor learns alone, then is frozen while the selector learns."""
    annealed: float | Array = 0.0
    """1: the predictor's steps shrink to zero before it is frozen."""
    delayed: float | Array = 0.0
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

CONTROLS = ("uniform", "random_selection", "gradient", "leave_one_out")
"""Methods whose masks are not learnt."""


def own_mask(
    numbers: Numbers, mask: Array, valid: Array, simplex: bool = True
) -> Array:
    """The mask [P] that the model itself uses, given the one it computed."""
    flat = uniform(valid) if simplex else valid.astype(mask.dtype)
    return jnp.where(numbers.uniform > 0.5, flat, mask)


def seen_masks(
    key: Array,
    numbers: Numbers,
    own: Array,
    random: Array,
    valid: Array,
    simplex: bool = True,
) -> Array:
    """The masks [batch, P] or [batch, heads, P] that the predictor learns from."""
    a, b = jax.random.split(key)
    draw = jax.random.uniform(a, (own.shape[0], *[1] * (own.ndim - 1)))
    foreign = foreign_masks(b, own, valid, simplex)
    seen = jnp.where(draw < numbers.foreign + numbers.random, random, own)
    return jnp.where(draw < numbers.foreign, foreign, seen)


def neutral_weights(
    log_prior: Array, log_posterior: Array, truncation: Array | float
) -> Array:
    """Weights P(y) / P(y given m) under which a mask tells nothing of the label.

    See section 'mask-neutral learning' of 'Why Attentions May Not Be Interpretable?'
    (arXiv 2006.05656).

    Args:
        log_prior: log P(y) of each example's own label `[batch]`, in nats.
        log_posterior: log P(y given m) of the same `[batch]`, in nats.
        truncation: weights are cut to [1 / truncation, truncation].

    Returns:
        Weights `[batch]` with mean 1; a label that its mask gives away counts less.

    >>> import jax.numpy as jnp, jaxattn
    >>> prior, posterior = jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])
    >>> weights = jaxattn.neutral_weights(jnp.log(prior), jnp.log(posterior), 20.0)
    >>> [round(float(w), 3) for w in weights]
    [0.5, 1.5]
    """
    limit = jnp.log(truncation)
    weights = jnp.exp(jnp.clip(log_prior - log_posterior, -limit, limit))
    return weights / weights.mean()


FULL_TEXT = "full_text"
"""The reference cell: `joint` with attention over the inputs."""
