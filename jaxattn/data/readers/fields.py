"""Which field of a public data set is the text, the label and so on."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


def chosen(
    source: str, given: Sequence[str], usual: Mapping[str, str]
) -> dict[str, str]:
    """The usual field of each role, "text" and so on, or the one given in its place.

    `given` are ROLE=FIELD, as "label=stars"; "evidence=" passes one over. Raises:
    ValueError for anything else, or a role that `usual` does not have.
    """
    named: dict[str, str] = {}
    for word in given:
        role, equals, name = word.partition("=")
        if not equals or role not in usual:
            near = difflib.get_close_matches(role, usual, n=1)
            hint = f"perhaps you meant {near[0]}; " if near and equals else ""
            raise ValueError(
                f"fields {word!r} is not of the form ROLE=FIELD, as label=stars; "
                f"{hint}roles of {source} are {', '.join(usual)}"
            )
        if role in named:
            raise ValueError(f"fields names {role} more than once")
        named[role] = name
    return {**usual, **named}


def check_there(source: str, role: str, name: str, there: Iterable[str]) -> None:
    """Raises ValueError, naming the fields there are, where `name` is none of them."""
    there = list(there)
    if name in there:
        return
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    hint = f"; --fields {role}={near[0]}" if near else ""
    raise ValueError(
        f"{source}: no field {name!r} ({role}); there are: "
        f"{', '.join(there) or 'none'}{hint}"
    )
