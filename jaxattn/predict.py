"""The command `jaxattn predict`: what the trained models of a run say of texts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro

from jaxattn.system import console, runtime
from jaxattn.system.files import plain
from jaxattn.system.lines import json_value, rows

# jax takes a second to import, and --help should not.
if TYPE_CHECKING:
    from jaxattn.inference import TrainedModel
    from jaxattn.metrics.statistics import Interval

FINE, USAGE = 0, 2
EACH = 4  # up to so many seeds have a row of the heat-map each
WIDEST = 64  # positions of a mask; of a wider one the largest weights are shown
LARGEST = 10  # weights
LONG = 200  # examples, which take seconds
MOST_CHARACTERS = 300  # of a text that is shown
CHUNK = 64  # examples of one call, fewer where they are long
TOGETHER = 16  # seeds side by side


@dataclasses.dataclass(frozen=True)
class Flags:
    """What do the trained models of a run say of a text, and where did they look?

    - RUN is a folder that jaxattn.train wrote.
    - Of each text it prints the label, its probability (mean over seeds, with
      interval), how many seeds give it, the mask over words or default tokens, and
      how far the masks of two seeds are apart: 0 bits where they are alike, 1
      where they share no position.
    - Where masks hold noise (gumbel_softmax), a text gets one draw for each seed.
    - Exit codes: 0 fine, 2 wrong input.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
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


class Example(NamedTuple):
    """One example, ready for a model."""

    where: str
    """For messages: `text 2`, or a file and its row."""
    text: str
    """Empty where inputs are numbers."""
    inputs: np.ndarray
    """Token ids [T], or numbers [T] or [T, D]."""
    length: int
    names: tuple[str, ...]
    """Of the positions that are there."""
    unknown: tuple[str, ...] = ()
    """Words that the model has no token for."""
    cut: int = 0
    """Tokens that it does not read."""


class Prediction(NamedTuple):
    """What all seeds say of one example."""

    example: Example
    names: tuple[str, ...]
    """Of what the mask weighs, words or default tokens [P]."""
    label: str
    """Of the highest mean probability."""
    probability: Interval
    """Of the label, over seeds."""
    votes: int
    """Seeds that give this label."""
    probabilities: np.ndarray
    """[seeds, classes]."""
    masks: np.ndarray
    """[seeds, P]."""
    disagreement: float
    """Bits between the masks of two seeds, NaN where there is one seed only."""


@console.messages_shown()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        _run(tyro.cli(Flags, args=arguments, prog="jaxattn predict"))
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
    from jaxattn.inference import load_model

    model = load_model(flags.run, flags.task, flags.method, flags.seeds)
    if model.scores not in ("selector", "random"):
        raise ValueError(
            f"method {model.method} takes its masks from the model that it explains, "
            "which is not kept: choose another --method"
        )
    given = flags.file
    examples = from_file(given, model) if given else from_texts(flags.text, model)
    for example in examples:
        if example.unknown and len(example.unknown) == len(set(example.names)):
            known = "the model knows none of its words and reads <unk> only"
            console.warn(f"{example.where}: {known}")
    if not flags.json:
        seeds = f"{len(model.seeds)} seed{'s' * (len(model.seeds) > 1)}"
        console.say(f"{flags.run}: {model.task}, {model.method}, {seeds}")
    # Shown where predictions take long and are not read as they come.
    hidden = sys.stdout.isatty() or len(examples) < LONG
    bar = contextlib.nullcontext(lambda: None)
    with bar if hidden else console.bar("predict", len(examples)) as advance:
        for i, prediction in enumerate(predictions(model, examples), 1):
            if flags.json:
                print(json.dumps(plain(_object(model, prediction)), allow_nan=False))
            else:
                console.say(f"\n{_told(model, prediction, i)}")
            advance()


def from_texts(texts: Sequence[str], model: TrainedModel) -> list[Example]:
    """Examples of texts; ValueError for one that is empty or no text."""
    return _of_texts({f"text {i}": text for i, text in enumerate(texts, 1)}, model)


