"""The command line of predictions."""

import contextlib
import dataclasses
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxattn import console, runtime
from jaxattn.files import plain

FINE, USAGE = 0, 2
EACH = 4
"""Up to so many seeds have a row of the heat-map each."""
WIDEST = 64
"""Where a mask has more positions, only the largest weights are told."""
LARGEST = 10
LONG = 200
"""Examples, which take seconds."""
MOST_CHARACTERS = 300
"""Of a text that is shown."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """What do the trained models of a run say of a text, and where did they look?

    RUN is a folder that jaxattn.train wrote. Of each text: the label, its probability
    (mean over seeds, with interval), how many seeds give it, the mask over words or
    default tokens, and how far the masks of two seeds are apart: 0 bits where they
    are alike, 1 where they share no position. Where masks hold noise (gumbel_softmax),
    every text gets one draw for each seed. Exit codes: 0 fine, 2 wrong input.
    """

    run: tyro.conf.Positional[Path]
    """Folder of a finished run, or one that its models/ was copied to."""
    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text; may be given repeatedly."""
    file: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A text a line, or .jsonl with "text", or "inputs" (numbers); - reads standard
    input."""
    task: str | None = None
    """Which task of a run that has several."""
    method: str | None = None
    """The run's first if not given."""
    seeds: tuple[int, ...] = ()
    """Some seeds; all if not given. Up to 4 are drawn one by one."""
    json: bool = False
    """Print a JSON object a line, with the mask of every seed."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        flags = tyro.cli(Flags, args=arguments, prog="python -m jaxattn.predict")
        _run(flags)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; nothing is left to be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        console.error(console.reason(error, "writing predictions"))
        return USAGE
    except KeyboardInterrupt:
        console.error("stopped")
        return 130
    return FINE


def _run(flags: Flags) -> None:
    if bool(flags.text) == bool(flags.file):
        raise ValueError("give either --text TEXT or --file FILE (- is standard input)")
    runtime.configure()
    # Only now: jax takes a second to import, and --help should not.
    from jaxattn.prediction import intake, predicted
    from jaxattn.trained import load_model

    model = load_model(flags.run, flags.task, flags.method, flags.seeds)
    if model.scores not in ("selector", "random"):
        raise ValueError(
            f"method {model.method} takes its masks from the model that it explains, "
            "which is not kept: choose another --method"
        )
    if flags.file:
        examples = intake.from_file(flags.file, model)
    else:
        examples = intake.from_texts(flags.text, model)
    for example in examples:
        _warn(example)
    if not flags.json:
        n = len(model.seeds)
        console.say(
            f"{flags.run}: {model.task}, {model.method}, {n} seed{'s' * (n > 1)}"
        )
    with _progress(len(examples)) as advance:
        for i, one in enumerate(predicted.predict(model, examples), 1):
            if flags.json:
                print(json.dumps(plain(_object(model, one)), allow_nan=False))
            else:
                console.say(f"\n{_told(model, one, i)}")
            advance(1, 1)


def _progress(n: int) -> contextlib.AbstractContextManager[Callable[..., None]]:
    """Shown where predictions take long and are not read as they come."""
    if sys.stdout.isatty() or n < LONG:
        return contextlib.nullcontext(lambda *done: None)
    return console.bar("predict", n)


def _warn(example: Any) -> None:
    if example.unknown and len(example.unknown) == len(set(example.names)):
        console.warn(
            f"{example.where}: the model knows none of its words and reads <unk> only"
        )


def _object(model: Any, one: Any) -> dict[str, Any]:
    """What is printed of an example as JSON."""
    example = one.example

    def digits(numbers: Any) -> Any:
        return np.round(np.asarray(numbers, np.float64), 6)

    shares = digits(one.probabilities.mean(axis=0))
    p = digits(one.probability[:3])
    return {
        "where": example.where,
        "text": example.text or None,
        "label": one.label,
        "probability": p[0],
        "ci_low": p[1],
        "ci_high": p[2],
        "votes": one.votes,
        "seeds": model.seeds,
        "probabilities": dict(zip(model.classes, shares, strict=True)),
        "tokens": one.names,
        "mask": digits(one.masks.mean(axis=0)),
        "masks": digits(one.masks),
        "probabilities_of_seeds": digits(one.probabilities),
        "disagreement_bits": digits(one.disagreement),
        "unknown": example.unknown,
        "cut": example.cut,
    }


def _told(model: Any, one: Any, number: int) -> str:
    """What is printed of an example for people."""
    from jaxattn.heat import printable, shortened, show

    example, n = one.example, len(model.seeds)
    text = shortened(printable(" ".join(example.text.split())), MOST_CHARACTERS)
    p = one.probability
    interval = "" if math.isnan(p.low) else f" [{p.low:.3f}, {p.high:.3f}]"
    lines = [
        f"{number}  {text or example.where}",
        f"{one.label} {p.mean:.3f}{interval}",
    ]
    if n > 1:
        lines[-1] += f"; {one.votes} of {n} seeds; masks "
        lines[-1] += f"{one.disagreement:.3f} bits apart"
    if example.unknown:
        unknown = f"unknown to the model: {printable(', '.join(example.unknown))}"
        lines.append(textwrap.fill(unknown, 80, subsequent_indent="  "))
    if example.cut:
        lines.append(f"not read: the last {example.cut} words")
    mean = one.masks.mean(axis=0)
    if len(mean) > WIDEST:
        order = (-mean).argsort(kind="stable")[:LARGEST]
        largest = ", ".join(f"{one.names[i]} {mean[i]:.3f}" for i in order)
        return "\n".join([*lines, f"largest weights: {largest}"])
    rows = {"mean": mean} if n > 1 else {}
    if n <= EACH:
        rows |= {f"seed {s}": m for s, m in zip(model.seeds, one.masks, strict=True)}
    else:
        rows |= {"lowest": one.masks.min(axis=0), "highest": one.masks.max(axis=0)}
    return "\n".join([*lines, str(show(one.names, rows))])
