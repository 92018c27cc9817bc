"""jaxattn tells you whether an attention map is an explanation.

Names are loaded when they are first used, so that `import jaxattn` imports no jax and
the command line can set up the devices before it does.
"""

import importlib
from typing import Any

_HOME = {
    "Config": "jaxattn.config",
    "Weighting": "jaxattn.config",
    "RandomMasks": "jaxattn.config",
    "METHODS": "jaxattn.methods.table",
    "SELECTORS": "jaxattn.nn.selectors",
    "ENCODERS": "jaxattn.nn.encoders",
    "PREDICTORS": "jaxattn.nn.predictors",
    "NORMALIZERS": "jaxattn.nn.normalizers",
    "Additive": "jaxattn.nn.selectors",
    "DotProduct": "jaxattn.nn.selectors",
    "MultiHead": "jaxattn.nn.selectors",
    "Gated": "jaxattn.nn.selectors",
    "Pooling": "jaxattn.nn.predictors",
    "Positionwise": "jaxattn.nn.predictors",
    "softmax": "jaxattn.nn.normalizers",
    "gumbel_softmax": "jaxattn.nn.normalizers",
    "sparsemax": "jaxattn.nn.entmax",
    "entmax15": "jaxattn.nn.entmax",
    "alpha_entmax": "jaxattn.nn.entmax",
    "top_k": "jaxattn.nn.subsets",
    "gumbel_top_k": "jaxattn.nn.subsets",
    "gates": "jaxattn.nn.gates",
    "hard_concrete": "jaxattn.nn.gates",
    "hard_kuma": "jaxattn.nn.gates",
    "foreign_masks": "jaxattn.nn.masks",
    "neutral_weights": "jaxattn.methods.weighting",
    "mask_neutral": "jaxattn.methods.mask_neutral",
    "capture": "jaxattn.nn.capture",
    "Captured": "jaxattn.nn.capture",
    "intervene": "jaxattn.nn.capture",
    "leak": "jaxattn.metrics.leak",
    "audit": "jaxattn.leakage.audit",
    "LeakReport": "jaxattn.leakage.audit",
    "auroc": "jaxattn.metrics.ranking",
    "average_precision": "jaxattn.metrics.ranking",
    "kendall_tau_b": "jaxattn.metrics.ranking",
    "mean_interval": "jaxattn.metrics.statistics",
    "paired_interval": "jaxattn.metrics.statistics",
    "load_task": "jaxattn.data.tasks",
    "generate": "jaxattn.data.sources.synthetic",
    "SYNTHETIC": "jaxattn.data.sources.synthetic",
    "planted_shortcut": "jaxattn.data.sources.planted_shortcut",
    "run": "jaxattn.experiment.run",
    "Run": "jaxattn.reports.run",
    "load_run": "jaxattn.reports.run",
    "load_model": "jaxattn.inference",
    "show": "jaxattn.reports.heatmap",
}

_RENAMED = {"load_task": "load"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxattn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted(_HOME)
