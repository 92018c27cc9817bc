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
    found = masks_of(
        masks, lengths=lengths, offsets=offsets, kind=kind, row=row, classes=classes
    )
    n = len(found.every)
    y, names = labels_of(given, n)
    groups_ = None
    if groups is not None:
        groups_ = np.unique(one_each(groups, n, "groups"), return_inverse=True)[1]
    words = None if tokens is None else tokens_of(tokens, found)
    predicted = None
    if predictions is not None:
        array = one_each(predictions, n, "predictions")
        # A model that always answers the same has nothing to betray.
        if len(np.unique(array)) > 1:
            predicted, _ = labels_of(array, n, "predictions")
    asked, warned = questions.ask(
        found,
        y,
        groups=groups_,
        words=words,
        predicted=predicted,
        values=None if values is None else to_array(values),
        n_folds=n_folds,
        permutations=permutations,
        seed=seed,
    )
    equal = not np.ptp(found.every, axis=0).any()
    if equal:
        asked = {}
    answers = _answers(asked, progress)
    shares = np.bincount(y) / n
    label_bits = float(-(shares * np.log2(shares)).sum())
    counts = {name: int(k) for name, k in zip(names, np.bincount(y), strict=True)}
    leak = answers.get("masks") or _nothing(float(shares.max()), n)
    where = {k: f for k, f in answers.items() if k in questions.CHANNELS}
    channel_p = holm({k: f.p for k, f in where.items()})
    word, sentence = (
        ("none", "All masks are equal: they carry exactly 0 bits of the label.")
        if equal
        else verdict.verdict(leak, label_bits)
    )
    profile, bins = _profile(found.mean, y), _binned(found.mean)
    top = [] if equal else np.argsort(-leak.pointwise, kind="stable")[:MOST_LEAKING]
    return LeakReport(
        verdict=word,
        sentence=sentence,
        masks=leak,
        beyond_length=answers.get("beyond length"),
        beyond_values=answers.get("beyond values"),
        prediction=answers.get("prediction"),
        channels=where,
        channel_p=channel_p,
        label_bits=label_bits,
        fano_bits=significance.fano_bits(leak.accuracy, shares),
        hsic_p=1.0 if equal else _hsic_p(found.every, y, permutations, seed, groups_),
        profile=profile,
        examples=tuple(
            Example(
                int(i),
                names[y[i]],
                float(leak.pointwise[i]),
                bins[i],
                _most_attended(found.mean[i], None if words is None else words[i]),
            )
            for i in top
        ),
        n=n,
        positions=found.mean.shape[1],
        classes=counts,
        groups=0 if groups_ is None else int(groups_.max()) + 1,
        folds=n_folds,
        permutations=permutations,
        seed=seed,
        assumed=found.assumed,
        warned=(
            *found.warned,
            *warned,
            *verdict.warnings(answers, channel_p, counts, predictions),
        ),
    )


def _answers(asked, progress) -> dict[str, Finding]:
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


def _nothing(accuracy: float, n: int) -> Finding:
    return Finding(0.0, 0.0, 0.0, 1.0, "linear", 0.0, accuracy, 0.0, np.zeros(n))


def _hsic_p(every, labels, permutations, seed, groups) -> float:
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(labels))[:HSIC_EXAMPLES])
    y = labels[kept]
    few = None if groups is None else groups[kept]
    null = folds.exchanged(rng, y, permutations, np.zeros_like(y), groups=few)
    x = questions.whole(every[kept])
    spread = x.std(axis=0)
    x = x / np.where(spread > 1e-6, spread, np.inf)
    test = jax.jit(hsic, static_argnames="classes")
    return float(test(x, y, null.astype(np.int32), int(labels.max()) + 1).p)


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
