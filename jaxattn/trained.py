"""Trained models of a run, read back to be used: parameters, words, one function.

models/TASK.json               format, classes, words, what each method is made of
       TASK/METHOD/SEED.npz    float32 by path, as predictor/head/output/kernel

Nothing here trains: it needs no optimizer and no sweep.
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from jaxattn import forward, methods
from jaxattn.config import Config, Model, suggest
from jaxattn.data import text
from jaxattn.forward import Arrays, Cell, Static
from jaxattn.nn import model as nn_model
from jaxattn.nn.model import Inputs
from jaxattn.nn.normalizers import NORMALIZERS

FORMAT = 1
"""Of the files; a higher one is of a later version of jaxattn."""
FOLDER = "models"


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
    noisy: bool
    """Whether masks hold fresh noise, so that `apply` needs a key."""

    def encode(self, texts: str | Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids [N, T] and lengths [N] of texts, cut after T tokens.

        Raises: ValueError where the model's inputs are numbers.
        """
        if not self.vocabulary:
            raise ValueError(
                f"{self.task}: the model's inputs are {self.inputs.kind}, not texts"
            )
        texts = [texts] if isinstance(texts, str) else texts
        documents = [text.tokenize(one) for one in texts]
        tokens, lengths, _ = text.encode(documents, self.vocabulary, self.inputs.length)
        return tokens, lengths


