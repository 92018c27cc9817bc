"""The leak audit: masks and labels in, what the masks tell of the labels out."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxattn.leakage import folds, questions, rendering, significance, verdict
from jaxattn.leakage.hsic import hsic
from jaxattn.leakage.masks import labels_of, masks_of, one_each, to_array, tokens_of
from jaxattn.leakage.significance import Finding
from jaxattn.metrics.statistics import holm
from jaxattn.system import pages
from jaxattn.system.files import write_text

PROFILE_BINS = 64
HSIC_EXAMPLES = 2000
"""Most examples of the kernel test: its memory is their square."""
MOST_LEAKING = 10
GIVEN: dict[str, Any] = {"masks": "masks", "labels": "as given", "with": []}
"""Where the masks of an audit came from that was asked for in Python."""


class Example(NamedTuple):
    """One of the most leaking masks."""

    index: int
    label: str
    bits: float
    weights: np.ndarray
    """Its mask [bins]."""
    words: tuple[str, ...]
    """The three most attended, where tokens were given."""


class LeakReport(NamedTuple):
    """What `jaxattn.audit` found; all bits are beyond what exchanged labels give.

    In a notebook it shows its verdict and its table.
    """

    verdict: str
    """leak, none or inconclusive."""
    sentence: str
    """The verdict in words."""
    masks: Finding
    beyond_length: Finding | None
    """Against labels exchanged among masks of like length; None where all are alike."""
    beyond_values: Finding | None
    """Beyond what the values let through tell, where values were given: encoding."""
    prediction: Finding | None
    """What the masks tell of the model's predictions, where these were given."""
    channels: dict[str, Finding]
    """Where the leak lives: length, shape, place, types."""
    channel_p: dict[str, float]
    """The channels' p values by Holm's method, for asking several questions at once."""
    label_bits: float
    """H(Y) in bits."""
    fano_bits: float
    """The least bits that the probe's accuracy needs, by Fano's inequality."""
    hsic_p: float
    """Of a test by kernels, without a probe, on at most 2,000 examples."""
    profile: np.ndarray
    """Mean mask of each class, [classes, bins]."""
    examples: tuple[Example, ...]
    """The ten most leaking."""
    n: int
    positions: int
    classes: dict[str, int]
    """How many examples each class has."""
    groups: int
    """0 where none were given."""
    folds: int
    permutations: int
    seed: int
    assumed: tuple[str, ...]
    warned: tuple[str, ...]

    def __repr__(self) -> str:
        return f"LeakReport({self.n:,} masks: {self.sentence})"

    def _repr_html_(self) -> str:
        return pages.render(
            "leakage/summary.html", report=self, rows=rendering.rows(self)
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values, in the shape of audit.json."""
        return rendering.document(self, GIVEN)

    def table(self) -> str:
        """Where the leak is, in bits with intervals and p, as text of 80 columns."""
        return rendering.table(self)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the page that audit.html is; raises OSError."""
        write_text(path, rendering.page(self.to_dict(), rendering.rows(self)))


def audit(
    masks: Any,
    labels: Any,
    *,
    lengths: Any = None,
    offsets: Any = None,
    groups: Any = None,
    tokens: Any = None,
    predictions: Any = None,
    values: Any = None,
    kind: str = "auto",
    row: str = "mean",
    n_folds: int = 5,
    permutations: int = 199,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> LeakReport:
    """How many bits of the label attention masks carry by themselves.

    Folds, permutations and the probe's bits are as in `jaxattn.leak`; the whole
    procedure is told in the report.

    Args:
        masks: of any framework: `[N, T]`, `[N, heads, T]`, `[N, heads, T, T]`, a list
            of N rows, or flat with `offsets`.
        labels: classes `[N]`, numbers or names.
        lengths: where padding begins `[N]`.
        offsets: where each row begins in flat masks `[N + 1]`.
        groups: which examples belong together `[N]`, such as patients; folds never
            split one.
        tokens: which words were attended `[N, T]`.
        predictions: what the model answered `[N]`.
        values: what the mask lets through, `[N, T, D]` or pooled `[N, D]`.
        kind: "weights", "scores" (a softmax makes weights of them) or "auto".
        row: which queries of `[N, heads, T, T]` count: "mean", "cls" or "all".
        n_folds: of the cross-fitting.
        permutations: how often labels are exchanged for the null.
        seed: of folds and exchanges.
        progress: called with what is asked, how many fits are done, and of how many.

    Returns:
        A `LeakReport`: verdict, bits with intervals and p, and where the leak is.

    Raises:
        ValueError: one line, for arguments that are no such thing or do not fit.

    >>> import jax, jaxattn
    >>> masks, labels = jaxattn.planted_shortcut(jax.random.key(1), 1000, bits=0.5)
    >>> report = jaxattn.audit(masks, labels, permutations=19)
    >>> report.verdict, round(report.masks.bits, 1)
    ('leak', 0.5)
    >>> report.save_html("audit.html")
    """
    if not 2 <= n_folds <= 20:
        raise ValueError(f"folds = {n_folds}: allowed are 2 to 20")
    if not 19 <= permutations <= 9999:
        raise ValueError(f"permutations = {permutations}: allowed are 19 to 9999")
    given = to_array(labels)
    classes = len(np.unique(given)) if given.ndim == 1 else 0
    weights = masks_of(
        masks, lengths=lengths, offsets=offsets, kind=kind, row=row, classes=classes
    )
    n = len(weights.every)
    y, names = labels_of(given, n)
    data = questions.Data(
        weights,
        y,
        groups=None if groups is None else _numbered(groups, n),
        words=None if tokens is None else tokens_of(tokens, weights),
        predicted=None if predictions is None else _predicted(predictions, n),
        values=None if values is None else to_array(values),
    )
    settings = questions.Settings(n_folds, permutations, seed)
    asked, warned = questions.ask(data, settings)
    counts = {name: int(k) for name, k in zip(names, np.bincount(y), strict=True)}
    if not np.ptp(weights.every, axis=0).any():
        asked = {}
    answers = _answers(asked, progress)
    if predictions is not None and data.predicted is None:
        warned.append("predictions are all the same: there is nothing to betray")
    return _report(data, settings, answers, counts, warned)


def _numbered(groups: Any, n: int) -> np.ndarray:
    return np.unique(one_each(groups, n, "groups"), return_inverse=True)[1]


def _predicted(predictions: Any, n: int) -> np.ndarray | None:
    """Predicted classes from 0, [N]; None where the model always answers the same."""
    array = one_each(predictions, n, "predictions")
    return labels_of(array, n, "predictions")[0] if len(np.unique(array)) > 1 else None


def _answers(
    asked: dict[str, questions.Question], progress: Callable[[str, int, int], None]
) -> dict[str, Finding]:
    total = sum(question.fits for question in asked.values())
    done, answers = 0, {}
    for what, question in asked.items():

        def advance(count: int, what: str = what) -> None:
            nonlocal done
            done += count
            progress(what, done, total)

        progress(what, done, total)
        answers[what] = question.answer(advance)
    return answers


def _report(
    data: questions.Data,
    settings: questions.Settings,
    answers: dict[str, Finding],
    counts: dict[str, int],
    warned: list[str],
) -> LeakReport:
    """All that is told; without answers, because all masks are equal, of no leak."""
    masks, y = data.masks, data.labels
    n = len(y)
    shares = np.bincount(y) / n
    label_bits = float(-(shares * np.log2(shares)).sum())
    leak = answers.get("masks") or _nothing(float(shares.max()), n)
    channels = {k: f for k, f in answers.items() if k in questions.CHANNELS}
    channel_p = holm({k: f.p for k, f in channels.items()})
    word, sentence = (
        verdict.verdict(leak, label_bits)
        if answers
        else ("none", "All masks are equal: they carry exactly 0 bits of the label.")
    )
    return LeakReport(
        verdict=word,
        sentence=sentence,
        masks=leak,
        beyond_length=answers.get("beyond length"),
        beyond_values=answers.get("beyond values"),
        prediction=answers.get("prediction"),
        channels=channels,
        channel_p=channel_p,
        label_bits=label_bits,
        fano_bits=significance.fano_bits(leak.accuracy, shares),
        hsic_p=_hsic_p(data, settings) if answers else 1.0,
        profile=_profile(masks.mean, y),
        examples=_most_leaking(data, leak, list(counts)) if answers else (),
        n=n,
        positions=masks.mean.shape[1],
        classes=counts,
        groups=0 if data.groups is None else int(data.groups.max()) + 1,
        folds=settings.n_folds,
        permutations=settings.permutations,
        seed=settings.seed,
        assumed=masks.assumed,
        warned=(
            *masks.warned,
            *warned,
            *verdict.warnings(answers, channel_p, counts),
        ),
    )


def _nothing(accuracy: float, n: int) -> Finding:
    return Finding(0.0, 0.0, 0.0, 1.0, "linear", 0.0, accuracy, 0.0, np.zeros(n))


def _hsic_p(data: questions.Data, settings: questions.Settings) -> float:
    rng = np.random.default_rng(settings.seed)
    kept = np.sort(rng.permutation(len(data.labels))[:HSIC_EXAMPLES])
    y = data.labels[kept]
    groups = None if data.groups is None else data.groups[kept]
    one_fold = np.zeros_like(y)
    null = folds.exchanged(rng, y, settings.permutations, one_fold, groups=groups)
    x = questions.weights_and_logs(data.masks.every[kept])
    spread = x.std(axis=0)
    x = x / np.where(spread > 1e-6, spread, np.inf)
    test = jax.jit(hsic, static_argnames="classes")
    return float(test(x, y, null.astype(np.int32), int(data.labels.max()) + 1).p)


def _most_leaking(
    data: questions.Data, leak: Finding, names: list[str]
) -> tuple[Example, ...]:
    mean, bins = data.masks.mean, _binned(data.masks.mean)
    return tuple(
        Example(
            int(i),
            names[data.labels[i]],
            float(leak.pointwise[i]),
            bins[i],
            _most_attended(mean[i], None if data.words is None else data.words[i]),
        )
        for i in np.argsort(-leak.pointwise, kind="stable")[:MOST_LEAKING]
    )


def _binned(mean: np.ndarray) -> np.ndarray:
    """Masks [N, T] summed over neighbours into at most 64 bins."""
    width = mean.shape[1]
    if width <= PROFILE_BINS:
        return mean
    edges = np.linspace(0, width, PROFILE_BINS + 1).astype(int)[:-1]
    return np.add.reduceat(mean, edges, axis=1)


def _profile(mean: np.ndarray, labels: np.ndarray) -> np.ndarray:
    bins = _binned(mean)
    return np.stack([bins[labels == c].mean(axis=0) for c in range(labels.max() + 1)])


def _most_attended(mask: np.ndarray, words: np.ndarray | None) -> tuple[str, ...]:
    if words is None:
        return ()
    order = np.argsort(-mask, kind="stable")[:3]
    return tuple(str(words[i]) for i in order if mask[i] > 0)
