"""The command `jaxattn data list|show|check|prepare`."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg, subcommand

from jaxattn.data import tasks
from jaxattn.data.readers.options import Options
from jaxattn.data.sources.synthetic import SYNTHETIC
from jaxattn.system import console

FINE, USAGE = 0, 2
WIDTH = 80

OWN = (
    ("FILE.jsonl .json .csv .tsv", "text or tokens, label; also .gz"),
    ("tfds:NAME", "what TFDS has prepared, or prepares"),
    ("FOLDER", "ERASER's form: docs/ and *.jsonl"),
    ("imdb:PATH  ag_news:PATH", "the archives their authors publish"),
    ("bags:FILE.csv", "bags of vectors, such as slides"),
    ("FILE.npz", "what `prepare` wrote"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """What there is to train on: tasks, and forms of the user's own data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads:
    """How the user's own data are read."""

    fields: Annotated[tuple[str, ...], arg(metavar="[ROLE=FIELD ...]")] = ()
    """Map roles to your field names: label=stars; "split=" ignores that field."""
    tokenizer: Annotated[str, arg(metavar="MODULE:FUNCTION|FILE")] = ""
    """module:function, or a tokenizer.json of Hugging Face."""
    length: int = 32
    """Tokens kept of each text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loads(Reads):
    """How data are made of it."""

    min_count: int = 2
    """Words met less often in training become <unk>."""
    data_dir: Path | None = None
    """Where prepared data are kept; TFDS's usual place if not given."""
    download: bool = False
    """Fetch what is missing from the network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Loads):
    """Show some examples, with what counts as evidence highlighted."""

    source: Annotated[Positional[str], arg(metavar="NAME|FILE")]
    """An embedded task, or data as --data of jaxattn train takes them."""
    n: Annotated[int, arg(aliases=["-n"])] = 5
    """How many."""
    seed: int = 0
    """Of the draw."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Reads):
    """List all problems of a file at once; exit code 2 where a run would refuse it."""

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """FILE.jsonl, .json, .csv or .tsv, each also .gz."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepare(Loads):
    """Prepare data once, so that the next run starts at once.

    - Without -o, runs with --data FILE and the same settings find it.
    - With -o, runs take it as --data OUT.npz.
    """

    source: Annotated[Positional[str], arg(metavar="FILE")]
    """Data as --data of jaxattn train takes them."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT.npz")] = None
    """Where to write; a name of its content in data_dir if not given."""


Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Show, subcommand("show")]
    | Annotated[Check, subcommand("check")]
    | Annotated[Prepare, subcommand("prepare")]
)


@console.messages_shown()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        command: Any = tyro.cli(
            Command,  # type: ignore[arg-type]
            args=arguments,
            prog="jaxattn data",
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
    rows = [
        [name, task.examples or None, task.classes or None, task.text]
        for name, task in tasks.TASKS.items()
    ]
    console.table(["task", "examples", "classes", "what is asked"], rows)
    console.say("\ngenerated, with known relevant features:")
    for name, task in SYNTHETIC.items():
        console.say(f"  {name:<28}{task.description}")
    console.say("\nof one's own, with --data:")
    for form, what in OWN:
        console.say(f"  {form:<28}{what}")


def _options(command: Any) -> Options:
    """Those of the options that the command has."""
    given = dataclasses.asdict(command)
    return Options(**{name: given[name] for name in Options._fields if name in given})


def _show(command: Show) -> None:
    # Only now: --help should not wait for what these import.
    from jaxattn.data import readers, show

    if command.n < 1:
        raise ValueError(f"n = {command.n}: at least 1")
    options, source = _options(command), command.source
    known = source in tasks.TASKS or not any(mark in source for mark in "./\\:")
    if known and not Path(source).exists():
        dataset = tasks.load(source, *options[:3])
    else:
        dataset = readers.load_own(source, options)
    show.show(dataset, command.n, command.seed)


def _check(command: Check) -> int:
    from jaxattn.data.readers import check

    checked = check.check(command.file, _options(command))
    _wrapped(f"{command.file.name}: {checked.read:,} rows read, {checked.good:,} good")
    for kind in checked.kinds:
        rows = ", ".join(map(str, kind.rows)) + ", ..." * (kind.n > len(kind.rows))
        plural = "s" * (kind.n > 1)
        _wrapped(f"problem: {kind.n:,} row{plural} ({rows}): {kind.example}")
    for line in checked.problems:
        _wrapped(f"problem: {line}")
    for line in checked.notes:
        _wrapped(f"note: {line}")
    if checked.good:
        _describe(checked, command.length)
    console.say(f"a run would {'take' if checked.clean else 'refuse'} it")
    return FINE if checked.clean else USAGE


def _describe(checked: Any, length: int) -> None:
    shown = checked.classes[:10]
    headers = ["label", "train", "validation", "test"]
    rows = [[name, *sizes] for name, sizes in shown]
    if len(checked.classes) > len(shown):
        rest = [sizes for _, sizes in checked.classes[len(shown) :]]
        rows.append([f"{len(rest):,} more", *map(sum, zip(*rest, strict=True))])
    rows.append(["all", *checked.splits])
    if any(checked.marked):
        rows.append(["with evidence", *checked.marked])
    console.table(headers, rows)
    median, most, longest = checked.lengths
    _wrapped(
        f"tokens a text: median {median:,}, 95 % have at most {most:,}, longest "
        f"{longest:,}; a length of {length} cuts {checked.cut:.1%} of the texts"
    )
    if any(checked.marked):
        _wrapped(f"evidence: {checked.evidence:.1%} of the tokens of marked texts")


def _prepare(command: Prepare) -> None:
    from jaxattn.data import readers
    from jaxattn.data.readers import prepared_file, tables

    options, out = _options(command), command.out
    if out is not None and out.suffix != ".npz":
        raise ValueError(f"{out}: its name must end in .npz")
    with prepared_file.recorded() as said:
        if readers.reader_of(command.source) is None:
            path = Path(command.source).expanduser()
            table = tables.table_of(path, options)
            file = table.tokenizer.file
            out = out or prepared_file.place_of(path, options, file)
            dataset = tables.read(table, options)
        elif out is None:
            raise ValueError(
                f"{command.source} is no single file: say where with -o OUT.npz"
            )
        else:
            dataset = readers.load_own(command.source, options)
    prepared_file.save(out, dataset, options, said)
    sizes = [len(x.labels) for x in (dataset.train, dataset.validation, dataset.test)]
    told = " / ".join(f"{n:,}" for n in sizes)
    console.say(f"{out}: {told} rows (train / validation / test)")


def _wrapped(text: str) -> None:
    for line in textwrap.wrap(text, WIDTH, subsequent_indent="  "):
        console.say(line)
