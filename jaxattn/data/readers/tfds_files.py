"""Data sets that TFDS has prepared or knows, by their names.

This module imports tensorflow_datasets, so others import it late.
"""

import contextlib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from jaxattn.data.tfds_records import quiet
from jaxattn.system.errors import nearest, reason

_NAME = re.compile(r"[A-Za-z]\w*(/[\w+.-]+)?(:\d+\.\d+\.\d+)?")


def find(name: str, root: Path, known: Iterable[str] = ()) -> Any:
    """The builder of NAME[/CONFIG][:VERSION], prepared or not; asks no network.

    `known` are more names to suggest. Raises: ValueError, with the nearest names, where
    there is no such data set, configuration or version.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"tfds:{name}: must be tfds:NAME, /CONFIG and :VERSION may follow"
        )
    try:
        with quiet():
            return tfds.builder(name, data_dir=root)
    except registered.DatasetNotFoundError:
        raise ValueError(_unknown(name, root, known)) from None
    except Exception as error:
        # From a class of its own per mistake: ValueError, AssertionError and others.
        raise ValueError(_misnamed(name, root, error)) from error


def _unknown(name: str, root: Path, known: Iterable[str]) -> str:
    base = re.split("[/:]", name)[0]
    full = {n: n for n in (*registered.list_imported_builders(), *_in(root))}
    # "sst2" is a configuration: it must find "glue/sst2".
    full |= {n.partition("/")[2]: n for n in known if "/" in n}
    near = nearest(base.lower(), full, n=3)
    near += [n for n in full if base.lower() in n and n not in near]
    hint = _perhaps([full[n] for n in near[:3]])
    return f"tfds:{name}: TFDS has no data set {base!r}{hint}{_there(root)}"


def _perhaps(names: list[str]) -> str:
    return f"; perhaps you meant {' or '.join(names)}" if names else ""


def _misnamed(name: str, root: Path, error: Exception) -> str:
    base, _, rest = name.partition("/")
    base = base.partition(":")[0]
    wrong = rest.partition(":")[0]
    configs: list[str] = []
    with contextlib.suppress(Exception):  # a data set known from its files alone
        configs = list(tfds.builder_cls(base).builder_configs)
    if wrong and configs and wrong not in configs:
        near = nearest(wrong, configs, n=3, cutoff=0.5)
        hint = _perhaps(near) or f"; it has {', '.join(configs[:10])}"
        return f"tfds:{name}: {base} has no configuration {wrong!r}{hint}"
    # TFDS puts the call in front of what is wrong with it.
    text = reason(str(error).rpartition('}": ')[2])
    return f"tfds:{name}: {text}{_there(root, base)}"


def _in(root: Path, name: str = "*") -> dict[str, list[str]]:
    """What is prepared in a folder: name -> "config/version" or "version"."""
    prepared: dict[str, list[str]] = {}
    for depth in ("*", "*/*"):
        for info in sorted(root.glob(f"{name}/{depth}/dataset_info.json")):
            base, *rest = info.parent.relative_to(root).parts
            if not any(part.startswith("incomplete.") for part in rest):
                prepared.setdefault(base, []).append("/".join(rest))
    return prepared


def _there(root: Path, name: str = "*") -> str:
    there = [f"{base}/{rest}" for base, own in _in(root, name).items() for rest in own]
    if not there and name != "*":
        return ""
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return f"; prepared in {root}: {', '.join(there[:5]) or 'nothing'}{more}"


ARCHIVES = {
    "imdb_reviews": "imdb:aclImdb_v1.tar.gz",
    "ag_news_subset": "ag_news:ag_news_csv.tar.gz",
}
"""What --data may be for the archive that such a data set is made from."""


def unprepared(name: str, root: Path) -> str:
    """What to do about a data set that is not prepared, in one line."""
    base, folder = re.split("[/:]", name)[0], shlex.quote(str(root))
    archive = ARCHIVES.get(base)
    other = f"give its archive as --data {archive}, or " if archive else ""
    return (
        f"tfds:{name} is not prepared in {root}, and nothing is downloaded unless "
        f"--download is given: {other}run, where TensorFlow is installed, tfds build "
        f"{name} --data_dir {folder}{_there(root, base)}"
    )
