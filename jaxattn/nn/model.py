"""Encode, select, predict: the whole model for one example, in two halves.

The halves share no parameter, so that each can be trained on masks of its own. The
mask can always be given from outside (an intervention): `logits` takes any mask.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax import Array

from jaxattn.nn.embedding import Candidates, Inputs, embed, example
from jaxattn.nn.encoders import ENCODERS
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.predictors import PREDICTORS, Predicted
from jaxattn.nn.selectors import SELECTORS, Scored
from jaxattn.nn.subsets import MAX_DRAWS

Params = Any


class Parts(NamedTuple):
    """What a model is made of: names in `REGISTRIES`, and widths.

    The fields mean what those of `jaxattn.config.Model` do.
    """

    values: str = "inputs"
    default_tokens: int = 4
    query: str = "bag"
    selector: str = "additive"
    normalizer: str = "gumbel_softmax"
    predictor: str = "pooling"
    features: int = 32
    hidden: int = 32


class Selector(nn.Module):
    """One score for each candidate [P], from a query that has read all of the input."""

    inputs: Inputs
    parts: Parts

    @nn.compact
    def __call__(self, x: Array, valid: Array, candidates: Array) -> Scored:
        p = self.parts
        embedded = _shifted(self, embed(self.inputs, p.features, x))
        query, _ = ENCODERS[p.query](p.features, name="encoder")(embedded, valid)
        keys = Candidates(p.values, p.default_tokens, p.features)(embedded)
        scorer = SELECTORS[p.selector](p.hidden, name="scorer")
        scores, aux = scorer(query, keys, candidates)
        return scores, aux | {"query": query}


class Predictor(nn.Module):
    """Logits [classes] from mask [P] * candidate values [P, D]."""

    inputs: Inputs
    parts: Parts
    classes: int

    @nn.compact
    def __call__(self, x: Array, valid: Array, mask: Array) -> Predicted:
        p, embedded = self.parts, None
        if p.values != "default_tokens":
            embedded = _shifted(self, embed(self.inputs, p.features, x))
        values = Candidates(p.values, p.default_tokens, p.features)(embedded)
        head = PREDICTORS[p.predictor](p.hidden, self.classes, name="head")
        return head(values, mask, valid)


def _shifted(module: nn.Module, embedded: Array) -> Array:
    """Vectors [T, D], which `embedded` reads and the argument `shift` adds to."""
    module.sow("intermediates", "embedded", embedded)
    return module.perturb("embedded", embedded)


class Model(NamedTuple):
    """The two halves and how scores become a mask; static, it holds no parameter."""

    selector: Selector
    predictor: Predictor
    normalizer: str
    inputs: Inputs
    draws: int = MAX_DRAWS
    """The largest budget that a subset may be asked for."""


REGISTRIES = {
    "query": ENCODERS,
    "selector": SELECTORS,
    "normalizer": NORMALIZERS,
    "predictor": PREDICTORS,
}
"""Where the names of a model's parts are looked up."""


def build(inputs: Inputs, classes: int, parts: Parts, draws: int = MAX_DRAWS) -> Model:
    """A model of these inputs for `classes` labels; `draws` as in `Model`.

    Raises:
        KeyError: for a name that is in no registry.
        ValueError: where the parts do not fit the inputs or one another.
    """
    _check_shapes(inputs, parts)
    selector, predictor = Selector(inputs, parts), Predictor(inputs, parts, classes)
    return Model(selector, predictor, parts.normalizer, inputs, draws)


def _check_shapes(inputs: Inputs, parts: Parts) -> None:
    tabular = [p for p in ("selector", "predictor") if getattr(parts, p) == "tabular"]
    if parts.values != "default_tokens" and not inputs.fixed and tabular:
        raise ValueError(
            f"model.{tabular[0]} = 'tabular' needs a fixed number of positions, and "
            "these inputs have padding: choose another"
        )
    if inputs.kind == "scalars" and parts.values != "inputs":
        raise ValueError(
            f"model.values = {parts.values!r}: default tokens are vectors and these "
            "inputs are single numbers: choose inputs"
        )
    if inputs.kind == "scalars" and not tabular:
        raise ValueError(
            "single numbers do not tell which feature they are: choose tabular for "
            "model.selector or model.predictor"
        )
    heads = ENCODERS["transformer"].heads
    if parts.query == "transformer" and parts.features % heads:
        raise ValueError(
            f"model.query = 'transformer' has {heads} heads, so model.features = "
            f"{parts.features} must be a multiple of {heads}"
        )


