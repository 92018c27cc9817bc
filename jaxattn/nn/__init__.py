"""Selectors, normalizers, encoders, predictors: pure functions and thin modules.

Also attention of Flax models, captured or replaced (`jaxattn.nn.capture`), and gates
(`jaxattn.nn.gates`), which are left out here: their functions have the modules' names.
"""

from jaxattn.nn.encoders import ENCODERS
from jaxattn.nn.entmax import alpha_entmax, entmax15, sparsemax
from jaxattn.nn.masks import foreign_masks
from jaxattn.nn.normalizers import NORMALIZERS, gumbel_softmax, softmax
from jaxattn.nn.predictors import PREDICTORS, Pooling, Positionwise
from jaxattn.nn.selectors import SELECTORS, Additive, DotProduct, Gated, MultiHead
from jaxattn.nn.subsets import gumbel_top_k, top_k

__all__ = [
    "ENCODERS",
    "NORMALIZERS",
    "PREDICTORS",
    "SELECTORS",
    "Additive",
    "DotProduct",
    "Gated",
    "MultiHead",
    "Pooling",
    "Positionwise",
    "alpha_entmax",
    "entmax15",
    "foreign_masks",
    "gumbel_softmax",
    "gumbel_top_k",
    "softmax",
    "sparsemax",
    "top_k",
]
