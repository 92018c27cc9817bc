"""Trained models of a run, read back to be used: parameters, words, one function.

Nothing here trains: it needs no optimizer and no sweep. A later version reads the files
that this one wrote:

models/TASK.json               format, classes, words, what each method is made of
       TASK/METHOD/SEED.npz    float32 by path, as predictor/head/output/kernel
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import Array

from jaxattn.config import Config, Model, check
from jaxattn.data import text
from jaxattn.data.readers.tokenizer import tokenizer_of
from jaxattn.methods import table
from jaxattn.nn import model as nn_model
from jaxattn.nn.embedding import Inputs
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.system.errors import reason, suggest
from jaxattn.system.files import read_arrays
from jaxattn.training.cell import TEST, Arrays, Cell, answer, make_model, unpack

FORMAT = 1
"""A higher one is of a later version of jaxattn."""
FOLDER = "models"


def folder_of(run: Path) -> Path:
    """The folder of a run's models; raises ValueError where there is none to use."""
    if not run.is_dir():
        what = "is a file, not the folder of a run" if run.exists() else "is missing"
        raise ValueError(f"{run} {what}: name a folder that jaxattn.train wrote")
    begun = (run / "config.json").exists()
    why = "holds no run: there are no models in it"
    if begun and not (run / "results.csv").exists():
        why = "holds no finished run: run its command again, which goes on where it "
        why += "stopped"
    elif any((run / FOLDER).glob("*.json")):
        return run / FOLDER
    elif begun:
        why = "keeps no parameters: it was run with --model-gigabytes 0 or by an older "
        why += "version; run its command again with another --workdir"
    raise ValueError(f"{run} {why}")


def read_description(path: Path) -> dict[str, Any]:
    """What a `TASK.json` says; raises ValueError, also for a later format."""
    try:
        description = json.loads(path.read_bytes().decode("utf-8"))
        version = description["format"]
        whole = isinstance(version, int)
        if not whole or (version <= FORMAT and not description["methods"]):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged or cut off") from None
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, and this jaxattn reads up to {FORMAT}: it "
            "was written by a later version; update jaxattn"
        )
    return description


def files_of(folder: Path, asked: int | Sequence[int] | None) -> dict[int, Path]:
    """The files of parameters by seed; raises ValueError where one is missing."""
    kept = {int(p.stem): p for p in folder.glob("*.npz") if p.stem.isdecimal()}
    if not kept:
        raise ValueError(f"{folder}: no parameters were kept there")
    seeds = [asked] if isinstance(asked, int | np.integer) else asked or sorted(kept)
    for seed in seeds:
        if seed not in kept:
            names = ", ".join(map(str, sorted(kept)))
            raise ValueError(f"seed {seed}: {folder} has {names}")
    return {seed: kept[seed] for seed in seeds}


