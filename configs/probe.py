"""The shortcut: attention over four meaningless tokens predicts the label.

The query sees the whole review; keys and values are four default tokens, the same for
every review, so that all the predictor learns comes through the mask. Masks are
Gumbel-perturbed softmaxes, in tests too: weighting needs them stochastic. With
`--model.normalizer softmax` they are not.

`epochs` is enough for `joint` to level off on the validation split; `full_text_epochs`
is where the reference is best on it, before it overfits.

    python -m jaxattn.train --config configs/probe.py

16 seeds, 1 min 50 s on 2 CPU cores the first time, 1 min 12 s the second. Expected
(test split, 95 % intervals over seeds):

method                        accuracy                 nll             leak_bits
16 seeds                     null .510           null .693   null -.020 to -.001
joint               0.770 [.762, .775]  0.622 [.591, .662]    0.299 [.289, .307]
random_pretraining  0.650 [.596, .694]  0.673 [.663, .681]    0.142 [.088, .187]
instance_weighting  0.546 [.519, .589]  0.687 [.680, .691]    0.094 [.062, .127]
mask_swap           0.509 [.500, .524]  0.693 [.691, .694]  -.013 [-.020, -.001]
random_always       0.523 [.504, .561]  0.691 [.686, .693]    0.042 [.018, .079]
mask_mix            0.517 [.502, .543]  0.693 [.691, .694]   0.006 [-.004, .024]
uniform             0.498 [.494, .502]  0.694 [.693, .694]  -.001 [-.002, -.001]

- joint: attention over 4 meaningless tokens predicts the label with accuracy
  0.770 [0.762, 0.775]; majority 0.510, the words 0.780 (99% of it). The mask
  alone holds 30% of the label's bits.
- Shortcut closed (whole interval at most 0.04 above the majority, NLL within
  0.02 nats of the label entropy): mask_swap 0.509 [0.500, 0.524]; mask_mix
  0.517 [0.502, 0.543].
- Shortcut not closed: random_pretraining 0.650 [0.596, 0.694];
  instance_weighting 0.546 [0.519, 0.589]; random_always 0.523 [0.504, 0.561].
- random_pretraining stays above the majority with an NLL of 0.673 against the
  entropy 0.693 nats: the frozen predictor still varies a little with the mask,
  and the selector drives it across its threshold.

Two of these 16 seeds escape instance weighting (accuracy .72 and .68); on the machine
on which it was first run the same code gave .518 [.501, .540]. Over 64 seeds it is .539
[.526, .555], with a fifth of the seeds above .6: judge a method with so long a tail by
many seeds.
"""

from jaxattn.config import Config


def get_config() -> Config:
    return Config()