def shapes(model: nn_model.Model) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by path."""
    made = jax.eval_shape(lambda key: nn_model.init(model, key), jax.random.key(0))
    return {path: x.shape for path, x in flatten_dict(made, sep="/").items()}


def test_key(seed: int | Array) -> Array:
    """The key with which a run read its test split: the same key, the same masks."""
    key = jax.random.fold_in(jax.random.key(seed), forward.TEST)
    return jax.random.split(key, 4)[0]


def load_model(
    run: str | os.PathLike[str],
    task: str | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> TrainedModel:
    """The trained models of one method of a finished run, by default its first.

    `run` is a folder that `jaxattn.train` wrote, or one to which its `models` was
    copied. Without `seed` all seeds that were kept are stacked, those that diverged
    left out. Masks of `gumbel_softmax` hold fresh noise, in tests as in training: they
    need a key, and `jaxattn.trained.test_key(seed)` is the run's own.

    >>> import jax, jaxattn
    >>> model = jaxattn.load_model("runs/reviews", method="mask_swap")
    >>> tokens, lengths = model.encode(["a fine film", "so dull"])
    >>> every = jax.vmap(model.apply, (0, None, None))
    >>> probabilities, masks = every(model.params, tokens, lengths)
    >>> probabilities.shape == (len(model.seeds), 2, len(model.classes))
    True

    Raises: ValueError or OSError, one line, for a folder that is missing or holds no
    finished run or no parameters, an unknown task, method or seed, damaged files, or a
    format of a later version.
    """
    folder = _folder(Path(run))
    tasks = sorted(path.stem for path in folder.glob("*.json"))
    if task is None and len(tasks) > 1:
        raise ValueError(f"{run} has several tasks, name one: {', '.join(tasks)}")
    task = tasks[0] if task is None else task
    if task not in tasks:
        raise ValueError(f"task {task!r}: {suggest(task, tasks)}")
    path = folder / f"{task}.json"
    described = _described(path)
    names = list(described["methods"])
    method = names[0] if method is None else method
    if method not in names:
        raise ValueError(f"method {method!r}: {suggest(method, names)}")
    try:
        static, cell = _made(described, described["methods"][method])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {_brief(error)}") from None
    files = _files(folder / task / method, seed)
    wanted = shapes(static.model)
    stacked = _stacked([_params(file, wanted) for file in files.values()])
    if seed is not None:
        stacked = jax.tree.map(lambda x: x[0], stacked)
    scores, model = static.structure.scores, static.model
    return TrainedModel(
        task=task,
        method=method,
        seeds=tuple(files),
        params=stacked,
        apply=_apply(static, cell),
        classes=tuple(described["classes"]),
        vocabulary=tuple(described["vocabulary"]),
        inputs=model.inputs,
        values=model.selector.values,
        default_tokens=model.selector.default_tokens,
        scores=scores,
        noisy=scores == "random" or NORMALIZERS[model.normalizer].noisy,
    )


def _folder(run: Path) -> Path:
    if not run.is_dir():
        what = "is a file, not the folder of a run" if run.exists() else "is missing"
        raise ValueError(f"{run} {what}: name a folder that jaxattn.train wrote")
    begun = (run / "config.json").exists()
    if begun and not (run / "results.csv").exists():
        raise ValueError(
            f"{run} holds no finished run: run its command again, which goes on where "
            "it stopped"
        )
    folder = run / FOLDER
    if any(folder.glob("*.json")):
        return folder
    if begun:
        raise ValueError(
            f"{run} keeps no parameters: it was run with --model-gigabytes 0 or by an "
            "older version; run its command again with another --workdir"
        )
    raise ValueError(f"{run} holds no run: there are no models in it")


def _described(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
        version = found["format"]
        if not isinstance(version, int):
            raise ValueError
        if version <= FORMAT and not found["methods"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged or cut off") from None
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, and this jaxattn reads up to {FORMAT}: it "
            "was written by a later version; update jaxattn"
        )
    return found


def _made(described: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[Any, Any]:
    """What the engine needs to apply a model as it does in tests."""
    given = described["inputs"]
    inputs = Inputs(given["kind"], given["size"], given["length"], given["fixed"])
    # Fields that a later version adds get the value that changes nothing: the default.
    known = {field.name for field in dataclasses.fields(Model)}
    fields = Model(**{k: v for k, v in method["model"].items() if k in known})
    classes = len(described["classes"])
    model = nn_model.build(
        inputs,
        classes,
        values=fields.values,
        default_tokens=fields.default_tokens,
        query=fields.query,
        selector=fields.selector,
        normalizer=fields.normalizer,
        predictor=fields.predictor,
        features=fields.features,
        hidden=fields.hidden,
    )
    structure = methods.Structure(scores=method["scores"])
    static = Static(Config(model=fields), model, structure, classes, 0)
    numbers = methods.Numbers(uniform=float(method["uniform"]))
    # The key is an argument of its own.
    return static, Cell(None, {}, numbers)  # type: ignore[arg-type]


def _files(folder: Path, seed: int | None) -> dict[int, Path]:
    """The files of parameters by seed, of one seed if it is given."""
    found = {int(p.stem): p for p in folder.glob("*.npz") if p.stem.isdecimal()}
    if not found:
        raise ValueError(f"{folder}: no parameters were kept there")
    if seed is None:
        return dict(sorted(found.items()))
    if seed not in found:
        kept = ", ".join(map(str, sorted(found)))
        raise ValueError(f"seed {seed}: {folder} has {kept}")
    return {seed: found[seed]}


def _params(path: Path, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of one seed by path, of the shapes that its model wants."""
    try:
        # Opened here: numpy leaves a file that it cannot read open.
        with open(path, "rb") as file, np.load(file) as stored:
            found = {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or cut off: {_brief(error)}") from None
    for name in [*wanted, *found]:
        there = found[name].shape if name in found else None
        if there != wanted.get(name):
            raise ValueError(
                f"{path} does not fit its model: {name} is {there or 'missing'} there, "
                f"expected {wanted.get(name, 'nothing')}"
            )
    return found


def _stacked(seeds: list[dict[str, np.ndarray]]) -> Any:
    names = seeds[0]
    flat = {name: jnp.asarray(np.stack([s[name] for s in seeds])) for name in names}
    return unflatten_dict(flat, sep="/")


def _apply(static: Static, cell: Cell) -> Callable[..., tuple[Array, Array]]:
    """The function of a model: what the engine does with a test split, all of it."""
    given = static.structure.scores
    noisy = given == "random" or NORMALIZERS[static.model.normalizer].noisy

    def one(params, key, x, length, scores):
        arrays = Arrays(x, length, jnp.int32(0), attributions={given: scores})
        _, valid, _ = forward.unpack(arrays)
        own = forward.own_scores(static, cell, params["selector"], key, arrays)
        mask = forward.own_mask(static, cell, key, own, valid, training=False)
        logits = forward.logits_one(static, params["predictor"], arrays, mask)
        return jax.nn.softmax(logits), mask

    def apply(params, inputs, lengths, key=None, scores=None):
        inputs, lengths = jnp.asarray(inputs), jnp.asarray(lengths)
        if key is None and noisy:
            raise ValueError(
                "masks of this model hold fresh noise: give a key, such as "
                "jaxattn.trained.test_key(seed)"
            )
        if scores is None and given not in ("selector", "random"):
            raise ValueError(
                f"method {given} takes its scores from the model that it explains: "
                "give scores [N, P]"
            )
        key = jax.random.key(0) if key is None else key
        keys = jax.random.split(key, inputs.shape[0])
        return jax.vmap(one, (None, 0, 0, 0, None if scores is None else 0))(
            params, keys, inputs, lengths, scores
        )

    return apply


def _brief(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
