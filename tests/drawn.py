"""A few texts, and parameters drawn anew: biases of 0 would hide what they do."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.training.cell import Arrays

TEXTS, LENGTH, WORDS = 8, 4, 12
FOLD = np.array([0, 1, 1, 0, 1, 0, 1, 0])
"""Which estimator judges each text."""


def texts():
    rng = np.random.default_rng(0)
    lengths = np.array([4, 1, 3, 2, 4, 4, 3, 2], np.int32)
    tokens = rng.integers(2, WORDS, (TEXTS, LENGTH))
    tokens = tokens * (np.arange(LENGTH) < lengths[:, None])
    return Arrays(tokens.astype(np.uint8), lengths, np.arange(TEXTS) % 2)


def stack(trees):
    """Cells or states as one, with an axis in front."""
    return jax.tree.map(lambda *x: jnp.stack(list(map(jnp.asarray, x))), *trees)


def at_random(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), shapes)


def params_of(module, *args, seed=0):
    """Variables of a module that is called with these, every parameter drawn."""
    return at_random(jax.eval_shape(module.init, jax.random.key(0), *args), seed)


def dense(x, p):
    """A layer by its parameters."""
    return x @ p["kernel"] + p.get("bias", 0)
