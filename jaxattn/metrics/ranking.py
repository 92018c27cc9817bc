"""Rankings and selections of positions, against one another and against evidence.

Every function is for one example. A value that is not defined, as where there is no
evidence, is NaN, so that a caller can count it. Most functions compare all pairs of
positions, which batches well for up to some hundreds of them.
"""

import jax.numpy as jnp
from jax import Array

from jaxattn.nn.subsets import ranks


def kendall_tau_b(a: Array, b: Array, valid: Array) -> Array:
    """Kendall's tau-b: do two score vectors rank the positions alike?

    See 'The Treatment of Ties in Ranking Problems' by Kendall (1945). All pairs are
    compared, P^2 in memory: `top_k_overlap` serves more than some 100 positions.

    Args:
        a, b: two scores of each position `[P]`.
        valid: which positions count `[P]`, bool.

    Returns:
        A number in [-1, 1]; NaN where `a` or `b` is constant.

    >>> import jax.numpy as jnp, jaxattn
    >>> a, b = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.6, 0.1, 0.3])
    >>> round(float(jaxattn.kendall_tau_b(a, b, jnp.ones(3, bool))), 3)
    0.333
    """
    pairs = (valid[:, None] & valid[None, :]) & ~jnp.eye(len(a), dtype=bool)
    # A difference of two infinite scores would be NaN.
    x, y = (
        jnp.where(pairs, jnp.where(s[:, None] > s[None, :], 1.0, -1.0), 0.0)
        * (s[:, None] != s[None, :])
        for s in (a, b)
    )
    return (x * y).sum() / jnp.sqrt((x**2).sum() * (y**2).sum())


def top_k_overlap(selected: Array, scores: Array, k: Array) -> Array:
    """Share of the `selected` [P] that are among the k highest scores [P].

    Ties go by position; 0 where nothing is selected.
    """
    highest = ranks(scores, jnp.ones_like(selected)) < k
    hits = (selected & highest).sum()
    return hits / jnp.maximum(selected.sum(), 1)


def auroc(scores: Array, positive: Array, valid: Array) -> Array:
    """Area under the ROC curve of scores for the evidence.

    It is the probability that a position of the evidence scores higher than another
    position, where a tie counts half.

    Args:
        scores: one score of each position `[P]`.
        positive: which positions are evidence `[P]`, bool.
        valid: which positions count `[P]`, bool.

    Returns:
        A number in [0, 1]; NaN where all positions or none are evidence.

    >>> import jax.numpy as jnp, jaxattn
    >>> evidence = jnp.array([True, False, True, False])
    >>> float(jaxattn.auroc(jnp.array([0.6, 0.3, 0.1, 0.0]), evidence, evidence | True))
    0.75
    """
    a, b = positive & valid, ~positive & valid
    pairs = a[:, None] & b[None, :]
    wins = (scores[:, None] > scores[None, :]) + 0.5 * (
        scores[:, None] == scores[None, :]
    )
    return jnp.where(pairs, wins, 0).sum() / pairs.sum()


def average_precision(scores: Array, positive: Array, valid: Array) -> Array:
    """Average precision of scores for the evidence.

    It is the mean, over the positions of the evidence, of the precision at their
    score. Equal scores enter together, as in scikit-learn.

    Args:
        scores: one score of each position `[P]`.
        positive: which positions are evidence `[P]`, bool.
        valid: which positions count `[P]`, bool.

    Returns:
        A number in [0, 1]; NaN where no position is evidence.

    >>> import jax.numpy as jnp, jaxattn
    >>> evidence = jnp.array([False, True, True, False])
    >>> scores = jnp.array([0.6, 0.3, 0.1, 0.0])
    >>> round(float(jaxattn.average_precision(scores, evidence, evidence | True)), 3)
    0.583
    """
    a = positive & valid
    reached = (scores[None, :] >= scores[:, None]) & valid[None, :]
    precision = (reached & a[None, :]).sum(axis=1) / jnp.maximum(reached.sum(axis=1), 1)
    return jnp.where(a, precision, 0).sum() / a.sum()


