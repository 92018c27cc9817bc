"""What each metric of the result tables means."""

from typing import NamedTuple

from jaxattn.metrics.definitions_of_attention import OF_ATTENTION


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
