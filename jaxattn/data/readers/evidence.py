"""From whatever people marked to one number per token, checked and never guessed."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxattn.data.rows import check_number_of

Offsets: TypeAlias = Sequence[tuple[int, int]]
TOKEN_SPAN = ("start_token", "end_token")
CHARACTER_SPANS = (("start_char", "end_char"), ("start", "end"))
FORMS = (
    "a number 0 to 1 per token, token spans [start, end], "
    '{"start_token", "end_token"} or character spans {"start", "end"}'
)


@dataclasses.dataclass
class Alignment:
    """How character spans met the tokens, counted over all rows."""

    spans: int = 0
    cut: int = 0
    """Spans that begin or end within a token; all of it counts."""
    missed: int = 0
    """Spans that touch no token, such as blanks."""
    first_cut: str = ""
    first_missed: str = ""

    def add(self, where: str, touches: np.bool_, cuts: np.bool_) -> None:
        """Counts one span."""
        self.spans += 1
        if not touches:
            self.missed += 1
            self.first_missed = self.first_missed or where
        elif cuts:
            self.cut += 1
            self.first_cut = self.first_cut or where

    def sentences(self) -> list[str]:
        """What is to be said of it, a line each; nothing where all spans fitted."""
        kinds = (
            (self.cut, self.first_cut, "cut through a token, all of which counts"),
            (self.missed, self.first_missed, "touch no token and mark nothing"),
        )
        return [
            f"{n:,} of {self.spans:,} character spans {what} (first: {first})"
            for n, first, what in kinds
            if n
        ]


class _Span(NamedTuple):
    start: int
    end: int
    characters: bool


def to_tokens(
    given: Any,
    n: int,
    characters: Callable[[], tuple[int, Offsets]],
    tally: Alignment,
    where: str,
) -> list[float]:
    """Evidence of the `n` tokens of a row, from one of the forms; FORMS names them.

    An empty list marks nothing. Spans end before `end`; lists of spans may be nested
    and may not overlap.

    Args:
        characters: gives the length of the text and where each token begins and ends
            in it; called for character spans only, may raise ValueError.
        tally: counts spans that do not fit the tokens.

    Raises: ValueError without the place, for anything else.
    """
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, list | tuple):
        raise ValueError(f"evidence is {_short(given)}; allowed: {FORMS}")
    if given and all(isinstance(value, int | float) for value in given):
        check_number_of(given, n)
        bad = [value for value in given if not 0 <= value <= 1]
        if bad:
            raise ValueError(f"evidence {bad[0]}: allowed are numbers from 0 to 1")
        return [float(value) for value in given]
    spans = sorted(_spans(given))
    if len({span.characters for span in spans}) > 1:
        raise ValueError("evidence mixes spans of tokens and of characters")
    marks = np.zeros(n)
    if spans and spans[0].characters:
        length, offsets = characters()
        _check(spans, length, "characters")
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        for start, end, _ in spans:
            touched = (starts < end) & (ends > start)
            marks[touched] = 1
            cut = (starts[touched] < start).any() or (ends[touched] > end).any()
            tally.add(f"{where}, characters {start} to {end}", touched.any(), cut)
    else:
        _check(spans, n, "tokens")
        for start, end, _ in spans:
            marks[start:end] = 1
    return marks.tolist()


def _spans(given: list | tuple) -> list[_Span]:
    spans, waiting = [], list(given)
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            spans.append(_of_dict(one))
        elif (
            isinstance(one, list | tuple)
            and len(one) == 2
            and not any(isinstance(part, list | tuple | dict) for part in one)
        ):
            spans.append(_Span(_place(one[0]), _place(one[1]), False))
        elif isinstance(one, list | tuple):
            waiting += one
        else:
            raise ValueError(f"evidence holds {_short(one)}; allowed: {FORMS}")
    return spans


def _of_dict(one: dict) -> _Span:
    for names in (TOKEN_SPAN, *CHARACTER_SPANS):
        if all(name in one for name in names):
            start, end = (_place(one[name]) for name in names)
            return _Span(start, end, names != TOKEN_SPAN)
    raise ValueError(
        f"evidence has a span with {', '.join(map(str, one)) or 'nothing'}; allowed: "
        "start_token and end_token, start_char and end_char, start and end"
    )


def _place(value: Any) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    if not whole or not math.isfinite(value) or value != int(value):
        raise ValueError(f"a span begins or ends at {_short(value)}, no whole number")
    return int(value)


def _check(spans: list[_Span], n: int, of: str) -> None:
    for start, end, _ in spans:
        if not 0 <= start < end <= n:
            raise ValueError(
                f"span {start} to {end} lies outside the {n:,} {of}"
                if start < end
                else f"span {start} to {end} holds nothing: the end is exclusive"
            )
    for one, other in zip(spans, spans[1:], strict=False):
        if other.start < one.end:
            raise ValueError(
                f"spans {one.start} to {one.end} and {other.start} to {other.end} "
                "overlap"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
