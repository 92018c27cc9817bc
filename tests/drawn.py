"""Parameters drawn anew: biases start at 0, which hides what they do."""

import jax
import numpy as np


def at_random(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), shapes)


def params_of(module, *args, seed=0):
    """Variables of a module that is called with these, every parameter drawn."""
    return at_random(jax.eval_shape(module.init, jax.random.key(0), *args), seed)


def dense(x, p):
    """A layer by its parameters."""
    return x @ p["kernel"] + p.get("bias", 0)
