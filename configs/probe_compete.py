"""draft"""

from jaxattn.config import Config, Model


def get_config() -> Config:
    return Config(name="probe_compete", model=Model(values="words_and_default_tokens"))
