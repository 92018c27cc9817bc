"""Train and compare attention models: `python -m jaxattn.train --config FILE`."""

import argparse
import dataclasses
import functools
import inspect
import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxattn.config import Config, check
from jaxattn.data import tasks
from jaxattn.experiment import config_files
from jaxattn.methods.table import METHODS
from jaxattn.system import console, runtime
from jaxattn.system.errors import out_of_memory


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train every method over many seeds, measure it, and say what was found.

    - Start from a file with --config FILE (see configs/); the defaults below are
      its values, and every one can be changed here.
    - The same command again resumes.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    data: str = ""
    """Data of one's own in place of the tasks: FILE.jsonl, .json, .csv or .tsv (also
    .gz), a folder in ERASER's form, tfds:NAME, imdb:PATH, ag_news:PATH, bags:FILE."""
    fields: tuple[str, ...] = ()
    """Map roles to your field names: label=stars; "split=" ignores that field. Roles:
    text, tokens, label, evidence, split, id, group."""
    tokenizer: str = ""
    """Of its texts: module:function, or a tokenizer.json of Hugging Face."""
    download: bool = False
    """Fetch what is missing from the network."""
    workdir: Path | None = None
    """Where the run is kept; runs/NAME if not given."""
    data_dir: Path | None = None
    """Where the embedded data are prepared; TFDS's usual place if not given."""
    checkpoint_seconds: float = 15.0
    """Least time between two checkpoints of the wave under way."""
    model_gigabytes: float = 1.0
    """Most room that parameters take in models/; where they need more, those of the
    first seeds are kept, and with 0 none."""
    sweep: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Run every combination of such values, and choose on the validation split:
    FIELD=VALUE,VALUE, as optimizer.learning-rate=1e-3,3e-3."""
    dry_run: bool = False
    """Say what would be run and what it would cost, and stop there."""
    distributed: str = "auto"
    """Processes of one job: auto (as the launcher says), off, or HOST:PORT,N,I."""
    quiet: bool = False
    """Print nothing but the result table and errors."""
    json: bool = False
    """Print one JSON object as the last line."""


def parse(arguments: list[str]) -> Flags:
    """Flags from the command line; raises ValueError, OSError or SystemExit (2)."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    known, rest = first.parse_known_args(arguments)
    default = config_files.load(known.config) if known.config else Config()
    known_names = {"Tasks": tasks.names(), "Methods": METHODS}
    told = [f"- {what}: {', '.join(names)}" for what, names in known_names.items()]
    told = [inspect.cleandoc(Flags.__doc__ or ""), *map(console.folded, told)]
    flags = tyro.cli(
        Flags,
        args=_without_commas(rest),
        default=Flags(config=default),
        prog="python -m jaxattn.train [--config FILE]",
        description="\n".join(told),
    )
    config = check(_explaining(_with_data(flags, default.name), flags, default))
    config = config_files.placed(config, config_files.grid(sum(flags.sweep, ())))
    for name in ("checkpoint_seconds", "model_gigabytes"):
        if not getattr(flags, name) >= 0:
            raise ValueError(f"{name} = {getattr(flags, name)}: must be 0 or more")
    return dataclasses.replace(flags, config=config)


def _with_data(flags: Flags, usual_name: str) -> Config:
    """The config with the data of --data as its task, and in its name."""
    config = flags.config
    if flags.data:
        named = config.tasks if "own" in config.tasks else ("own",)
        name = config.name
        if name == usual_name:
            stem = Path(flags.data.partition(":")[2] or flags.data).name
            stem = re.sub(r"\W+", "_", stem.partition(".")[0])
            name = f"{name}_{stem}".strip("_")
        config = dataclasses.replace(config, tasks=named, name=name)
    given = {"source": flags.data, "fields": flags.fields, "tokenizer": flags.tokenizer}
    given = {name: value for name, value in given.items() if value}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **given))


def _explaining(config: Config, flags: Flags, default: Config) -> Config:
    """The config with a black box of the user's as its task, unless tasks are named.

    What it cannot give, its gradient, is left out of methods that a file names.
    """
    if not config.data.black_box or flags.config.tasks != default.tasks:
        return config
    given: dict[str, Any] = {"tasks": ("explain_own",)}
    if config.data.source:
        given["data"] = dataclasses.replace(config.data, asked_about="own")
    if config.methods == default.methods:
        given["methods"] = tuple(m for m in config.methods if m != "gradient")
    if flags.config.name == default.name:
        module = config.data.black_box.partition(":")[0].rpartition(".")[2]
        given["name"] = f"{config.name}_{module}".strip("_")
    return dataclasses.replace(config, **given)


