"""draft"""

from jaxattn.config import Config, Weighting


def get_config() -> Config:
    return Config(
        name="probe_sources",
        task="sources",
        epochs=12,
        weighting=Weighting(hidden=64, updates=2),
    )
