"""An audit as a JSON document, whose shape is a promise, and as a page."""

import contextlib
import importlib.metadata
from typing import Any

import numpy as np

from jaxattn import pages
from jaxattn.files import plain
from jaxattn.leakage.significance import Finding

SCHEMA = 1
"""Rises whenever a key of audit.json changes its meaning or goes."""


def document(report: Any, source: dict[str, Any]) -> dict[str, Any]:
    """A LeakReport as plain values; `source` says which files and options it is of."""
    fields = report._asdict()
    for name, value in fields.items():
        if isinstance(value, Finding):
            fields[name] = _finding(value)
    fields["channels"] = {
        name: _finding(f) | {"holm_p": report.channel_p[name]}
        for name, f in report.channels.items()
    }
    del fields["channel_p"]
    fields["profile"] = np.round(report.profile, 6)
    fields["examples"] = [
        example._asdict() | {"weights": np.round(example.weights, 6)}
        for example in report.examples
    ]
    fields["masks"] |= {
        "share": report.masks.bits / report.label_bits,
        "pointwise_bits": np.round(report.masks.pointwise, 5),
    }
    version = "(source)"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("jaxattn")
    return plain(
        {"schema": SCHEMA, "jaxattn": version, "source": source, **fields, **_units()}
    )


def _finding(finding: Finding) -> dict[str, Any]:
    return {k: v for k, v in finding._asdict().items() if k != "pointwise"}


def _units() -> dict[str, Any]:
    return {"unit": "bits", "direction": "lower", "interval": 0.95}


def page(document: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The document as one HTML page that needs no network; `rows` are of its table."""
    return pages.render("leakage/page.html", report=document, rows=rows)
