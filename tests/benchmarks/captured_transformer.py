"""What a small transformer's CLS attention is worth, and what the methods change.

    python tests/benchmarks/captured_transformer.py [--seeds 8] [--quick]

An ordinary Flax encoder (two layers, four heads, width 32) reads [CLS] review [SEP] of
`movie_sentiment` and answers from CLS. Nothing in it knows of jaxattn: masks are
captured, replaced and taught from outside. Writes RESULTS_CAPTURE.md beside this file.
"""

import argparse
import datetime
import functools
import pathlib
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from page import cpu, table

import jaxattn
from jaxattn.data.text import PUNCTUATION
from jaxattn.metrics.ranking import kendall_tau_b
from jaxattn.metrics.statistics import mean_interval
from jaxattn.nn import edits
from jaxattn.nn.masks import foreign_masks, others
from jaxattn.system import runtime

if __name__ == "__main__":
    runtime.configure()

FOLDER = pathlib.Path(__file__).parent
WIDTH, HEADS, LAYERS, LENGTH = 32, 4, 2, 30
BATCH, LEARNING_RATE = 128, 2e-3
LAYER = f"layer_{LAYERS - 1}/attention"
SELECTOR = (f"{LAYER}/query", f"{LAYER}/key")
SIDES = {
    "joint": ("joint", False),
    "joint, noise": ("joint", True),
    "random_pretraining": ("random_pretraining", True),
    "instance_weighting": ("instance_weighting", True),
    "mask_swap": ("mask_swap", True),
}
"""Method, and whether the CLS row of the last layer is drawn with Gumbel noise."""


class Encoder(nn.Module):
    """Somebody's classifier of token ids [batch, T]; padding is 0."""

    vocabulary: int

    @nn.compact
    def __call__(self, tokens, share=1.0):
        valid = (tokens > 0)[:, None, None]
        x = nn.Embed(self.vocabulary, WIDTH)(tokens) * jnp.asarray(share)[..., None]
        x = x + nn.Embed(LENGTH + 2, WIDTH)(jnp.arange(tokens.shape[1]))
        for i in range(LAYERS):
            x = Block(name=f"layer_{i}")(x, valid)
        return nn.Dense(2)(nn.LayerNorm()(x[:, 0]))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, valid):
        attention = nn.MultiHeadDotProductAttention(HEADS, name="attention")
        x = x + attention(nn.LayerNorm()(x), mask=valid)
        return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))))


class Reviews(NamedTuple):
    """Token ids [N, T] with [CLS] and [SEP], labels [N]; what positions are [N, T]."""

    tokens: Any
    labels: Any
    kinds: dict[str, Any]


def reviews(split: Any, dataset: Any) -> Reviews:
    n, size = len(split.labels), len(dataset.vocabulary)
    tokens = np.zeros((n, LENGTH + 2), np.int32)
    tokens[:, 0] = size
    tokens[:, 1:-1] = split.inputs
    tokens[np.arange(n), split.lengths + 1] = size + 1
    cls, sep = tokens == size, tokens == size + 1
    word = (tokens > 0) & ~cls & ~sep
    known = np.where(word, tokens, 0)
    marks = word & (dataset.kind[known] == PUNCTUATION)
    rated = word & np.isfinite(dataset.lexicon[known])
    kinds = {
        "[CLS]": cls,
        "[SEP]": sep,
        "punctuation": marks,
        "words": word & ~marks,
        "words that people rated": rated,
    }
    return Reviews(tokens, split.labels, kinds)


def functions(model: Encoder, noisy: bool):
    """select and predict of a model that has neither."""

    def select(params, batch, key):
        tokens, share = batch
        row = jaxattn.capture(model, params, tokens, share).cls(LAYER)
        if not noisy:
            return row
        # Noise on the scores, whose softmax the row is.
        noise = jax.random.gumbel(key, row.shape)
        low = jnp.where(tokens[:, None] > 0, jnp.log(row + 1e-9) + noise, -jnp.inf)
        return jax.nn.softmax(low)

    def predict(params, batch, masks):
        row = edits.only(masks[:, :, None], query=0)
        return jaxattn.intervene(model, params, {LAYER: row}, *batch)

    return select, predict


