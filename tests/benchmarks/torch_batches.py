"""The data of a benchmark as PyTorch's tensors, and the batches of an epoch."""

import json
from collections.abc import Iterator

import numpy as np
import torch
from setups import syn4
from sweep_setups import Setup
from torch import Tensor, nn
from torch_models import Bags, Tabular, Text


def build(setup: Setup, case: dict, form: str) -> nn.Module:
    """A model of the sizes that the case tells."""
    sizes, shape = json.loads(str(case["sizes"])), case["inputs"].shape
    if setup.family == "text":
        return Text(sizes, setup.query, sizes["tokens"], shape[1], form)
    if setup.family == "bags":
        return Bags(sizes, shape[2], form)
    return Tabular(sizes, shape[1])


def tensors(setup: Setup, case: dict, form: str, seeds: list[int]) -> tuple:
    """What batches are rows of, made once; seeds with own data lie in a row."""
    if setup.family == "tabular":
        x, y = map(np.concatenate, zip(*map(syn4, seeds), strict=True))
        return torch.tensor(x), torch.tensor(y).long()
    inputs, y = torch.tensor(case["inputs"]), torch.tensor(case["labels"]).long()
    lengths = torch.tensor(case["lengths"]).long()
    valid = torch.arange(inputs.shape[1]) < lengths[:, None]
    bias = torch.where(valid, 0.0, -torch.inf)
    if setup.family == "text":
        return inputs.long(), bias, valid / lengths[:, None], lengths, y
    return inputs, bias, valid if form == "packed" else lengths, y


def epoch(setup: Setup, data: tuple, order: Tensor, form: str) -> Iterator[tuple]:
    """Batches in the order [steps, batch], gathered at once: fewer small calls."""
    if setup.family == "bags" and form == "packed":
        inputs, bias, valid, y = data
        for rows in order:
            yield packed(inputs[rows], bias[rows], valid[rows], y[rows])
        return
    gathered = [x[order.reshape(-1)].view(*order.shape, *x.shape[1:]) for x in data]
    yield from zip(*(x.unbind(0) for x in gathered), strict=True)


def packed(x: Tensor, bias: Tensor, valid: Tensor, y: Tensor) -> tuple:
    """A batch of bags without padding: instances [n, 784] and their places [B, T]."""
    rows = x[valid]
    places = torch.where(valid, valid.view(-1).cumsum(0).view_as(valid) - 1, len(rows))
    return rows, bias, places, y


def pick(setup: Setup, data: tuple, rows: Tensor, form: str) -> tuple:
    """One batch of these rows."""
    batch = tuple(x[rows] for x in data)
    return packed(*batch) if setup.family == "bags" and form == "packed" else batch
