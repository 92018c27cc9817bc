"""Attention of any Flax model: captured as it is, or replaced by another."""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxattn.nn import edits
from jaxattn.nn.attention_layers import Call, read_weights, replace_weights
from jaxattn.nn.edits import Edit


@struct.dataclass
class Captured:
    """What `jaxattn.capture` gives: a model's answer and its attention weights."""

    output: Any
    masks: dict[str, Array]
    """[batch, heads, queries, keys] by layer, as "encoder/layer_0/attention"."""
    layers: tuple[str, ...] = struct.field(pytree_node=False)
    """The names of the layers in the order in which they were called."""

    def layer(self, layer: str | int = -1) -> Array:
        """Weights [batch, heads, queries, keys] of a layer by name or place (-1: last).

        Raises: ValueError for a layer that is not there.
        """
        if isinstance(layer, int) and -len(self.layers) <= layer < len(self.layers):
            layer = self.layers[layer]
        if layer not in self.masks:
            near = difflib.get_close_matches(str(layer), self.layers, n=1)
            meant = f"perhaps you meant {near[0]}; " if near else ""
            names = ", ".join(self.layers)
            raise ValueError(f"layer = {layer!r}: {meant}there are {names}")
        return self.masks[layer]

    def cls(
        self, layer: str | int = -1, head: int | None = None, query: int = 0
    ) -> Array:
        """Where one query looks, by default the first ([CLS]).

        Args:
            layer: by name or place.
            head: one head, or None for all.
            query: the query's position.

        Returns: weights [batch, heads, keys], or [batch, keys] of one head.

        Raises: ValueError for a layer, head or query that is not there.
        """
        weights = self.layer(layer)
        edits.check_places(weights, head, query)
        rows = weights[..., query, :]
        return rows if head is None else rows[..., head, :]

    def rollout(self, layers: Sequence[str | int] | None = None) -> Array:
        """Attention rollout [batch, queries, keys] through layers, all if not given.

        Each layer's mean over heads, half of it the residual connection, multiplied
        from the first to the last. See 'Quantifying Attention Flow in Transformers' by
        Abnar & Zuidema (arXiv 2005.00928).

        Raises: ValueError where layers differ in their queries or keys.
        """
        chosen = self.layers if layers is None else layers
        if not chosen:
            raise ValueError("rollout needs a layer at least")
        length = self.layer(chosen[0]).shape[-1]
        total = jnp.eye(length)
        for name in chosen:
            weights = self.layer(name)
            if weights.shape[-2:] != (length, length):
                raise ValueError(
                    f"layer {name} has {weights.shape[-2]} queries and "
                    f"{weights.shape[-1]} keys: rollout needs {length} of both in all "
                    "layers; name those of one stack"
                )
            total = (weights.mean(axis=-3) + jnp.eye(length)) / 2 @ total
        return total


def capture(
    model: Any,
    variables: Any,
    *inputs: Any,
    method: Any = None,
    rngs: Any = None,
    **options: Any,
) -> Captured:
    """Runs a Flax model and keeps the weights of every attention layer in it.

    The layers are Linen's `MultiHeadDotProductAttention` and NNX's
    `MultiHeadAttention`, and whatever else sows `attention_weights`; the model's code
    need not ask for them. It runs under jit, vmap and grad.

    Args:
        model: a Linen module, or an NNX module.
        variables: the Linen model's; of an NNX model a state, or None for its own.
        inputs, options: what the model is called with.
        method: another of the model's methods, as in `Module.apply`.
        rngs: keys, as in `Module.apply`.

    Returns:
        A `Captured`: the output, and the weights `[batch, heads, queries, keys]` by the
        name of the layer. A layer that is met several times, or scanned, has a name for
        each time: "layer/0", "layer/1".

    Raises:
        ValueError: there is no such layer, or one that does not tell its weights.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxattn
    >>> model, x = nn.MultiHeadDotProductAttention(num_heads=2), jnp.ones((3, 5, 8))
    >>> variables = model.init(jax.random.key(0), x)
    >>> captured = jaxattn.capture(model, variables, x)
    >>> captured.layer().shape, captured.cls(head=0).shape
    ((3, 2, 5, 5), (3, 5))
    """
    output, masks = read_weights(Call(model, variables, inputs, method, rngs, options))
    return Captured(output, masks, tuple(masks))


def intervene(
    model: Any,
    variables: Any,
    masks: Mapping[str, Array | Edit],
    *inputs: Any,
    method: Any = None,
    rngs: Any = None,
    **options: Any,
) -> Any:
    """A Flax model's output with other attention weights in some layers.

    Args:
        model, variables, inputs, method, rngs, options: as in `capture`.
        masks: by the name of a layer, weights that fit `[batch, heads, queries, keys]`,
            used as they are, or a function of the weights that the layer computed (see
            `jaxattn.nn.edits`). A layer that is met several times is changed each time,
            and a changed layer has no dropout.

    Returns:
        What the model answers then.

    Raises:
        ValueError: unknown layer, or weights that do not fit it.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxattn
    >>> from jaxattn.nn import edits
    >>> model, x = nn.MultiHeadDotProductAttention(num_heads=2), jnp.eye(6)[None]
    >>> variables = model.init(jax.random.key(0), x)
    >>> captured = jaxattn.capture(model, variables, x)
    >>> masks = {name: edits.uniform for name in captured.layers}
    >>> output = jaxattn.intervene(model, variables, masks, x)
    >>> bool(jnp.allclose(output, captured.output))
    False
    """
    changes = {k: partial(edits.apply, v, where=f"layer {k}") for k, v in masks.items()}
    call = Call(model, variables, inputs, method, rngs, options)
    return replace_weights(call, changes)
