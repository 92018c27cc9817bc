"""The shortcut: attention over four meaningless tokens predicts the label.

The query sees the whole review; keys and values are four default tokens, the same for
every review, so that all the predictor learns comes through the mask. Masks are
Gumbel-perturbed softmaxes, in tests too: weighting needs them stochastic. With
`--model.normalizer softmax` they are not.

`epochs` is enough for `joint` to level off on the validation split; `full_text_epochs`
is where the reference is best on it, before it overfits.

    python -m jaxattn.train --config configs/probe.py

16 seeds, 2 min 36 s on 2 CPU cores the first time, 1 min 39 s the second. Expected
(test split, 95 % intervals over seeds):

method                        accuracy                 nll             leak_bits
16 seeds                     null .510           null .693   null -.019 to -.001
joint               0.770 [.761, .775]  0.625 [.595, .666]    0.298 [.288, .306]
random_pretraining  0.649 [.596, .693]  0.673 [.663, .681]    0.144 [.088, .189]
instance_weighting  0.518 [.501, .540]  0.692 [.689, .694]    0.091 [.058, .121]
mask_swap           0.510 [.499, .526]  0.692 [.690, .693]   -.004 [-.017, .016]
random_always       0.526 [.505, .562]  0.691 [.686, .693]    0.040 [.015, .078]
mask_mix            0.517 [.502, .543]  0.693 [.691, .694]   0.005 [-.006, .023]
uniform             0.498 [.494, .502]  0.694 [.693, .694]  -.001 [-.002, -.001]

- joint: attention over 4 meaningless tokens predicts the label with accuracy
  0.770 [0.761, 0.775]; majority 0.510, the words 0.780 (99% of it). The mask
  alone holds 30% of the label's bits.
- Shortcut closed (whole interval at most 0.04 above the majority, NLL within
  0.02 nats of the label entropy): instance_weighting 0.518 [0.501, 0.540];
  mask_swap 0.510 [0.499, 0.526]; mask_mix 0.517 [0.502, 0.543].
- Shortcut not closed: random_pretraining 0.649 [0.596, 0.693]; random_always
  0.526 [0.505, 0.562].
- random_pretraining stays above the majority with an NLL of 0.673 against the
  entropy 0.693 nats: the frozen predictor still varies a little with the mask,
  and the selector drives it across its threshold.
"""

from jaxattn.config import Config


def get_config() -> Config:
    return Config()
