"""Can another model answer the same with other attention? One is trained to.

The model-level adversary of 'Attention is not not Explanation' (Wiegreffe & Pinter,
arXiv 1908.04626): from a fresh start, on the training split, a model of the same shape
learns to keep the trained one's answers and to leave its attention,

    loss = TVD(answers) - rate * KL(own attention || attention to leave),

for several rates at once. Attention that can be left for nothing was not needed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import rel_entr

from jaxattn.metrics.divergence import jsd, tvd
from jaxattn.nn import adam
from jaxattn.nn import model as nn_model
from jaxattn.training.cell import ADVERSARY, Cell, Examples, answer

RATES = (0.0, 0.001, 0.01, 0.1)
"""What a nat of divergence is worth in TVD; 0: what another start alone changes."""
SLACK = 0.01
"""How much further in TVD answers may be than those of rate 0, to count as alike."""
_SMALLEST = 1e-6
"""Weights of exactly 0 would make the divergence, or its gradient, infinite."""


def measure(
    cell: Cell, params: Any, train: Examples, test: Examples
) -> dict[str, Array]:
    """Mean JSD of attention (nats) and TVD of answers on the test split, by rate.

    `model_adversary_jsd` is the largest JSD of the rates at which answers are as far
    as without a reward for leaving (rate 0), or at most 0.01 TVD further.
    """
    far, apart, hits = jax.lax.map(
        lambda rate: _compared(cell, params, _trained(cell, params, rate, train), test),
        jnp.array(RATES),
    )
    alike = apart <= apart[0] + SLACK
    each = {"jsd": far, "tvd": apart, "accuracy": hits}
    return {"model_adversary_jsd": jnp.where(alike, far, 0).max()} | {
        f"model_adversary_{name}:rate {rate:g}": values[i]
        for i, rate in enumerate(RATES)
        for name, values in each.items()
    }


def _compared(
    cell: Cell, params: Any, other: Any, test: Examples
) -> tuple[Array, Array, Array]:
    """Mean JSD of attention and TVD of answers of two models; the other's accuracy."""
    key = jax.random.fold_in(jax.random.fold_in(cell.key, ADVERSARY), 2)
    keys = jax.random.split(key, len(test.labels))

    def one(args):
        own, mask = _answer(cell, other, *args, training=False)
        theirs, left = _answer(cell, params, *args, training=False)
        return jsd(mask, left), tvd(own, theirs), own.argmax() == args[1].labels

    jsds, tvds, hits = jax.lax.map(one, (keys, test), batch_size=256)
    return jsds.mean(), tvds.mean(), hits.mean()


def _answer(cell, params, key, example, training) -> tuple[Array, Array]:
    """Probabilities [C] and mask [P] of one example."""
    made = answer(cell, params, key, example, training)
    return jax.nn.softmax(made.logits), made.mask


def _trained(cell: Cell, params: Any, rate: Array, train: Examples) -> Any:
    """Parameters of the adversary after as many epochs as the model itself had."""
    config, steps = cell.config, cell.steps_per_epoch
    root = jax.random.fold_in(cell.key, ADVERSARY)
    start_key, order_key, _ = (jax.random.fold_in(root, i) for i in range(3))
    size, n = config.batch_size, len(train.labels)

    def loss(own, keys, batch):
        def one(key, example):
            # The same noise for both: what differs is what they attend to.
            mine, mask = _answer(cell, own, key, example, training=True)
            fixed = jax.lax.stop_gradient(params)
            theirs, left = _answer(cell, fixed, key, example, training=True)
            mask, left = (jnp.maximum(m, _SMALLEST) for m in (mask, left))
            return tvd(mine, theirs) - rate * rel_entr(mask, left).sum()

        return jax.vmap(one)(keys, batch).mean()

    def step(carry, args):
        own, moments = carry
        key, index = args
        batch = jax.tree.map(lambda x: x[index], train)
        slope = jax.grad(loss)(own, jax.random.split(key, size), batch)
        return adam.update(slope, moments, own, config.optimizer.learning_rate), None

    def epoch(carry, key):
        a, b = jax.random.split(key)
        order = jax.random.permutation(a, n)[: steps * size].reshape(steps, size)
        return jax.lax.scan(step, carry, (jax.random.split(b, steps), order))[0], None

    own = nn_model.init(cell.model, start_key)
    start = own, adam.init(own)
    (own, _), _ = jax.lax.scan(epoch, start, jax.random.split(order_key, config.epochs))
    return own
