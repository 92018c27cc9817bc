"""An ordinary attention classifier of film reviews: what do the remedies cost?

Softmax attention over the words, one embedding table each for selector and predictor.
Eight epochs for every method, the same as in the probe; the learning rate was chosen
by `joint` on the validation split. Early stopping would help all of them.
`uniform` needs no selector and is the baseline that attention has to beat.

    python -m jaxattn.train --config configs/reviews.py

16 seeds, 12 min of CPU time, about 7 min on 2 free CPU cores. Expected (test
split, 95 % intervals over seeds):

method                        accuracy                 nll             leak_bits
16 seeds                     null .510           null .693   null -.063 to -.022
joint               0.750 [.746, .754]  1.192 [1.16, 1.21]  -.061 [-.067, -.054]
random_pretraining  0.762 [.758, .766]  0.533 [.526, .540]  -.060 [-.063, -.055]
instance_weighting  0.751 [.746, .756]  1.187 [1.16, 1.20]  -.061 [-.067, -.054]
mask_swap           0.754 [.749, .759]  0.588 [.578, .597]  -.060 [-.065, -.055]
random_always       0.754 [.750, .759]  0.783 [.757, .802]  -.059 [-.064, -.053]
mask_mix            0.750 [.746, .756]  0.674 [.661, .686]  -.060 [-.069, -.055]
uniform             0.763 [.760, .765]  0.721 [.712, .728]  -.022 [-.024, -.019]

- joint: accuracy 0.750 [0.746, 0.754] with attention over the words; majority
  0.510.
- Accuracy against joint, same seeds: random_pretraining +0.012 [+0.008,
  +0.017]; instance_weighting +0.001 [-0.000, +0.003]; mask_swap +0.004 [-0.002,
  +0.010]; random_always +0.004 [-0.000, +0.011]; mask_mix +0.000 [-0.005,
  +0.006]; uniform +0.013 [+0.010, +0.016].
"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="reviews",
        model=Model(values="inputs", normalizer="softmax", features=64, hidden=64),
        optimizer=Optimizer(learning_rate=1e-3),
    )
