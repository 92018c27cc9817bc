"""Examples of a data set in the terminal, what counts as evidence highlighted."""

import itertools
import random
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from jaxattn.data.dataset import Dataset, Split
from jaxattn.data.splits import SPLITS

WIDTH = 80
MOST = 0.5
"""Evidence from here on is strong, less is weak."""
LEVELS = (("", "", ""), ("(", ")", "black on yellow"), ("[", "]", "bold white on red"))
"""Brackets and style of words that are none, weak or strong evidence."""


def drawn(dataset: Dataset, n: int, seed: int) -> list[tuple[str, int]]:
    """`n` examples, as split and place, drawn from all splits alike."""
    places = [(s, i) for s in SPLITS for i in range(len(getattr(dataset, s).labels))]
    return random.Random(seed).sample(places, min(n, len(places)))


def passages(
    dataset: Dataset, chosen: Sequence[tuple[str, int]], colour: bool
) -> Iterator[Text]:
    """A text for each example: where it stands, its class, its words or numbers.

    Evidence is coloured, or in brackets without `colour`.
    """
    for name, i in chosen:
        split: Split = getattr(dataset, name)
        head = Text(f"{split.ids[i]} ({name}): {dataset.classes[split.labels[i]]}")
        head.stylize("bold")
        marks = _marks(split, i)
        if marks is None and (split.evidence is not None):
            head.append("  (nobody marked it)")
        if dataset.vocabulary:
            n = split.lengths[i]
            words = [dataset.vocabulary[t] for t in split.inputs[i, :n]]
            body = _words(words, marks, colour)
        else:
            body = Text(_numbers(split, i))
        yield Text("\n").join([head, body])


def show(dataset: Dataset, n: int, seed: int) -> None:
    """Prints `n` examples, at most 80 columns wide."""
    colour = sys.stdout.isatty()
    console = Console(file=sys.stdout, force_terminal=colour, highlight=False)
    console.width = min(WIDTH, console.width) if colour else WIDTH
    for text in passages(dataset, drawn(dataset, n, seed), colour):
        console.print(text, soft_wrap=False)


def _marks(split: Split, i: int) -> np.ndarray | None:
    """What is known of the positions of one example, [length] from 0 to 1."""
    known = split.truth if split.evidence is None else split.evidence
    if known is None:
        return None
    marks = known[i, : split.lengths[i]].astype(np.float32)
    return None if np.isnan(marks).any() else marks


def _words(words: Sequence[str], marks: np.ndarray | None, colour: bool) -> Text:
    levels = np.zeros(len(words), int)
    if marks is not None:
        levels = (marks > 0).astype(int) + (marks >= MOST)
    parts = []
    for level, places in itertools.groupby(range(len(words)), levels.__getitem__):
        opening, closing, style = LEVELS[level]
        run = [words[i] for i in places]
        if colour:
            parts += [Text(word, style) for word in run]
        else:
            parts.append(Text(f"{opening}{' '.join(run)}{closing}"))
    return Text(" ").join(parts)


def _numbers(split: Split, i: int) -> str:
    n = int(split.lengths[i])
    size = split.inputs.shape[2:] or (1,)
    told = f"{n} positions of {size[0]} number{'s' * (size[0] > 1)}"
    marks = _marks(split, i)
    if marks is None:
        return told
    places = ", ".join(map(str, np.flatnonzero(marks > 0)))
    return f"{told}; evidence at {places or 'none'}"
