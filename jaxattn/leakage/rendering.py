"""An audit as a JSON document, as a page, and on a terminal of 80 columns."""

import contextlib
import importlib.metadata
from typing import Any

import numpy as np

from jaxattn.leakage.significance import Finding
from jaxattn.system import console, pages
from jaxattn.system.files import plain

SCHEMA = 1
"""Rises whenever a key of audit.json goes or changes its meaning."""

MEANING = {
    "the masks": "all weights",
    "beyond length": "given how long the input is",
    "beyond values": "given the values let through",
    "length": "how long the input is",
    "shape": "how peaked, wherever",
    "place": "where the largest weight is",
    "types": "which tokens are attended",
    "prediction": "bits of the model's answer",
}


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
    units = {"unit": "bits", "direction": "lower", "interval": 0.95}
    return plain(
        {"schema": SCHEMA, "jaxattn": version, "source": source, **fields, **units}
    )


def _finding(finding: Finding) -> dict[str, Any]:
    return {k: v for k, v in finding._asdict().items() if k != "pointwise"}


def page(document: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The document as one HTML page that needs no network; `rows` are of its table."""
    return pages.render("leakage/page.html", report=document, rows=rows)


def rows(report: Any) -> list[dict[str, Any]]:
    """The findings of a LeakReport in reading order: name, bits, p and meaning."""
    findings: dict[str, Finding | None] = {
        "the masks": report.masks,
        "beyond length": report.beyond_length,
        "beyond values": report.beyond_values,
        **report.channels,
        "prediction": report.prediction,
    }
    return [
        {
            "name": name,
            "bits": f.bits,
            "low": f.low,
            "high": f.high,
            "p": report.channel_p.get(name, f.p),
            "detectable": f.detectable,
            "meaning": MEANING[name],
        }
        for name, f in findings.items()
        if f is not None
    ]


def table(report: Any) -> str:
    """The findings of a LeakReport as a table of text."""
    return console.text_table(
        ["leak in", "bits [95 %]", "p", ""],
        [
            [
                row["name"],
                f"{row['bits']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                f"{row['p']:.3f}",
                row["meaning"],
            ]
            for row in rows(report)
        ],
    )


def show(report: Any, name: str) -> None:
    """Write the report of the masks called `name` to standard output."""
    classes = ", ".join(f"{c} {k:,}" for c, k in report.classes.items())
    groups = f", {report.groups:,} groups" if report.groups else ""
    console.paragraph(
        f"{name}: {report.n:,} masks of {report.positions:,} positions{groups}; "
        f"{len(report.classes)} classes ({_short(classes)})"
    )
    for said in report.assumed:
        console.paragraph(f"assumed: {said}")
    for said in report.warned:
        console.paragraph(f"warning: {said}")
    console.say("")
    console.paragraph(report.sentence)
    if not report.examples:
        return
    console.say("")
    console.say(table(report))
    leak, n = report.masks, report.n
    console.say("")
    console.paragraph(
        f"Bits beyond the mean of {report.permutations} exchanges of labels; "
        f"{report.folds} folds, {leak.family} probe, right on {leak.accuracy:.1%} "
        f"(majority {max(report.classes.values()) / n:.1%}; by Fano that takes "
        f"{max(report.fano_bits, 0):.3f} bits or more). {leak.detectable:.3f} bits "
        f"would have been found. A kernel test (HSIC): p = {report.hsic_p:.3f}."
    )
    most = ", ".join(
        f"{e.index} ({e.label}{': ' + ' '.join(e.words) if e.words else ''}) "
        f"{e.bits:.2f}"
        for e in report.examples
    )
    console.paragraph(f"Most leaking, in bits: {_short(most, 400)}")


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 4] + " ..."
