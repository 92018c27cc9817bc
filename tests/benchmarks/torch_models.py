"""The library's models in PyTorch: modules named as Flax names them.

Each takes a batch and gives its mean nats. What the fastest eager code does and `vmap`
refuses (packed sequences, rows without padding) or only loops over (bags of embeddings,
fused attention) has a plain twin, taken wherever `form` is not `packed`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 4

# By how much cutting a normal at two deviations narrows it.
CUT = 0.87962566103423978


def linear(a: int, b: int, bias: bool = True) -> nn.Linear:
    """A layer that starts as Flax's Dense does."""
    layer = nn.Linear(a, b, bias)
    lecun_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def lecun_(weight: Tensor) -> None:
    std = weight.shape[1] ** -0.5 / CUT
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def table(tokens: int, features: int) -> nn.Embedding:
    """Embeddings that start as Flax's; token 0 is padding and stands nowhere else."""
    words = nn.Embedding(tokens, features)
    nn.init.normal_(words.weight, std=features**-0.5)
    return words


def gumbel(like: Tensor) -> Tensor:
    # The negative logarithm of an exponential is Gumbel noise.
    return torch.empty_like(like).exponential_().log_().neg_()


class Additive(nn.Module):
    """Scores [B, T] of keys [B, T, D] or [T, D] for queries [B, D]."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.query = linear(features, hidden)
        self.key = linear(features, hidden, bias=False)
        self.score = linear(hidden, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.score(torch.tanh(self.query(query)[:, None] + self.key(keys)))[
            ..., 0
        ]


class Head(nn.Module):
    """Logits [B, C] of pooled values [B, D]."""

    def __init__(self, features: int, hidden: int, classes: int):
        super().__init__()
        self.hidden = linear(features, hidden)
        self.logits = linear(hidden, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.logits(F.relu(self.hidden(pooled)))


class Gru(nn.Module):
    """The state [B, D] of a GRU at the last valid position, in one of three forms.

    Two are `nn.GRU`, on `packed` or on `padded` sequences, and have a bias more than
    Flax in two of three gates; both add up, so that only how fast Adam moves their sum
    differs. The `written` one is Flax's cell, in a loop.
    """

    def __init__(self, features: int, form: str):
        super().__init__()
        self.form = form
        if form == "written":
            self.input = linear(features, 3 * features)
            self.state = linear(features, 2 * features, bias=False)
            self.new = linear(features, features)
            recurrent = [*self.state.weight.chunk(2), self.new.weight]
        else:
            self.gru = nn.GRU(features, features, batch_first=True)
            lecun_(self.gru.weight_ih_l0)
            nn.init.zeros_(self.gru.bias_ih_l0)
            nn.init.zeros_(self.gru.bias_hh_l0)
            recurrent = self.gru.weight_hh_l0.chunk(3)
        with torch.no_grad():
            for square in recurrent:
                square.copy_(nn.init.orthogonal_(torch.empty_like(square)))

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        if self.form == "packed":
            packed = nn.utils.rnn.pack_padded_sequence(
                embedded, lengths, batch_first=True, enforce_sorted=False
            )
            return self.gru(packed)[1][0]
        size = embedded.shape[-1]
        if self.form == "padded":
            states = self.gru(embedded)[0]
            last = (lengths - 1)[:, None, None].expand(-1, 1, size)
            return states.gather(1, last)[:, 0]
        read = self.input(embedded)
        state = torch.zeros_like(embedded[:, 0])
        for t in range(embedded.shape[1]):
            gates, new = read[:, t].split([2 * size, size], -1)
            reset, keep = torch.sigmoid(gates + self.state(state)).chunk(2, -1)
            new = torch.tanh(new + reset * self.new(state))
            moved = new + keep * (state - new)
            state = torch.where((t < lengths)[:, None], moved, state)
        return state


class Transformer(nn.Module):
    """The mean [B, D] of one self-attention block over the valid positions.

    What stands on padding is asked nothing: its rows are computed and not averaged.
    """

    def __init__(self, features: int, length: int, form: str):
        super().__init__()
        self.plain = form != "packed"
        self.project = linear(features, features)
        self.norm_1 = nn.LayerNorm(features, eps=1e-6)
        self.qkv = linear(features, 3 * features)
        self.out = linear(features, features)
        self.norm_2 = nn.LayerNorm(features, eps=1e-6)
        self.wide = linear(features, 2 * features)
        self.narrow = linear(2 * features, features)
        places = torch.arange(length)[:, None]
        columns = torch.arange(features)
        rates = 10_000 ** (-2 * (columns // 2) / features)
        sines = torch.sin(places * rates + math.pi / 2 * (columns % 2))
        self.register_buffer("sines", sines, persistent=False)

    def forward(self, embedded: Tensor, bias: Tensor, share: Tensor) -> Tensor:
        x = self.project(embedded) + self.sines
        size, length, features = x.shape
        qkv = self.qkv(self.norm_1(x)).view(size, length, 3, HEADS, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.plain:
            dots = q @ k.transpose(-1, -2) * (features // HEADS) ** -0.5
            read = (dots + bias[:, None, None]).softmax(-1) @ v
        else:
            read = F.scaled_dot_product_attention(q, k, v, bias[:, None, None])
        x = x + self.out(read.transpose(1, 2).reshape(size, length, features))
        x = x + self.narrow(F.gelu(self.wide(self.norm_2(x)), approximate="tanh"))
        return (share[:, None] @ x)[:, 0]


class Text(nn.Module):
    """Additive attention over a text's words, or over default tokens.

    The batch is tokens [B, T], `bias` [B, T] with 0 at words and -inf at padding, each
    word's `share` [B, T] in the mean, lengths [B] and labels [B].
    """

    def __init__(self, sizes: dict, query: str, tokens: int, length: int, form: str):
        super().__init__()
        features, hidden = sizes["features"], sizes["hidden"]
        self.query, defaults = query, sizes["default_tokens"]
        self.plain = form != "packed"
        self.selector, self.predictor = nn.Module(), nn.Module()
        self.selector.words = table(tokens, features)
        if query == "gru":
            self.selector.encoder = Gru(features, form)
        if query == "transformer":
            self.selector.encoder = Transformer(features, length, form)
        self.selector.scorer = Additive(features, hidden)
        for half in (self.selector, self.predictor) if defaults else ():
            half.default_tokens = nn.Parameter(torch.randn(defaults, features))
        if not defaults:
            self.predictor.words = table(tokens, features)
        self.defaults = bool(defaults)
        self.predictor.head = Head(features, hidden, sizes["classes"])

    def forward(self, x, bias, share, lengths, y, noise=None) -> Tensor:
        words = self.selector.words.weight
        if self.defaults and not self.plain:
            query = F.embedding_bag(x, words, mode="mean", padding_idx=0)
        else:
            embedded = F.embedding(x, words)
            query = self._encode(embedded, bias, share, lengths)
        if self.defaults:
            scores = self.selector.scorer(query, self.selector.default_tokens)
            # The only one of the text models whose masks are noisy.
            mask = (scores + (gumbel(scores) if noise is None else noise)).softmax(-1)
            pooled = mask @ self.predictor.default_tokens
        else:
            scores = self.selector.scorer(query, embedded)
            mask = (scores + bias).softmax(-1)
            values = F.embedding(x, self.predictor.words.weight)
            pooled = (mask[:, None] @ values)[:, 0]
        return F.cross_entropy(self.predictor.head(pooled), y)

    def _encode(self, embedded, bias, share, lengths):
        if self.query == "gru":
            return self.selector.encoder(embedded, lengths)
        if self.query == "transformer":
            return self.selector.encoder(embedded, bias, share)
        return (share[:, None] @ embedded)[:, 0]


class Bags(nn.Module):
    """Gated attention over the instances of bags.

    The plain twin reads instances [B, T, 784]; the other one only those that exist
    [n, 784] and `places` [B, T] of theirs among these, n for none.
    """

    def __init__(self, sizes: dict, width: int, form: str):
        super().__init__()
        features, hidden = sizes["features"], sizes["hidden"]
        self.plain = form != "packed"
        self.selector, self.predictor = nn.Module(), nn.Module()
        for half in (self.selector, self.predictor):
            half.instances = linear(width, features)
        self.selector.scorer = nn.Module()
        self.selector.scorer.content = linear(features, hidden)
        self.selector.scorer.gate = linear(features, hidden)
        self.selector.scorer.score = linear(hidden, 1, bias=False)
        self.predictor.head = Head(features, hidden, sizes["classes"])

    def forward(self, x, bias, places, y, noise=None) -> Tensor:
        scorer = self.selector.scorer
        keys = F.relu(self.selector.instances(x))
        gated = torch.tanh(scorer.content(keys)) * torch.sigmoid(scorer.gate(keys))
        scores = scorer.score(gated)
        values = F.relu(self.predictor.instances(x))
        if not self.plain:
            scores = F.pad(scores, (0, 0, 0, 1))[places]
            values = F.embedding(places, F.pad(values, (0, 0, 0, 1)))
        mask = (scores[..., 0] + bias).softmax(-1)
        pooled = (mask[:, None] @ values)[:, 0]
        return F.cross_entropy(self.predictor.head(pooled), y)


class Tabular(nn.Module):
    """L2X: the largest of some Gumbel-softmax draws weighs the features [B, T]."""

    def __init__(self, sizes: dict, width: int):
        super().__init__()
        a, b, classes = sizes["hidden"], sizes["predictor_hidden"], sizes["classes"]
        self.draws, self.temperature = sizes["draws"], sizes["temperature"]
        self.selector, self.predictor = nn.Module(), nn.Module()
        self.selector.scorer = self._mlp("score", width, a, width)
        self.predictor.head = self._mlp("logits", width, b, classes)

    @staticmethod
    def _mlp(last: str, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
        layers = {
            "first": linear(inputs, hidden),
            "relu_1": nn.ReLU(inplace=True),
            "second": linear(hidden, hidden),
            "relu_2": nn.ReLU(inplace=True),
            last: linear(hidden, outputs),
        }
        net = nn.Sequential()
        for name, layer in layers.items():
            net.add_module(name, layer)
        return net

    def forward(self, x, y, noise=None) -> Tensor:
        scores = self.selector.scorer(x)[:, None]
        if noise is None:
            noise = gumbel(scores.expand(-1, self.draws, -1).contiguous())
        mask = ((scores + noise) / self.temperature).softmax(-1).amax(1)
        return F.cross_entropy(self.predictor.head(x * mask), y)