def auprc(scores: Array, positive: Array, valid: Array) -> Array:
    """Area under the precision-recall curve of scores [P], by trapezoids.

    ERASER's choice (arXiv 1911.03429), optimistic beside `average_precision`: the
    curve begins at recall 0 with a precision of 1. Equal scores enter together.
    """
    a = positive & valid
    reached = (scores[None, :] >= scores[:, None]) & valid[None, :]
    hits = (reached & a[None, :]).sum(axis=1)
    precision = hits / jnp.maximum(reached.sum(axis=1), 1)
    recall = hits / a.sum()
    # In order of falling scores; what is not valid comes first, where nothing is
    # reached yet, and equal scores have equal points.
    order = jnp.argsort(jnp.where(valid, -scores, -jnp.inf))
    start = jnp.where(valid, recall, 0.0)[order]
    height = jnp.where(valid, precision, 1.0)[order]
    start = jnp.concatenate([jnp.zeros(1), start])
    height = jnp.concatenate([jnp.ones(1), height])
    return (jnp.diff(start) * (height[1:] + height[:-1]) / 2).sum()


def pointing_game(scores: Array, positive: Array, valid: Array) -> Array:
    """1 where the highest of scores [P] among the valid [P] is positive, ties shared.

    See 'Top-down Neural Attention by Excitation Backprop' by Zhang et al. (arXiv
    1608.00507). NaN without positive positions.
    """
    top = valid & (scores == jnp.where(valid, scores, -jnp.inf).max())
    share = (top & positive).sum() / jnp.maximum(top.sum(), 1)
    return jnp.where((positive & valid).any(), share, jnp.nan)


def document_frequency(tokens: Array, valid: Array, size: int) -> Array:
    """In how many texts each of `size` tokens occurs, [V], for tokens [N, T].

    Inverse document frequency ranks words by rarity, without any model: a map that
    ranks evidence no better explains no more than a count of words.
    """
    # One place past the last token takes what is padding.
    ordered = jnp.sort(jnp.where(valid, tokens, size), axis=1)
    first = jnp.diff(ordered, axis=1, prepend=-1) != 0
    return jnp.zeros(size + 1, jnp.int32).at[ordered].add(first)[:size]


def mass_on(mask: Array, where: Array) -> Array:
    """Share of a mask [P] that lies on the positions `where` [P]; 0 for a zero mask."""
    total = mask.sum()
    kept = jnp.where(where, mask, 0).sum()
    return kept / jnp.where(total > 0, total, 1)


def tpr(selected: Array, truth: Array) -> Array:
    """Share of the evidence `truth` [P] that is `selected` [P]; NaN without any."""
    return (selected & truth).sum() / truth.sum()


def fdr(selected: Array, truth: Array) -> Array:
    """Share of the `selected` [P] that is no evidence `truth` [P]; 0 if none is."""
    return (selected & ~truth).sum() / jnp.maximum(selected.sum(), 1)


def exact_set(selected: Array, truth: Array) -> Array:
    """1 where the `selected` [P] are exactly the evidence `truth` [P], else 0."""
    return (selected == truth).all().astype(jnp.float32)


def control_hit(selected: Array, control: Array | int) -> Array:
    """1 where the position `control` is `selected` [P], else 0."""
    return selected[control].astype(jnp.float32)


def median_rank(scores: Array, truth: Array, valid: Array) -> Array:
    """Median rank of the evidence `truth` [P] by scores [P], best 1, ties averaged.

    The metric of 'Learning to Explain' by Chen et al. (arXiv 1802.07814); the best
    possible is (k + 1) / 2 for k relevant positions. NaN without evidence.
    """
    low = jnp.where(valid, scores, -jnp.inf)
    better = (low[None, :] > low[:, None]).sum(axis=1)
    equal = (low[None, :] == low[:, None]).sum(axis=1)
    rank = better + (equal + 1) / 2
    return jnp.nanmedian(jnp.where(truth & valid, rank, jnp.nan))
