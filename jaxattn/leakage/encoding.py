"""Does the mask tell more of the label than the values that it lets through?"""

from collections.abc import Callable

import jax
import numpy as np

from jaxattn.leakage.significance import Finding, assess_pair

MOST_SWAPS = 49
"""How often masks are exchanged at most: each needs a fit of its own."""
MOST_DIMENSIONS = 128


def pooled(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What a mask [N, T] lets through of values [N, T, D]; [N, D] are taken as that.

    Raises: ValueError where the shapes do not belong together.
    """
    n, width = mask.shape
    if values.ndim == 3 and values.shape[:2] == (n, width):
        values = np.einsum("nt,ntd->nd", mask, values)
    if values.ndim != 2 or len(values) != n:
        raise ValueError(
            f"values have shape {list(values.shape)}: allowed are [{n}, {width}, D] "
            f"and, already pooled, [{n}, D]"
        )
    if not np.isfinite(values).all():
        raise ValueError("values are not all finite")
    if values.shape[1] > MOST_DIMENSIONS:
        # Random directions keep what is linear in them (Johnson & Lindenstrauss).
        key = jax.random.key(0)
        shape = (values.shape[1], MOST_DIMENSIONS)
        directions = np.asarray(jax.random.normal(key, shape))
        values = values @ directions / np.sqrt(MOST_DIMENSIONS)
    return values.astype(np.float32)


def encoding(
    rng: np.random.Generator,
    through: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
    strata: np.ndarray,
    groups: np.ndarray | None,
    swaps: int,
    advance: Callable[[int], None],
) -> Finding:
    """Bits of labels [N] in mask features [N, F] beyond the values [N, D] let through.

    Encoding as in 'Explanations that reveal all through the definition of encoding' by
    Puli et al. (arXiv 2411.02664): the label depends on which parts were selected, even
    given what they hold. Estimated as I_V(values, mask -> label) minus the same with
    the masks of other examples of like length, which keeps the probe as large.
    """
    orders = np.empty((swaps, len(labels)), int)
    for row in orders:
        by_stratum = np.argsort(strata, kind="stable")
        row[by_stratum] = np.lexsort((rng.random(len(labels)), strata))
    return assess_pair(through, features, labels, orders, fold, groups, advance)
