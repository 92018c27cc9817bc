"""Functions that tests explain, good ones and bad ones."""

import numpy as np

EVIDENCE = {"good": 1.5, "great": 2.0, "fine": 1.0, "bad": -1.5, "dull": -2.0}
asked: list = []


def _two(scores):
    p = 1 / (1 + np.exp(-np.asarray(scores, np.float64)))
    return np.stack([1 - p, p], axis=1)


def words(texts):
    """A linear model of words, so that leave-one-out has a closed form."""
    asked.append(len(texts))
    return _two([sum(EVIDENCE.get(w, 0.01) for w in t.split()) - 0.1 for t in texts])


def three(texts):
    p = words(texts)
    return np.concatenate([p / 2, np.full((len(texts), 1), 0.5)], axis=1) + [
        [0.1, 0, -0.1]
    ]


def array(x):
    """Of bags [N, T, D] or rows [N, T]: is their mean high?"""
    asked.append(len(x))
    return _two(20 * (x.reshape(len(x), -1).mean(axis=1) - 0.06))


def tensor(texts):
    import torch

    return torch.tensor(words(texts), requires_grad=True)


def fails(texts):
    raise RuntimeError("no device\nwas found")


def leaves(texts):
    raise SystemExit(3)


def scores(texts):
    return words(texts) * 3


def labels(texts):
    return words(texts).argmax(axis=1)


def short(texts):
    return words(texts)[:-1]


def one_column(texts):
    return np.ones((len(texts), 1))


def not_finite(texts):
    p = words(texts)
    p[5] = np.nan
    return p


def negative(texts):
    return words(texts) @ [[1.5, -0.5], [-0.5, 1.5]]


def text(texts):
    return [["a", "b"]] * len(texts)


def ragged(texts):
    return [[0.5, 0.5], [1.0]] * (len(texts) // 2)


def random(texts):
    p = np.random.default_rng().random(len(texts))
    return np.stack([p, 1 - p], axis=1)


def by_batch(texts):
    """Looks at the other rows, as batch normalization in training does."""
    p = words(texts)
    return _two(p[:, 1] - p[:, 1].mean())


def constant(texts):
    return np.tile([0.25, 0.75], (len(texts), 1))


class Pipeline:
    @staticmethod
    def predict_proba(texts):
        return words(texts)


pipeline = Pipeline()
number = 3
