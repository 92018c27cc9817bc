"""What an error says: one line, with the name that was probably meant."""

import difflib


def suggest(name: object, names) -> str:
    """'perhaps you meant X; allowed: ...' for an unknown name."""
    near = difflib.get_close_matches(str(name), list(names), n=1)
    meant = f"perhaps you meant {near[0]}; " if near else ""
    return f"{meant}allowed: {', '.join(names)}"
