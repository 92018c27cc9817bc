"""How many bits of the label the mask alone carries: is the shortcut available?

The probe is a ridge-penalised logistic regression on fixed features of the mask: the
weights, their logarithms, and random non-linear combinations of both. The fit is
convex, so that neither seed nor schedule decides its answer. All folds and all
permutations of the labels share one matrix of features and are fitted together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxattn.metrics.divergence import entropy
from jaxattn.nn.linalg import inverse
from jaxattn.nn.mask_classifier import mask_features

BLOCK = 16_384
"""Examples of which weighted copies are made at once."""
LN2 = 0.6931471805599453


class Leak(NamedTuple):
    """What a cross-fitted probe reads off masks; bits may come out below zero."""

    bits: Array
    """V-information of the mask on the label, in bits."""
    share: Array
    """The same as a share of the label's entropy."""
    accuracy: Array
    """Share of labels that the probe gets right on examples it was not fitted to."""
    smallest_probability: Array
    """Smallest held-out P(y given m) of an example's own label (share)."""
    pointwise: Array
    """Bits [N] of each example; their weighted mean is `bits`."""
    null_bits: Array
    """Mean bits under labels permuted before the fit."""


def probe_features(masks: Array, hidden: int = 64) -> Array:
    """The probe's features [N, 1 + 2 P + hidden] of masks [N, P], standardised.

    The non-linear ones are tanh of fixed random directions, the same in every call.
    """
    return bent_features(jax.vmap(mask_features)(masks), hidden)


def bent_features(plain: Array, hidden: int = 64) -> Array:
    """Ones, features [N, F] and `hidden` non-linear ones: [N, 1 + F + hidden]."""
    plain = _standardise(plain)
    n, width = plain.shape
    columns = [jnp.ones((n, 1)), plain]
    if hidden:
        a, b = jax.random.split(jax.random.key(0))
        directions = jax.random.normal(a, (width, hidden)) / jnp.sqrt(width)
        bent = jnp.tanh(2 * plain @ directions + jax.random.normal(b, (hidden,)))
        columns.append(_standardise(bent))
    return jnp.concatenate(columns, axis=1)


def _standardise(x: Array) -> Array:
    spread = x.std(axis=0)
    # A constant column (an unused position) must not become noise divided by nearly 0.
    scale = jnp.where(spread > 1e-6, spread, jnp.inf)
    return (x - x.mean(axis=0)) / scale


class Folds(NamedTuple):
    """What all labellings share: weights of the fits and their factorised bounds."""

    of: Array
    """The fold [N] of each example."""
    used: Array
    """Weights [folds, N] of the examples that each fold is fitted to."""
    penalty: Array
    inverse: Array
    """Inverse of the bound on the Hessian, [folds, F, F]."""


def factorise(
    x: Array, weights: Array, fold: Array, folds: int, ridge: float = 0.5
) -> Folds:
    """What fits to features [N, F] need once, for examples of these `weights` [N]."""
    n, width = x.shape
    used = jnp.where(fold == jnp.arange(folds)[:, None], 0, weights)
    used = used / used.sum(axis=1, keepdims=True)
    # The intercept is not penalised: a mask that tells nothing must cost nothing.
    # In step with the features per example, else long masks would be remembered.
    penalty = (ridge * width / n * jnp.ones(width)).at[0].set(1e-6)
    bound = _squares(x, 0.5 * used)
    return Folds(fold, used, penalty, jax.vmap(inverse)(bound + jnp.diag(penalty)))


def _squares(x: Array, weights: Array) -> Array:
    """Sums over N of w x x' for each of the weights [folds, N], [folds, F, F]."""
    n, width = x.shape
    if n <= BLOCK:
        return jax.lax.map(lambda w: (w[:, None] * x).T @ x, weights)
    # A weighted copy of all features would be as large as they are.
    more = -n % BLOCK
    rows = jnp.pad(x, ((0, more), (0, 0))).reshape(-1, BLOCK, width)
    shares = jnp.pad(weights, ((0, 0), (0, more))).reshape(len(weights), -1, BLOCK)

    def add(total, part):
        block, w = part
        return total + jnp.einsum("kb,bf,bg->kfg", w, block, block), None

    start = jnp.zeros((len(weights), width, width))
    return jax.lax.scan(add, start, (rows, jnp.swapaxes(shares, 0, 1)))[0]