def read_parameters(path: Path, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of one seed by path, of the shapes that its model wants.

    Raises: ValueError for a file that is damaged or of another model.
    """
    arrays = read_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    for name in [*wanted, *shapes]:
        if shapes.get(name) != wanted.get(name):
            there, here = shapes.get(name, "missing"), wanted.get(name, "nothing")
            raise ValueError(
                f"{path} does not fit its model: {name} is {there} there, "
                f"expected {here}"
            )
    return arrays


class TrainedModel(NamedTuple):
    """One method of a run, trained with some seeds; what `load_model` gives."""

    task: str
    method: str
    seeds: tuple[int, ...]
    params: Any
    """Leaves [seeds, ...], or of one seed where one was asked for."""
    apply: Callable[..., tuple[Array, Array]]
    """(params of one seed, inputs [N, T] or [N, T, D], lengths [N], key) ->
    probabilities [N, classes], masks [N, P]; pure, for jit, grad and vmap."""
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]
    """Token id -> string; empty where inputs are numbers."""
    inputs: Inputs
    values: str
    """What masks weigh: inputs, default tokens, or both in this order."""
    default_tokens: int
    scores: str
    """Where the selector's scores come from; `selector`, or what `apply` must be told
    as `scores` [N, P] (`gradient`, `leave_one_out`), or `random`."""
    words: Callable[[str], list[str]]
    """The words of a text, as the training split was split into them; raises ValueError
    where inputs are numbers."""
    noisy: bool
    """Whether masks hold fresh noise, so that `apply` needs a key."""

    def encode(self, texts: str | Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids [N, T] and lengths [N] of texts, cut after T tokens.

        Raises: ValueError where the model's inputs are numbers.
        """
        texts = [texts] if isinstance(texts, str) else texts
        documents = [self.words(one) for one in texts]
        tokens, lengths, _ = text.encode(documents, self.vocabulary, self.inputs.length)
        return tokens, lengths


def run_key(seed: int | Array) -> Array:
    """The key with which a run read its test split: the same key, the same masks."""
    key = jax.random.fold_in(jax.random.key(seed), TEST)
    return jax.random.split(key, 4)[0]


def load_model(
    run: str | os.PathLike[str],
    task: str | None = None,
    method: str | None = None,
    seed: int | Sequence[int] | None = None,
) -> TrainedModel:
    """Trained models of one method of a finished run.

    Masks of `gumbel_softmax` hold fresh noise, in tests as in training: then `apply`
    needs a key, and `jaxattn.inference.run_key(seed)` is the run's own.

    Args:
        run: a folder that `jaxattn.train` wrote, or one to which its `models` was
            copied.
        task: needed where the run has several.
        method: the run's first if not given.
        seed: one, or several, or all that were kept if not given. Several are stacked;
            of a single number the parameters have no such axis. Seeds that diverged
            were not kept.

    Returns:
        A `TrainedModel`: `params`, a pure `apply`, `encode` for texts, and the names
        of classes and tokens.

    Raises:
        ValueError: one line, for a folder without a finished run or parameters, an
            unknown task, method or seed, damaged files, or a later format.
        OSError: the folder is missing or cannot be read.

    >>> import jax, jaxattn
    >>> model = jaxattn.load_model("runs/reviews", method="mask_swap")
    >>> tokens, lengths = model.encode(["a fine film", "so dull"])
    >>> every = jax.vmap(model.apply, (0, None, None))
    >>> probabilities, masks = every(model.params, tokens, lengths)
    >>> probabilities.shape == (len(model.seeds), 2, len(model.classes))
    True
    """
    folder = folder_of(Path(run))
    tasks = sorted(path.stem for path in folder.glob("*.json"))
    if task is None and len(tasks) > 1:
        raise ValueError(f"{run} has several tasks, name one: {', '.join(tasks)}")
    task = _chosen("task", task, tasks)
    path = folder / f"{task}.json"
    description = read_description(path)
    method = _chosen("method", method, list(description["methods"]))
    try:
        cell = _cell(description, description["methods"][method])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {reason(error)}") from None
    files = files_of(folder / task / method, seed)
    model, wanted = cell.model, nn_model.shapes(cell.model)
    arrays = [read_parameters(file, wanted) for file in files.values()]
    stacked = jax.tree.map(lambda *seeds: jnp.asarray(np.stack(seeds)), *arrays)
    if isinstance(seed, int | np.integer):
        stacked = jax.tree.map(lambda x: x[0], stacked)
    # Of `gumbel_softmax` and the like, unless the masks of all examples are uniform.
    noisy = NORMALIZERS[model.normalizer].noisy or cell.structure.scores == "random"
    noisy = noisy and not cell.method.uniform
    return TrainedModel(
        task=task,
        method=method,
        seeds=tuple(files),
        params=unflatten_dict(stacked, sep="/"),
        apply=_apply(cell, noisy),
        classes=tuple(description["classes"]),
        vocabulary=tuple(description["vocabulary"]),
        inputs=model.inputs,
        values=model.selector.parts.values,
        default_tokens=model.selector.parts.default_tokens,
        scores=cell.structure.scores,
        words=_words(description, task),
        noisy=noisy,
    )


def _chosen(what: str, name: str | None, names: list[str]) -> str:
    if name is not None and name not in names:
        raise ValueError(f"{what} {name!r}: {suggest(name, names)}")
    return names[0] if name is None else name


def _cell(description: Mapping[str, Any], method: Mapping[str, Any]) -> Cell:
    """What the engine needs to apply a model as it does in tests."""
    given = description["inputs"]
    inputs = Inputs(given["kind"], given["size"], given["length"], given["fixed"])
    # A field that a later version adds has a default, and it must change nothing.
    config = check(Config(model=Model(**method["model"])))
    classes = len(description["classes"])
    return Cell(
        None,  # type: ignore[arg-type]  # the key is an argument of `apply`
        config,
        table.Numbers(uniform=float(method["uniform"])),
        make_model(config, inputs, classes),
        table.Structure(scores=method["scores"]),
        classes,
        steps_per_epoch=0,
    )


def _words(description: Mapping[str, Any], task: str) -> Callable[[str], list[str]]:
    if description["vocabulary"]:
        return tokenizer_of(description.get("tokenizer", "")).tokens

    def no_words(text: str) -> list[str]:
        kind = description["inputs"]["kind"]
        raise ValueError(f"{task}: the model's inputs are {kind}, not texts")

    return no_words


def _apply(cell: Cell, noisy: bool) -> Callable[..., tuple[Array, Array]]:
    """The function of a model: what the engine does with a test split, all of it."""
    given = cell.structure.scores

    def one(params, key, x, length, scores):
        example = Arrays(x, length, jnp.int32(0), attributions={given: scores})
        made = answer(cell, params, key, unpack(example))
        return jax.nn.softmax(made.logits), made.mask

    def apply(params, inputs, lengths, key=None, scores=None):
        inputs, lengths = jnp.asarray(inputs), jnp.asarray(lengths)
        if key is None and noisy:
            raise ValueError(
                "masks of this model hold fresh noise: give a key, such as "
                "jaxattn.inference.run_key(seed)"
            )
        if scores is None and given not in ("selector", "random"):
            raise ValueError(
                f"method {given} takes its scores from the model that it explains: "
                "give scores [N, P]"
            )
        keys = jax.random.split(jax.random.key(0) if key is None else key, len(inputs))
        return jax.vmap(one, (None, 0, 0, 0, None if scores is None else 0))(
            params, keys, inputs, lengths, scores
        )

    return apply
