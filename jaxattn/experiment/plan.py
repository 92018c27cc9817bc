"""What a run consists of: programs, which compile once, and their cells."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxattn.config import Config, Name, at_setting, check_name, label_of, numbers
from jaxattn.data import tasks
from jaxattn.data.sources.synthetic import SYNTHETIC, members
from jaxattn.experiment.source import Source, check_fit
from jaxattn.methods.table import FULL_TEXT, METHODS, Method, Numbers
from jaxattn.nn.subsets import MAX_DRAWS
from jaxattn.training.cell import Cell, Task, check_parts, make_cell


class Program(NamedTuple):
    """What compiles once: cells whose tree structures are equal."""

    label: str
    source: Source
    settings: dict[str, Cell]
    """The cell of each label; keys and numbers are Python's, the key is no key yet."""
    cells: tuple[Name, ...]

    @property
    def cell(self) -> Cell:
        """One of the cells, for what they have in common."""
        return next(iter(self.settings.values()))

    @property
    def structure(self) -> Any:
        """What tells programs apart."""
        return jax.tree.structure(self.cell)


def check_names(config: Config) -> None:
    """Whether the names of a config, at each of its settings, are in their registries.

    Raises: ValueError, one line, with the name that was probably meant.
    """
    for path, known in (("methods", METHODS), ("tasks", tasks.names())):
        for i, name in enumerate(getattr(config, path)):
            check_name(f"{path}[{i}]", name, known)
    check_name("data.asked_about", config.data.asked_about, (*tasks.stored(), "own"))
    for setting in ("", *config.also):
        check_parts(at_setting(config, setting))


def plan(config: Config, source: Source) -> list[Program]:
    """The programs of one task of a run: methods of one structure share one.

    Raises: ValueError where a batch is larger than the training split or where parts
    of the model, methods and task do not fit together.
    """
    programs: dict[Any, dict[str, Cell]] = {}
    for setting in ("", *config.also):
        there = at_setting(config, setting)
        check_fit(there, source.task)
        for name in config.methods:
            cell = _cell(config, there, METHODS[name], source)
            cells = programs.setdefault(jax.tree.structure(cell), {})
            cells[label_of(name, setting)] = cell
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    prefix = f"{source.task}: " if len(config.tasks) > 1 else ""

    def program(title: str, cells: dict[str, Cell]) -> Program:
        named = tuple((label, seed) for seed in seeds for label in cells)
        return Program(prefix + title, source, cells, named)

    made = []
    for cells in programs.values():
        names = list(dict.fromkeys(label.partition("@")[0] for label in cells))
        title = names[0] if len(names) == 1 else f"{len(names)} methods"
        made.append(program(title, cells))
    if config.model.values != "inputs":
        # Without noise, which belongs to the probe: the reference must be strong.
        model = dataclasses.replace(config.model, values="inputs", normalizer="softmax")
        epochs = config.full_text_epochs
        words = dataclasses.replace(config, model=model, epochs=epochs, metrics=())
        cell = _cell(config, words, METHODS["joint"], source)
        made.append(program("full text", {FULL_TEXT: cell}))
    return made


def _cell(whole: Config, config: Config, method: Method, source: Source) -> Cell:
    """The cell of one setting of the whole config; its leaves are Python's numbers.

    Nothing is left in its config that neither trains nor measures it.
    """
    usual, model = Config(), config.model
    black_box: Callable | None = source.black_box and source.black_box.apply
    leaks = "leak" in config.metrics and model.values == "inputs"
    # Of all cells of all tasks that share the program; no more is ever drawn.
    own = max([source.budget, *(SYNTHETIC[t].budget for t in members(source.family))])
    settings = [numbers(at_setting(whole, also)) for also in ("", *whole.also)]
    largest = max(asked["model.budget"] or own for asked in settings)
    task = Task(
        source.inputs,
        len(source.classes),
        source.examples,
        draws=min(math.ceil(largest), MAX_DRAWS) or MAX_DRAWS,
        which=source.which,
        control=source.control,
        family=source.family,
        evaluated=source.known or black_box is not None or leaks,
        black_box=black_box,
    )
    # Where the data come from; of the tasks there is no word left here.
    of_data = ("source", "fields", "tokenizer", "black_box", "asked_about")
    of_run = "name tasks methods also seeds first_seed statistic lane".split()
    data = {name: getattr(usual.data, name) for name in of_data}
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **data),
        model=dataclasses.replace(model, budget=model.budget or source.budget),
        metrics=tuple(config.metrics),
        **{name: getattr(usual, name) for name in of_run},
    )
    cell = make_cell(config, method, task)
    shares = Numbers(*map(float, method.numbers))
    floats = jax.tree.map(float, config)
    return dataclasses.replace(cell, config=floats, method=shares)