def candidates_of(model: Model, valid: Array) -> Array:
    """Which positions [P] a mask may choose, for an example valid at [T].

    Those of the example come first, then the default tokens, as far as the model's
    values are these.
    """
    values, defaults, *_ = model.selector.parts
    own = [valid] if values != "default_tokens" else []
    added = [jnp.ones(defaults, bool)] if values != "inputs" else []
    return jnp.concatenate(own + added)


def positions(model: Model, length: int) -> int:
    """How many positions P the masks of examples of `length` positions have."""
    valid = jax.ShapeDtypeStruct((length,), bool)
    return jax.eval_shape(lambda v: candidates_of(model, v), valid).shape[0]


def init(model: Model, key: Array) -> dict[str, Params]:
    """Parameters of both halves."""
    x, valid = example(model.inputs)
    a, b = jax.random.split(key)
    selector = model.selector.init(a, x, valid, candidates_of(model, valid))
    return {"selector": selector["params"], "predictor": init_predictor(model, b)}


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by path."""
    made = jax.eval_shape(lambda: init(model, jax.random.key(0)))
    flat: dict[str, Any] = flatten_dict(made, sep="/")
    return {path: x.shape for path, x in flat.items()}


def size(model: Model) -> int:
    """How many numbers selector and predictor learn."""
    return sum(map(math.prod, shapes(model).values()))


def init_predictor(model: Model, key: Array) -> Params:
    """Parameters of the predictor alone, for evaluators and baselines."""
    x, valid = example(model.inputs)
    candidates = candidates_of(model, valid)
    return model.predictor.init(key, x, candidates, candidates * 0.0)["params"]


def scores(
    model: Model, params: Params, x: Array, valid: Array, shift: Array | None = None
) -> Array:
    """The scores [P] of inputs [T, ...], by the selector's `params`.

    `shift` [T, D] is added to the embedded inputs.
    """
    candidates = candidates_of(model, valid)
    return model.selector.apply(_variables(params, shift), x, valid, candidates)[0]


def normalizer(model: Model, training: bool) -> Callable[..., Array]:
    """(key, scores [P], candidates [P], temperature, budget) -> mask [P].

    Outside training subsets and gates come without noise.
    """
    row = NORMALIZERS[model.normalizer]
    return partial(row.draw, draws=model.draws) if training else row.keep


def logits(
    model: Model,
    params: Params,
    x: Array,
    valid: Array,
    mask: Array,
    shift: Array | None = None,
) -> Array:
    """Logits [classes] for inputs [T, ...] under any mask [P]; predictor's `params`.

    `shift` [T, D] is added to the embedded inputs.
    """
    candidates = candidates_of(model, valid)
    mask = jnp.where(candidates, mask, 0)
    # The head reads positions, so it must be told which of the candidates exist.
    return model.predictor.apply(_variables(params, shift), x, candidates, mask)[0]


def embedded(
    model: Model, params: dict[str, Params], x: Array, valid: Array
) -> tuple[Array, Array]:
    """The inputs [T, ...] as vectors [T, D], the selector's and the predictor's.

    Only for models whose values are inputs: default tokens are nobody's input.
    """
    candidates = candidates_of(model, valid)

    def read(half: nn.Module, own: Params, *inputs: Array) -> Array:
        _, sown = half.apply({"params": own}, *inputs, mutable=["intermediates"])
        return sown["intermediates"]["embedded"][0]  # type: ignore[index]

    return (
        read(model.selector, params["selector"], x, valid, candidates),
        read(model.predictor, params["predictor"], x, candidates, candidates * 1.0),
    )


def _variables(params: Params, shift: Array | None) -> dict[str, Any]:
    if shift is None:
        return {"params": params}
    return {"params": params, "perturbations": {"embedded": shift}}
