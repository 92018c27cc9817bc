"""draft"""

from jaxattn.config import Config, Model


def get_config() -> Config:
    return Config(
        name="probe_compete",
        methods=("joint", "random_pretraining", "mask_swap"),
        model=Model(values="words_and_default_tokens"),
    )
