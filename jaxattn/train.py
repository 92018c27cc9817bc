"""Train and compare attention models: `python -m jaxattn.train --config FILE`."""

import argparse
import dataclasses
import json
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import tyro

from jaxattn import config as configs
from jaxattn import console, runtime
from jaxattn.files import plain


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train every method over many seeds, measure it, and say what was found.

    Start from a file with --config FILE (see configs/); the defaults below are its
    values, and every one can be changed here. The same command again resumes.
    """

    config: Annotated[configs.Config, tyro.conf.arg(name="")]
    workdir: Path | None = None
    """Where the run is kept; runs/NAME if not given."""
    data_dir: Path | None = None
    """Where the embedded data are prepared; TFDS's usual place if not given."""
    checkpoint_seconds: float = 15.0
    """Least time between two checkpoints of the wave under way."""
    quiet: bool = False
    """Print nothing but the result table and errors."""
    json: bool = False
    """Print one JSON object as the last line."""


def parse(arguments: list[str]) -> Flags:
    """Flags from the command line; raises ValueError, OSError or SystemExit (2)."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    known, rest = first.parse_known_args(arguments)
    rest = _without_commas(rest)
    default = configs.Config()
    if known.config:
        default = configs.check(configs.load(known.config))
    flags = tyro.cli(
        Flags,
        args=rest,
        default=Flags(config=default),
        prog="python -m jaxattn.train [--config FILE]",
    )
    configs.check(flags.config)
    if not flags.checkpoint_seconds >= 0:
        raise ValueError(
            f"checkpoint_seconds = {flags.checkpoint_seconds}: must be 0 or more"
        )
    return flags


def _without_commas(words: list[str]) -> list[str]:
    """Lists may be written with commas: `--tasks syn4,syn5` is `--tasks syn4 syn5`."""
    kept, inside = [], False
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            inside = flag in ("--tasks", "--methods", "--metrics", "--also")
            split = inside and equals and "," in value
            kept += [flag, *filter(None, value.split(","))] if split else [word]
        else:
            kept += [*filter(None, word.split(","))] if inside else [word]
    return kept


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
        console.settings.quiet = flags.quiet
        runtime.configure()
        # Only now: jax takes a second to import, and --help should not.
        from jaxattn import experiment, tables

        folder = flags.workdir or Path("runs") / flags.config.name
        done = experiment.run(
            flags.config, folder, flags.data_dir, flags.checkpoint_seconds
        )
    except (ValueError, OSError) as error:
        console.error(_explain(error))
        return 2
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        console.error("out of memory: choose a smaller --lane or --batch-size")
        return 2
    except KeyboardInterrupt:
        console.error("stopped at once; the same command resumes the last checkpoint")
        return 130
    if done.results:
        headers, rows = tables.compact(done.results, tables.headline(done.results))
        console.table(headers, rows)
    if done.diverged:
        names = ", ".join(f"{method} seed {seed}" for method, seed in done.diverged)
        print(f"not finite, frozen and left out: {names}")
    for sentence in done.findings:
        console.say(textwrap.fill(f"- {sentence}", 80, subsequent_indent="  "))
    if done.signal is not None:
        console.say(
            f"stopped after the current chunk; the same command goes on from {folder}"
        )
    elif done.results:
        console.say(f"{folder}: results.md, results.csv, seeds.csv, masks, figures")
    if flags.json:
        results = [r._asdict() for r in done.results]
        print(json.dumps(plain({"folder": str(folder), "results": results})))
    return 0 if done.signal is None else 128 + done.signal


def _explain(error: ValueError | OSError) -> object:
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"{error.filename or 'while writing the run'}: {error.strerror}"
    return error


if __name__ == "__main__":
    sys.exit(main())
