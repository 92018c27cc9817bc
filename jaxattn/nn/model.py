"""Encode, select, predict: the whole model for one example, in two halves.

The halves share no parameter, so that each can be trained on masks of its own. The
mask can always be given from outside (an intervention): `logits` takes any mask.
"""

import math
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax import Array

from jaxattn.nn.embedding import Candidates, Inputs, embed, example
from jaxattn.nn.encoders import ENCODERS
from jaxattn.nn.normalizers import NORMALIZERS
from jaxattn.nn.predictors import PREDICTORS
from jaxattn.nn.selectors import SELECTORS
from jaxattn.nn.subsets import MAX_DRAWS

Params = Any

VALUES = ("default_tokens", "inputs", "inputs_and_default_tokens")


class Selector(nn.Module):
    """One score for each candidate [P], from a query that has read all of the input."""

    inputs: Inputs
    values: str
    default_tokens: int
    query: str
    selector: str
    features: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Array, valid: Array, usable: Array
    ) -> tuple[Array, dict[str, Array]]:
        embedded = _shifted(self, embed(self.inputs, self.features, x))
        query, _ = ENCODERS[self.query](self.features, name="encoder")(embedded, valid)
        keys = Candidates(self.values, self.default_tokens, self.features)(embedded)
        scorer = SELECTORS[self.selector](self.hidden, name="scorer")
        scores, aux = scorer(query, keys, usable)
        return scores, aux | {"query": query}


class Predictor(nn.Module):
    """Logits [classes] from mask [P] * candidate values [P, D]."""

    inputs: Inputs
    values: str
    default_tokens: int
    predictor: str
    features: int
    hidden: int
    classes: int

    @nn.compact
    def __call__(
        self, x: Array, valid: Array, mask: Array
    ) -> tuple[Array, dict[str, Array]]:
        embedded = None
        if self.values != "default_tokens":
            embedded = _shifted(self, embed(self.inputs, self.features, x))
        values = Candidates(self.values, self.default_tokens, self.features)(embedded)
        head = PREDICTORS[self.predictor](self.hidden, self.classes, name="head")
        return head(values, mask, valid)


def _shifted(module: nn.Module, embedded: Array) -> Array:
    """Vectors [T, D], which `embedded` tells and the argument `shift` adds to."""
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


def _check_shapes(
    inputs: Inputs, values: str, query: str, selector: str, predictor: str, width: int
) -> None:
    if values != "default_tokens" and not inputs.fixed:
        for part, name in (("selector", selector), ("predictor", predictor)):
            if name == "tabular":
                raise ValueError(
                    f"model.{part} = 'tabular' needs a fixed number of positions, and "
                    "these inputs have padding: choose another"
                )
    if inputs.kind == "scalars" and values != "inputs":
        raise ValueError(
            f"model.values = {values!r}: default tokens are vectors and these inputs "
            "are single numbers: choose inputs"
        )
    if inputs.kind == "scalars" and "tabular" not in (selector, predictor):
        raise ValueError(
            "single numbers do not tell which feature they are: choose tabular for "
            "model.selector or model.predictor"
        )
    heads = ENCODERS["transformer"].heads
    if query == "transformer" and width % heads:
        raise ValueError(
            f"model.query = 'transformer' has {heads} heads, so model.features = "
            f"{width} must be a multiple of {heads}"
        )


def build(
    inputs: Inputs,
    classes: int,
    *,
    values: str = "inputs",
    default_tokens: int = 4,
    query: str = "bag",
    selector: str = "additive",
    normalizer: str = "gumbel_softmax",
    predictor: str = "pooling",
    features: int = 32,
    hidden: int = 32,
    draws: int = MAX_DRAWS,
) -> Model:
    """A model of these inputs for `classes` labels.

    Raises: ValueError where the parts do not fit the inputs or one another.
    """
    named = (
        ("inputs.kind", inputs.kind, get_args(Inputs.__annotations__["kind"])),
        ("model.values", values, VALUES),
        ("model.query", query, ENCODERS),
        ("model.selector", selector, SELECTORS),
        ("model.normalizer", normalizer, NORMALIZERS),
        ("model.predictor", predictor, PREDICTORS),
    )
    for part, name, allowed in named:
        if name not in allowed:
            raise ValueError(f"{part} = {name!r}: choose from {', '.join(allowed)}")
    _check_shapes(inputs, values, query, selector, predictor, features)
    widths = default_tokens, query, selector, features, hidden
    return Model(
        Selector(inputs, values, *widths),
        Predictor(inputs, values, default_tokens, predictor, features, hidden, classes),
        normalizer,
        inputs,
        draws,
    )


