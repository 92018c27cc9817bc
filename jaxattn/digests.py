"""Digests of trees of arrays, also where no process sees all of a tree."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattn import hosts


def describe(tree: Any) -> dict[str, list]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): [str(leaf.dtype), list(leaf.shape)]
        for path, leaf in leaves
    }


def digest(tree: Any) -> str:
    """sha256 over path, dtype, shape and bytes of every leaf."""
    digest = hashlib.sha256(json.dumps(describe(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def digest_of_rows(tree: Any) -> str:
    """sha256 over the digests of the rows, each over its part of every leaf.

    Each process digests the rows that it has, and they tell each other.
    """
    leaves = jax.tree.leaves(tree)
    rows: dict[int, Any] = {}
    for leaf in leaves:
        for shard in getattr(leaf, "addressable_shards", None) or [None]:
            first = 0 if shard is None else shard.index[0].start or 0
            part = np.asarray(leaf if shard is None else shard.data)
            for i, row in enumerate(part):
                rows.setdefault(first + i, hashlib.sha256()).update(row.tobytes())
    digests = np.zeros((leaves[0].shape[0], 32))
    for i, row in rows.items():
        digests[i] = np.frombuffer(row.digest(), np.uint8)
    # What a process does not have is 0 there.
    told = hosts.most(*digests.ravel()) if len(rows) < len(digests) else digests.ravel()
    text = json.dumps(describe(tree)).encode() + np.array(told, np.uint8).tobytes()
    return sha256(text)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
