"""The commands of jaxattn: `jaxattn COMMAND`, or `python -m jaxattn COMMAND`."""

import importlib
import sys

from jaxattn.system.errors import suggest

COMMANDS = {
    "train": ("jaxattn.train", "train and compare attention models over many seeds"),
    "audit": ("jaxattn.leakage.command", "how much of the label do saved masks carry?"),
    "report": (
        "jaxattn.reports.command",
        "redraw the report of a run, or compare runs",
    ),
    "predict": ("jaxattn.predict", "what do trained models say of a text, and why?"),
    "data": ("jaxattn.data.command", "list, show, check or prepare data"),
    "doctor": ("jaxattn.doctor", "is this machine ready?"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the first argument names; returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"jaxattn {importlib.import_module('jaxattn').__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = suggest(words[0], [*COMMANDS, "--help", "--version"])
        print(f"error: no command {words[0]!r}: {hint}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


def _usage() -> str:
    commands = [f"  {name:9}  {told}" for name, (_, told) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: jaxattn COMMAND [OPTIONS]",
            "",
            *commands,
            "",
            "  --help     print this; after a COMMAND, its options and exit codes",
            "  --version  print the version",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
