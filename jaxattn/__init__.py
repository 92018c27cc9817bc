"""jaxattn tells you whether an attention map is an explanation.

The public names stand in `__init__.pyi`, where editors and type checkers look for them.
Each is loaded when it is first used, so that `import jaxattn` imports no jax and the
command line can set up the devices before it does.
"""

import functools
import importlib
import pkgutil
from typing import Any


@functools.cache
def _origins() -> dict[str, tuple[str, str]]:
    """Where each public name comes from, as the stub says: module, and name there."""
    import ast

    stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in imports
        for alias in node.names
    }


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _origins():
        raise AttributeError(f"module 'jaxattn' has no attribute {name!r}")
    module, there = _origins()[name]
    return getattr(importlib.import_module(module), there)


def __dir__() -> list[str]:
    return ["__version__", *sorted(_origins())]
