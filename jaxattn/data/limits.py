"""Whether arrays fit into the memory that is there, before they are made.

When a line of progress is due.
"""

import time
from collections.abc import Callable

from jaxattn.system.runtime import available_memory

SHARE = 0.8
"""Of the memory that is free, what data may take."""


def room() -> int:
    """Bytes that data may take."""
    return int(SHARE * available_memory())


def check_fits(needed: int, what: str, hint: str) -> None:
    """Raises ValueError, with the hint, where `needed` bytes are not there."""
    if needed > room():
        raise ValueError(
            f"{what} need {needed / 1e9:,.1f} GB and {available_memory() / 1e9:,.1f} "
            f"GB are free: {hint}"
        )


SECONDS = 5.0
"""Between two lines of progress."""


def clock() -> Callable[[], bool]:
    """A function that tells, each time it is called, whether a line is due again."""
    said = [time.monotonic()]

    def due() -> bool:
        if time.monotonic() - said[0] < SECONDS:
            return False
        said[0] = time.monotonic()
        return True

    return due
