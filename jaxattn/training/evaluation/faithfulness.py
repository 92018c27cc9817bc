"""Faithfulness by removal for a trained cell: what it answers without its top words."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxattn.metrics import faithfulness
from jaxattn.training.cell import Cell
from jaxattn.training.evaluation.interventions import One, removal

ERASER, FERRET = faithfulness.VARIANTS["eraser"], faithfulness.VARIANTS["ferret"]


def measure(cell: Cell, params: Any, one: One) -> dict[str, Array]:
    """Numbers of one example, as ERASER and ferret take them, beside random removal."""
    predict = removal(cell, params, one)
    scalars = {}
    for variant, scores in (("", one.mask), ("random", one.noise)):
        eraser = faithfulness.remove(predict, scores, one.valid, ERASER)
        ferret = faithfulness.remove(predict, scores, one.valid, FERRET)
        for name, of, undefined in (
            ("comprehensiveness", faithfulness.comprehensiveness, 0.0),
            ("sufficiency", faithfulness.sufficiency, 1.0),
        ):
            scalars[_name(name, variant)] = faithfulness.aopc(of(eraser), eraser)
            area = faithfulness.aopc(of(ferret), ferret, undefined)
            scalars[_name(name, f"ferret {variant}")] = area
        target = eraser.target
        full = eraser.whole[target]
        for side in ("nothing", "without", "only"):
            answers = getattr(eraser, side)[..., target]
            scalars[_name(side, variant)] = jnp.maximum(0, full - answers).mean()
            if side != "nothing":
                for i, share in enumerate(ERASER.fractions):
                    name = _name("removal_curve", f"{side} {share:.0%} {variant}")
                    scalars[name] = answers[i]
        for name, of in (
            ("deletion_area", faithfulness.deletion),
            ("insertion_area", faithfulness.insertion),
            ("tokens_to_flip", faithfulness.tokens_to_flip),
        ):
            scalars[_name(name, variant)] = of(predict, scores, one.valid)
    return scalars


def _name(metric: str, variant: str) -> str:
    return f"{metric}:{variant.strip()}" if variant else metric


def normalised(means: dict[str, Array]) -> dict[str, Array]:
    """Mean falls as shares of the mean fall without any word.

    The fall of a single example can be near zero, so the mean is what divides.
    """
    kept = dict(means)
    for variant in ("", "random"):
        nothing, without, only = (
            kept.pop(_name(side, variant)) for side in ("nothing", "without", "only")
        )
        kept[_name("normalised_comprehensiveness", variant)] = without / nothing
        kept[_name("normalised_sufficiency", variant)] = 1 - only / nothing
    return kept
