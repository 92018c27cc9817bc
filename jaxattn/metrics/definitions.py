"""What each metric of the result tables means."""

from typing import NamedTuple


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
    "accuracy_vs_joint": Metric(
        "share", "none", "Accuracy minus the accuracy of `joint` with the same seed."
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
}
