"""What is left of the shortcut after random pretraining, and why.

A predictor that has only seen random masks still varies a little with the mask: the
noise of its last steps. It is frozen, so the selector can drive that to its end. Here
its steps are annealed to zero before it is frozen, or it is averaged over the second
half of its training.

    python -m jaxattn.train --config configs/probe_pretraining.py

16 seeds, 2 min of CPU time, about 1 min on 2 free CPU cores. Expected (test
split, 95 % intervals over seeds):

method                         accuracy                 nll            leak_bits
16 seeds                      null .510           null .693  null -.018 to -.017
random_pretraining   0.649 [.596, .693]  0.673 [.663, .681]   0.144 [.088, .189]
random_pretraining_  0.563 [.536, .603]  0.689 [.686, .691]   0.049 [.019, .087]
annealed
random_pretraining_  0.587 [.552, .626]  0.689 [.686, .691]   0.062 [.022, .106]
averaged

- Shortcut not closed: random_pretraining 0.649 [0.596, 0.693];
  random_pretraining_annealed 0.563 [0.536, 0.603]; random_pretraining_averaged
  0.587 [0.552, 0.626].
- random_pretraining stays above the majority with an NLL of 0.673 against the
  entropy 0.693 nats: the frozen predictor still varies a little with the mask,
  and the selector drives it across its threshold.
"""

from jaxattn.config import Config


def get_config() -> Config:
    return Config(
        name="probe_pretraining",
        methods=(
            "random_pretraining",
            "random_pretraining_annealed",
            "random_pretraining_averaged",
        ),
    )
