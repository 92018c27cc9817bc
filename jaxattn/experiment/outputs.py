"""From the outcomes of a sweep to the files of a run."""

import dataclasses
from pathlib import Path

import numpy as np
from scipy.stats import entropy

from jaxattn.config import Config, labels_of, numbers
from jaxattn.experiment import artifacts, choice, seed_diagnostics
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source, majority
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.metrics.definitions import NULLS
from jaxattn.reports import comparison, figures, findings, page
from jaxattn.reports.results import (
    Result,
    Row,
    choose,
    summarise,
    write_results,
    write_seeds,
)
from jaxattn.reports.tables import write_markdown

REFERENCE = "reference"
"""Stands in the column `method` for what depends on the labels alone."""

ORDER = ("accuracy", "nll")

REFERENCES = ("majority", "label_entropy")

Found = dict[str, dict[str, Outcome]]
"""By task and by method."""


def collect(
    config: Config, programs: list[Program], outcomes: list[list[Outcome]]
) -> Found:
    """One outcome for each method of each task, in the order of the config.

    Seeds are in order, and those that diverged become NaN.
    """
    order = [*labels_of(config.methods, config.also), FULL_TEXT]
    found: Found = {}
    for program, parts in zip(programs, outcomes, strict=True):
        of_task = found.setdefault(program.source.task, {})
        for label in dict.fromkeys(label for label, _ in program.cells):
            places = [
                (seed, outcome, i)
                for outcome in parts
                for i, (name, seed) in enumerate(outcome.cells)
                if name == label
            ]
            if places:
                of_task[label] = _joined(label, sorted(places, key=lambda p: p[0]))
    return {
        task: {label: methods[label] for label in order if label in methods}
        for task, methods in found.items()
    }


def _joined(label: str, places: list[tuple[int, Outcome, int]]) -> Outcome:
    def pick(get):
        return np.stack([get(outcome)[i] for _, outcome, i in places])

    first, alive = places[0][1], pick(lambda o: o.alive)

    def living(values):
        shape = (-1, *(1,) * (values.ndim - 1))
        return np.where(alive.reshape(shape), values, np.nan)

    return Outcome(
        cells=[(label, seed) for seed, _, _ in places],
        alive=alive,
        curves={k: living(pick(lambda o, k=k: o.curves[k])) for k in first.curves},
        measured={
            k: living(pick(lambda o, k=k: o.measured[k])) for k in first.measured
        },
        examples={k: pick(lambda o, k=k: o.examples[k]) for k in first.examples},
        class_means=living(pick(lambda o: o.class_means)),
    )


def rows_of(config: Config, source: Source, methods: dict[str, Outcome]) -> list[Row]:
    """The rows of `seeds.csv` of one task; the same outcomes give the same rows."""
    rows = _references(source, methods)
    for label, outcome in methods.items():
        method, _, setting = label.partition("@")
        # Masks that sum to 1 over words or instances which all seeds share.
        words = config.model.values == "inputs" and source.dataset is not None
        words = words and "mask_entropy" in outcome.measured
        labels = None if source.dataset is None else source.dataset.test.labels
        measured = outcome.measured | seed_diagnostics.by_seed(outcome, labels, words)
        names = [n for n in measured if n not in REFERENCES]
        if method == FULL_TEXT:
            names = [n for n in names if n in ORDER]

        def add(metric, values, split, outcome=outcome, method=method, setting=setting):
            metric, _, variant = metric.partition(":")
            variant = " ".join(filter(None, (variant, setting)))
            rows.extend(
                Row(source.task, method, seed, metric, variant, split, float(value))
                for (_, seed), value in zip(outcome.cells, values, strict=True)
            )

        for name in sorted(names, key=lambda n: (n not in ORDER, n)):
            prefix = f"{FULL_TEXT}_" if method == FULL_TEXT else ""
            add(prefix + name, measured[name], "test")
        for name in ("ess_share", "smallest_probability", "overlap_share"):
            if name in outcome.curves:
                add(name, outcome.curves[name][:, -1], "train")
    return rows


def _references(source: Source, methods: dict[str, Outcome]) -> list[Row]:
    """What depends on the labels alone; generated labels are each seed's own."""
    shares = majority(source, "test")
    rows: dict[str, dict[int, float]] = {name: {} for name in REFERENCES}
    for outcome in methods.values():
        for i, (_, seed) in enumerate(outcome.cells):
            if shares is not None:
                values = dict(
                    zip(REFERENCES, (shares.max(), entropy(shares)), strict=True)
                )
            else:
                values = {name: outcome.measured[name][i] for name in REFERENCES}
            for name, value in values.items():
                # A seed that diverged under one method has its labels all the same.
                if np.isfinite(value) or seed not in rows[name]:
                    rows[name][seed] = float(value)
    return [
        Row(source.task, REFERENCE, seed, name, "", "test", value)
        for name, of_seed in rows.items()
        for seed, value in sorted(of_seed.items())
    ]


def _gathered(
    config: Config,
    sources: list[Source],
    programs: list[Program],
    outcomes: list[list[Outcome]],
) -> tuple[Found, list[Row]]:
    found = collect(config, programs, outcomes)
    return found, [row for s in sources for row in rows_of(config, s, found[s.task])]


