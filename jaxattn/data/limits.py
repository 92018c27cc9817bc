"""What a reader asks: do these arrays fit into memory, and is news of progress due?"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from jaxattn.system.runtime import available_memory

log = logging.getLogger("jaxattn")
SHARE = 0.8
"""Of the free memory, what data may take."""

SECONDS = 5.0
"""Between two lines of progress."""

Item = TypeVar("Item")


def room() -> int:
    """Bytes that data may take."""
    return int(SHARE * available_memory())


def check_fits(needed: int, what: str, hint: str) -> None:
    """Raises ValueError, with the hint, where `needed` bytes are not free."""
    if needed > room():
        raise ValueError(
            f"{what} need {needed / 1e9:,.1f} GB and {available_memory() / 1e9:,.1f} "
            f"GB are free: {hint}"
        )


def followed(items: Iterable[Item], told: Callable[[int], str]) -> Iterator[Item]:
    """The same items; every few seconds `told`, given their number so far, is logged.

    These records have the attribute `progress`.
    """
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            log.info(told(number), extra={"progress": True})
