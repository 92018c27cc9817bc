"""The command line of the report."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jaxattn.system import console
from jaxattn.system.files import write_text

FINE, USAGE = 0, 2


@dataclasses.dataclass(frozen=True)
class Flags:
    """Draw the report of a run again, or compare several runs, without recomputing.

    - A RUN is a folder that jaxattn.train wrote. Several are compared with the
      first; they must be of the same tasks.
    - Exit codes: 0 fine, 2 wrong input.
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    """Folders of finished runs."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The page; report.html in the folder of a single run if not given, comparison.html
    here for several."""
    quiet: bool = False
    """Print nothing but errors."""


@console.messages_shown()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        flags = tyro.cli(Flags, args=arguments, prog="jaxattn report")
        console.settings.quiet = flags.quiet
        console.say(f"{_written(flags)}: open it in a browser")
    except (ValueError, OSError) as error:
        console.error(console.reason(error, "writing the report"))
        return USAGE
    except KeyboardInterrupt:
        console.error("stopped; nothing was written")
        return 130
    return FINE


def _written(flags: Flags) -> Path:
    if not flags.runs:
        raise ValueError("name the folder of a run, such as runs/probe")
    # Only now: matplotlib and scipy take a second to import, and --help should not.
    from jaxattn.reports import folder, page

    runs = [folder.read(path) for path in flags.runs]
    out = flags.out
    if out is None:
        out = flags.runs[0] / page.NAME if len(runs) == 1 else Path("comparison.html")
    if out.is_dir():
        raise ValueError(f"{out} is a folder: name a file with -o")
    text = page.render(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return out