def write_seeds_so_far(
    folder: Path,
    config: Config,
    sources: list[Source],
    programs: list[Program],
    outcomes: list[list[Outcome]],
) -> None:
    """Writes `seeds.csv` of what is finished, so that it can be looked at meanwhile."""
    _, rows = _gathered(config, sources, programs, outcomes)
    write_seeds(folder / "seeds.csv", rows)


def write(
    folder: Path,
    config: Config,
    sources: list[Source],
    programs: list[Program],
    outcomes: list[list[Outcome]],
) -> tuple[list[Result], list[str], list[tuple[str, int]]]:
    """Writes results, masks and figures; gives means, sentences, diverged cells."""
    found, rows = _gathered(config, sources, programs, outcomes)
    results = summarise(rows, NULLS, config.statistic)
    sentences, all_diverged = [], []
    for source in sources:
        methods = found[source.task]
        diverged = [
            cell
            for outcome in methods.values()
            for cell, alive in zip(outcome.cells, outcome.alive, strict=True)
            if not alive
        ]
        all_diverged += diverged
        missing = sum(
            len(p.cells) for p in programs if p.source.task == source.task
        ) - sum(len(outcome.cells) for outcome in methods.values())
        one = dataclasses.replace(config, tasks=(source.task,))
        said = findings.sentences(one, results, diverged, missing)
        prefix = f"{source.task}: " if len(sources) > 1 else ""
        said += choice.sentences(choice.chosen(config, methods))
        sentences += [prefix + sentence for sentence in said]
        inside = source.task if len(sources) > 1 else ""
        artifacts.write_masks(folder / "masks" / inside, source, methods)
        artifacts.write_names(folder / "data", source)
        main = {m: o for m, o in methods.items() if "@" not in m}
        _draw(folder / "figures" / inside, config, source, main, results)
    write_seeds(folder / "seeds.csv", rows)
    write_results(folder / "results.csv", results)
    title = f"{config.name}: {', '.join(config.tasks)}"
    sentences += comparison.sentences(results)
    more = comparison.markdown(results)
    for s in sources:
        picked = choice.chosen(config, found[s.task])
        more += choice.markdown(s.task, picked, results)
    statistic = {"mean": "mean", "iqm": "interquartile mean"}[config.statistic]
    path = folder / "results.md"
    write_markdown(path, title, results, sentences, more=more, statistic=statistic)
    page.write(folder)
    return results, sentences, all_diverged


def _draw(
    folder: Path,
    config: Config,
    source: Source,
    methods: dict[str, Outcome],
    results: list[Result],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    task = source.task

    def interval(method: str | None, name: str) -> tuple[float, ...]:
        found = choose(results, task, method, name)
        return (found.mean, found.ci_low, found.ci_high) if found else (np.nan,) * 3

    def values(method: str, name: str) -> np.ndarray:
        return methods[method].measured[name]

    trained = [m for m in methods if m != FULL_TEXT]
    trained = [m for m in trained if methods[m].alive.any()]
    if not trained:
        return
    chance = interval(REFERENCE, "majority")[0]
    nats = interval(REFERENCE, "label_entropy")[0]
    full_text = interval(FULL_TEXT, "full_text_accuracy")
    where = config.model.values.replace("_", " ")
    figures.accuracy_by_method(
        folder / "accuracy.svg",
        {m: values(m, "accuracy") for m in trained},
        {m: interval(m, "accuracy") for m in trained},
        chance,
        full_text if np.isfinite(full_text[0]) else None,
        f"Test accuracy on {task}, attention over {where}",
    )
    figures.leak_by_method(
        folder / "leak.svg",
        {m: values(m, "leak_bits") for m in trained},
        {m: values(m, "leak_bits:permuted") for m in trained},
        nats / np.log(2),
        f"Bits of the label in the mask alone, {task}",
    )
    validation = majority(source, "validation")
    figures.learning_curves(
        folder / "learning_curves.svg",
        {m: methods[m].curves["validation_accuracy"] for m in trained},
        "validation accuracy",
        f"Learning curves, {task}",
        chance if validation is None else float(validation.max()),
    )
    for method in trained:
        examples, alive = methods[method].examples, methods[method].alive
        if "instance_weights" not in examples:
            continue
        stored = source.dataset
        figures.histograms(
            folder / "overlap.svg",
            examples["instance_weights"][alive],
            examples["labels"][alive] if stored is None else stored.test.labels,
            majority(source, "train"),
            source.classes,
            f"Do masks of {method} leave every class possible? {task}",
        )
    if config.model.values != "inputs":
        figures.codes(
            folder / "codes.svg",
            {m: methods[m].class_means for m in trained},
            source.classes,
            f"Mean mask on the default tokens by class, {task}",
            config.first_seed,
        )
    varied = [s.partition("=")[0] for s in config.also if " " not in s]
    varied = [path for path in varied if path in numbers(config)]
    if varied:
        number = varied[0]
        figures.curves(
            folder / "tradeoff.svg",
            results,
            task,
            f"{number}={numbers(config)[number]:g}",
            f"{task}: what the selection finds and costs, over {number}",
        )
