"""PyTorch, eager, one thread: one seed, as many steps as fit into the time given."""

import sys

import torch
from protocol import serve, timed
from setups import (
    DRAWS,
    EXAMPLES,
    FEATURES,
    LEARNING_RATE,
    PENALTY,
    SETUPS,
    TEMPERATURE,
    Setup,
    syn4,
    widths,
)
from torch import nn
from torch.nn import functional as F

SIDE = 1024


def mlp(layers: tuple[int, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in zip(layers, layers[1:], strict=False):
        linear = nn.Linear(a, b)
        # As flax does it, so that all sides start alike.
        std = (1 / a) ** 0.5
        nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(linear.bias)
        parts += [linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*parts[:-1])


class Trainer:
    """A model of one seed and the epochs it trains for."""

    def __init__(self, setup: Setup, seed: int):
        torch.manual_seed(seed)
        self.setup = setup
        self.nets = nn.ModuleDict({k: mlp(w) for k, w in widths(setup.method).items()})
        # The fastest of its three Adams on a CPU.
        self.adam = torch.optim.Adam(
            self.nets.parameters(), lr=LEARNING_RATE, fused=True
        )
        x, y = syn4(seed)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y).long()
        self.loss = {"l2x": self._l2x, "invase": self._invase}[setup.method]
        self.steps, self.epochs = 0, []
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        used = self.setup.steps * self.setup.batch
        order = torch.randperm(EXAMPLES)[:used].view(self.setup.steps, -1)
        self.batches = iter(order)
        self.nats = torch.zeros(())

    def step(self) -> None:
        index = next(self.batches)
        loss, nats = self.loss(self.x[index], self.y[index])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.nats += nats.detach()
        self.steps += 1
        if self.steps % self.setup.steps == 0:
            self.epochs.append(self.nats.item() / self.setup.steps)
            self._begin_epoch()

    def _l2x(self, x, y):
        scores = self.nets["selector"](x)
        exponential = torch.empty(len(x), DRAWS, FEATURES).exponential_()
        # The negative logarithm of an exponential is Gumbel noise.
        noisy = scores[:, None] - exponential.log_()
        mask = (noisy / TEMPERATURE).softmax(-1).amax(1)
        nats = F.cross_entropy(self.nets["predictor"](x * mask), y)
        return nats, nats

    def _invase(self, x, y):
        scores = self.nets["selector"](x)
        rate = scores.sigmoid()
        mask = torch.bernoulli(rate.detach())
        nats = F.cross_entropy(self.nets["predictor"](x * mask), y, reduction="none")
        base = F.cross_entropy(self.nets["baseline"](x), y, reduction="none")
        advantage = (nats - base).detach()
        log_p = -F.binary_cross_entropy_with_logits(scores, mask, reduction="none")
        surrogate = (advantage * log_p.sum(1)).mean()
        penalty = PENALTY * rate.sum(1).mean()
        loss = surrogate + penalty + nats.mean() + base.mean()
        return loss, nats.mean()


def main(seed: int) -> None:
    torch.set_num_threads(1)
    trainers: dict[str, Trainer] = {}
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    c = torch.empty(SIDE, SIDE)

    def run(name: str, seconds: float) -> dict:
        if name == "sgemm":
            found = timed(lambda: torch.mm(a, b, out=c), seconds)
            return {"rate": 2 * SIDE**3 * found["count"] / found["seconds"]}
        if name not in trainers:
            trainers[name] = Trainer(SETUPS[name], seed)
        trainer = trainers[name]
        found = timed(trainer.step, seconds)
        while len(trainer.epochs) < 2:
            trainer.step()
        rate = found["count"] / found["seconds"]
        return {"rate": rate, "nats": trainer.epochs[1]}

    serve({"PyTorch": torch.__version__}, run)


if __name__ == "__main__":
    main(int(sys.argv[1]))
