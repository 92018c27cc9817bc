"""Loops that are not ours: the page in configs/README.md, run as it stands."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxattn

PAGE = pathlib.Path(__file__).parents[1] / "configs" / "README.md"
BLOCKS = {
    "nnx" if "import nnx" in block else "linen": block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if "mask_neutral" in block
}


def test_there_is_a_loop_of_each_kind_on_one_page():
    assert set(BLOCKS) == {"linen", "nnx"}
    assert all(len(block.splitlines()) < 48 for block in BLOCKS.values())


@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_the_loop_on_the_page_gives_the_known_answer(api):
    """The values are the same for every example: an honest predictor is at chance."""
    printed = []
    exec(BLOCKS[api], {"print": printed.append, "__name__": "page"})
    (accuracy,) = printed
    assert accuracy["joint"] > 0.85
    assert accuracy["mask_swap"] < 0.7
    assert accuracy["instance_weighting"] < 0.7


class Model(nnx.Module):
    def __init__(self, rngs):
        self.query, self.head = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def select(self, x, key):
        return jax.nn.softmax(self.query(x) + jax.random.gumbel(key, x.shape))

    def __call__(self, x, mask):
        return self.head(x * mask)


@pytest.mark.parametrize("method", ["random_pretraining_averaged", "mask_mix_delayed"])
def test_an_nnx_optimizer_moves_each_half_in_its_phase(method):
    steps = 6
    model, key = Model(nnx.Rngs(0)), jax.random.key(1)
    graph, params = nnx.split(model)
    made = jaxattn.mask_neutral(
        method,
        lambda p, x, key: nnx.merge(graph, p).select(x, key),
        lambda p, x, mask: nnx.merge(graph, p)(x, mask),
        steps=steps,
        selector="query",
    )
    x = jax.random.normal(key, (16, 4))
    labels = (x[:, 1] > 0).astype(int)
    state = made.init(key, params, x)
    tx = made.optimizer(optax.adam(0.05))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, state, key):
        gradient = jax.grad(made.loss, has_aux=True)
        grads, (state, _) = gradient(nnx.state(model), state, x, labels, key)
        optimizer.update(model, grads)
        return state

    moves = []
    for now in jax.random.split(key, steps):
        old = [jnp.array(part.kernel) for part in (model.query, model.head)]
        state = step(model, optimizer, state, now)
        new = model.query.kernel, model.head.kernel
        moves.append([bool((a != b).any()) for a, b in zip(old, new, strict=True)])
    moves = np.array(moves)
    half = steps // 2
    assert not moves[:half, 0].any() and moves[half:, 0].all()
    assert moves[:half, 1].all()
    assert moves[half:, 1].all() == (method == "mask_mix_delayed")
