"""Score-function gradients: how a selector learns from hard gates.

A gate b at one position is 1 with probability sigmoid(score), independently of the
others. The surrogates below are scalars whose gradient with respect to the scores [P]
is an unbiased estimate of the gradient of E_b[f(b)]; their values mean nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient


def log_probability(scores: Array, valid: Array, mask: Array) -> Array:
    """log P(mask) in nats (a scalar) of a 0/1 mask [P] under gates of scores [P].

    Only the valid [P] positions count.
    """
    # Before the logarithm: whatever stands on padding must not reach the gradient.
    scores = jnp.where(valid, scores, 0)
    signed = jnp.where(mask > 0.5, scores, -scores)
    return jnp.where(valid, jax.nn.log_sigmoid(signed), 0).sum()


def reinforce(
    scores: Array, valid: Array, mask: Array, advantage: Array | float
) -> Array:
    """Surrogate (a scalar) for a loss that is known for one drawn mask only.

    `mask` [P] is 0/1, drawn from the gates of scores [P] over the valid [P] positions;
    `advantage` is f(mask) in nats, minus any baseline that does not depend on the mask:
    in INVASE the predictor's loss on the selected inputs minus a second network's on
    all of them. Both are held fixed. See 'Simple Statistical Gradient-Following
    Algorithms for Connectionist Reinforcement Learning' by Williams (1992) and 'INVASE:
    Instance-wise Variable Selection using Neural Networks' by Yoon, Jordon and van der
    Schaar (ICLR 2019).
    """
    fixed = stop_gradient(mask)
    return stop_gradient(advantage) * log_probability(scores, valid, fixed)


def rebar(
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float,
    f: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """A drawn 0/1 mask [P] and a surrogate (a scalar) with a relaxed control variate.

    `f` gives nats for a mask [P] in [0, 1]; whatever parameters it holds receive no
    gradient. The mask is 0 off the valid [P] positions. With z = score + logistic noise
    and b = (z > 0), the control variate is f at sigmoid(z / temperature), of scale 1.
    See 'REBAR: Low-variance, unbiased gradient estimates for discrete latent variable
    models' by Tucker et al. (arXiv 1703.07370), as used by REAL-X: 'Have We Learned to
    Explain?' by Jethani et al. (arXiv 2103.01890).
    """
    scores = jnp.where(valid, scores, 0)
    z = stop_gradient(scores) + jax.random.logistic(key, scores.shape, scores.dtype)
    mask = jnp.where(valid & (z > 0), 1, 0).astype(scores.dtype)
    relaxed = jnp.where(valid, jax.nn.sigmoid(z / temperature), 0)
    value, slope = jax.value_and_grad(f)(relaxed)
    hard = reinforce(scores, valid, mask, f(mask) - value)
    # REBAR has f at two relaxed points: z, and z~ drawn again given b. Driven by common
    # random numbers they coincide, and only their slopes in the score differ: 1 for z;
    # P(b) (1 - exp(-|z|)) for z~, whose quantile within its half of the line is fixed.
    drawn = jax.nn.sigmoid(jnp.where(z > 0, scores, -scores))
    slopes = 1 + drawn * jnp.expm1(-jnp.abs(z))
    through = slope * relaxed * (1 - relaxed) / temperature * slopes
    return mask, hard + (stop_gradient(through) * scores).sum()
