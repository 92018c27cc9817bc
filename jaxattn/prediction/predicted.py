"""What all seeds of a method say of examples: labels, masks, and how far they agree."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import rel_entr

from jaxattn.metrics.statistics import Interval, mean_interval
from jaxattn.prediction.intake import Example
from jaxattn.trained import TrainedModel, run_key

CHUNK = 64
"""Examples of one call, fewer where they are long."""
TOGETHER = 16
"""Seeds side by side."""


class Prediction(NamedTuple):
    """Of one example."""

    example: Example
    names: tuple[str, ...]
    """Of what the mask weighs, words or default tokens [P]."""
    label: str
    """Of the highest mean probability."""
    probability: Interval
    """Of the label, over seeds."""
    votes: int
    """Seeds that give this label."""
    probabilities: np.ndarray
    """[seeds, classes]."""
    masks: np.ndarray
    """[seeds, P]."""
    disagreement: float
    """Bits between the masks of two seeds, NaN where there is one seed only."""


def predict(model: TrainedModel, examples: list[Example]) -> Iterator[Prediction]:
    """Predictions of all examples, in order.

    Where masks hold noise, every example gets one draw for each seed, the same whatever
    stands beside it.
    """
    keys = jax.vmap(run_key)(jnp.array(model.seeds, jnp.uint32))

    @jax.jit
    def run(params, keys, inputs, lengths):
        def of_seed(args):
            own, key = args
            return jax.vmap(lambda x, n: model.apply(own, x[None], n[None], key))(
                inputs, lengths
            )

        return jax.lax.map(of_seed, (params, keys), batch_size=TOGETHER)

    most = max(1, min(CHUNK, 2**16 // model.inputs.length))
    for start in range(0, len(examples), most):
        part = examples[start : start + most]
        # A power of two, so that few programs are compiled.
        size = 1 << (len(part) - 1).bit_length()
        rows = part + [part[-1]] * (size - len(part))
        found = run(
            model.params,
            keys,
            np.stack([e.inputs for e in rows]),
            np.array([e.length for e in rows], np.int32),
        )
        probabilities, masks = (np.asarray(x)[:, :, 0] for x in found)
        for i, example in enumerate(part):
            yield _of_one(model, example, probabilities[:, i], masks[:, i])


def _of_one(
    model: TrainedModel, example: Example, probabilities: Any, masks: Any
) -> Prediction:
    words = model.inputs.length if model.values != "default_tokens" else 0
    read = example.length if words else 0
    names = example.names[:read]
    if model.values != "inputs":
        names += tuple(f"default {i + 1}" for i in range(model.default_tokens))
    masks = np.concatenate([masks[:, :read], masks[:, words:]], axis=1)
    place = int(probabilities.mean(axis=0).argmax())
    return Prediction(
        example=example,
        names=names,
        label=model.classes[place],
        probability=mean_interval(probabilities[:, place]),
        votes=int((probabilities.argmax(axis=1) == place).sum()),
        probabilities=probabilities,
        masks=masks,
        disagreement=disagreement(masks),
    )


def disagreement(masks: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence in bits, 0 to 1, of pairs of masks [S, P].

    Masks count by their shares; an empty one is 1 bit from any that is not. NaN where
    there is one mask only.
    """
    totals = masks.sum(axis=1, keepdims=True)
    shares = masks / np.where(totals > 0, totals, 1)
    empty = totals[:, 0] <= 0
    pairs = []
    for i in range(len(masks) - 1):
        a, b = shares[i], shares[i + 1 :]
        middle = (a + b) / 2
        nats = rel_entr(a, middle).sum(axis=1) + rel_entr(b, middle).sum(axis=1)
        bits = nats / 2 / np.log(2)
        pairs.append(np.where(empty[i] != empty[i + 1 :], 1.0, bits))
    return float(np.concatenate(pairs).mean()) if pairs else float("nan")