def held_out(
    x: Array, targets: Array, folds: Folds, steps: int = 40, tolerance: float = 0.0
) -> Array:
    """Held-out log-probabilities [B, N, C], in nats, of targets [B, N, C] (one-hot).

    `x` [N, F] are features with a column of ones in front; each of the B labellings is
    answered, for the examples of each fold, by a logistic regression fitted to the
    others. It ends after `steps`, or once none of its coefficients moves by
    `tolerance`.

    Minimised by the fixed bound on the Hessian (Böhning 1992) with Nesterov's momentum:
    one factorisation for each fold serves every labelling and every step.
    """
    n, width = x.shape
    labellings, _, classes = targets.shape
    count = len(folds.used)
    targets = jnp.moveaxis(targets, 1, 0)

    def residual(w):
        logits = (x @ w.reshape(width, -1)).reshape(n, count, labellings, classes)
        return jax.nn.softmax(logits) - targets[:, None], logits

    def update(w, before, i):
        ahead = w + i / (i + 3) * (w - before)
        wrong, _ = residual(ahead)
        wrong = wrong * folds.used.T[:, :, None, None]
        slope = (x.T @ wrong.reshape(n, -1)).reshape(ahead.shape)
        slope = slope + folds.penalty[:, None, None, None] * ahead
        return ahead - jnp.einsum("kfg,gkbc->fkbc", folds.inverse, slope)

    share = jnp.einsum("kn,nbc->kbc", folds.used, targets)
    start = jnp.zeros((width, count, labellings, classes))
    start = start.at[0].set(jnp.log(jnp.maximum(share, 1 / n)))
    if tolerance:

        def moved(carry):
            w, before, moving, i = carry
            # Each labelling ends when it is done itself: one that was fitted for longer
            # than another would be no fair comparison for it.
            after = jnp.where(moving[:, None], update(w, before, i), w)
            far = jnp.abs(after - w).max(axis=(0, 1, 3)) > tolerance
            return after, w, moving & far, i + 1

        w, *_ = jax.lax.while_loop(
            lambda c: (c[3] < steps) & c[2].any(),
            moved,
            (start, start, jnp.ones(labellings, bool), 0.0),
        )
    else:
        (w, _), _ = jax.lax.scan(
            lambda c, i: ((update(*c, i), c[0]), None),
            (start, start),
            jnp.arange(steps) * 1.0,
        )
    log_p = jax.nn.log_softmax(residual(w)[1])
    return jnp.moveaxis(log_p[jnp.arange(n), folds.of], 0, 1)


def leak(
    key: Array,
    masks: Array,
    labels: Array,
    classes: int,
    *,
    weights: Array | None = None,
    folds: int = 5,
    permutations: int = 4,
    hidden: int = 64,
    ridge: float = 0.5,
    steps: int = 40,
) -> Leak:
    """How many bits of the label a cross-fitted probe reads off masks alone.

    It estimates the V-information of 'A Theory of Usable Information Under
    Computational Constraints' by Xu et al. (arXiv 2002.10689). Since the probe is
    judged on examples it was not fitted to, the expected bits are a lower bound of the
    mutual information.

    Args:
        key: a random key, of folds and permutations.
        masks: weights `[N, P]`.
        labels: classes `[N]`, counted from 0.
        classes: how many there are.
        weights: example weights `[N]`; the leak is then what is left under them. In
            the permuted null they stay with the masks.
        folds: of the cross-fitting.
        permutations: how many permuted labels the null averages.
        hidden: random non-linear features beside the mask's own.
        ridge: strength of the penalty.
        steps: of the fit.

    Returns:
        A `Leak` of scalars and of each example's bits `[N]`.

    >>> import jax, jaxattn
    >>> masks, labels = jaxattn.planted_shortcut(jax.random.key(1), 1000, bits=0.5)
    >>> probe = jax.jit(lambda key: jaxattn.leak(key, masks, labels, classes=2))
    >>> leak = probe(jax.random.key(0))
    >>> round(float(leak.bits), 1), abs(round(float(leak.null_bits), 1))
    (0.5, 0.0)
    """
    n = labels.shape[0]
    labels = labels.astype(jnp.int32)
    weights = jnp.ones(n) if weights is None else weights
    fold_key, *permute = jax.random.split(key, 1 + permutations)
    fold = jax.random.permutation(fold_key, n) % folds
    orders = [jnp.arange(n)] + [jax.random.permutation(k, n) for k in permute]
    x = probe_features(masks, hidden)
    many = jnp.stack([labels[order] for order in orders])
    shared = factorise(x, weights, fold, folds, ridge)
    log_p = held_out(x, jax.nn.one_hot(many, classes), shared, steps)
    own = jnp.take_along_axis(log_p, many[..., None], axis=2)[..., 0]
    share = jax.vmap(
        lambda y: jnp.bincount(y, weights, length=classes) / weights.sum()
    )(many)
    prior = jnp.take_along_axis(jnp.log(jnp.maximum(share, 1e-12)), many, axis=1)
    pointwise = (own - prior) / LN2
    bits = (pointwise * weights).sum(axis=1) / weights.sum()
    hits = (log_p[0].argmax(axis=-1) == labels) * weights
    prior_nats = entropy(jnp.bincount(labels, weights, length=classes) / weights.sum())
    return Leak(
        bits=bits[0],
        share=bits[0] * LN2 / jnp.maximum(prior_nats, 1e-12),
        accuracy=hits.sum() / weights.sum(),
        smallest_probability=jnp.exp(own[0].min()),
        pointwise=pointwise[0],
        null_bits=bits[1:].mean(),
    )
