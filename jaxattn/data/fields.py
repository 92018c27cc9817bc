"""Which field of a source is the text, the label and so on."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

Fields = Mapping[str, str] | Sequence[str] | None
"""{"label": "stars"}, or "label=stars" as on a command line."""


def chosen(source: str, given: Fields, usual: Mapping[str, str]) -> dict[str, str]:
    """The usual name of each role, "text" and so on, or the one given in its place.

    Raises: ValueError for a role that `usual` does not have.
    """
    named: dict[str, str] = {}
    if isinstance(given, Mapping):
        named |= given
    else:
        for word in given or ():
            role, equals, name = word.partition("=")
            if not (role and equals and name):
                raise ValueError(
                    f"field {word!r}: must be ROLE=NAME, as label=stars; roles of "
                    f"{source} are {', '.join(usual)}"
                )
            named[role] = name
    wrong = [role for role in named if role not in usual]
    if wrong:
        raise ValueError(
            f"field {wrong[0]}={named[wrong[0]]}: {source} has no role {wrong[0]!r}; "
            f"allowed: {', '.join(usual)}"
        )
    return {**usual, **named}


def check_there(source: str, role: str, name: str, there: Iterable[str]) -> None:
    """Raises ValueError, naming the fields there are, where `name` is none of them."""
    there = list(there)
    if name in there:
        return
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    hint = f"; perhaps you meant {near[0]}" if near else ""
    raise ValueError(
        f"{source}: {role}={name}: there is no such field{hint}; there are: "
        f"{', '.join(there) or 'none'}"
    )