def train(model, made, data: Reviews, key, epochs: int, say):
    """Parameters of one seed for each of `key` [seeds], side by side."""
    n = len(data.labels)
    steps = n // BATCH
    tx = made.optimizer(optax.adam(LEARNING_RATE))
    share = jnp.ones((BATCH, LENGTH + 2))

    def first(key):
        params = model.init(key, data.tokens[:2])
        state = made.init(key, params, (data.tokens[:2], share[:2]))
        return params, state, tx.init(params)

    def epoch(key, carry, number, tokens, labels):
        now = jax.random.fold_in(key, number)
        order = jax.random.permutation(now, n)[: steps * BATCH].reshape(steps, BATCH)

        def step(carry, args):
            i, key = args
            params, state, opt_state = carry
            valid = tokens[i] > 0
            loss = jax.value_and_grad(made.loss, has_aux=True)
            (_, (state, told)), grads = loss(
                params, state, (tokens[i], share), labels[i], key, valid, index=i
            )
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), state, opt_state), told

        keys = jax.random.split(now, steps)
        carry, told = jax.lax.scan(step, carry, (order, keys))
        return carry, jax.tree.map(jnp.mean, told)

    devices = jax.devices()
    devices = devices[: np.gcd(len(key), len(devices))]
    mesh = jax.sharding.Mesh(np.array(devices), "seeds")
    own = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("seeds"))
    key = jax.device_put(key, own)
    carry = jax.jit(jax.vmap(first), out_shardings=own)(key)
    run = jax.jit(jax.vmap(epoch, in_axes=(0, 0, None, None, None)), out_shardings=own)
    for number in range(epochs):
        carry, told = run(key, carry, number, data.tokens, data.labels)
        means = {k: float(v.mean()) for k, v in told.items()}
        say(
            f"epoch {number + 1}: "
            + ", ".join(f"{k} {v:.3f}" for k, v in means.items())
        )
    return carry[0], means


def look(model, select, predict, params, key, *, data: Reviews):
    """Numbers of one trained seed on a split, and its masks [N, heads, T]."""
    tokens, labels = jnp.asarray(data.tokens), jnp.asarray(data.labels)
    n, valid = len(labels), jnp.asarray(tokens > 0)
    ones = jnp.ones(tokens.shape)
    masks = select(params, (tokens, ones), key)
    mean = masks.mean(axis=1)
    flat = valid / valid.sum(axis=1, keepdims=True)
    swap = jax.random.fold_in(key, 1)
    theirs = foreign_masks(swap, masks, valid)
    sources = others(swap, n)
    given = jnp.stack([masks, theirs, jnp.broadcast_to(flat[:, None], masks.shape)])
    answers = jax.lax.map(
        lambda m: predict(params, (tokens, ones), m).argmax(axis=1), given
    )
    answer = answers[0]

    def chosen(share, fixed):
        own = masks if fixed else select(params, (tokens, share), key)
        p = jax.nn.softmax(predict(params, (tokens, share), own))
        return jnp.take_along_axis(p, answer[:, None], 1).sum()

    rolled = jaxattn.capture(model, params, tokens).rollout()[:, 0]
    words = jnp.asarray(data.kinds["words"] | data.kinds["punctuation"])
    found = {
        "accuracy": (answers[0] == labels).mean(),
        "accuracy, another review's mask": (answers[1] == labels).mean(),
        "answer is that of the mask's own review": (
            answers[1] == labels[sources]
        ).mean(),
        "accuracy, uniform mask": (answers[2] == labels).mean(),
    }
    for name, fixed in (("held", True), ("through", False)):
        slope = jnp.abs(jax.grad(chosen)(ones, fixed))
        for what, scores in (("attention", mean), ("rollout", rolled)):
            tau = jax.vmap(kendall_tau_b)(scores, slope, words)
            found[f"tau {what} {name}"] = jnp.nanmean(tau)
    for kind, where in data.kinds.items():
        for what, scores in (("attention", mean), ("rollout", rolled), ("null", flat)):
            found[f"mass {what} {kind}"] = jnp.where(where, scores, 0).sum(1).mean()
    return found, masks


def measure(looked, params, data: Reviews, seed: int) -> dict[str, float]:
    found, masks = looked(params, jax.random.key(seed))
    found = {k: float(v) for k, v in found.items()}
    lengths = (data.tokens > 0).sum(axis=1)
    report = jaxattn.audit(
        np.asarray(masks), data.labels, lengths=lengths, permutations=19
    )
    return found | {"leak": report.masks.bits}


