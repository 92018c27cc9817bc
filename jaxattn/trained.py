"""Trained models of a run, read back to be used: parameters, words, one function.

Nothing here trains: it needs no optimizer and no sweep.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import Array

from jaxattn import forward, methods, model_files
from jaxattn.config import Config, Model, check, suggest
from jaxattn.data import text
from jaxattn.data.tokenizer import tokenizer_of
from jaxattn.forward import Arrays, Cell, Static
from jaxattn.nn import model as nn_model
from jaxattn.nn.model import Inputs
from jaxattn.nn.normalizers import NORMALIZERS


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
    key = jax.random.fold_in(jax.random.key(seed), forward.TEST)
    return jax.random.split(key, 4)[0]


def load_model(
    run: str | os.PathLike[str],
    task: str | None = None,
    method: str | None = None,
    seed: int | Sequence[int] | None = None,
) -> TrainedModel:
    """The trained models of one method of a finished run, by default its first.

    `run` is a folder that `jaxattn.train` wrote, or one to which its `models` was
    copied. Some seeds, or by default all that were kept, are stacked; of a single
    `seed` the parameters have no such axis. Seeds that diverged were not kept. Masks
    of `gumbel_softmax` hold fresh noise, in tests as in training: they need a key, and
    `jaxattn.trained.run_key(seed)` is the run's own.

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
    folder = model_files.folder_of(Path(run))
    tasks = sorted(path.stem for path in folder.glob("*.json"))
    if task is None and len(tasks) > 1:
        raise ValueError(f"{run} has several tasks, name one: {', '.join(tasks)}")
    task = _chosen("task", task, tasks)
    path = folder / f"{task}.json"
    described = model_files.described(path)
    method = _chosen("method", method, list(described["methods"]))
    try:
        static, cell = _made(described, described["methods"][method])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {model_files.brief(error)}") from None
    files = model_files.files_of(folder / task / method, seed)
    wanted = nn_model.shapes(static.model)
    stacked = _stacked([model_files.read(file, wanted) for file in files.values()])
    if isinstance(seed, int | np.integer):
        stacked = jax.tree.map(lambda x: x[0], stacked)
    model = static.model
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
        scores=static.structure.scores,
        words=_words(described, task),
        noisy=_noisy(static, cell),
    )


def _chosen(what: str, name: str | None, names: list[str]) -> str:
    if name is None:
        return names[0]
    if name not in names:
        raise ValueError(f"{what} {name!r}: {suggest(name, names)}")
    return name


def _made(described: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[Any, Any]:
    """What the engine needs to apply a model as it does in tests."""
    given = described["inputs"]
    inputs = Inputs(given["kind"], given["size"], given["length"], given["fixed"])
    # A field that a later version adds has a default, and it must change nothing.
    config = check(Config(model=Model(**method["model"])))
    classes = len(described["classes"])
    model = forward.model_of(config, inputs, classes)
    structure = methods.Structure(scores=method["scores"])
    static = Static(config, model, structure, classes, 0)
    numbers = methods.Numbers(uniform=float(method["uniform"]))
    # The key is an argument of its own.
    return static, Cell(None, {}, numbers)  # type: ignore[arg-type]


def _words(described: Mapping[str, Any], task: str) -> Callable[[str], list[str]]:
    if described["vocabulary"]:
        return tokenizer_of(described.get("tokenizer", "")).tokens

    def no_words(text: str) -> list[str]:
        kind = described["inputs"]["kind"]
        raise ValueError(f"{task}: the model's inputs are {kind}, not texts")

    return no_words


def _stacked(seeds: list[dict[str, np.ndarray]]) -> Any:
    names = seeds[0]
    flat = {name: jnp.asarray(np.stack([s[name] for s in seeds])) for name in names}
    return unflatten_dict(flat, sep="/")


def _noisy(static: Static, cell: Cell) -> bool:
    noisy = NORMALIZERS[static.model.normalizer].noisy
    return (noisy or static.structure.scores == "random") and not cell.method.uniform


def _apply(static: Static, cell: Cell) -> Callable[..., tuple[Array, Array]]:
    """The function of a model: what the engine does with a test split, all of it."""
    given, noisy = static.structure.scores, _noisy(static, cell)

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
                "jaxattn.trained.run_key(seed)"
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
