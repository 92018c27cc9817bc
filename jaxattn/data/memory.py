"""Whether arrays fit into the memory that is there, before they are made."""

from jaxattn.runtime import available_memory

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