def main(arguments: list[str] | None = None) -> pathlib.Path:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER)
    flags = parser.parse_args(arguments)
    sides, seeds, epochs = dict(SIDES), flags.seeds, flags.epochs
    dataset = jaxattn.load_task("movie_sentiment", LENGTH, data_dir=flags.data_dir)
    train_set, test_set = (reviews(s, dataset) for s in (dataset.train, dataset.test))
    if flags.quick:
        seeds, epochs = 2, 1
        sides = {"mask_swap": SIDES["mask_swap"]}
        cut = lambda x: x[:: len(x) // BATCH]  # noqa: E731
        train_set, test_set = (jax.tree.map(cut, s) for s in (train_set, test_set))
    model = Encoder(len(dataset.vocabulary) + 2)
    began, rows, ends = time.monotonic(), {}, {}
    for name, (method, noisy) in sides.items():

        def say(line, name=name):
            print(f"{time.monotonic() - began:5.0f} s  {name}: {line}", flush=True)

        made = jaxattn.mask_neutral(
            method,
            *functions(model, noisy),
            steps=epochs * (len(train_set.labels) // BATCH),
            selector=SELECTOR,
            prior=np.bincount(train_set.labels) / len(train_set.labels),
            weights=jaxattn.Weighting(updates=4),
        )
        keys = jax.random.split(jax.random.key(0), seeds)
        params, ends[name] = train(model, made, train_set, keys, epochs, say)
        params = jax.device_get(params)
        ask = functools.partial(look, model, *functions(model, noisy), data=test_set)
        looked, each = jax.jit(ask), []
        for seed in range(seeds):
            one = jax.tree.map(lambda x, seed=seed: x[seed], params)
            each.append(measure(looked, one, test_set, seed))
            say(f"seed {seed} measured, accuracy {each[-1]['accuracy']:.3f}")
        rows[name] = {k: np.array([x[k] for x in each]) for k in each[0]}
    path = flags.out / "RESULTS_CAPTURE.md"
    shares = np.bincount(test_set.labels) / len(test_set.labels)
    path.write_text(page(rows, ends, seeds, epochs, shares.max(), began))
    print(path)
    return path


def cell(values: np.ndarray) -> str:
    found = mean_interval(values)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def flat(share: float, kind: str, what: str) -> float:
    """The mass that uniform attention in all layers would give, of a uniform share.

    For rollout: the product of L layers (U + I) / 2 is (1 - 2^-L) U + 2^-L I.
    """
    if what == "attention":
        return share
    residual = 2.0**-LAYERS
    return (1 - residual) * share + residual * (kind == "[CLS]")


def page(rows, ends, seeds, epochs, majority, began) -> str:
    kinds = ("[CLS]", "[SEP]", "punctuation", "words", "words that people rated")
    asked = {
        "accuracy": "accuracy",
        "accuracy, another review's mask": "accuracy, another review's mask",
        "answer is that of the mask's own review": (
            "answer is that of the mask's own review"
        ),
        "accuracy, uniform mask": "accuracy, uniform mask",
        "leak": "leak of the CLS row, bits",
        "tau attention held": "agreement with gradients, attention held, tau-b",
        "tau attention through": "agreement with gradients, through attention, tau-b",
        "tau rollout held": "the same of the rollout, attention held",
        "tau rollout through": "the same of the rollout, through attention",
    }
    head = ["", *rows]
    numbers = [
        [text, *(cell(found[key]) for found in rows.values())]
        for key, text in asked.items()
    ]
    null = next(iter(rows.values()))
    mass = [
        [
            f"{kind}, {what}",
            f"{flat(null[f'mass null {kind}'].mean(), kind, what):.3f}",
            *(cell(found[f"mass {what} {kind}"]) for found in rows.values()),
        ]
        for kind in kinds
        for what in ("attention", "rollout")
    ]
    told = [
        [name, *(f"{end[k]:.3f}" for k in ("nll", "accuracy", "mask_entropy"))]
        + [f"{end['ess_share']:.3f}", f"{end.get('overlap_share', np.nan):.3f}"]
        for name, end in ends.items()
    ]
    return f"""# CLS attention of a small transformer

Written by `python tests/benchmarks/captured_transformer.py`; do not edit.

Machine: {cpu()}, {runtime.available_cores()} cores, shared. jax {jax.__version__}.
Date: {datetime.date.today()}. It took {(time.monotonic() - began) / 60:.0f} minutes.

An ordinary Flax encoder ({LAYERS} layers, {HEADS} heads, width {WIDTH}) reads [CLS],
{LENGTH} tokens at most of a `movie_sentiment` review, [SEP], and answers from CLS;
{epochs} epochs of Adam at {LEARNING_RATE:g}, batch {BATCH}. The mask is the CLS row of
the last layer, mean over heads where one is needed. Methods act on that row only; with
Gumbel noise on its scores but in the first column. Test split, largest class
{majority:.3f}; mean over {seeds} seeds with 95 % BCa interval.

{table(head, numbers)}

Chance for another review's mask to decide the answer, and tau of a random ranking, are
0.5 and 0. Agreement is Kendall's tau-b with the absolute gradient of the answer's
probability by each embedding's scale, over words and punctuation.

## Where the mass lies

Share of the mass; the second column is what uniform attention in all layers gives, of
which rollout keeps a part of each position for itself, the residual connection.

{table(["", "uniform", *rows], mass)}

## In the last epoch of training

{table(["", "nats", "accuracy", "entropy, nats", "ESS share", "overlap share"], told)}
"""


if __name__ == "__main__":
    main()