def _without_commas(words: list[str]) -> list[str]:
    """Lists may be written with commas: `--tasks syn4,syn5` is `--tasks syn4 syn5`."""
    kept, inside = [], False
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            inside = flag in ("--tasks", "--methods", "--metrics", "--also")
            kept += [flag] if inside else []
            word = value if inside else word
        kept += filter(None, word.split(",")) if inside else [word]
    return kept


@console.messages_shown()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
        console.settings.quiet = flags.quiet
        runtime.configure()
        # Only now: jax takes a second to import, and --help should not.
        from jaxattn.system import processes

        processes.start(processes.parse(flags.distributed))
    except (ValueError, OSError) as error:
        console.error(console.reason(error, "writing the run"))
        return 2
    except KeyboardInterrupt:
        console.error("stopped before it began")
        return 130
    code, together = _run(flags, processes)
    processes.end(code, together)
    return code


def _run(flags: Flags, hosts: Any) -> tuple[int, bool]:
    """Exit code, and whether all processes of the job come to it by themselves."""
    console.settings.quiet |= not hosts.first()
    stopping = functools.partial(runtime.stop_signal, console.urgent)
    kept = flags.checkpoint_seconds, flags.model_gigabytes, flags.dry_run
    where = flags.workdir, flags.data_dir, flags.download
    try:
        from jaxattn.experiment.run import Execution, run

        done = run(flags.config, *where, execution=Execution(*kept, stopping))
    except (ValueError, OSError, RuntimeError) as error:
        if hosts.lost(error):
            console.error("another process of this job has died: start it again")
            return hosts.PEER_DIED, False
        if isinstance(error, RuntimeError):
            if not out_of_memory(error):
                raise
            error = "out of memory: choose a smaller --lane or --batch-size"
        console.error(console.reason(error, "writing the run"))
        return 2, False
    except KeyboardInterrupt:
        console.error("stopped at once; the same command resumes the last checkpoint")
        return 130, False
    except SystemExit as ended:  # because the first process has failed
        return int(ended.code or 0), False
    if hosts.first() and (flags.json or not flags.dry_run):
        _tell(flags, done)
    if done.signal is None:
        return 0, True
    early = done.signal == signal.SIGTERM
    return hosts.ENDED_EARLY if early else 128 + done.signal, True


def _tell(flags: Flags, done: Any) -> None:
    """Prints the result table, the findings, where the run is, and what comes next."""
    from jaxattn.reports import findings, tables

    if done.contents:
        results = done.contents.results
        console.table(*tables.compact(results, tables.headline(results)))
    if done.diverged and flags.quiet:  # else it is among the findings
        names = ", ".join(f"{method} seed {seed}" for method, seed in done.diverged)
        console.error(f"not finite, frozen and left out: {names}")
    shown = findings.brief(done.findings)
    for sentence in shown:
        console.paragraph(f"- {sentence}")
    if len(shown) < len(done.findings):
        console.say(f"- {len(done.findings) - len(shown)} more in results.md")
    if done.signal is not None:
        told = "stopped after the current chunk; the same command goes on from"
        console.paragraph(f"{told} {done.folder}")
    elif done.contents:
        files = "report.html, results.md, results.csv, seeds.csv, masks, figures"
        console.paragraph(f"{done.folder}: {files}")
        for number, step in enumerate(_next(done.folder)):
            console.say(f"{'' if number else 'next:':5} {step}")
    if flags.json:
        print(json.dumps(done.to_dict()))


def _next(folder: Path) -> list[str]:
    """What to do with a finished run, as commands."""
    steps = [("open", folder / "report.html"), ("jaxattn report", folder)]
    masks = sorted(folder.glob("masks/**/*.npz"))
    # joint, where it is: what everyone trains.
    masks.sort(key=lambda p: (p.stem != "joint", p.stem == "full_text"))
    steps += [("jaxattn audit", path) for path in masks[:1]]
    return [f"{command} {shlex.quote(str(path))}" for command, path in steps]


if __name__ == "__main__":
    sys.exit(main())
