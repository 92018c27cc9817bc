"""Generated tasks whose relevant features are known, example by example.

L2X (Chen et al., arXiv 1802.07814): xor, orange_skin, nonlinear_additive, switch, with
10 features. INVASE (Yoon, Jordon and van der Schaar, ICLR 2019): syn1 to syn6, with 11
or 100. Names without a suffix follow the released code of both; `_paper` is the formula
that the papers print, sin(2 x) and 2 |x| where the code has sin(0.2 x) and |x|.
Everywhere x ~ N(0, I) and P(y = 1 given x) = 1 / (1 + exp f(x)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from jaxattn.system.errors import suggest

# jax is imported in the functions: to list the tasks must not take its second.
if TYPE_CHECKING:
    from jax import Array

Made: TypeAlias = "tuple[Array, Array, Array]"
"""Features [d], f (a scalar) and which features are relevant [d], of one example."""


class Synthetic(NamedTuple):
    """A generated task; tasks of one family have one shape and share programs."""

    family: str
    features: int
    budget: int
    """How many features are relevant (the largest number where it varies)."""
    control: int | None
    """Place of the feature that decides which others are relevant, if there is one."""
    soft: bool
    """Whether the published training targets are P(y given x) and not labels."""
    description: str
    make: Callable[[Array, Array], Made]
    """The example that standard normal features [d] and a uniform coin give."""


class Sample(NamedTuple):
    """Examples: inputs [n, d], P(y given x) [n, 2], labels [n], relevant [n, d]."""

    inputs: Array
    probabilities: Array
    labels: Array
    truth: Array


def _xor(x: Array) -> Array:
    return x[0] * x[1]


def _orange(x: Array) -> Array:
    return (x[:4] ** 2).sum() - 4


def _additive(strength: float, paper: bool = False) -> Callable[[Array], Array]:
    scale, slope = (2.0, 2.0) if paper else (0.2, 1.0)

    def f(x: Array) -> Array:
        import jax.numpy as jnp

        wave = -strength * jnp.sin(scale * x[0])
        return wave + slope * jnp.abs(x[1]) + x[2] + jnp.exp(-x[3]) - 2.4

    return f


_STEEP, _STEEP_PAPER = _additive(100.0), _additive(100.0, paper=True)


def _plain(f: Callable[[Array], Array], first: int, count: int):
    """One formula on the features `first` to `first + count - 1`, counted from 0."""

    def make(x: Array, coin: Array) -> Made:
        import jax.numpy as jnp

        del coin
        places = jnp.arange(x.shape[0])
        return x, f(x[first:]), (places >= first) & (places < first + count)

    return make


def _by_sign(one, other, control: int = 10):
    """One formula where the control feature is negative, else the other."""

    def make(x: Array, coin: Array) -> Made:
        import jax.numpy as jnp

        (_, f, a), (_, g, b) = one(x, coin), other(x, coin)
        first = x[control] < 0
        relevant = jnp.where(first, a, b).at[control].set(True)
        return x, jnp.where(first, f, g), relevant

    return make


def _switch(additive: Callable[[Array], Array], published: bool):
    """L2X's switch: each example is of one of two components with probability 1/2.

    Orange skin on features 1 to 4 around x10 = 3, or the additive formula on features
    5 to 8 around x10 = -3. The released code means to exchange features 1 to 4 with 5
    to 8 and copies them instead, so that both blocks are equal (`published`).
    """

    def make(x: Array, coin: Array) -> Made:
        import jax.numpy as jnp

        orange = coin < 0.5
        x = x.at[9].add(jnp.where(orange, 3.0, -3.0))
        block, other = x[:4], x[4:8]
        left = block if published else other
        swapped = x.at[:4].set(left).at[4:8].set(block)
        made = jnp.where(orange, x, swapped)
        f = jnp.where(orange, _orange(block), additive(block))
        places = jnp.arange(10)
        relevant = jnp.where(orange, places < 4, (places >= 4) & (places < 8))
        return made, f, relevant.at[9].set(True)

    return make


_A, _B = _plain(_xor, 0, 2), _plain(_orange, 2, 4)
_C, _C_PAPER = (_plain(_additive(10.0, paper), 6, 4) for paper in (False, True))

_L2X = {
    "xor": (2, None, _plain(_xor, 0, 2)),
    "orange_skin": (4, None, _plain(_orange, 0, 4)),
    "nonlinear_additive": (4, None, _plain(_STEEP, 0, 4)),
    "nonlinear_additive_paper": (4, None, _plain(_STEEP_PAPER, 0, 4)),
    "switch": (5, 9, _switch(_STEEP, published=False)),
    "switch_paper": (5, 9, _switch(_STEEP_PAPER, published=False)),
    "switch_published": (5, 9, _switch(_STEEP, published=True)),
}
_SYN = {
    "syn1": (2, None, _A),
    "syn2": (4, None, _B),
    "syn3": (4, None, _C),
    "syn4": (5, 10, _by_sign(_A, _B)),
    "syn5": (5, 10, _by_sign(_A, _C)),
    "syn6": (5, 10, _by_sign(_B, _C)),
    "syn3_paper": (4, None, _C_PAPER),
    "syn5_paper": (5, 10, _by_sign(_A, _C_PAPER)),
    "syn6_paper": (5, 10, _by_sign(_B, _C_PAPER)),
}


def _rows(
    family: str, features: int, of: str, formulas: dict, suffix: str = ""
) -> dict[str, Synthetic]:
    return {
        f"{name}{suffix}": Synthetic(
            family=family,
            features=features,
            budget=budget,
            control=control,
            soft=family == "l2x",
            description=f"{of} {name.replace('_', ' ')}, {features} features",
            make=make,
        )
        for name, (budget, control, make) in formulas.items()
    }


SYNTHETIC = {
    **_rows("l2x", 10, "L2X's", _L2X),
    **_rows("syn", 11, "INVASE's", _SYN),
    **_rows("syn_100", 100, "INVASE's", dict(list(_SYN.items())[:6]), "_100"),
}
"""All generated tasks by name; a row added here is a task like any other."""


def members(family: str) -> tuple[str, ...]:
    """The tasks of a family, in the order that `generate` counts them."""
    return tuple(name for name, row in SYNTHETIC.items() if row.family == family)


def generate(family: str, key: Array, which: Array | int, n: int) -> Sample:
    """Draws examples of a generated task whose relevant features are known.

    All formulas of a family are computed and one is picked: they are cheap, and so one
    program serves the whole family.

    Args:
        family: "l2x" (10 features; Chen et al., arXiv 1802.07814), "syn" (11; Yoon et
            al., ICLR 2019) or "syn_100" (100).
        key: a random key.
        which: the place of the task in `members(family)`; it may be traced.
        n: how many examples.

    Returns:
        A `Sample`: inputs `[n, d]`, P(y given x) `[n, 2]`, labels `[n]` and which
        features are relevant `[n, d]`.

    Raises:
        ValueError: unknown family.

    >>> import jax, jaxattn
    >>> jaxattn.SYNTHETIC["xor"].family, list(jaxattn.SYNTHETIC).index("xor")
    ('l2x', 0)
    >>> sample = jaxattn.generate("l2x", jax.random.key(0), which=0, n=3)
    >>> sample.inputs.shape, sample.truth[0].nonzero()[0].tolist()
    ((3, 10), [0, 1])
    """
    import jax
    import jax.numpy as jnp

    rows = [SYNTHETIC[name] for name in members(family)]
    if not rows:
        families = dict.fromkeys(row.family for row in SYNTHETIC.values())
        raise ValueError(f"family {family!r}: {suggest(family, families)}")
    x_key, coin_key, label_key = jax.random.split(key, 3)

    def one(x: Array, coin: Array) -> Made:
        made = [row.make(x, coin) for row in rows]
        return tuple(jnp.stack(parts)[which] for parts in zip(*made, strict=True))  # type: ignore[return-value]

    x = jax.random.normal(x_key, (n, rows[0].features))
    inputs, f, truth = jax.vmap(one)(x, jax.random.uniform(coin_key, (n,)))
    positive = jax.nn.sigmoid(-f)
    probabilities = jnp.stack([1 - positive, positive], axis=1)
    labels = jax.random.uniform(label_key, (n,)) < positive
    return Sample(inputs, probabilities, labels.astype(jnp.int32), truth)
