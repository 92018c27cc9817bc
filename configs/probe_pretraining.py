"""draft"""

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
