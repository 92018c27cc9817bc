"""What a trained model says itself of its inputs: answers, gradients, leave-one-out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn.data.dataset import Split

MOST_BLANKED = 100


def attributions(
    apply: Callable, params: Any, split: Split, idf: Any, kind: str
) -> dict[str, np.ndarray]:
    """`targets` [N, C], and scores [N, T] of each explanation, of a whole split.

    gradient: how fast the probability of the predicted class falls as a position is
        faded out, in absolute value: the gradient times the input, through the model's
        own embedding.
    leave_one_out: how much that probability falls when the position is blanked; not
        for more than 100 positions, for each costs a pass through the model.
    weight: of the linear model, the true part of each token in the margin of the
        predicted class over the mean of all.
    """
    whole = np.issubdtype(split.inputs.dtype, np.integer)
    inputs = jnp.asarray(split.inputs, jnp.int32 if whole else jnp.float32)

    def one(args):
        x, length = args
        positions = x.shape[0]
        everything = jnp.ones(positions, bool)
        answer = jax.nn.softmax(apply(params, x, length, everything))
        chosen = answer.argmax()

        def without(place):
            keep = everything.at[place].set(False)
            return jax.nn.softmax(apply(params, x, length, keep))[chosen]

        valid = jnp.arange(positions) < length

        def faded(keep):
            return jax.nn.softmax(apply(params, x, length, keep))[chosen]

        slope = jnp.abs(jax.grad(faded)(jnp.ones(positions)))
        found = {
            "targets": answer,
            "gradient": jnp.where(valid, slope, 0),
        }
        if positions <= MOST_BLANKED:
            dropped = jax.vmap(without)(jnp.arange(positions))
            found["leave_one_out"] = jnp.where(valid, answer[chosen] - dropped, 0)
        if kind == "linear":
            parts = params["network"]["weights"][x] * idf[x][:, None]
            margin = parts[:, chosen] - parts.mean(axis=1)
            scale = jnp.sqrt(jnp.maximum(length, 1).astype(margin.dtype))
            found["weight"] = jnp.where(valid, margin / scale, 0)
        return found

    run = jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=32))
    made = run((inputs, jnp.asarray(split.lengths)))
    return {name: np.asarray(value, np.float32) for name, value in made.items()}
