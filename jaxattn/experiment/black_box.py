"""Models to be explained: trained once, asked once, kept with the run.

What an explainer learns from are the model's answers: labels are its predicted
classes, targets its probabilities. The setting of 'Learning to Explain' by Chen et al.
(arXiv 1802.07814).

The networks take one example, and `keep` [T] says which positions they may see, as
truth values or as factors, so that a position can be faded out. A blanked token is the
zero vector in its place (padding inside the text, the length stays), a blanked pixel or
patch is 0.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxattn.data.dataset import Dataset, Split, digest_of
from jaxattn.data.splits import SPLITS
from jaxattn.nn.encoders import Cnn, Gru
from jaxattn.system import console
from jaxattn.system.errors import reason
from jaxattn.system.files import read_arrays, write_arrays

logger = logging.getLogger("jaxattn")
MOST_BLANKED = 100
"""With more positions than this none is left out: each costs a pass through a model."""


class Linear(nn.Module):
    """Bag of words: the sum over tokens of a weight [classes] each, plus a bias.

    Every weight carries its token's inverse document frequency `idf` [V], and texts are
    scaled by the root of their length: near TF-IDF, and each token's part is known.
    """

    vocabulary: int
    classes: int

    @nn.compact
    def __call__(self, tokens: Array, length: Array, keep: Array, idf: Array) -> Array:
        zeros = nn.initializers.zeros
        table = self.param("weights", zeros, (self.vocabulary, self.classes))
        bias = self.param("bias", zeros, (self.classes,))
        parts = table[tokens] * idf[tokens][:, None]
        scale = jnp.sqrt(jnp.maximum(length, 1).astype(parts.dtype))
        seen = keep * (jnp.arange(len(tokens)) < length)
        return (seen[:, None] * parts).sum(axis=0) / scale + bias


class Text(nn.Module):
    """A CNN or GRU over word embeddings, to logits [classes]."""

    vocabulary: int
    classes: int
    encoder: str
    features: int = 64

    @nn.compact
    def __call__(self, tokens: Array, length: Array, keep: Array, idf: Array) -> Array:
        words = nn.Embed(self.vocabulary, self.features // 2, name="words")(tokens)
        valid = jnp.arange(len(tokens)) < length
        kind = {"cnn": Cnn, "gru": Gru}[self.encoder]
        read, _ = kind(self.features, name="encoder")(keep[:, None] * words, valid)
        return nn.Dense(self.classes, name="logits")(read)


class Image(nn.Module):
    """A small CNN on 28 x 28 images, given as pixels [784] or as patches [49, 16]."""

    classes: int

    @nn.compact
    def __call__(self, inputs: Array, length: Array, keep: Array, idf: Array) -> Array:
        if inputs.ndim == 2:
            patches = (keep[:, None] * inputs).reshape(7, 7, 4, 4)
            image = patches.transpose(0, 2, 1, 3).reshape(28, 28)
        else:
            image = (keep * inputs).reshape(28, 28)
        x = image[..., None]
        for name, width in (("first", 16), ("second", 32)):
            x = nn.relu(nn.Conv(width, (3, 3), name=name)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64, name="hidden")(x.reshape(-1)))
        return nn.Dense(self.classes, name="logits")(x)


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
        if np.isnan(self.accuracy):
            return "has other classes than the task"
        return f"has accuracy {self.accuracy:.3f} on the test split"


def explained(
    name: str, dataset: Dataset, cache: Path | None
) -> tuple[Dataset, BlackBox]:
    """A task's data set with a trained model's answers as labels, and the model.

    With `cache`, parameters and answers are kept there, and made again where they are
    damaged or of another recipe.
    """
    recipe = EXPLAINED[name]
    apply, fresh = _network(recipe, dataset)
    leaves, tree = jax.tree.flatten(fresh)
    splits = {side: getattr(dataset, side) for side in SPLITS}

    def make() -> dict[str, np.ndarray]:
        n = sum(len(s.labels) * (1 + s.inputs.shape[1]) for s in splits.values())
        logger.info(
            f"training the model to explain ({name}), then asking it {n:,} "
            "times, without each position in turn ..."
        )
        params = _train(recipe, apply, fresh, dataset)
        trained = enumerate(jax.tree.leaves(params))
        arrays = {f"leaf-{i}": np.asarray(leaf) for i, leaf in trained}
        for side, split in splits.items():
            scores = attributions(apply, params, split, recipe.kind)
            arrays |= {f"{side}/{key}": value for key, value in scores.items()}
        return arrays

    made_from = [1, name, recipe._asdict(), dataset.digest]
    stored = kept_or_made(cache and cache / f"{name}.npz", made_from, make)
    params = tree.unflatten(
        [jnp.asarray(stored[f"leaf-{i}"]) for i in range(len(leaves))]
    )
    made = answered(dataset, name, stored)
    hits = made.test.labels == dataset.test.labels
    return made, BlackBox(apply, params, float(hits.mean()))


def answered(dataset: Dataset, name: str, stored: dict[str, np.ndarray]) -> Dataset:
    """The data set with a model's answers as labels, and explanations of them.

    `stored` has, for each split, SPLIT/targets [N, classes] and SPLIT/NAME [N, T].
    """
    splits = {}
    for side in SPLITS:
        own = f"{side}/"
        named = {k.removeprefix(own): stored[k] for k in stored if k.startswith(own)}
        targets = named.pop("targets")
        splits[side] = getattr(dataset, side)._replace(
            labels=targets.argmax(axis=1).astype(np.int32),
            targets=targets,
            attributions=named,
        )
    arrays = tuple(a for side in SPLITS for a in splits[side].arrays())
    digest = digest_of(name, dataset.classes, dataset.vocabulary, arrays)
    return dataset._replace(name=name, digest=digest, **splits)


def attributions(
    apply: Callable, params: Any, split: Split, kind: str
) -> dict[str, np.ndarray]:
    """`targets` [N, C], and scores [N, T] of each explanation, of a whole split.

    gradient: how fast the probability of the predicted class falls as a position is
        faded out, in absolute value: the gradient times the input, through the model's
        own embedding.
    leave_one_out: how much that probability falls when the position is blanked.
    weight: of the linear model, the true part of each token in the margin of the
        predicted class over the mean of all.
    """

    def one(args):
        x, length = args
        positions = x.shape[0]
        everything = jnp.ones(positions, bool)
        answer = jax.nn.softmax(apply(params, x, length, everything))
        chosen = answer.argmax()
        valid = jnp.arange(positions) < length

        def probability(keep):
            return jax.nn.softmax(apply(params, x, length, keep))[chosen]

        slope = jnp.abs(jax.grad(probability)(jnp.ones(positions)))
        scores = {"targets": answer, "gradient": jnp.where(valid, slope, 0)}
        if positions <= MOST_BLANKED:
            less = jax.vmap(lambda place: probability(everything.at[place].set(False)))(
                jnp.arange(positions)
            )
            scores["leave_one_out"] = jnp.where(valid, answer[chosen] - less, 0)
        if kind == "linear":
            parts = params["network"]["weights"][x] * params["idf"][x][:, None]
            margin = parts[:, chosen] - parts.mean(axis=1)
            scale = jnp.sqrt(jnp.maximum(length, 1).astype(margin.dtype))
            scores["weight"] = jnp.where(valid, margin / scale, 0)
        return scores

    run = jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=32))
    made = run((ready(split.inputs), jnp.asarray(split.lengths)))
    return {name: np.asarray(value, np.float32) for name, value in made.items()}


def ready(inputs: Any) -> jax.Array:
    """Stored inputs as a network takes them: whole token ids, or float32."""
    whole = np.issubdtype(inputs.dtype, np.integer)
    return jnp.asarray(inputs, jnp.int32 if whole else jnp.float32)


def _network(recipe: Recipe, dataset: Dataset) -> tuple[Callable, Any]:
    """A network as a function of (params, inputs, length, keep), and its parameters."""
    inputs, classes = dataset.train.inputs, len(dataset.classes)
    size, idf = len(dataset.vocabulary), jnp.ones(1)
    if recipe.kind == "image":
        network: Any = Image(classes)
    else:
        idf = jnp.asarray(_idf(inputs, size))
        linear = recipe.kind == "linear"
        network = Linear(size, classes) if linear else Text(size, classes, recipe.kind)

    def apply(params, inputs, length, keep):
        variables = {"params": params["network"]}
        return network.apply(variables, inputs, length, keep, params["idf"])

    x = ready(inputs[0])
    keep = jnp.ones(len(x), bool)
    first = network.init(jax.random.key(0), x, jnp.int32(len(x)), keep, idf)
    return apply, {"network": first["params"], "idf": idf}


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
    with console.bar("model to explain", recipe.epochs * n) as advance:
        for key in jax.random.split(jax.random.key(1), recipe.epochs):
            state = jax.block_until_ready(epoch(state, key))
            advance(n)
    return {"network": state[0], "idf": params["idf"]}


def kept_or_made(
    path: Path | None,
    made_from: list[Any],
    make: Callable[[], dict[str, np.ndarray]],
    holds: Callable[[dict[str, np.ndarray]], bool] = lambda stored: True,
) -> dict[str, np.ndarray]:
    """Arrays that an earlier run kept in a file, else made now and kept there.

    `made_from` (JSON) is what they were made from, and must be the same; `holds` says
    whether what was kept is still right.
    """
    fingerprint = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    if path is not None and path.exists():
        stored = {}
        try:
            stored = read_arrays(path, fingerprint)
        except (ValueError, OSError) as error:
            logger.info(f"{reason(error)}, or of another recipe; it is made again")
        if stored and holds(stored):
            return stored
    stored = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, stored, fingerprint)
    return stored
