"""When a line of progress is due."""

import time
from collections.abc import Callable

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
