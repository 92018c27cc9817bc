"""What each metric of the result tables means.

What each metric of attention over one's own words or instances means.

What each metric would be if there were nothing to find.
"""

from typing import NamedTuple

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

NULLS = {
    "accuracy": "majority",
    "nll": "label_entropy",
    "foreign_mask_accuracy": "majority",
    "foreign_values_accuracy": "majority",
    "leak_bits": "leak_bits:permuted",
    "leak_accuracy": "majority",
    "weighted_leak_bits": "weighted_leak_bits:permuted",
    "full_text_accuracy": "majority",
    "full_text_nll": "label_entropy",
    "mask_entropy": "mask_entropy:uniform",
    "default_token_mass": "default_token_mass:uniform",
    "punctuation_mass": "punctuation_mass:uniform",
    "lexicon_mass": "lexicon_mass:uniform",
    "true_mask_accuracy": "majority",
    "evalx_accuracy": "evalx_accuracy:shuffled",
    "tpr": "tpr:shuffled",
    "fdr": "fdr:shuffled",
    "exact_set_rate": "exact_set_rate:shuffled",
    "control_rate": "control_rate:shuffled",
    "median_rank": "median_rank:random",
    "evidence_auroc": 0.5,
    "evidence_ap": "evidence_ap:random",
    "evidence_mass": "evidence_mass:uniform",
    "pointing_game": "pointing_game:random",
    "extra_leak_bits": "extra_leak_bits:permuted",
    "post_hoc_accuracy": "post_hoc_accuracy:shuffled",
    "gradient_overlap": "gradient_overlap:random",
    "leave_one_out_overlap": "leave_one_out_overlap:random",
    "weight_overlap": "weight_overlap:random",
    "contentless_share": "contentless_share:random",
    "gradient_tau": 0.0,
    "leave_one_out_tau": 0.0,
    "ceiling_tau": 0.0,
    "human_auroc": 0.5,
    "human_ap": "human_ap:random",
    "human_auprc": "human_auprc:random",
    "human_mass": "human_mass:uniform",
    "lexicon_auroc": 0.5,
    "lexicon_ap": "lexicon_ap:random",
    "normalised_comprehensiveness": "normalised_comprehensiveness:random",
    "normalised_sufficiency": "normalised_sufficiency:random",
    "tokens_to_flip": "tokens_to_flip:random",
    "infidelity": "infidelity:random",
    "max_sensitivity": 0.0,
    "model_adversary_jsd": "model_adversary_jsd:rate 0",
    "model_adversary_tvd": "model_adversary_tvd:rate 0",
    "model_adversary_accuracy": "majority",
    "seed_jsd": 0.0,
    "evalx_nll": "evalx_nll:shuffled",
    "channel_leak_bits": 0.0,
    "encoding_bits": 0.0,
    "stripe_x_bits": 0.0,
    "weight_mean": 1.0,
    "imbalance": "imbalance:unweighted",
    "comprehensiveness": "comprehensiveness:random",
    "sufficiency": "sufficiency:random",
    "removal_curve": "removal_curve:random",
    "deletion_area": "deletion_area:random",
    "insertion_area": "insertion_area:random",
    "decision_flip": "decision_flip:random",
    "single_weight_js": 0.0,
    "permuted_tvd": 0.0,
}
"""A number, or the name of what is measured for it, `metric` or `metric:variant`."""


