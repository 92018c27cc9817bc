"""Reads or replaces the weights of Flax attention layers while a model runs.

These layers compute weights by `attention_fn`, which sows them on the `module` that it
is given. Neither the model nor its code is changed: calls of Linen modules are
intercepted, and an NNX model is copied.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx, traverse_util
from jax import Array

SOWN = "attention_weights"
"""The name under which Flax sows the weights."""
Change = Callable[[Array], Array]
"""Weights [batch, heads, queries, keys] as computed, to those that are used."""


class Call(NamedTuple):
    """How a model is run: its variables, what it is given, and by which method."""

    model: Any
    variables: Any
    inputs: tuple[Any, ...]
    method: Any
    rngs: Any
    options: dict[str, Any]


def read_weights(call: Call) -> tuple[Any, dict[str, Array]]:
    """The output, and all attention weights by the name of their layer, in order.

    Raises:
        ValueError: where there is no attention layer, or one did not sow its weights.
    """
    run = _read_nnx if isinstance(call.model, nnx.Module) else _read_linen
    output, sown, ranks = run(call)
    if lost := [name for name in ranks if name not in sown]:
        raise ValueError(
            f"layer {lost[0]} was called, but its weights were not sown: in nn.scan "
            "give variable_axes={'intermediates': 0}, and an attention_fn of its own "
            f"must sow {SOWN!r} on the module that it is given"
        )
    if not sown:
        raise ValueError(
            f"{type(call.model).__name__} has no attention layer of Flax "
            f"(MultiHeadDotProductAttention, MultiHeadAttention) and sows no {SOWN!r}"
        )
    weights: dict[str, Array] = {}
    for name in [*ranks, *sown]:
        weights |= _each(name, sown[name], ranks.get(name))
    return output, weights


def replace_weights(call: Call, changes: Mapping[str, Change]) -> Any:
    """The output with the weights of layers changed.

    Raises ValueError where a layer that is named was not called.
    """
    run = _replace_nnx if isinstance(call.model, nnx.Module) else _replace_linen
    output, called = run(call, changes)
    if missed := [name for name in changes if name not in called]:
        layers = ", ".join(dict.fromkeys(called)) or "none"
        raise ValueError(
            f"no attention layer {missed[0]!r} was called; there are {layers}"
        )
    return output


def _each(name: str, sown: Any, rank: int | None) -> dict[str, Array]:
    """One array for each call of a layer.

    A shared layer is called several times, and a scanned one has an axis in front.
    """
    while rank is not None and sown[0].ndim > rank:
        sown = tuple(part for weights in sown for part in weights)
    if len(sown) == 1:
        return {name: sown[0]}
    return {f"{name}/{i}": weights for i, weights in enumerate(sown)}


def _name(path: Any) -> str:
    return "/".join(map(str, path)) or "attention"


def _sown(state: Any) -> dict[str, Any]:
    """What was sown as attention weights, by layer."""
    flat = traverse_util.flatten_dict(state)
    return {_name(path[:-1]): w for path, w in flat.items() if path[-1] == SOWN}


def _rank(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Axes of the weights that belong to these queries [..., length, features]."""
    return (args[0] if args else kwargs["inputs_q"]).ndim + 1


def _check_sows(fn: Callable, name: str) -> None:
    """Raises ValueError where the attention_fn of a layer takes no module to sow on."""
    taken = inspect.signature(fn).parameters.values()
    if not any(p.name == "module" or p.kind is p.VAR_KEYWORD for p in taken):
        raise ValueError(
            f"layer {name} has an attention_fn ({getattr(fn, '__name__', fn)}) that "
            f"takes no module, so it cannot sow its weights: let it sow {SOWN!r} on "
            "one, as flax's dot_product_attention does"
        )


def _with_weights(fn: Callable, name: str, change: Change) -> Callable:
    """The same attention_fn, but for its weights; without dropout."""
    _check_sows(fn, name)

    @functools.wraps(fn)  # Flax reads its signature
    def attend(query: Array, key: Array, value: Array, **more: Any) -> Array:
        sown = {}

        def sow(collection: Any, name: str, value: Array) -> None:
            sown[name] = value

        fn(query, key, value, **more | {"module": types.SimpleNamespace(sow=sow)})
        if SOWN not in sown:
            raise ValueError(f"the attention_fn of layer {name} sowed no {SOWN!r}")
        weights = change(sown[SOWN])
        if value.shape[-2] != weights.shape[-3]:  # grouped queries share values
            value = jnp.repeat(value, weights.shape[-3] // value.shape[-2], axis=-2)
        precision = more.get("precision")
        return jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=precision)

    return attend