def from_file(path: str, model: TrainedModel) -> list[Example]:
    """Examples of a file, or of standard input where `path` is `-`.

    A .jsonl file has an object a line, with `text`, or with `inputs` where those are
    numbers; any other file has a text a line. Standard input may be either.

    Raises: ValueError or OSError, one line, for what cannot be read or is no example.
    """
    lines = dict(rows(path))
    if not lines:
        raise ValueError(f"{path} has no row")
    first = next(iter(lines.values()))
    if not (path.endswith(".jsonl") or path == "-" and first.lstrip()[:1] == "{"):
        return _of_texts({w: line.rstrip("\r\n") for w, line in lines.items()}, model)
    wanted = "text" if model.vocabulary else "inputs"
    fields = {where: json_value(where, line) for where, line in lines.items()}
    for where, value in fields.items():
        if not isinstance(value, dict) or wanted not in value:
            raise ValueError(f"{where}: expected an object with {wanted!r}")
        fields[where] = value[wanted]
    if wanted == "text":
        return _of_texts(fields, model)
    return [_of_numbers(given, where, model) for where, given in fields.items()]


def _of_texts(texts: Mapping[str, Any], model: TrainedModel) -> list[Example]:
    documents = []
    for where, text in texts.items():
        wrong = ""
        if not isinstance(text, str):
            wrong = "'text' is no text"
        elif "\0" in text:
            wrong = "it holds a NUL character, so it is no text"
        elif any("\ud800" <= character <= "\udfff" for character in text):
            wrong = "not a text in UTF-8"
        elif not (words := model.words(text)):
            wrong = "the text is empty"
        else:
            documents.append(words)
        if wrong:
            raise ValueError(f"{where}: {wrong}")
    known, most = set(model.vocabulary), model.inputs.length
    tokens, lengths = model.encode(list(texts.values()))
    examples = []
    for i, (where, text) in enumerate(texts.items()):
        names, n = tuple(documents[i][:most]), int(lengths[i])
        unknown = tuple(dict.fromkeys(word for word in names if word not in known))
        cut = len(documents[i]) - n
        examples.append(Example(where, text, tokens[i], n, names, unknown, cut))
    return examples


