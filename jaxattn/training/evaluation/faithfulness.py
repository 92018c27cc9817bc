"""Faithfulness by removal for a trained cell: what it answers without its top words."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxattn.metrics import faithfulness
from jaxattn.training.cell import Cell, Static
from jaxattn.training.evaluation.interventions import One, removal

ERASER, FERRET = faithfulness.VARIANTS["eraser"], faithfulness.VARIANTS["ferret"]


def measure(static: Static, cell: Cell, params: Any, one: One) -> dict[str, Array]:
    """Numbers of one example, as ERASER and ferret take them, beside random removal."""
    predict = removal(static, cell, params, one)
    found = {}
    for variant, scores in (("", one.mask), ("random", one.noise)):
        eraser = faithfulness.remove(predict, scores, one.valid, ERASER)
        ferret = faithfulness.remove(predict, scores, one.valid, FERRET)
        values = {
            "comprehensiveness": (faithfulness.comprehensiveness, 0.0),
            "sufficiency": (faithfulness.sufficiency, 1.0),
        }
        for name, (of, undefined) in values.items():
            found[_name(name, variant)] = faithfulness.aopc(of(eraser), eraser)
            found[_name(name, f"ferret {variant}")] = faithfulness.aopc(
                of(ferret), ferret, undefined
            )
        target = eraser.target
        full = eraser.whole[target]
        falls = {
            "nothing": eraser.nothing,
            "without": eraser.without,
            "only": eraser.only,
        }
        found |= (
            {
                _name(name, variant): jnp.maximum(0, full - p[..., target]).mean()
                for name, p in falls.items()
            }
            | {
                _name("removal_curve", f"{side} {share:.0%} {variant}"): answers[
                    i, target
                ]
                for side, answers in (
                    ("without", eraser.without),
                    ("only", eraser.only),
                )
                for i, share in enumerate(ERASER.fractions)
            }
            | {
                _name("deletion_area", variant): faithfulness.deletion(
                    predict, scores, one.valid
                ),
                _name("insertion_area", variant): faithfulness.insertion(
                    predict, scores, one.valid
                ),
                _name("tokens_to_flip", variant): faithfulness.tokens_to_flip(
                    predict, scores, one.valid
                ),
            }
        )
    return found


def _name(metric: str, variant: str) -> str:
    return f"{metric}:{variant.strip()}" if variant else metric


def normalised(found: dict[str, Array]) -> dict[str, Array]:
    """Falls as shares of the fall without any word: of the means over examples, for
    the share of one example may be divided by next to nothing."""
    shares = {}
    for variant in ("", "random"):
        most, without, only = (
            found.pop(_name(name, variant)) for name in ("nothing", "without", "only")
        )
        shares[_name("normalised_comprehensiveness", variant)] = without / most
        shares[_name("normalised_sufficiency", variant)] = 1 - only / most
    return found | shares
