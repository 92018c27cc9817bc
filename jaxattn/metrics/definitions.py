"""The registry of metrics: what each number means, and where it is shown.

Tables, terminal, verdict and page read all they know of a metric off this file. Another
metric is one more entry of `METRICS`, also from outside the package.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

REFERENCES = "References"
"""The section of what does not depend on masks: printed once, above the tables."""
OTHERS = "Further metrics"
"""The section of metrics that name none."""


class Metric(NamedTuple):
    """A number that is measured of every seed.

    >>> import jaxattn.metrics.definitions as definitions
    >>> speed = definitions.Metric("Examples a second.", "share", "higher")
    >>> definitions.METRICS["speed"] = speed
    >>> definitions.sections()[definitions.OTHERS]
    ['speed']
    >>> del definitions.METRICS["speed"]
    """

    text: str
    """What it is, in one sentence."""
    unit: str
    """share, nats, bits, positions ..."""
    direction: str = "none"
    """Which is better: higher, lower, or none."""
    null: float | str | None = None
    """What it would be if there were nothing to find: a number, the name of another
    metric, or `:variant` for a variant of its own."""
    shown: tuple[str, ...] = ()
    """Where else it stands than in its section.

    paired: its difference to `joint` with the same seed is reported, too;
    difference: this difference has a column of its own beside the metric's;
    outcomes: differences to `joint` are counted as better, equal or worse;
    compared: in the table of several runs;
    verdict: among the remedies of a task, as the first of these that was measured.
    """
    columns: tuple[str, ...] = ("",)
    """Variants that are columns of its section; none keeps it out of the tables."""
    headline: tuple[str, ...] = ()
    """The metrics that a terminal shows of a run in which this one was measured; the
    first such metric of the registry decides."""
    label: str = ""
    """A short name in words; by default the name itself."""
    section: str = OTHERS
    compute: Callable[[Any], Any] | None = None
    """`compute(evaluated)` gives the number of one trained cell on the test split, or
    numbers by variant; None for what the package measures by itself."""


# A table, with the text of a metric above its numbers.
# fmt: off
_SECTIONS: dict[str, dict[str, Metric]] = {
    REFERENCES: {
        "majority": Metric(
            "Accuracy of always answering the most frequent class.",
            "share"),
        "label_entropy": Metric(
            "Entropy of the labels: the NLL of a model that knows their shares only.",
            "nats"),
        "full_text_accuracy": Metric(
            "Accuracy of the same encoder and predictor with attention over the words.",
            "share", "higher", "majority"),
        "full_text_nll": Metric(
            "Negative log-likelihood of the same encoder and predictor over the words.",
            "nats", "lower", "label_entropy"),
    },
    "Accuracy, and what the mask alone holds": {
        "accuracy": Metric(
            "Share of examples that are labelled correctly under their own masks.",
            "share", "higher", "majority", shown=("paired", "difference", "compared")),
        "nll": Metric(
            "Mean negative log-likelihood of the label under the example's own mask.",
            "nats", "lower", "label_entropy", label="NLL"),
        "foreign_mask_accuracy": Metric(
            "Accuracy where an example's values meet another example's mask.", "share",
            "none", "majority"),
        "foreign_values_accuracy": Metric(
            "Accuracy where an example's mask meets another example's values.", "share",
            "lower", "majority", shown=("compared",)),
        "leak_bits": Metric(
            "Bits of the label that the run's own probe, a cross-fitted logistic "
            "regression on 64 random features, reads from the mask alone.", "bits",
            "lower", ":permuted", shown=("compared",),
            label="label information in the mask"),
        "leak_share": Metric(
            "`leak_bits` divided by the entropy of the label.", "share", "lower",
            columns=()),
        "leak_accuracy": Metric(
            "Accuracy of the cross-fitted classifier of the mask alone.", "share",
            "lower", "majority", columns=()),
        "evalx_accuracy": Metric(
            "Accuracy, under the method's masks, of an evaluator that was trained on "
            "random masks only.", "share", "higher", ":shuffled", shown=("paired",)),
        "evalx_nll": Metric(
            "Negative log-likelihood of that evaluator under the same masks.", "nats",
            "lower", ":shuffled", columns=()),
        "mask_entropy": Metric(
            "Mean entropy of the mask.", "nats", "none", ":uniform", columns=()),
        "default_token_mass": Metric(
            "Mean attention on the default tokens.", "share", "none", ":uniform",
            columns=()),
        "punctuation_mass": Metric(
            "Mean attention on punctuation marks.", "share", "none", ":uniform",
            columns=()),
        "lexicon_mass": Metric(
            "Mean attention on words that the human lexicon rates.", "share", "none",
            ":uniform", columns=()),
    },
    "Where the evidence is known": {
        "true_mask_accuracy": Metric(
            "Accuracy of the method's predictor when it is given the right "
            "explanation.", "share", "higher", "majority", shown=("paired", "compared"),
            label="accuracy under the true mask"),
        "evidence_auroc": Metric(
            "Area under the ROC curve of evidence against the rest, within each "
            "example.", "share", "higher", 0.5,
            shown=("paired", "outcomes", "compared", "verdict"),
            columns=("", "lexicon", "idf")),
        "evidence_ap": Metric(
            "Average precision of evidence, within each example.", "share", "higher",
            ":random"),
        "evidence_mass": Metric(
            "Mean attention on the evidence.", "share", "higher", ":uniform",
            shown=("paired", "verdict"),
            headline=("accuracy", "true_mask_accuracy", "evidence_auroc")),
        "pointing_game": Metric(
            "Share of examples whose highest score is evidence.", "share", "higher",
            ":random"),
        "tpr": Metric(
            "Selected evidence divided by all evidence.", "share", "higher",
            ":shuffled", shown=("paired", "verdict"),
            headline=("accuracy", "true_mask_accuracy", "tpr"),
            label="true positive rate"),
        "fdr": Metric(
            "Selected positions that are no evidence, of those selected.", "share",
            "lower", ":shuffled", shown=("paired",), label="false discovery rate"),
        "exact_set_rate": Metric(
            "Share of examples whose selection is the evidence exactly.", "share",
            "higher", ":shuffled"),
        "median_rank": Metric(
            "Median rank of the evidence by score, mean over examples.", "rank",
            "lower", ":random", shown=("paired",)),
        "control_rate": Metric(
            "Share of examples whose mask holds the feature that says which others "
            "count.", "share", "higher", ":shuffled", shown=("paired",)),
        "selected_count": Metric(
            "Mean number of selected positions.", "positions",
            label="positions selected"),
        "extra_leak_bits": Metric(
            "Bits of the label in mask and right mask together beyond the right "
            "mask's.", "bits", "lower", ":permuted", shown=("paired",)),
        "true_mask_leak_bits": Metric(
            "Bits of the label that the right mask itself reveals.", "bits",
            columns=()),
    },
    "Explaining the black box": {
        "post_hoc_accuracy": Metric(
            "Share of examples whose selection alone leaves the black box's answer as "
            "it was.", "share", "higher", ":shuffled",
            shown=("paired", "outcomes", "verdict"),
            headline=("post_hoc_accuracy", "evalx_accuracy", "leak_bits")),
        "gradient_overlap": Metric(
            "Share of the selected that the gradient would select, too.", "share",
            "higher", ":random", shown=("paired",)),
        "leave_one_out_overlap": Metric(
            "Share of the selected that leave-one-out would select, too.", "share",
            "higher", ":random", shown=("paired",)),
        "weight_overlap": Metric(
            "Share of the selected that the linear model's true weights would select, "
            "too.", "share", "higher", ":random", shown=("paired",)),
        "contentless_share": Metric(
            "Share of the selected that is punctuation or a stop word.", "share",
            "lower", ":random", shown=("paired",)),
    },
    "Where the leak lives": {
        "audit_bits": Metric(
            "Bits of the label that the audit's probes read from the whole mask, from "
            "one channel of it (length, shape, place, types of words), or from masks "
            "of like length, beyond exchanged labels'.", "bits", "lower", 0.0,
            columns=("mask", "beyond length", "length", "shape", "place", "types")),
        "encoding_bits": Metric(
            "Bits of the label that the audit's probes read from the mask beyond the "
            "values that it lets through.", "bits", "lower", 0.0),
        "stripe_x_bits": Metric(
            "Bits of the label that EVAL-X reads, less `encoding_bits` (STRIPE-X with "
            "a penalty of 1).", "bits", "higher", 0.0),
    },
    "Instance weights": {
        "weighted_leak_bits": Metric(
            "Bits of the label left in the mask after instance weighting, by the probe "
            "of `leak_bits`.", "bits", "lower", ":permuted"),
        "ess_share": Metric(
            "Effective sample size of the instance weights divided by the sample size.",
            "share", "higher"),
        "weight_mean": Metric(
            "Mean weight before cutting, or cut at percentiles; 1 if the estimator is "
            "right.", "ratio", "none", 1.0),
        "largest_weight_share": Metric(
            "Largest weight divided by the sum of all.", "share", "lower"),
        "pareto_k": Metric(
            "Shape of a generalised Pareto distribution fitted to the largest weights "
            "before they are cut; above 0.7 their mean hardly settles.", "shape",
            "lower"),
        "imbalance": Metric(
            "Largest standardised mean difference between classes of the mask's "
            "entropy, largest weight and mean position, weighted; below 0.1 counts as "
            "balance.", "standard deviations", "lower", ":unweighted"),
        "smallest_probability": Metric(
            "Smallest estimated P(label given mask), over all examples and all labels.",
            "share", "higher", columns=()),
        "overlap_share": Metric(
            "Share of examples whose mask leaves every label at least 0.02.", "share",
            "higher", columns=()),
    },
    "Agreement": {
        "gradient_tau": Metric(
            "Kendall's tau-b of attention and gradient times input (absolute, "
            "predicted class), attention held fixed; variants: through_attention, norm "
            "(length of the gradient), integrated (integrated gradients), all through "
            "attention.", "tau", "higher", 0.0,
            columns=("", "through_attention", "integrated")),
        "leave_one_out_tau": Metric(
            "Kendall's tau-b of attention and how far the answer moves (TVD) without "
            "each position, attention computed anew.", "tau", "higher", 0.0),
        "ceiling_tau": Metric(
            "Kendall's tau-b of gradients and leave-one-out: what two accepted "
            "rankings reach with one another.", "tau", "none", 0.0),
        "seed_jsd": Metric(
            "Jensen-Shannon divergence of a seed's masks from those of the other "
            "seeds, mean over examples and seeds (at most ln 2).", "nats", "lower",
            0.0),
    },
    "Plausibility": {
        "human_auroc": Metric(
            "Area under the ROC curve of attention for what people marked (graded "
            "marks: from 0.5 on), within each marked example; variants: idf, position, "
            "lexicon.", "share", "higher", 0.5, shown=("paired", "compared", "verdict"),
            columns=("", "idf", "position", "lexicon"),
            headline=("accuracy", "human_auroc", "leak_bits")),
        "human_ap": Metric(
            "Average precision of attention for what people marked, within each "
            "example.", "share", "higher", ":random", columns=("", "idf")),
        "human_auprc": Metric(
            "Area under the precision-recall curve for what people marked, by "
            "trapezoids as in ERASER (optimistic beside `human_ap`).", "share",
            "higher", ":random", shown=("paired",), columns=("", "idf", "position")),
        "human_mass": Metric(
            "Mean attention on what people marked.", "share", "higher", ":uniform"),
        "lexicon_auroc": Metric(
            "Area under the ROC curve of attention for words that people rated, within "
            "each example.", "share", "higher", 0.5, shown=("compared", "verdict"),
            columns=("", "idf", "position")),
        "lexicon_ap": Metric(
            "Average precision of attention for words that people rated, within each "
            "example.", "share", "higher", ":random"),
    },
    "Faithfulness by removal": {
        "comprehensiveness": Metric(
            "Fall of the predicted class's probability without the most attended 1, 5, "
            "10, 20, 50 % of positions (ERASER's mean; rounded up, attention computed "
            "anew).", "share", "higher", ":random", shown=("compared",),
            columns=("", "ferret")),
        "sufficiency": Metric(
            "The same fall with these positions alone.", "share", "lower", ":random",
            columns=("", "ferret")),
        "normalised_comprehensiveness": Metric(
            "Mean fall without the most attended as a share of the mean fall without "
            "any position (both at least 0, as in Carton et al.).", "share", "higher",
            ":random"),
        "normalised_sufficiency": Metric(
            "One minus the mean fall with the most attended alone as a share of the "
            "mean fall without any position.", "share", "higher", ":random"),
        "deletion_area": Metric(
            "Area under the predicted class's probability as the most attended go "
            "first.", "share", "lower", ":random"),
        "insertion_area": Metric(
            "The same area as the most attended come first.", "share", "higher",
            ":random"),
        "tokens_to_flip": Metric(
            "Share of positions removed, most attended first, until another class wins "
            "(1 if none does).", "share", "lower", ":random"),
        "removal_curve": Metric(
            "Probability of the predicted class without the most attended share of "
            "positions, or with that share only (variants; attention computed anew).",
            "share", "none", ":random", columns=()),
    },
    "Tests of attention": {
        "decision_flip": Metric(
            "Share of weights zeroed, largest first and the rest renormalised, until "
            "another class wins.", "share", "lower", ":random",
            columns=("", "gradient", "product")),
        "single_weight_js": Metric(
            "Jensen-Shannon divergence of the answer without the largest weight, less "
            "that without a random one.", "nats", "higher", 0.0),
        "permuted_tvd": Metric(
            "Median total variation distance of the answer when the weights are "
            "shuffled.", "share", "higher", 0.0),
        "adversarial_jsd": Metric(
            "Largest divergence found of another attention that answers within 0.01 "
            "TVD (at most ln 2).", "nats", "lower"),
        "model_adversary_jsd": Metric(
            "Divergence from the attention of a second model, trained to answer alike "
            "and attend elsewhere, whose answers are within 0.01 TVD of what one has "
            "that is only trained to answer alike (variant rate 0, the null).", "nats",
            "lower", ":rate 0"),
        "model_adversary_tvd": Metric(
            "Total variation distance of that model's answers.", "share", "none",
            ":rate 0", columns=()),
        "model_adversary_accuracy": Metric(
            "Accuracy of that model.", "share", "none", "majority", columns=()),
        "infidelity": Metric(
            "Mean squared error of the best multiple of the weights as a forecast of "
            "what removing random sets of words does (Yeh et al.).", "share", "lower",
            ":random"),
        "max_sensitivity": Metric(
            "Largest change of the mask, divided by its length, within 0.02 of each "
            "embedding entry (10 random points).", "share", "lower", 0.0),
    },
}
# fmt: on
METRICS: dict[str, Metric] = {
    name: metric._replace(section=section)
    for section, metrics in _SECTIONS.items()
    for name, metric in metrics.items()
}
"""Every metric, in the order of the tables."""

HEADLINE = ("accuracy", "nll", "leak_bits")
"""What a terminal shows where no measured metric has a headline of its own."""
DIFFERENCE = "_vs_joint"
"""How the names of paired differences to `joint` end."""


def metric(name: str) -> Metric:
    """The definition of a metric, or of the paired difference to `joint` of one.

    Raises ValueError where there is no such metric.
    """
    base = name.removesuffix(DIFFERENCE)
    if base not in METRICS or base != name and "paired" not in METRICS[base].shown:
        raise ValueError(
            f"unknown metric {name!r}: add it to METRICS in "
            f"jaxattn/metrics/definitions.py, which has {', '.join(METRICS)}"
        )
    if base == name:
        return METRICS[name]
    text = f"`{base}` minus that of `joint` with the same seed."
    own = METRICS[base]
    return Metric(text, own.unit, null=0.0, section=own.section, columns=())


def label(name: str) -> str:
    """A metric in words, as axes of figures name it."""
    return metric(name).label or name.replace("_", " ")


def shown(place: str) -> list[str]:
    """The metrics that a place shows (see `Metric.shown`), in order."""
    return [name for name, m in METRICS.items() if place in m.shown]


def headline(measured: Sequence[str] | set[str]) -> tuple[str, ...]:
    """The metrics that a terminal shows of a run which measured these."""
    own = (m.headline for name, m in METRICS.items() if m.headline and name in measured)
    return next(own, HEADLINE)


def sections() -> dict[str, list[str]]:
    """The columns of each section's table: `metric` or `metric:variant`."""
    columns: dict[str, list[str]] = {}
    for name, m in METRICS.items():
        own = columns.setdefault(m.section, [])
        own += [f"{name}:{variant}" if variant else name for variant in m.columns]
        own += [name + DIFFERENCE] * ("difference" in m.shown)
    return columns


def current_name(name: str) -> str:
    """Today's name of a `metric:variant` that an older run wrote.

    >>> current_name("channel_leak_bits:all"), current_name("channel_leak_bits:shape")
    ('audit_bits:mask', 'audit_bits:shape')
    """
    name = name.replace("channel_leak_bits:all", "audit_bits:mask")
    return name.replace("channel_leak_bits", "audit_bits")
