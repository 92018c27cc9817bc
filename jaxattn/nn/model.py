"""Encode, select, predict: the whole model for one example, in two halves.

The halves share no parameter, so that each can be trained on masks of its own. The
mask can always be given from outside (an intervention): `logits` takes any mask.
"""

import math
from typing import Any, NamedTuple

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
        self, x: Array, valid: Array, candidates: Array
    ) -> tuple[Array, dict[str, Array]]:
        embedded = _shifted(self, embed(self.inputs, self.features, x))
        query, _ = ENCODERS[self.query](self.features, name="encoder")(embedded, valid)
        keys = Candidates(self.values, self.default_tokens, self.features)(embedded)
        scorer = SELECTORS[self.selector](self.hidden, name="scorer")
        scores, aux = scorer(query, keys, candidates)
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


class Parts(NamedTuple):
    """What a model is made of: names in the registries of `jaxattn.nn`, and widths.

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


REGISTRIES = {
    "query": ENCODERS,
    "selector": SELECTORS,
    "normalizer": NORMALIZERS,
    "predictor": PREDICTORS,
}
"""Where the names of a model's parts are looked up."""


def build(inputs: Inputs, classes: int, parts: Parts, draws: int = MAX_DRAWS) -> Model:
    """A model of these inputs for `classes` labels.

    Args:
        inputs: what an example looks like.
        classes: how many labels there are.
        parts: what the model is made of.
        draws: the largest budget that a subset may be asked for.

    Raises:
        KeyError: for a name that is in no registry.
        ValueError: where the parts do not fit the inputs or one another.
    """
    _check_shapes(inputs, parts)
    p = parts
    return Model(
        Selector(
            inputs, p.values, p.default_tokens, p.query, p.selector, p.features,
            p.hidden,
        ),
        Predictor(
            inputs, p.values, p.default_tokens, p.predictor, p.features, p.hidden,
            classes,
        ),
        p.normalizer,
        inputs,
        draws,
    )  # fmt: skip


def _check_shapes(inputs: Inputs, parts: Parts) -> None:
    if parts.values != "default_tokens" and not inputs.fixed:
        for part in ("selector", "predictor"):
            if getattr(parts, part) == "tabular":
                raise ValueError(
                    f"model.{part} = 'tabular' needs a fixed number of positions, and "
                    "these inputs have padding: choose another"
                )
    if inputs.kind == "scalars" and parts.values != "inputs":
        raise ValueError(
            f"model.values = {parts.values!r}: default tokens are vectors and these "
            "inputs are single numbers: choose inputs"
        )
    if inputs.kind == "scalars" and "tabular" not in (parts.selector, parts.predictor):
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
    return jax.eval_shape(lambda v: candidates_of(model, v), valid).shape[0]


def init(model: Model, key: Array) -> dict[str, Params]:
    """Parameters of both halves."""
    x, valid = example(model.inputs)
    a, b = jax.random.split(key)
    selector = model.selector.init(a, x, valid, candidates_of(model, valid))
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
    candidates = candidates_of(model, valid)
    mask = jnp.zeros(candidates.shape[0])
    return model.predictor.init(key, x, candidates, mask)["params"]


def scores(
    model: Model, params: Params, x: Array, valid: Array, shift: Array | None = None
) -> Array:
    """The selector's scores [P] for inputs [T, ...]; `params` are the selector's.

    `shift` [T, D] is added to the embedded inputs.
    """
    candidates = candidates_of(model, valid)
    return model.selector.apply(_variables(params, shift), x, valid, candidates)[0]


def normalise(
    model: Model,
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float,
    budget: Array | float = 1,
) -> Array:
    """The mask [P] of scores [P] over the candidates `valid` [P], as in training."""
    normalizer = NORMALIZERS[model.normalizer]
    return normalizer.draw(key, scores, valid, temperature, budget, model.draws)


def keep(
    model: Model,
    key: Array,
    scores: Array,
    valid: Array,
    temperature: Array | float,
    budget: Array | float = 1,
) -> Array:
    """The mask [P] of scores [P] in tests: subsets and gates without noise."""
    normalizer = NORMALIZERS[model.normalizer]
    return normalizer.keep(key, scores, valid, temperature, budget)


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
