"""What the definitions rest on, and what a report does not say."""

SOURCES = (
    (
        "Combinatorial shortcut, random pretraining, mask-neutral weighting",
        "Bai et al., Why Attentions May Not Be Interpretable? (KDD 2021)",
        "https://arxiv.org/abs/2006.05656",
    ),
    (
        "Bits of the label in a mask (V-information)",
        "Xu et al., A Theory of Usable Information Under Computational Constraints "
        "(2020)",
        "https://arxiv.org/abs/2002.10689",
    ),
    (
        "EVAL-X, REAL-X",
        "Jethani et al., Have We Learned to Explain? (2021)",
        "https://arxiv.org/abs/2103.01890",
    ),
    (
        "Encoding, STRIPE-X",
        "Puli et al., Explanations that Reveal All through the Definition of Encoding "
        "(2024)",
        "https://arxiv.org/abs/2411.02664",
    ),
    (
        "Agreement with gradients and leave-one-out, adversarial attention",
        "Jain & Wallace, Attention is not Explanation (2019)",
        "https://arxiv.org/abs/1902.10186",
    ),
    (
        "Decision flips by attention weight",
        "Serrano & Smith, Is Attention Interpretable? (2019)",
        "https://arxiv.org/abs/1906.03731",
    ),
    (
        "Comprehensiveness and sufficiency",
        "DeYoung et al., ERASER (2020)",
        "https://arxiv.org/abs/1911.03429",
    ),
    (
        "Normalised comprehensiveness and sufficiency",
        "Carton et al., Evaluating and Characterizing Human Rationales (2020)",
        "https://arxiv.org/abs/2010.04736",
    ),
    (
        "Insertion and deletion",
        "Petsiuk et al., RISE (2018)",
        "https://arxiv.org/abs/1806.07421",
    ),
    (
        "Post-hoc accuracy",
        "Chen et al., Learning to Explain (2018)",
        "https://arxiv.org/abs/1802.07814",
    ),
    (
        "Tail of the weights (Pareto k)",
        "Vehtari et al., Pareto Smoothed Importance Sampling (2015)",
        "https://arxiv.org/abs/1507.02646",
    ),
)
"""What, by whom, where."""

LIMITS = (
    "A leak does not by itself make a map wrong: evidence for the label may well lie "
    "in certain places. What is wrong is a predictor that uses it.",
    "No leak found is not no leak: a probe can only find what it can read, and bits "
    "are a lower bound in expectation.",
    "Maps that agree with gradients, people or removal are plausible or faithful in "
    "that sense only; these tests often disagree with one another.",
    "Intervals are over seeds on one split of the data: they say how much training "
    "varies, not how another data set would come out.",
    "Marks of best, better and worse are not corrected for the number of comparisons; "
    "one in twenty ties will look like a difference.",
    "Examples that were chosen because they leak, or because seeds disagree on them, "
    "are not typical. Those at random are.",
)
