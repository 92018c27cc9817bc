"""What an error says: one line, with the name that was probably meant."""

import difflib
from collections.abc import Iterable


def reason(error: object, *, kind: bool = False, most: int = 200) -> str:
    """What an error says in one line of at most `most` characters.

    Args:
        kind: put the type of the error in front of its text.

    >>> reason(KeyError("no\\n such name"))
    "'no\\\\n such name'"
    >>> reason(ValueError("two\\nlines"), kind=True)
    'ValueError: two lines'
    """
    text, name = " ".join(str(error).split()), type(error).__name__
    text = f"{text[:most]}..." if len(text) > most else text
    return f"{name}: {text}" if kind and text else text or name


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of JAX says that the memory of a device is exhausted."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def nearest(
    name: object, names: Iterable[object], n: int = 1, cutoff: float = 0.6
) -> list[str]:
    """Up to `n` of the names that look most like an unknown one, the nearest first."""
    return difflib.get_close_matches(str(name), [*map(str, names)], n, cutoff)


def suggest(name: object, names: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest of those allowed, then all of them.

    >>> suggest("jont", ["joint", "uniform"])
    'perhaps you meant joint; allowed: joint, uniform'
    """
    names = list(names)
    meant = "".join(f"perhaps you meant {near}; " for near in nearest(name, names))
    return f"{meant}allowed: {', '.join(names)}"
