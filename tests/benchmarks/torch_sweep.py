"""PyTorch, one thread: eager, `torch.func` over an ensemble, or `torch.compile`."""

import sys

import numpy as np
import torch
from protocol import serve, timed
from sweep_setups import ENSEMBLE, SETUPS, Setup
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch_batches import build, epoch, pick, tensors
from torch_check import difference

SIDE, COPIED = 1024, 2**26
KIND, FOLDER, SEED, DEVICE = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
SEEDS = ENSEMBLE if KIND == "func" else 1
FORM = {"eager": "packed", "func": "padded", "compile": "written"}[KIND]

if DEVICE != "cpu" and KIND == "eager":
    FORM = "padded"  # shapes that data decide would wait for the GPU in each step


def load(name: str) -> dict[str, np.ndarray]:
    place = list(SETUPS).index(name)
    with np.load(f"{FOLDER}/{place}.npz") as stored:
        return dict(stored)


def checked(setup: Setup, case: dict) -> float:
    """How far the model is from the library's on the case's batch."""
    data = tensors(setup, case, FORM, [0])
    rows = torch.tensor(case["check/rows"]).long()
    model = build(setup, case, FORM)
    return difference(model, case, pick(setup, data, rows, FORM))


class Trainer:
    """Some seeds in this process and the epochs they train for."""

    def __init__(self, name: str):
        torch.manual_seed(SEED)
        self.setup, case = SETUPS[name], load(name)
        self.difference = checked(self.setup, case)
        seeds = [SEED * SEEDS + i for i in range(SEEDS)]
        data = tensors(self.setup, case, FORM, seeds)
        self.data = tuple(x.to(DEVICE) for x in data)
        self.own = self.setup.family == "tabular"
        self.n = len(self.data[0]) // (SEEDS if self.own else 1)
        self.steps = self.n // self.setup.batch
        models = [build(self.setup, case, FORM).to(DEVICE) for _ in seeds]
        self.model = models[0]
        if KIND == "func":
            self._stack(models)
        params = list(self.params.values() if KIND == "func" else self._parameters())
        # The fastest of the three Adams, two to five times on embedding tables.
        rate = float(case["learning_rate"])
        self.adam = torch.optim.Adam(params, lr=rate, fused=True)
        self.loss = torch.compile(self.model) if KIND == "compile" else self.model
        self.done, self.epochs = 0, []
        self._begin_epoch()

    def _parameters(self):
        return self.model.parameters()

    def _stack(self, models: list[nn.Module]) -> None:
        self.params, buffers = stack_module_state(models)
        assert not buffers or set(buffers) == {"selector.encoder.sines"}

        def nats(params, *batch):
            return functional_call(self.model, params, batch)

        self.run = vmap(grad_and_value(nats), randomness="different")

    def _begin_epoch(self) -> None:
        used = self.steps * self.setup.batch
        orders = [torch.randperm(self.n, device=DEVICE)[:used] for _ in range(SEEDS)]
        if KIND == "func":
            if self.own:
                orders = [o + i * self.n for i, o in enumerate(orders)]
            order = torch.stack(orders).view(SEEDS, self.steps, -1).unbind(1)
            self.batches = (tuple(x[rows] for x in self.data) for rows in order)
        else:
            order = orders[0].view(self.steps, -1)
            self.batches = epoch(self.setup, self.data, order, FORM)
        self.nats = torch.zeros((), device=DEVICE)

    def step(self) -> None:
        batch = next(self.batches)
        if KIND == "func":
            grads, nats = self.run(self.params, *batch)
            for name, param in self.params.items():
                param.grad = grads[name]
            nats = nats.mean()
        else:
            self.adam.zero_grad(set_to_none=True)
            nats = self.loss(*batch)
            nats.backward()
        self.adam.step()
        self.nats += nats.detach()
        self.done += 1
        if self.done % self.steps == 0:
            self.epochs.append(self.nats.item() / self.steps)
            self._begin_epoch()

    def once(self) -> None:
        """Some steps; an accelerator is behind what it is told."""
        for _ in range(16 if DEVICE == "cuda" else 1):
            self.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()


def peak(name: str, seconds: float) -> dict:
    """Of this process: FLOP/s of a matrix product, bytes/s of a copy (both ways)."""
    if name == "sgemm":
        a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
        c = torch.empty(SIDE, SIDE)
        found = timed(lambda: torch.mm(a, b, out=c), seconds)
        return {"rate": 2 * SIDE**3 * found["count"] / found["seconds"]}
    a, b = torch.ones(COPIED), torch.ones(COPIED)
    found = timed(lambda: b.copy_(a), seconds)
    return {"rate": 2 * 4 * COPIED * found["count"] / found["seconds"]}


def main() -> None:
    torch.set_num_threads(1)
    trainers: dict[str, Trainer] = {}

    def run(name: str, seconds: float) -> dict:
        if name in ("sgemm", "copy"):
            return peak(name, seconds)
        try:
            if name not in trainers:
                trainers[name] = Trainer(name)
                trainers[name].once()
        except Exception as error:  # whatever it is, the page shall tell it
            trainers.pop(name, None)
            lines = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {lines[0]}"}
        trainer = trainers[name]
        found = timed(trainer.once, seconds)
        while len(trainer.epochs) < 2:
            trainer.step()
        steps = found["count"] * SEEDS * (16 if DEVICE == "cuda" else 1)
        return {
            "rate": steps / found["seconds"],
            "nats": trainer.epochs[1],
            "difference": trainer.difference,
        }

    serve({"PyTorch": torch.__version__}, run)


if __name__ == "__main__":
    main()
