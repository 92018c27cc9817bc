"""What each metric of attention over one's own words or instances means."""

OF_ATTENTION: dict[str, tuple[str, str, str]] = {
    "gradient_tau": (
        "tau",
        "higher",
        "Kendall's tau-b of attention and gradient times input (absolute, predicted "
        "class), attention held fixed; variants: through_attention, norm (length of "
        "the gradient), integrated (integrated gradients), all through attention.",
    ),
    "leave_one_out_tau": (
        "tau",
        "higher",
        "Kendall's tau-b of attention and how far the answer moves (TVD) without each "
        "position, attention computed anew.",
    ),
    "ceiling_tau": (
        "tau",
        "none",
        "Kendall's tau-b of gradients and leave-one-out: what two accepted rankings "
        "reach with one another.",
    ),
    "human_auroc": (
        "share",
        "higher",
        "Area under the ROC curve of attention for what people marked (graded marks: "
        "from 0.5 on), within each marked example; variants: idf, position, lexicon.",
    ),
    "human_ap": (
        "share",
        "higher",
        "Average precision of attention for what people marked, within each example.",
    ),
    "human_auprc": (
        "share",
        "higher",
        "Area under the precision-recall curve for what people marked, by trapezoids "
        "as in ERASER (optimistic beside `human_ap`).",
    ),
    "human_mass": ("share", "higher", "Mean attention on what people marked."),
    "lexicon_auroc": (
        "share",
        "higher",
        "Area under the ROC curve of attention for words that people rated, within "
        "each example.",
    ),
    "lexicon_ap": (
        "share",
        "higher",
        "Average precision of attention for words that people rated, within each "
        "example.",
    ),
    "seed_jsd": (
        "nats",
        "lower",
        "Jensen-Shannon divergence of a seed's masks from those of the other seeds, "
        "mean over examples and seeds (at most ln 2).",
    ),
    "comprehensiveness": (
        "share",
        "higher",
        "Fall of the predicted class's probability without the most attended 1, 5, 10, "
        "20, 50 % of positions (ERASER's mean; rounded up, attention computed anew).",
    ),
    "sufficiency": ("share", "lower", "The same fall with these positions alone."),
    "removal_curve": (
        "share",
        "none",
        "Probability of the predicted class without the most attended share of "
        "positions, or with that share only (variants; attention computed anew).",
    ),
    "normalised_comprehensiveness": (
        "share",
        "higher",
        "Mean fall without the most attended as a share of the mean fall without any "
        "position (both at least 0, as in Carton et al.).",
    ),
    "normalised_sufficiency": (
        "share",
        "higher",
        "One minus the mean fall with the most attended alone as a share of the mean "
        "fall without any position.",
    ),
    "tokens_to_flip": (
        "share",
        "lower",
        "Share of positions removed, most attended first, until another class wins "
        "(1 if none does).",
    ),
    "deletion_area": (
        "share",
        "lower",
        "Area under the predicted class's probability as the most attended go first.",
    ),
    "insertion_area": (
        "share",
        "higher",
        "The same area as the most attended come first.",
    ),
    "decision_flip": (
        "share",
        "lower",
        "Share of weights zeroed, largest first and the rest renormalised, until "
        "another class wins.",
    ),
    "single_weight_js": (
        "nats",
        "higher",
        "Jensen-Shannon divergence of the answer without the largest weight, less that "
        "without a random one.",
    ),
    "permuted_tvd": (
        "share",
        "higher",
        "Median total variation distance of the answer when the weights are shuffled.",
    ),
    "infidelity": (
        "share",
        "lower",
        "Mean squared error of the best multiple of the weights as a forecast of what "
        "removing random sets of words does (Yeh et al.).",
    ),
    "max_sensitivity": (
        "share",
        "lower",
        "Largest change of the mask, divided by its length, within 0.02 of each "
        "embedding entry (10 random points).",
    ),
    "model_adversary_jsd": (
        "nats",
        "lower",
        "Divergence from the attention of a second model, trained to answer alike and "
        "attend elsewhere, whose answers are within 0.01 TVD of what one has that is "
        "only trained to answer alike (variant rate 0, the null).",
    ),
    "model_adversary_tvd": (
        "share",
        "none",
        "Total variation distance of that model's answers.",
    ),
    "model_adversary_accuracy": ("share", "none", "Accuracy of that model."),
    "adversarial_jsd": (
        "nats",
        "lower",
        "Largest divergence found of another attention that answers within 0.01 TVD "
        "(at most ln 2).",
    ),
}
"""Unit, better direction and definition, as in `Metric`."""
