"""The shortcut: attention over four meaningless tokens predicts the label.

The query sees the whole review; keys and values are four default tokens, the same for
every review, so that all the predictor learns comes through the mask. Masks are
Gumbel-perturbed softmaxes, in tests too: weighting needs them stochastic. With
`--model.normalizer softmax` they are not.

`epochs` is enough for `joint` to level off on the validation split; `full_text_epochs`
is where the reference is best on it, before it overfits.

    python -m jaxattn.train --config configs/probe.py

16 seeds, 99 s on 2 CPU cores the first time, 73 s the second. Expected
(test split, 95 % intervals over seeds):

method                        accuracy                 nll             leak_bits
16 seeds                     null .510           null .693   null -.019 to -.001
joint               0.769 [.761, .775]  0.626 [.595, .668]    0.299 [.289, .308]
random_pretraining  0.650 [.596, .693]  0.675 [.667, .682]    0.141 [.087, .186]
instance_weighting  0.523 [.504, .562]  0.690 [.682, .693]    0.079 [.049, .109]
mask_swap           0.508 [.499, .523]  0.692 [.690, .693]   -.006 [-.018, .014]
random_always       0.528 [.509, .565]  0.691 [.686, .693]    0.037 [.014, .075]
mask_mix            0.519 [.505, .544]  0.693 [.691, .694]   0.005 [-.005, .023]
uniform             0.498 [.494, .502]  0.694 [.693, .694]  -.001 [-.002, -.001]
- joint: attention over 4 meaningless tokens predicts the label with accuracy
  0.769 [0.761, 0.775]; majority 0.510, the words 0.780 (99% of it). The mask
  alone holds 30% of the label's bits.
- Shortcut closed (whole interval at most 0.04 above the majority, NLL within
  0.02 nats of the label entropy): mask_swap 0.508 [0.499, 0.523]; mask_mix
  0.519 [0.505, 0.544].
- Shortcut not closed: random_pretraining 0.650 [0.596, 0.693];
  instance_weighting 0.523 [0.504, 0.562]; random_always 0.528 [0.509, 0.565].
- random_pretraining stays above the majority with an NLL of 0.675 against the
  entropy 0.693 nats: the frozen predictor still varies a little with the mask,
  and the selector drives it across its threshold.

Few seeds escape instance weighting, and which ones do hangs on the last digit: with
four cells side by side instead of one the same code gave .546 [.519, .589], on another
machine .518 [.501, .540]. Over 64 seeds it was .539 [.526, .555], with a fifth of the
seeds above .6: judge a method with so long a tail by many seeds.
"""

from jaxattn.config import Config


def get_config() -> Config:
    return Config()
