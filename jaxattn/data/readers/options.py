"""How a source of the user's own data is to be read, and which field is what."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxattn.system.errors import nearest


class Options(NamedTuple):
    """How a source is to be read."""

    length: int = 32
    """Tokens kept of each text, T; bags keep so many instances."""
    min_count: int = 2
    """A token rarer than this in the training split is "<unk>"."""
    data_dir: str | os.PathLike[str] | None = None
    """Where prepared data are; None is TFDS's usual place."""
    fields: Sequence[str] = ()
    """ROLE=FIELD, as "label=stars"; "split=" ignores that field."""
    download: bool = False
    """Whether anything may be fetched from the network."""
    tokenizer: str = ""
    """"module:function" or a tokenizer.json; for texts in files of the user's own."""


def chosen(
    source: str, given: Sequence[str], usual: Mapping[str, str]
) -> dict[str, str]:
    """The usual field of each role, "text" and so on, or the one given in its place."""
    named: dict[str, str] = {}
    for word in given:
        role, equals, name = word.partition("=")
        if not equals or role not in usual:
            near = nearest(role, usual) if equals else []
            hint = "".join(f"perhaps you meant {name}; " for name in near)
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
    if name not in there:
        raise ValueError(f"{source}: {absent(role, name, there)}")


def absent(role: str, name: str, there: Iterable[object]) -> str:
    """What to say of a field that is not there."""
    there = [str(field) for field in there]
    near = nearest(name, there, cutoff=0.5)
    told = ", ".join(field[:40] for field in there[:20]) + " ..." * (len(there) > 20)
    hint = f"--fields {role}={near[0] if near else 'FIELD'}"
    return f"no field {name!r} ({role}); there are: {told or 'none'}; {hint}"