def _linen(call: Call, interceptor: Callable, **more: Any) -> Any:
    variables = call.variables
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise ValueError(
            "variables have no collection 'params': a Linen model needs "
            "{'params': ...}, as init returned it"
        )
    kept = {k: v for k, v in variables.items() if k != "intermediates"}
    given = {"method": call.method, "rngs": call.rngs} | more | call.options
    with nn.intercept_methods(interceptor):
        return call.model.apply(kept, *call.inputs, **given)


def _is_layer(context: Any) -> bool:
    layer = isinstance(context.module, nn.MultiHeadDotProductAttention)
    return layer and context.method_name == "__call__"


def _read_linen(call: Call):
    ranks: dict[str, int] = {}

    def intercept(run, args, kwargs, context):
        if _is_layer(context):
            name = _name(context.module.path)
            _check_sows(context.module.attention_fn, name)
            ranks.setdefault(name, _rank(args, kwargs))
            # A subclass may have arguments of its own; the call to its parent follows.
            if "sow_weights" in inspect.signature(run).parameters:
                kwargs = kwargs | {"sow_weights": True}
        return run(*args, **kwargs)

    output, state = _linen(call, intercept, mutable=["intermediates"])
    return output, _sown(state.get("intermediates", {})), ranks


def _replace_linen(call: Call, changes: Mapping[str, Change]):
    called: list[Any] = []
    inside: set[str] = set()

    def intercept(run, args, kwargs, context):
        module = context.module
        name: Any = _name(module.path) if _is_layer(context) else None
        called.append(name)
        # A subclass calls its parent, and both are intercepted.
        if name not in changes or name in inside:
            return run(*args, **kwargs)
        fn = module.attention_fn
        changed = _with_weights(fn, name, changes[name])
        # Modules are frozen, but this one lives for this call only.
        object.__setattr__(module, "attention_fn", changed)
        inside.add(name)
        try:
            return run(*args, **kwargs)
        finally:
            inside.remove(name)
            object.__setattr__(module, "attention_fn", fn)

    return _linen(call, intercept), [name for name in called if name]


def _nnx(call: Call, prepare: Callable[[str, Any], Any]) -> tuple[Any, Callable]:
    """A copy of the model, and the function that runs it.

    `prepare(name, layer)` gives what replaces the keywords of the layer's calls.
    """
    copy = nnx.clone(call.model)
    if call.variables is not None:
        nnx.update(copy, call.variables)
    for path, module in nnx.iter_modules(copy):
        if isinstance(module, nnx.MultiHeadAttention):
            _intercept(module, prepare(_name(path), module))
    more = {} if call.rngs is None else {"rngs": call.rngs}
    method = call.method or "__call__"

    def run(model: Any) -> Any:
        if isinstance(method, str):
            return getattr(model, method)(*call.inputs, **more, **call.options)
        return method(model, *call.inputs, **more, **call.options)

    return copy, run


def _intercept(module: Any, before: Callable[..., dict[str, Any]]) -> None:
    """Lets `before(args, kwargs)` replace the keywords of a layer's calls."""
    parent = type(module)

    def __call__(self, *args, **kwargs):
        return parent.__call__(self, *args, **before(args, kwargs))

    # On a class of its own, because a class comes along into scan, remat and jit.
    body = {"__call__": __call__, "__module__": parent.__module__}
    object.__setattr__(module, "__class__", type(parent.__name__, (parent,), body))


def _read_nnx(call: Call):
    ranks: dict[str, int] = {}

    def prepare(name, module):
        _check_sows(module.attention_fn, name)

        def before(args, kwargs):
            ranks.setdefault(name, _rank(args, kwargs))
            return kwargs | {"sow_weights": True}

        return before

    copy, run = _nnx(call, prepare)
    output, state = nnx.capture(run, nnx.Intermediate)(copy)
    return output, _sown(nnx.to_pure_dict(state)), ranks


def _replace_nnx(call: Call, changes: Mapping[str, Change]):
    called = []

    def prepare(name, module):
        def before(args, kwargs):
            called.append(name)
            return kwargs | {"sow_weights": False}

        if name in changes:
            fn = module.attention_fn
            module.attention_fn = _with_weights(fn, name, changes[name])
        return before

    copy, run = _nnx(call, prepare)
    return run(copy), called
