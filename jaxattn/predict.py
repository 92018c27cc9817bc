"""The command line of predictions.

What is to be predicted: texts of the command line, a file, or standard input.

What all seeds of a method say of examples: labels, masks, and how far they agree.
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.special import rel_entr

from jaxattn.inference import TrainedModel, run_key
from jaxattn.metrics.statistics import Interval, mean_interval
from jaxattn.system import console, runtime
from jaxattn.system.files import plain

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


@console.messages_shown()
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
    from jaxattn.inference import load_model

    model = load_model(flags.run, flags.task, flags.method, flags.seeds)
    if model.scores not in ("selector", "random"):
        raise ValueError(
            f"method {model.method} takes its masks from the model that it explains, "
            "which is not kept: choose another --method"
        )
    if flags.file:
        examples = from_file(flags.file, model)
    else:
        examples = from_texts(flags.text, model)
    for example in examples:
        _warn(example)
    if not flags.json:
        n = len(model.seeds)
        console.say(
            f"{flags.run}: {model.task}, {model.method}, {n} seed{'s' * (n > 1)}"
        )
    with _progress(len(examples)) as advance:
        for i, one in enumerate(predictions(model, examples), 1):
            if flags.json:
                print(json.dumps(plain(_object(model, one)), allow_nan=False))
            else:
                console.say(f"\n{_told(model, one, i)}")
            advance()


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
    from jaxattn.reports.heatmap import printable, shortened, show

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


class Example(NamedTuple):
    """One example, ready for a model."""

    where: str
    """For messages: `text 2`, or a file and its line."""
    text: str
    """Empty where inputs are numbers."""
    inputs: np.ndarray
    """Token ids [T], or numbers [T] or [T, D]."""
    length: int
    names: tuple[str, ...]
    """Of the positions that are there."""
    unknown: tuple[str, ...]
    """Words that the model has no token for."""
    cut: int
    """Tokens that it does not read."""


def from_texts(texts: tuple[str, ...], model: TrainedModel) -> list[Example]:
    """Raises ValueError for a text that is empty or no text."""
    named = {f"text {i}": text for i, text in enumerate(texts, 1)}
    return _of_texts(named, model)


def from_file(path: str, model: TrainedModel) -> list[Example]:
    """Examples of a file, or of standard input where `path` is `-`.

    A .jsonl file has an object a line, with `text`, or with `inputs` where those are
    numbers; any other file has a text a line. Standard input may be either.

    Raises: ValueError or OSError, one line, for what cannot be read or is no example.
    """
    name = "standard input" if path == "-" else path
    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: not a text in UTF-8") from None
    if not content.strip():
        raise ValueError(f"{name} is empty")
    # Not splitlines: a text may hold any of the other ends that it knows.
    lines = content.replace("\r\n", "\n").rstrip("\n").split("\n")
    named = {f"{name}, line {i}": line for i, line in enumerate(lines, 1)}
    if path.endswith(".jsonl") or path == "-" and content.lstrip()[0] == "{":
        wanted = "text" if model.vocabulary else "inputs"
        fields = {where: _field(line, where, wanted) for where, line in named.items()}
        if wanted == "inputs":
            return [_of_numbers(x, where, model) for where, x in fields.items()]
        return _of_texts(fields, model)
    return _of_texts(named, model)


def _field(line: str, where: str, wanted: str) -> Any:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: no JSON object") from None
    if not isinstance(found, dict) or wanted not in found:
        raise ValueError(f"{where}: expected an object with {wanted!r}")
    return found[wanted]


def _of_texts(named: dict[str, Any], model: TrainedModel) -> list[Example]:
    documents = []
    for where, text in named.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}: 'text' is no text")
        if "\0" in text:
            raise ValueError(f"{where}: it holds a NUL character, so it is no text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: not a text in UTF-8") from None
        documents.append(model.words(text))
        if not documents[-1]:
            raise ValueError(f"{where}: the text is empty")
    known, most = set(model.vocabulary), model.inputs.length
    tokens, lengths = model.encode(list(named.values()))
    examples = []
    for i, (where, text) in enumerate(named.items()):
        read, n = documents[i][:most], int(lengths[i])
        unknown = tuple(dict.fromkeys(word for word in read if word not in known))
        cut = len(documents[i]) - n
        examples.append(Example(where, text, tokens[i], n, tuple(read), unknown, cut))
    return examples


def _of_numbers(given: Any, where: str, model: TrainedModel) -> Example:
    inputs = model.inputs
    try:
        with np.errstate(over="ignore"):  # which leaves infinity, told below
            array = np.array(given, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'inputs' are no array of numbers") from None
    more = () if inputs.kind == "scalars" else (inputs.size,)
    wanted = f"[{', '.join(map(str, (inputs.length, *more)))}]"
    if array.ndim != 1 + len(more) or array.shape[1:] != more or not len(array):
        raise ValueError(
            f"{where}: 'inputs' have shape {list(array.shape)}, expected {wanted}"
        )
    n = len(array)
    if n > inputs.length or inputs.fixed and n < inputs.length:
        raise ValueError(
            f"{where}: 'inputs' have {n} positions, the model has {inputs.length}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: 'inputs' are not all finite")
    padded = np.zeros((inputs.length, *more), np.float32)
    padded[:n] = array
    names = tuple(f"x{i}" for i in range(n))
    return Example(where, "", padded, n, names, (), 0)


CHUNK = 64
"""Examples of one call, fewer where they are long."""

TOGETHER = 16
"""Seeds side by side."""


class Prediction(NamedTuple):
    """Of one example."""

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


def predictions(model: TrainedModel, examples: list[Example]) -> Iterator[Prediction]:
    """Predictions of all examples, in order.

    Where masks hold noise, every example gets one draw for each seed, the same whatever
    stands beside it.
    """
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
        part = examples[start : start + most]
        # A power of two, so that few programs are compiled.
        size = 1 << (len(part) - 1).bit_length()
        rows = part + [part[-1]] * (size - len(part))
        found = run(
            model.params,
            keys,
            np.stack([e.inputs for e in rows]),
            np.array([e.length for e in rows], np.int32),
        )
        probabilities, masks = (np.asarray(x)[:, :, 0] for x in found)
        for i, example in enumerate(part):
            yield _of_one(model, example, probabilities[:, i], masks[:, i])


def _of_one(
    model: TrainedModel, example: Example, probabilities: Any, masks: Any
) -> Prediction:
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
    totals = masks.sum(axis=1, keepdims=True)
    shares = masks / np.where(totals > 0, totals, 1)
    empty = totals[:, 0] <= 0
    pairs = []
    for i in range(len(masks) - 1):
        a, b = shares[i], shares[i + 1 :]
        middle = (a + b) / 2
        nats = rel_entr(a, middle).sum(axis=1) + rel_entr(b, middle).sum(axis=1)
        bits = nats / 2 / np.log(2)
        pairs.append(np.where(empty[i] != empty[i + 1 :], 1.0, bits))
    return float(np.concatenate(pairs).mean()) if pairs else float("nan")
