"""From the outcomes of a sweep to the files of a run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxattn.config import Config, labels_of
from jaxattn.experiment import artifacts, choice, seed_diagnostics
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source, majority
from jaxattn.experiment.wave import Outcome
from jaxattn.methods.table import FULL_TEXT
from jaxattn.metrics.definitions import current_name
from jaxattn.metrics.divergence import entropy
from jaxattn.reports import comparison, page
from jaxattn.reports.results import Row, summarise, write_results, write_seeds
from jaxattn.reports.run import Run, load_run
from jaxattn.reports.tables import write_markdown

REFERENCE = "reference"
"""Stands in the column `method` for what depends on the labels alone."""
ORDER = ("accuracy", "nll")
REFERENCES = ("majority", "label_entropy")
ByTask = dict[str, dict[str, Outcome]]
"""Outcomes by task and by method."""


def collect(
    config: Config, programs: list[Program], outcomes: list[list[Outcome]]
) -> ByTask:
    """One outcome for each method of each task, in the order of the config.

    Seeds are in order, and those that diverged become NaN.
    """
    order = [*labels_of(config.methods, config.also), FULL_TEXT]
    by_task: ByTask = {}
    for program, parts in zip(programs, outcomes, strict=True):
        of_task = by_task.setdefault(program.source.task, {})
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
        for task, methods in by_task.items()
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
            metric, _, variant = current_name(metric).partition(":")
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


class Sweep(NamedTuple):
    """What a run has to do, and what of it is finished."""

    config: Config
    sources: list[Source]
    programs: list[Program]
    outcomes: list[list[Outcome]]
    """Of each program."""


def _by_task(sweep: Sweep) -> tuple[ByTask, list[Row]]:
    """The outcomes by task and method, and the rows of `seeds.csv`."""
    config = sweep.config
    methods = collect(config, sweep.programs, sweep.outcomes)
    rows = [row for s in sweep.sources for row in rows_of(config, s, methods[s.task])]
    return methods, rows


def write_seeds_so_far(folder: Path, sweep: Sweep) -> None:
    """Writes `seeds.csv` of what is finished, so that it can be looked at meanwhile."""
    write_seeds(folder / "seeds.csv", _by_task(sweep)[1])


def write(folder: Path, sweep: Sweep) -> Run:
    """Writes all that is made of the outcomes, and reads it back.

    Args:
      folder: of the run.
      sweep: with at least one outcome.

    Returns:
      The run, whose findings are those of `results.md`.

    Raises:
      OSError: a file cannot be written.
    """
    config, sources = sweep.config, sweep.sources
    methods, rows = _by_task(sweep)
    results = summarise(rows, config.statistic)
    write_seeds(folder / "seeds.csv", rows)
    write_results(folder / "results.csv", results)
    chosen = {s.task: choice.chosen(config, methods[s.task]) for s in sources}
    for source in sources:
        inside = source.task if len(sources) > 1 else ""
        artifacts.write_masks(folder / "masks" / inside, source, methods[source.task])
        artifacts.write_names(folder / "data", source)
    run = load_run(folder)
    said, more = run.findings, comparison.markdown(results)
    for task, choices in chosen.items():
        prefix = f"{task}: " if len(sources) > 1 else ""
        said += [prefix + sentence for sentence in choice.sentences(choices)]
        more += choice.markdown(task, choices, results)
    said += comparison.sentences(results)
    title = f"{config.name}: {', '.join(config.tasks)}"
    write_markdown(folder / "results.md", title, results, said, more)
    assert run.contents is not None
    page.write(run.contents)
    return run
