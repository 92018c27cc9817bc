"""What a run consists of: programs, which compile once, and their cells."""

import dataclasses
import math
from typing import NamedTuple

from jaxattn.config import Config, Name, _label, at_setting, numbers, with_numbers
from jaxattn.data.sources.synthetic import SYNTHETIC, members
from jaxattn.experiment.source import Source, check_fit
from jaxattn.methods.table import FULL_TEXT, METHODS, Numbers, Structure
from jaxattn.nn.subsets import MAX_DRAWS
from jaxattn.training import cell
from jaxattn.training.cell import Static


class Program(NamedTuple):
    label: str
    source: Source
    static: Static
    cells: tuple[Name, ...]


def plan(config: Config, source: Source) -> list[Program]:
    """The programs of one task of a run: methods of one structure share one.

    Raises: ValueError where a batch is larger than the training split or where parts
    of the model, methods and task do not fit together.
    """
    statics: dict[Static, list[str]] = {}
    for setting in ("", *config.also):
        there = at_setting(config, setting)
        check_fit(there, source.task)
        # What does not decide the program must not tell programs apart.
        bare = with_numbers(_bare(there), numbers(config))
        for name in config.methods:
            static = _static(config, bare, source, METHODS[name].structure)
            statics.setdefault(static, []).append(_label(name, setting))
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    prefix = f"{source.task}: " if len(config.tasks) > 1 else ""
    programs = []
    for static, labels in statics.items():
        names = list(dict.fromkeys(label.partition("@")[0] for label in labels))
        title = prefix + (names[0] if len(names) == 1 else f"{len(names)} methods")
        cells = tuple((label, seed) for seed in seeds for label in labels)
        programs.append(Program(title, source, static, cells))
    if config.model.values != "inputs":
        bare = _bare(config)
        # Without noise, which belongs to the probe: the reference must be strong.
        model = dataclasses.replace(bare.model, values="inputs", normalizer="softmax")
        words = dataclasses.replace(
            bare, model=model, epochs=config.full_text_epochs, metrics=()
        )
        cells = tuple((FULL_TEXT, seed) for seed in seeds)
        static = _static(config, words, source, METHODS["joint"].structure)
        programs.append(Program(prefix + "full text", source, static, cells))
    return programs


def _bare(config: Config) -> Config:
    """The config without what a run consists of, how it is named and laid out."""
    one = Config()
    # Where the data come from; of the tasks there is no word left here.
    names = ("source", "fields", "tokenizer", "black_box", "asked_about")
    usual = {name: getattr(one.data, name) for name in names}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **usual),
        name=one.name,
        tasks=one.tasks,
        methods=one.methods,
        also=one.also,
        seeds=one.seeds,
        first_seed=one.first_seed,
        statistic=one.statistic,
        lane=one.lane,
    )


def _static(
    whole: Config, config: Config, source: Source, structure: Structure
) -> Static:
    return cell.make_static(
        config,
        structure,
        source.inputs,
        len(source.classes),
        source.examples,
        family=source.family,
        evaluated=source.known
        or source.black_box is not None
        or ("leak" in config.metrics and config.model.values == "inputs"),
        black_box=source.black_box and source.black_box.apply,
        draws=_largest_budget(whole, source),
    )


def numbers_of(program: Program, label: str) -> tuple[dict[str, float], Numbers]:
    """The numbers of a cell's config, its task's budget among them, and its method."""
    name, _, setting = label.partition("@")
    values = numbers(at_setting(program.static.config, setting))
    values["model.budget"] = values["model.budget"] or float(program.source.budget)
    return values, METHODS["joint" if name == FULL_TEXT else name].numbers


def _largest_budget(config: Config, source: Source) -> int:
    """Of all cells of all tasks that share the program; no more is ever drawn."""
    family = members(source.family)
    own = max([source.budget, *(SYNTHETIC[task].budget for task in family)])
    asked = [
        numbers(at_setting(config, also))["model.budget"] or own
        for also in ("", *config.also)
    ]
    return min(math.ceil(max(asked)), MAX_DRAWS) or MAX_DRAWS
