"""From the outcomes of a sweep to the files of a run."""

from pathlib import Path

import numpy as np
from scipy.stats import entropy

from jaxattn import figures, findings
from jaxattn.config import Config
from jaxattn.data import Dataset
from jaxattn.files import replace_file
from jaxattn.results import Result, Row, choose, summarise, write_results, write_seeds
from jaxattn.sweep import FULL_TEXT, Outcome, Program
from jaxattn.tables import write_markdown

REFERENCE = "reference"
"""Stands in the column `method` for what depends on the labels alone."""
NULLS = {
    "accuracy": "majority",
    "nll": "label_entropy",
    "foreign_mask_accuracy": "majority",
    "foreign_values_accuracy": "majority",
    "leak_bits": "leak_bits:permuted",
    "leak_accuracy": "majority",
    "weighted_leak_bits": "weighted_leak_bits:permuted",
    "full_text_accuracy": "majority",
    "full_text_nll": "label_entropy",
    "mask_entropy": "mask_entropy:uniform",
    "default_token_mass": "default_token_mass:uniform",
    "punctuation_mass": "punctuation_mass:uniform",
    "lexicon_mass": "lexicon_mass:uniform",
}
ORDER = ("accuracy", "nll")


def collect(config: Config, outcomes: list[Outcome]) -> dict[str, Outcome]:
    """One outcome for each method, its seeds in order; diverged ones become NaN."""
    found = {}
    for method in (*config.methods, FULL_TEXT):
        parts = [
            (cell[1], outcome, i)
            for outcome in outcomes
            for i, cell in enumerate(outcome.cells)
            if cell[0] == method
        ]
        if not parts:
            continue
        parts.sort(key=lambda part: part[0])

        def pick(get, parts=parts):
            return np.stack([get(outcome)[i] for _, outcome, i in parts])

        first, alive = parts[0][1], pick(lambda o: o.alive)

        def living(values, alive=alive):
            shape = (-1, *(1,) * (values.ndim - 1))
            return np.where(alive.reshape(shape), values, np.nan)

        found[method] = Outcome(
            cells=[(method, seed) for seed, _, _ in parts],
            alive=alive,
            curves={k: living(pick(lambda o, k=k: o.curves[k])) for k in first.curves},
            measured={
                k: living(pick(lambda o, k=k: o.measured[k])) for k in first.measured
            },
            masks=pick(lambda o: o.masks),
            class_means=living(pick(lambda o: o.class_means)),
        )
    return found


def rows_of(
    config: Config, labels: np.ndarray, classes: int, methods: dict[str, Outcome]
) -> list[Row]:
    """The rows of `seeds.csv`; the same outcomes always give the same rows."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    references = {"majority": shares.max(), "label_entropy": entropy(shares)}
    seeds = {seed for outcome in methods.values() for _, seed in outcome.cells}
    rows = [
        Row(config.task, REFERENCE, seed, metric, "", "test", float(value))
        for metric, value in references.items()
        for seed in sorted(seeds)
    ]
    for method, outcome in methods.items():
        names = list(outcome.measured)
        if method == FULL_TEXT:
            names = [n for n in names if n in ORDER]
        for name in sorted(names, key=lambda n: (n not in ORDER, n)):
            metric, _, variant = name.partition(":")
            if method == FULL_TEXT:
                metric = f"{FULL_TEXT}_{metric}"
            for (_, seed), value in zip(
                outcome.cells, outcome.measured[name], strict=True
            ):
                rows.append(
                    Row(
                        config.task, method, seed, metric, variant, "test", float(value)
                    )
                )
        for name in ("ess_share", "smallest_probability", "overlap_share"):
            for (_, seed), curve in zip(
                outcome.cells, outcome.curves.get(name, []), strict=False
            ):
                rows.append(
                    Row(config.task, method, seed, name, "", "train", float(curve[-1]))
                )
    return rows


def write(
    folder: Path,
    config: Config,
    dataset: Dataset,
    programs: list[Program],
    outcomes: list[Outcome],
) -> tuple[list[Result], list[str], list[tuple[str, int]]]:
    """Writes results, masks and figures; gives means, sentences, diverged cells."""
    methods = collect(config, outcomes)
    rows = rows_of(config, dataset.test.labels, len(dataset.classes), methods)
    diverged = [
        cell
        for outcome in methods.values()
        for cell, alive in zip(outcome.cells, outcome.alive, strict=True)
        if not alive
    ]
    results = summarise(rows, NULLS)
    missing = sum(len(p.cells) for p in programs) - sum(
        len(outcome.cells) for outcome in methods.values()
    )
    sentences = findings.sentences(config, results, diverged, missing)
    write_seeds(folder / "seeds.csv", rows)
    write_results(folder / "results.csv", results)
    write_markdown(
        folder / "results.md", f"{config.name}: {config.task}", results, sentences
    )
    _write_masks(folder / "masks", dataset, methods)
    _draw(folder / "figures", config, dataset, methods, results)
    return results, sentences, diverged


def _write_masks(folder: Path, dataset: Dataset, methods: dict[str, Outcome]) -> None:
    folder.mkdir(exist_ok=True)
    for method, outcome in methods.items():
        with replace_file(folder / f"{method}.npz") as file:
            np.savez_compressed(
                file,
                masks=outcome.masks,
                alive=outcome.alive,
                seeds=np.array([seed for _, seed in outcome.cells]),
                labels=dataset.test.labels,
                lengths=dataset.test.lengths,
                ids=dataset.test.ids,
                tokens=dataset.test.tokens,
            )


def _draw(
    folder: Path,
    config: Config,
    dataset: Dataset,
    methods: dict[str, Outcome],
    results: list[Result],
) -> None:
    folder.mkdir(exist_ok=True)
    task = config.task

    def interval(method: str | None, name: str) -> tuple[float, ...]:
        found = choose(results, task, method, name)
        return (found.mean, found.ci_low, found.ci_high) if found else (np.nan,) * 3

    def values(method: str, name: str) -> np.ndarray:
        return methods[method].measured[name]

    trained = [m for m in methods if m != FULL_TEXT]
    trained = [m for m in trained if methods[m].alive.any()]
    if not trained:
        return
    majority = interval(REFERENCE, "majority")[0]
    full_text = interval(FULL_TEXT, "full_text_accuracy")
    where = config.model.values.replace("_", " ")
    figures.accuracy_by_method(
        folder / "accuracy.svg",
        {m: values(m, "accuracy") for m in trained},
        {m: interval(m, "accuracy") for m in trained},
        majority,
        full_text if np.isfinite(full_text[0]) else None,
        f"Test accuracy on {task}, attention over {where}",
    )
    shares = np.bincount(dataset.test.labels) / len(dataset.test.labels)
    figures.leak_by_method(
        folder / "leak.svg",
        {m: values(m, "leak_bits") for m in trained},
        {m: values(m, "leak_bits:permuted") for m in trained},
        float(entropy(shares, base=2)),
        f"Bits of the label in the mask alone, {task}",
    )
    figures.learning_curves(
        folder / "learning_curves.svg",
        {m: methods[m].curves["validation_accuracy"] for m in trained},
        "validation accuracy",
        f"Learning curves, {task}",
        float(np.bincount(dataset.validation.labels).max())
        / len(dataset.validation.labels),
    )
    if config.model.values != "words":
        figures.codes(
            folder / "codes.svg",
            {m: methods[m].class_means for m in trained},
            dataset.classes,
            f"Mean mask on the default tokens by class, {task}",
            config.first_seed,
        )
