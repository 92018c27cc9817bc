"""Meaningless tokens beside the words: how much attention do they get?

Four default tokens are appended to the text and compete with the words for the mask.
results.csv holds the mass on default tokens, on punctuation and on words that the human
lexicon rates, each beside the mass that a uniform mask would give.

    python -m jaxattn.train --config configs/probe_compete.py

16 seeds, 3 min of CPU time, about 2 min on 2 free CPU cores. Expected (test
split, 95 % intervals over seeds):

method                        accuracy                 nll             leak_bits
16 seeds                     null .510           null .693   null -.057 to -.053
joint               0.731 [.727, .737]  0.928 [.910, .947]  -.063 [-.068, -.058]
random_pretraining  0.746 [.742, .750]  0.570 [.563, .578]  -.065 [-.071, -.060]
mask_swap           0.742 [.738, .745]  0.560 [.555, .567]  -.060 [-.066, -.053]

- Share of the mask on meaningless default tokens while the words are there
  (0.188 if uniform): joint 0.001 [0.001, 0.002]; random_pretraining 0.001
  [0.001, 0.002]; mask_swap 0.003 [0.002, 0.005].
"""

from jaxattn.config import Config, Model


def get_config() -> Config:
    return Config(
        name="probe_compete",
        methods=("joint", "random_pretraining", "mask_swap"),
        model=Model(values="inputs_and_default_tokens"),
    )
