"""Tables and facts of the machine, for pages of results."""

import pathlib
import platform
import statistics


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: list[float], digits: int = 2) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratios(found: dict, setup: str, side: str, other: str) -> str:
    rates = found["rates"][setup]
    if side not in rates or other not in rates:
        return "-"
    return spread([a / b for a, b in zip(rates[side], rates[other], strict=True)])


def cpu() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown CPU"
    names = [x.split(":")[1].strip() for x in text.splitlines() if "model name" in x]
    return names[0] if names else "unknown CPU"
