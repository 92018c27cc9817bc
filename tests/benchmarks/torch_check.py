"""Do PyTorch's models compute what the library computes, given its parameters?"""

import numpy as np
import torch
from torch import nn


def copied(model: nn.Module, params: dict[str, np.ndarray]) -> None:
    """Puts the library's parameters, by their paths in Flax, into a model."""
    found = {}
    for path, value in params.items():
        *modules, name = path.split("/")
        modules = [m for m in modules if m not in ("Candidates_0", "GRUCell_0")]
        if name == "kernel":
            # Attention has axes of its own for the heads; only `out` reads them.
            bias = params.get(path.removesuffix("kernel") + "bias")
            outputs = value.shape[-1] if modules[-1] == "out" else 0
            outputs = outputs or (value.shape[-1] if bias is None else bias.size)
            value, name = value.reshape(-1, outputs).T, "weight"
        elif name in ("embedding", "scale"):
            name = "weight"
        elif name == "bias":
            value = value.reshape(-1)
        found[".".join([*modules, name])] = torch.tensor(value.copy())
    _join(found, "selector.encoder.attention", "selector.encoder", ["qkv"])
    if "selector.encoder.hn.weight" in found:
        _join_gru(found, "selector.encoder", model.selector.encoder.form == "written")
    wanted = dict(model.named_parameters())
    assert wanted.keys() == found.keys(), wanted.keys() ^ found.keys()
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)


def _join(found: dict, prefix: str, to: str, names: list[str]) -> None:
    if f"{prefix}.query.weight" not in found:
        return
    for kind in ("weight", "bias"):
        parts = [found.pop(f"{prefix}.{x}.{kind}") for x in ("query", "key", "value")]
        found[f"{to}.{names[0]}.{kind}"] = torch.cat(parts)
        found[f"{to}.out.{kind}"] = found.pop(f"{prefix}.out.{kind}")


def _join_gru(found: dict, prefix: str, written: bool) -> None:
    def taken(names: str, kind: str) -> torch.Tensor:
        parts = [found.pop(f"{prefix}.{name}.{kind}") for name in names.split()]
        return torch.cat(parts)

    read = taken("ir iz in", "weight"), taken("ir iz in", "bias")
    gates = taken("hr hz", "weight")
    new = taken("hn", "weight"), taken("hn", "bias")
    if written:
        found[f"{prefix}.input.weight"], found[f"{prefix}.input.bias"] = read
        found[f"{prefix}.state.weight"] = gates
        found[f"{prefix}.new.weight"], found[f"{prefix}.new.bias"] = new
        return
    gru = f"{prefix}.gru."
    found[gru + "weight_ih_l0"], found[gru + "bias_ih_l0"] = read
    found[gru + "weight_hh_l0"] = torch.cat([gates, new[0]])
    absent = torch.zeros(len(gates))
    found[gru + "bias_hh_l0"] = torch.cat([absent, new[1]])


def difference(model: nn.Module, case: dict, batch: tuple) -> float:
    """How far nats and the gradient's norm are from the library's, the larger one."""
    params = {k[6:]: v for k, v in case.items() if k.startswith("param/")}
    copied(model, params)
    noise = case.get("check/noise")
    nats = model(*batch, noise=None if noise is None else torch.tensor(noise))
    nats.backward()
    squares = [(p.grad.double() ** 2).sum() for p in model.parameters()]
    if any("gru." in name for name, _ in model.named_parameters()):
        # Flax has no such biases, so nothing of theirs is in its norm.
        bias = model.selector.encoder.gru.bias_hh_l0.grad.double()
        squares.append(-(bias[: 2 * len(bias) // 3] ** 2).sum())
    norm = torch.stack(squares).sum().sqrt().item()
    return max(
        abs(nats.item() - float(case["check/nats"])),
        abs(norm - float(case["check/norm"])),
    )
