"""draft"""

from jaxattn.config import Config


def get_config() -> Config:
    return Config()