class Metric(NamedTuple):
    """Unit (share, nats, bits), better direction (higher, lower, none), definition."""

    unit: str
    direction: str
    definition: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "share", "higher", "Share of examples labelled correctly under the own mask."
    ),
    "nll": Metric(
        "nats", "lower", "Mean negative log-likelihood of the label under the own mask."
    ),
    "majority": Metric(
        "share", "none", "Accuracy of always answering the most frequent class."
    ),
    "label_entropy": Metric(
        "nats", "none", "Entropy of the labels: the NLL of knowing their shares only."
    ),
    "full_text_accuracy": Metric(
        "share",
        "higher",
        "Accuracy of the same encoder and predictor with attention over the words.",
    ),
    "full_text_nll": Metric(
        "nats",
        "lower",
        "Negative log-likelihood of the same encoder and predictor over the words.",
    ),
    "foreign_mask_accuracy": Metric(
        "share", "none", "Accuracy with one's own values under another example's mask."
    ),
    "foreign_values_accuracy": Metric(
        "share", "lower", "Accuracy with one's own mask on another example's values."
    ),
    "leak_bits": Metric(
        "bits",
        "lower",
        "Bits of the label that a cross-fitted classifier reads from the mask alone.",
    ),
    "leak_share": Metric(
        "share", "lower", "`leak_bits` divided by the entropy of the label."
    ),
    "leak_accuracy": Metric(
        "share", "lower", "Accuracy of the cross-fitted classifier of the mask alone."
    ),
    "weighted_leak_bits": Metric(
        "bits", "lower", "Bits of the label left in the mask after instance weighting."
    ),
    "ess_share": Metric(
        "share",
        "higher",
        "Effective sample size of the instance weights divided by the sample size.",
    ),
    "pareto_k": Metric(
        "shape",
        "lower",
        "Shape of a generalised Pareto distribution fitted to the largest weights "
        "before they are cut; above 0.7 their mean hardly settles.",
    ),
    "weight_mean": Metric(
        "ratio",
        "none",
        "Mean weight before cutting, or cut at percentiles; 1 if the estimator is "
        "right.",
    ),
    "largest_weight_share": Metric(
        "share", "lower", "Largest weight divided by the sum of all."
    ),
    "imbalance": Metric(
        "standard deviations",
        "lower",
        "Largest standardised mean difference between classes of the mask's entropy, "
        "largest weight and mean position, weighted; below 0.1 counts as balance.",
    ),
    "smallest_probability": Metric(
        "share",
        "higher",
        "Smallest estimated P(label given mask), over all examples and all labels.",
    ),
    "overlap_share": Metric(
        "share",
        "higher",
        "Share of examples whose mask leaves every label at least 0.02.",
    ),
    "default_token_mass": Metric(
        "share", "none", "Mean attention on the default tokens."
    ),
    "punctuation_mass": Metric("share", "none", "Mean attention on punctuation marks."),
    "lexicon_mass": Metric(
        "share", "none", "Mean attention on words that the human lexicon rates."
    ),
    "mask_entropy": Metric("nats", "none", "Mean entropy of the mask."),
    "true_mask_accuracy": Metric(
        "share",
        "higher",
        "Accuracy of the method's predictor when it is given the right explanation.",
    ),
    "evalx_accuracy": Metric(
        "share",
        "higher",
        "Accuracy, under the own masks, of an evaluator trained on random masks only.",
    ),
    "evalx_nll": Metric(
        "nats", "lower", "Negative log-likelihood of that evaluator, same masks."
    ),
    "channel_leak_bits": Metric(
        "bits",
        "lower",
        "Bits of the label in one side of the mask (length, shape, place, types of "
        "words), in all of it, or in masks of like length, beyond exchanged labels'.",
    ),
    "encoding_bits": Metric(
        "bits",
        "lower",
        "Bits of the label in the mask beyond the values that it lets through.",
    ),
    "stripe_x_bits": Metric(
        "bits",
        "higher",
        "Bits of the label that EVAL-X reads, less `encoding_bits` (STRIPE-X with a "
        "penalty of 1).",
    ),
    "tpr": Metric("share", "higher", "Selected evidence divided by all evidence."),
    "fdr": Metric(
        "share", "lower", "Selected positions that are no evidence, of those selected."
    ),
    "exact_set_rate": Metric(
        "share", "higher", "Share of examples whose selection is the evidence exactly."
    ),
    "control_rate": Metric(
        "share",
        "higher",
        "Share of examples whose mask holds the feature that says which others count.",
    ),
    "selected_count": Metric("positions", "none", "Mean number of selected positions."),
    "median_rank": Metric(
        "rank", "lower", "Median rank of the evidence by score, mean over examples."
    ),
    "evidence_auroc": Metric(
        "share",
        "higher",
        "Area under the ROC curve of evidence against the rest, within each example.",
    ),
    "evidence_ap": Metric(
        "share", "higher", "Average precision of evidence, within each example."
    ),
    "evidence_mass": Metric("share", "higher", "Mean attention on the evidence."),
    "pointing_game": Metric(
        "share", "higher", "Share of examples whose highest score is evidence."
    ),
    "extra_leak_bits": Metric(
        "bits",
        "lower",
        "Bits of the label in mask and right mask together beyond the right mask's.",
    ),
    "true_mask_leak_bits": Metric(
        "bits", "none", "Bits of the label that the right mask itself reveals."
    ),
    "post_hoc_accuracy": Metric(
        "share",
        "higher",
        "Share of examples whose selection alone leaves the black box's answer as it "
        "was.",
    ),
    "gradient_overlap": Metric(
        "share", "higher", "Share of the selected that the gradient would select, too."
    ),
    "leave_one_out_overlap": Metric(
        "share", "higher", "Share of the selected that leave-one-out would select, too."
    ),
    "weight_overlap": Metric(
        "share",
        "higher",
        "Share of the selected that the linear model's true weights would select, too.",
    ),
    "contentless_share": Metric(
        "share", "lower", "Share of the selected that is punctuation or a stop word."
    ),
}

METRICS |= {name: Metric(*defined) for name, defined in OF_ATTENTION.items()}

PAIRED = (
    "accuracy",
    "evalx_accuracy",
    "true_mask_accuracy",
    "evidence_auroc",
    "evidence_mass",
    "human_auroc",
    "human_auprc",
    "tpr",
    "fdr",
    "median_rank",
    "control_rate",
    "extra_leak_bits",
    "post_hoc_accuracy",
    "gradient_overlap",
    "leave_one_out_overlap",
    "weight_overlap",
    "contentless_share",
)
"""Metrics whose difference to `joint` with the same seed is reported, too."""

METRICS |= {
    f"{name}_vs_joint": Metric(
        METRICS[name].unit,
        "none",
        f"`{name}` minus that of `joint` with the same seed.",
    )
    for name in PAIRED
}