def _of_numbers(given: Any, where: str, model: TrainedModel) -> Example:
    inputs = model.inputs
    try:
        with np.errstate(over="ignore"):  # which leaves infinity, told below
            array = np.array(given, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'inputs' are no array of numbers") from None
    more = () if inputs.kind == "scalars" else (inputs.size,)
    n = len(array) if array.ndim else 0
    if array.ndim != 1 + len(more) or array.shape[1:] != more or not n:
        expected = [inputs.length, *more]
        wrong = f"have shape {list(array.shape)}, expected {expected}"
    elif n > inputs.length or inputs.fixed and n < inputs.length:
        wrong = f"have {n} positions, the model has {inputs.length}"
    else:
        wrong = "" if np.isfinite(array).all() else "are not all finite"
    if wrong:
        raise ValueError(f"{where}: 'inputs' {wrong}")
    padded = np.zeros((inputs.length, *more), np.float32)
    padded[:n] = array
    return Example(where, "", padded, n, tuple(f"x{i}" for i in range(n)))


def predictions(
    model: TrainedModel, examples: Sequence[Example]
) -> Iterator[Prediction]:
    """Predictions of all examples, in order.

    Where masks hold noise, every example gets one draw for each seed, the same whatever
    stands beside it.
    """
    import jax
    import jax.numpy as jnp

    from jaxattn.inference import run_key

    keys = jax.vmap(run_key)(jnp.array(model.seeds, jnp.uint32))

    @jax.jit
    def run(params, keys, inputs, lengths):
        def of_seed(args):
            own, key = args
            return jax.vmap(lambda x, n: model.apply(own, x[None], n[None], key))(
                inputs, lengths
            )

        return jax.lax.map(of_seed, (params, keys), batch_size=TOGETHER)

    most = max(1, min(CHUNK, 2**16 // model.inputs.length))
    for start in range(0, len(examples), most):
        part = list(examples[start : start + most])
        # A power of two, so that few programs are compiled.
        size = 1 << (len(part) - 1).bit_length()
        padded = part + [part[-1]] * (size - len(part))
        inputs = np.stack([example.inputs for example in padded])
        lengths = np.array([example.length for example in padded], np.int32)
        answers = run(model.params, keys, inputs, lengths)
        probabilities, masks = (np.asarray(x)[:, :, 0] for x in answers)
        for i, example in enumerate(part):
            yield _of_one(model, example, probabilities[:, i], masks[:, i])


def _of_one(
    model: TrainedModel, example: Example, probabilities: Any, masks: Any
) -> Prediction:
    from jaxattn.metrics.statistics import mean_interval

    words = model.inputs.length if model.values != "default_tokens" else 0
    read = example.length if words else 0
    names = example.names[:read]
    if model.values != "inputs":
        names += tuple(f"default {i + 1}" for i in range(model.default_tokens))
    masks = np.concatenate([masks[:, :read], masks[:, words:]], axis=1)
    place = int(probabilities.mean(axis=0).argmax())
    return Prediction(
        example=example,
        names=names,
        label=model.classes[place],
        probability=mean_interval(probabilities[:, place]),
        votes=int((probabilities.argmax(axis=1) == place).sum()),
        probabilities=probabilities,
        masks=masks,
        disagreement=disagreement(masks),
    )


def disagreement(masks: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence in bits, 0 to 1, of pairs of masks [S, P].

    Masks count by their shares; an empty one is 1 bit from any that is not. NaN where
    there is one mask only.
    """
    from jaxattn.metrics.divergence import jsd

    totals = masks.sum(axis=1, keepdims=True)
    shares = masks / np.where(totals > 0, totals, 1)
    empty = totals[:, 0] <= 0
    i, j = np.triu_indices(len(masks), 1)
    bits = np.where(empty[i] != empty[j], 1, jsd(shares[i], shares[j]) / np.log(2))
    return float(bits.mean()) if len(bits) else math.nan


def digits(numbers: Any) -> np.ndarray:
    """Numbers with six digits behind the point."""
    return np.round(np.asarray(numbers, np.float64), 6)


def _object(model: TrainedModel, prediction: Prediction) -> dict[str, Any]:
    """What is printed of an example as JSON."""

    example, masks = prediction.example, prediction.masks
    shares = digits(prediction.probabilities.mean(axis=0))
    p = digits(prediction.probability[:3])
    return {
        "where": example.where,
        "text": example.text or None,
        "label": prediction.label,
        "probability": p[0],
        "ci_low": p[1],
        "ci_high": p[2],
        "votes": prediction.votes,
        "seeds": model.seeds,
        "probabilities": dict(zip(model.classes, shares, strict=True)),
        "tokens": prediction.names,
        "mask": digits(masks.mean(axis=0)),
        "masks": digits(masks),
        "probabilities_of_seeds": digits(prediction.probabilities),
        "disagreement_bits": digits(prediction.disagreement),
        "unknown": example.unknown,
        "cut": example.cut,
    }


def _told(model: TrainedModel, prediction: Prediction, number: int) -> str:
    """What is printed of an example for people."""
    from jaxattn.reports.heatmap import printable, shortened, show

    example, n = prediction.example, len(model.seeds)
    names, masks, p = prediction.names, prediction.masks, prediction.probability
    text = shortened(printable(" ".join(example.text.split())), MOST_CHARACTERS)
    interval = "" if math.isnan(p.low) else f" [{p.low:.3f}, {p.high:.3f}]"
    answer = f"{prediction.label} {p.mean:.3f}{interval}"
    if n > 1:
        answer += f"; {prediction.votes} of {n} seeds; masks "
        answer += f"{prediction.disagreement:.3f} bits apart"
    lines = [f"{number}  {text or example.where}", answer]
    if example.unknown:
        unknown = f"unknown to the model: {printable(', '.join(example.unknown))}"
        lines.append(textwrap.fill(unknown, console.WIDTH, subsequent_indent="  "))
    if example.cut:
        lines.append(f"not read: the last {example.cut} words")
    mean = masks.mean(axis=0)
    if len(mean) > WIDEST:
        order = (-mean).argsort(kind="stable")[:LARGEST]
        largest = ", ".join(f"{names[i]} {mean[i]:.3f}" for i in order)
        return "\n".join([*lines, f"largest weights: {largest}"])
    drawn = {"mean": mean} if n > 1 else {}
    if n <= EACH:
        drawn |= {f"seed {s}": m for s, m in zip(model.seeds, masks, strict=True)}
    else:
        drawn |= {"lowest": masks.min(axis=0), "highest": masks.max(axis=0)}
    return "\n".join([*lines, str(show(names, drawn))])


if __name__ == "__main__":
    sys.exit(main())
