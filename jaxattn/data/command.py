"""The command line of the data: `python -m jaxattn.data list|show|check|prepare`."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg, subcommand

from jaxattn.data import tasks
from jaxattn.system import console

FINE, USAGE = 0, 2

WIDTH = 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """What there is to train on: embedded tasks, and forms of data of one's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads:
    """How data of one's own are read."""

    fields: tuple[str, ...] = ()
    """Which field is what: label=stars text=review; "split=" passes one over."""
    tokenizer: str = ""
    """module:function, or a tokenizer.json of Hugging Face."""
    length: int = 32
    """Tokens kept of each text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Reads):
    """Show some examples, with what counts as evidence highlighted."""

    source: Annotated[Positional[str], arg(metavar="NAME|FILE")]
    """An embedded task, or data as --data of jaxattn.train takes them."""
    n: Annotated[int, arg(aliases=["-n"])] = 5
    """How many."""
    seed: int = 0
    """Of the draw."""
    min_count: int = 2
    """Words met less often in training are <unk>."""
    data_dir: Path | None = None
    """Where embedded data are prepared; TFDS's usual place if not given."""
    download: bool = False
    """Fetch what is missing from the network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Reads):
    """List all problems of a file at once; exit code 2 where a run would refuse it."""

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """FILE.jsonl, .json, .csv or .tsv, each also .gz."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepare(Reads):
    """Prepare data once, so that the next run starts at once.

    Runs with --data FILE and the same settings find it, if nothing is given with -o;
    else they take it as --data OUT.npz.
    """

    source: Annotated[Positional[str], arg(metavar="FILE")]
    """Data as --data of jaxattn.train takes them."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT.npz")] = None
    """Where to write; a name of its content in data_dir if not given."""
    min_count: int = 2
    """Words met less often in training become <unk>."""
    data_dir: Path | None = None
    """Where prepared data are kept; TFDS's usual place if not given."""
    download: bool = False
    """Fetch what is missing from the network."""


Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Show, subcommand("show")]
    | Annotated[Check, subcommand("check")]
    | Annotated[Prepare, subcommand("prepare")]
)


@console.messages_shown()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    console.settings.quiet = False
    try:
        command: Any = tyro.cli(
            Command,  # type: ignore[arg-type]
            args=arguments,
            prog="python -m jaxattn.data",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        if isinstance(command, Check):
            return _check(command)
        {List: _list, Show: _show, Prepare: _prepare}[type(command)](command)
    except (ValueError, OSError) as error:
        console.error(console.reason(error, "preparing data"))
        return USAGE
    except KeyboardInterrupt:
        console.error("stopped; nothing was written")
        return 130
    return FINE


def _list(command: List) -> None:
    rows = [[name, *entry] for name, entry in tasks.STORED.items()]
    console.table(["task", "examples", "classes", "what is asked"], rows)
    console.say("\ngenerated, with known relevant features:")
    for line in tasks.GENERATED:
        console.say(f"  {line}")
    console.say("\nof one's own, with --data:")
    for form, what in tasks.OWN:
        console.say(f"  {form:<28}{what}")


def _show(command: Show) -> None:
    # Only now: --help should not wait for what these import.
    from jaxattn.data import show, tasks
    from jaxattn.data.readers import choice

    if command.n < 1:
        raise ValueError(f"n = {command.n}: at least 1")
    given = (command.length, command.min_count, command.data_dir)
    source = command.source
    names = list(tasks.STORED)
    known = source in names or not any(mark in source for mark in "./\\:")
    if known and not Path(source).exists():
        dataset = tasks.load(source, *given, console.say)
    else:
        dataset = choice.load_own(
            source,
            *given,
            command.fields,
            command.download,
            tokenizer=command.tokenizer,
        )
    show.show(dataset, command.n, command.seed)


def _check(command: Check) -> int:
    from jaxattn.data.readers import check

    found = check.check(
        command.file, command.length, command.fields, command.tokenizer, console.say
    )
    _wrapped(f"{command.file.name}: {found.read:,} rows read, {found.good:,} good")
    for kind in found.kinds:
        rows = ", ".join(map(str, kind.rows)) + ", ..." * (kind.n > len(kind.rows))
        plural = "s" * (kind.n > 1)
        _wrapped(f"problem: {kind.n:,} row{plural} ({rows}): {kind.example}")
    for line in found.problems:
        _wrapped(f"problem: {line}")
    for line in found.notes:
        _wrapped(f"note: {line}")
    if found.good:
        _describe(found, command.length)
    console.say("a run would refuse it" if not found.clean else "a run would take it")
    return FINE if found.clean else USAGE


def _describe(found: Any, length: int) -> None:
    shown = found.classes[:10]
    headers = ["label", "train", "validation", "test"]
    rows = [[name, *sizes] for name, sizes in shown]
    if len(found.classes) > len(shown):
        rest = [sizes for _, sizes in found.classes[len(shown) :]]
        rows.append([f"{len(rest):,} more", *map(sum, zip(*rest, strict=True))])
    rows.append(["all", *found.splits])
    if any(found.marked):
        rows.append(["with evidence", *found.marked])
    console.table(headers, rows)
    median, most, longest = found.lengths
    _wrapped(
        f"tokens a text: median {median:,}, 95 % have at most {most:,}, longest "
        f"{longest:,}; a length of {length} cuts {found.cut:.1%} of the texts"
    )
    if any(found.marked):
        _wrapped(f"evidence: {found.evidence:.1%} of the tokens of marked texts")


def _prepare(command: Prepare) -> None:
    from jaxattn.data.readers import choice, prepared_file, tables

    fields, tokenizer = command.fields, command.tokenizer
    settings = prepared_file.settings_of(
        command.length, command.min_count, fields, tokenizer
    )
    say, said = prepared_file.recorded(console.say)
    path = Path(command.source).expanduser()
    out = command.out
    if out is not None and out.suffix != ".npz":
        raise ValueError(f"{out}: its name must end in .npz")
    if choice.door_of(command.source) is None:
        found = tables.reading(path, fields, tokenizer)
        given = (command.length, command.min_count)
        out = out or tables.place_of(found, *given, command.data_dir, fields, tokenizer)
        dataset = tables.made(found, *given, say)
    elif out is None:
        raise ValueError(
            f"{command.source} is no single file: say where with -o OUT.npz"
        )
    else:
        dataset = choice.load_own(
            command.source,
            command.length,
            command.min_count,
            command.data_dir,
            fields,
            command.download,
            say,
            tokenizer,
        )
    prepared_file.save(out, dataset, settings, said)
    sizes = [len(x.labels) for x in (dataset.train, dataset.validation, dataset.test)]
    told = " / ".join(f"{n:,}" for n in sizes)
    console.say(f"{out}: {told} rows (train / validation / test)")


def _wrapped(text: str) -> None:
    for line in textwrap.wrap(text, WIDTH, subsequent_indent="  "):
        console.say(line)