def candidates(model: Model, valid: Array) -> Array:
    """Which positions [P] a mask may use, for an example valid at [T]."""
    selector = model.selector
    parts = []
    if selector.values != "default_tokens":
        parts.append(valid)
    if selector.values != "inputs":
        parts.append(jnp.ones(selector.default_tokens, bool))
    return jnp.concatenate(parts)


def positions(model: Model, length: int) -> int:
    """How many positions P the masks of examples of `length` positions have."""
    valid = jax.ShapeDtypeStruct((length,), bool)
    return jax.eval_shape(lambda v: candidates(model, v), valid).shape[0]


def init(model: Model, key: Array) -> dict[str, Params]:
    """Parameters of both halves."""
    x, valid = example(model.inputs)
    a, b = jax.random.split(key)
    selector = model.selector.init(a, x, valid, candidates(model, valid))
    return {"selector": selector["params"], "predictor": init_predictor(model, b)}


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by path."""
    made = jax.eval_shape(lambda key: init(model, key), jax.random.key(0))
    flat: dict[str, Any] = flatten_dict(made, sep="/")
    return {path: x.shape for path, x in flat.items()}


def size(model: Model) -> int:
    """How many numbers selector and predictor learn."""
    return sum(map(math.prod, shapes(model).values()))


def init_predictor(model: Model, key: Array) -> Params:
    """Parameters of the predictor alone, for evaluators and baselines."""
    x, valid = example(model.inputs)
    usable = candidates(model, valid)
    mask = jnp.zeros(usable.shape[0])
    return model.predictor.init(key, x, usable, mask)["params"]


def scores(
    model: Model, params: Params, x: Array, valid: Array, shift: Array | None = None
) -> Array:
    """The selector's scores [P] for inputs [T, ...]; `params` are the selector's.

    `shift` [T, D] is added to the embedded inputs.
    """
    usable = candidates(model, valid)
    return model.selector.apply(_variables(params, shift), x, valid, usable)[0]


def normalise(
    model: Model,
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float,
    budget: Array | float = 1,
) -> Array:
    """The mask [P] of scores [P] over the candidates valid [P], as in training."""
    draw = NORMALIZERS[model.normalizer].draw
    return draw(key, scores, valid, temperature, budget, model.draws)


def keep(
    model: Model,
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float,
    budget: Array | float = 1,
) -> Array:
    """The mask [P] of scores [P] in tests: subsets and gates without noise."""
    made = NORMALIZERS[model.normalizer].keep
    return made(key, scores, valid, temperature, budget)


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
    usable = candidates(model, valid)
    mask = jnp.where(usable, mask, 0)
    # The head reads positions, so it must be told which of the candidates exist.
    return model.predictor.apply(_variables(params, shift), x, usable, mask)[0]


def embedded(
    model: Model, params: dict[str, Params], x: Array, valid: Array
) -> tuple[Array, Array]:
    """The inputs [T, ...] as vectors [T, D], the selector's and the predictor's.

    Only for models whose values are inputs: default tokens are nobody's input.
    """
    usable = candidates(model, valid)

    def told(half: nn.Module, own: Params, *inputs: Array) -> Array:
        _, kept = half.apply({"params": own}, *inputs, mutable=["intermediates"])
        found: Any = kept["intermediates"]
        return found["embedded"][0]

    return (
        told(model.selector, params["selector"], x, valid, usable),
        told(model.predictor, params["predictor"], x, usable, usable * 1.0),
    )


def _variables(params: Params, shift: Array | None) -> dict[str, Any]:
    if shift is None:
        return {"params": params}
    return {"params": params, "perturbations": {"embedded": shift}}
