"""Models to be explained: trained once, asked once, kept with the run.

What an explainer learns from are the model's answers: labels are its predicted
classes, targets its probabilities. The setting of 'Learning to Explain' by Chen et al.
(arXiv 1802.07814).
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattn import data
from jaxattn.attributions import attributions
from jaxattn.blackbox_models import Image, Linear, Text
from jaxattn.data import Dataset
from jaxattn.data.dataset import digest_of
from jaxattn.data.sides import SIDES
from jaxattn.files import replace_file


class Recipe(NamedTuple):
    """How a black box is made; epochs and rate were chosen on the validation split."""

    task: str
    kind: str
    epochs: int
    learning_rate: float
    batch_size: int = 128


EXPLAINED = {
    "explain_linear": Recipe("movie_sentiment", "linear", 10, 3e-3),
    "explain_cnn": Recipe("movie_sentiment", "cnn", 6, 2e-3),
    "explain_gru": Recipe("movie_sentiment", "gru", 3, 2e-3),
    "explain_digits_pixels": Recipe("digits_pixels", "image", 12, 2e-3),
    "explain_digits_patches": Recipe("digits_patches", "image", 12, 2e-3),
}


class BlackBox(NamedTuple):
    """A trained model: apply(params, inputs, length, keep [T]) -> logits [classes]."""

    apply: Callable | None
    params: Any
    accuracy: float
    """Of the model itself on the true labels of the test split (share), NaN where it
    has other classes."""
    ask: Callable | None = None
    """Of a model that is not ours, which no program can hold (`apply` is None then):
    (inputs [N, T] or [N, T, D], lengths [N], keep [N, T]) -> probabilities."""

    @property
    def told(self) -> str:
        if self.accuracy != self.accuracy:
            return "has other classes than the task"
        return f"has accuracy {self.accuracy:.3f} on the test split"


def answered(dataset: Dataset, name: str, stored: dict[str, np.ndarray]) -> Dataset:
    """The data set with a model's answers as labels, and explanations of them.

    `stored` has, for each split, SPLIT/targets [N, classes] and SPLIT/NAME [N, T].
    """
    splits = {}
    for side in SIDES:
        targets = stored[f"{side}/targets"]
        named = {
            key.partition("/")[2]: value
            for key, value in stored.items()
            if key.startswith(f"{side}/") and not key.endswith("/targets")
        }
        splits[side] = getattr(dataset, side)._replace(
            labels=targets.argmax(axis=1).astype(np.int32),
            targets=targets,
            attributions=named,
        )
    arrays = tuple(a for side in SIDES for a in splits[side].arrays())
    digest = digest_of(name, dataset.classes, dataset.vocabulary, arrays)
    return dataset._replace(name=name, digest=digest, **splits)


def explained(
    name: str,
    length: int,
    min_count: int,
    data_dir: Any,
    cache: Path | None,
    say: Callable[[str], None],
) -> tuple[Dataset, BlackBox]:
    """The data set with the model's answers as labels, and the model.

    With `cache`, parameters and answers are kept there, and made again where they are
    damaged or of another recipe. Raises: as `jaxattn.data.load` does.
    """
    recipe = EXPLAINED[name]
    dataset = data.load(recipe.task, length, min_count, data_dir, say)
    apply, fresh, idf = _network(recipe, dataset)
    asked = json.dumps([1, name, recipe._asdict(), dataset.digest])
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    path = None if cache is None else cache / f"{name}.npz"
    leaves, tree = jax.tree.flatten(fresh)
    stored = read(path, fingerprint, say)
    if stored is None:
        answers = sum(
            len(split.labels) * (1 + split.inputs.shape[1])
            for split in (getattr(dataset, side) for side in SIDES)
        )
        say(
            f"training the model to explain ({name}), then asking it {answers:,} "
            "times, without each position in turn ..."
        )
        params = _train(recipe, apply, fresh, dataset)
        stored = {
            f"leaf-{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(params))
        }
        for side in SIDES:
            split = getattr(dataset, side)
            found = attributions(apply, params, split, idf, recipe.kind)
            stored |= {f"{side}/{key}": value for key, value in found.items()}
        if path is not None:
            write(path, fingerprint, stored)
    params = tree.unflatten(
        [jnp.asarray(stored[f"leaf-{i}"]) for i in range(len(leaves))]
    )
    made = answered(dataset, name, stored)
    hits = made.test.labels == dataset.test.labels
    return made, BlackBox(apply, params, float(hits.mean()))


def _network(recipe: Recipe, dataset: Dataset) -> tuple[Callable, Any, jax.Array]:
    train = dataset.train
    idf = jnp.ones(1)
    if recipe.kind == "image":
        network: Any = Image(len(dataset.classes))
    else:
        size = len(dataset.vocabulary)
        idf = jnp.asarray(_idf(train.inputs, size))
        if recipe.kind == "linear":
            network = Linear(size, len(dataset.classes))
        else:
            network = Text(size, len(dataset.classes), recipe.kind)

    def apply(params, inputs, length, keep):
        return network.apply({"params": params["network"]}, inputs, length, keep,
                             params["idf"])  # fmt: skip

    x = ready(train.inputs[0])
    keep = jnp.ones(len(x), bool)
    first = network.init(jax.random.key(0), x, jnp.int32(len(x)), keep, idf)
    return apply, {"network": first["params"], "idf": idf}, idf


def ready(inputs: Any) -> jax.Array:
    """Stored inputs as a network takes them: whole token ids, or float32."""
    whole = np.issubdtype(inputs.dtype, np.integer)
    return jnp.asarray(inputs, jnp.int32 if whole else jnp.float32)


def _idf(tokens: np.ndarray, size: int) -> np.ndarray:
    met = np.zeros(size)
    for row in tokens:
        met[np.unique(row)] += 1
    return np.log((1 + len(tokens)) / (1 + met)).astype(np.float32) + 1


def _train(recipe: Recipe, apply: Callable, params: Any, dataset: Dataset) -> Any:
    split = dataset.train
    inputs, labels = ready(split.inputs), jnp.asarray(split.labels)
    lengths = jnp.asarray(split.lengths)
    adam = optax.adam(recipe.learning_rate)
    n = len(labels)
    # Without a whole batch there would be no step, and no word of it.
    size = min(recipe.batch_size, n)
    steps = n // size

    def loss(network, idf, x, length, y):
        def one(x, length, y):
            keep = jnp.ones(x.shape[0], bool)
            logits = apply({"network": network, "idf": idf}, x, length, keep)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y)

        return jax.vmap(one)(x, length, y).mean()

    @jax.jit
    def epoch(state, key):
        def step(state, index):
            network, moments = state
            batch = inputs[index], lengths[index], labels[index]
            slope = jax.grad(loss)(network, params["idf"], *batch)
            updates, moments = adam.update(slope, moments)
            return (optax.apply_updates(network, updates), moments), None

        order = jax.random.permutation(key, n)[: steps * size].reshape(steps, size)
        return jax.lax.scan(step, state, order)[0]

    state = params["network"], adam.init(params["network"])
    for key in jax.random.split(jax.random.key(1), recipe.epochs):
        state = epoch(state, key)
    return {"network": state[0], "idf": params["idf"]}


def read(
    path: Path | None, fingerprint: str, say: Callable[[str], None]
) -> dict[str, np.ndarray] | None:
    """What `write` kept; None where there is nothing, or nothing to be used."""
    if path is None or not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as archive:
            stored = {name: archive[name] for name in archive.files}
        if str(stored.pop("digest")) != _digest(fingerprint, stored):
            raise ValueError("it is not what was saved, or of another recipe")
        return stored
    # A damaged archive makes zipfile raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())
        say(f"{path} cannot be used ({reason}); it is made again")
        return None


def write(path: Path, fingerprint: str, stored: dict[str, np.ndarray]) -> None:
    """Keeps arrays with a digest over them and what they were made from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        **stored,
        "digest": np.array(_digest(fingerprint, stored)),
    }
    with replace_file(path) as file:
        np.savez(file, **arrays)


def _digest(fingerprint: str, arrays: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256(fingerprint.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {value.dtype.str} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()
