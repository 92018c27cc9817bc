"""Real text whose evidence is known: does attention look at the review?

Each text is a film review snippet and a neutral sentence from a newspaper, in random
order; the label is the review's polarity, so that its tokens alone are evidence (51.8 %
of all: the chance level of `evidence_mass`). Softmax attention over the words; six
epochs for every method, nothing was tuned.

    python -m jaxattn.train --config configs/planted.py

16 seeds, 7 min on 2 CPU cores that had other work beside. Expected (test split, 95 %
intervals over seeds):

method                        accuracy  true_mask_accuracy      evidence_auroc
16 seeds                     null .510           null .510           null .500
joint               0.699 [.693, .705]  0.700 [.691, .707]  0.558 [.553, .560]
random_pretraining  0.648 [.638, .655]  0.603 [.591, .612]  0.549 [.544, .554]
mask_swap           0.680 [.675, .686]  0.724 [.721, .727]  0.562 [.557, .565]
random_always       0.654 [.648, .659]  0.694 [.688, .701]  0.546 [.539, .552]
mask_mix            0.658 [.653, .662]  0.706 [.700, .710]  0.554 [.549, .557]
mask_mix_delayed    0.706 [.701, .711]  0.732 [.728, .735]  0.561 [.558, .564]
uniform             0.713 [.708, .720]  0.755 [.752, .757]               0.500
instance_weighting  0.699 [.694, .705]  0.700 [.692, .706]  0.558 [.554, .561]

Told plainly: no method's attention says much about *where* the evidence is (AUROC .55
to .56), and the differences to `joint` are a hundredth at most: `mask_swap` and
`mask_mix_delayed` a little better, `random_pretraining`, `random_always` and `mask_mix`
a little worse, `instance_weighting` the same. Mass on the review is .62 with `joint`
and .69 to .70 with `mask_swap`, `random_always` and `mask_mix` (.52 if uniform). There
is no code here: nobody loses under the true mask, except random pretraining, whose
predictor was frozen early. And uniform attention is the most accurate of all.
"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="planted",
        tasks=("planted",),
        methods=(
            "joint",
            "random_pretraining",
            "instance_weighting",
            "mask_swap",
            "random_always",
            "mask_mix",
            "mask_mix_delayed",
            "uniform",
        ),
        epochs=6,
        model=Model(values="inputs", normalizer="softmax"),
        optimizer=Optimizer(learning_rate=1e-3),
    )
