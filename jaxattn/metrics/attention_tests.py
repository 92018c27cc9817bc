"""Tests of attention: how answers react to other weights, and weights to other inputs.

Every function is for one example. `predict` takes a mask [P] and gives probabilities
[C]; the values that the mask weighs stay as they are.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxattn.metrics.divergence import jsd, tvd
from jaxattn.nn.subsets import ranks

Predict = Callable[[Array], Array]


def without(mask: Array, gone: Array) -> Array:
    """The mask [P] without the positions `gone` [P], renormalised; zero if all go."""
    kept = jnp.where(gone, 0, mask)
    total = kept.sum()
    return kept / jnp.where(total > 0, total, 1)


def decision_flip(predict: Predict, mask: Array, ranking: Array, valid: Array) -> Array:
    """Share of weights zeroed, best of `ranking` [P] first, until another class wins.

    The rest is renormalised each time; 1 where nothing flips the answer. See 'Is
    Attention Interpretable?' by Serrano & Smith (arXiv 1906.03731), who compare
    rankings by attention, by the gradient, by their product and at random.
    """
    rank = ranks(ranking, valid)
    n = valid.sum()

    def answer(k):
        return predict(without(mask, rank < k)).argmax()

    # All weights gone is no attention: the last that can go is the last but one.
    steps = jnp.arange(len(mask))
    answers = jax.lax.map(answer, steps)
    other = (answers != answers[0]) & (steps < n)
    return jnp.where(other.any(), other.argmax(), n) / jnp.maximum(n, 1)


def single_weight(key: Array, predict: Predict, mask: Array, valid: Array) -> Array:
    """JSD of the answer without the largest weight, less that without a random other.

    In nats, NaN with one position. See Serrano & Smith (arXiv 1906.03731).
    """
    top = jnp.where(valid, mask, -1).argmax()
    place = jnp.arange(len(mask))
    others = valid & (place != top)
    noise = jax.random.gumbel(key, mask.shape)
    other = jnp.where(others, noise, -jnp.inf).argmax()
    p = predict(mask)
    q, r = (predict(without(mask, place == x)) for x in (top, other))
    return jnp.where(others.any(), jsd(p, q) - jsd(p, r), jnp.nan)


def permuted(
    key: Array, predict: Predict, mask: Array, valid: Array, times: int = 100
) -> Array:
    """Median TVD of the answer when the weights are shuffled over the valid positions.

    See 'Attention is not Explanation' by Jain & Wallace (arXiv 1902.10186).
    """
    p = predict(mask)
    places = jnp.argsort(~valid, stable=True)

    def one(k):
        noise = jax.random.uniform(k, mask.shape)
        order = jnp.argsort(jnp.where(valid, noise, 2.0))
        return tvd(p, predict(jnp.zeros_like(mask).at[places].set(mask[order])))

    return jnp.median(jax.lax.map(one, jax.random.split(key, times)))


class Adversarial(NamedTuple):
    """The most different attention that was found to answer nearly the same."""

    mask: Array
    jsd: Array
    """From the attention itself, in nats, at most ln 2."""
    tvd: Array
    """Of the answers."""


def adversarial(
    key: Array,
    predict: Predict,
    mask: Array,
    valid: Array,
    epsilon: float = 0.01,
    starts: int = 4,
    steps: int = 200,
    learning_rate: float = 0.1,
) -> Adversarial:
    """Another mask, as far from a mask [P] as possible, that answers nearly alike.

    Answers may differ by a TVD of `epsilon`. The search is gradient ascent on the
    logits of other masks from several random starts, with a penalty on what the answers
    differ beyond epsilon. The best step that keeps to it counts, and the mask itself
    (JSD 0) where none does. See Jain & Wallace (arXiv 1902.10186).
    """
    p = predict(mask)

    def softmax(scores):
        low = jnp.where(valid, scores, -jnp.inf)
        return jnp.where(valid, jax.nn.softmax(low), 0)

    def judged(scores):
        other = softmax(scores)
        return jsd(mask, other), tvd(p, predict(other))

    def loss(scores):
        far, apart = judged(scores)
        return 100 * jnp.maximum(apart - epsilon / 2, 0) - far

    adam = optax.adam(learning_rate)

    def start(k):
        scores = 3 * jax.random.normal(k, mask.shape)

        def step(carry, _):
            scores, state, best = carry
            far, apart = judged(scores)
            better = (apart <= epsilon) & (far > best[0])
            best = jax.tree.map(
                lambda new, old: jnp.where(better, new, old),
                (far, apart, softmax(scores)),
                best,
            )
            update, state = adam.update(jax.grad(loss)(scores), state)
            return (optax.apply_updates(scores, update), state, best), None

        none = (jnp.zeros(()), jnp.zeros(()), mask)
        first = (scores, adam.init(scores), none)
        return jax.lax.scan(step, first, length=steps)[0][2]

    far, apart, masks = jax.lax.map(start, jax.random.split(key, starts))
    best = far.argmax()
    return Adversarial(masks[best], far[best], apart[best])


def infidelity(
    changes: Array, falls: Array, scores: Array, rescaled: bool = False
) -> Array:
    """Mean of (I . scores - fall)^2 over changes I [S, P] and falls [S] of the answer.

    A fall is f(x) - f(x - I), for changes in whatever the scores [P] (or [P, D], then
    changes [S, P, D]) are of: in text, embeddings. With `rescaled` the scores are first
    multiplied by the best factor. See 'On the (In)fidelity and Sensitivity of
    Explanations' by Yeh et al. (arXiv 1901.09392).
    """
    told = changes.reshape(len(changes), -1) @ scores.reshape(-1)
    if rescaled:
        square = (told**2).mean()
        told = told * (told * falls).mean() / jnp.where(square > 0, square, 1)
    return ((told - falls) ** 2).mean()


def max_sensitivity(
    key: Array,
    explain: Callable[[Array], Array],
    x: Array,
    radius: float = 0.02,
    samples: int = 10,
) -> Array:
    """Largest change of scores `explain(x)` near x, as a share of their length.

    Every entry of x is moved by at most `radius`. The points are sampled, so that the
    result is a lower bound. The defaults are those of Captum. See Yeh et al. (arXiv
    1901.09392).
    """
    scores = explain(x)

    def one(k):
        noise = jax.random.uniform(k, x.shape, minval=-radius, maxval=radius)
        return jnp.linalg.norm(explain(x + noise) - scores)

    size = jnp.linalg.norm(scores)
    largest = jax.lax.map(one, jax.random.split(key, samples)).max()
    return largest / jnp.where(size > 0, size, 1)
