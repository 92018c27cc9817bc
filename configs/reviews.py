"""draft"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="reviews",
        model=Model(values="words", normalizer="softmax", features=64, hidden=64),
        optimizer=Optimizer(learning_rate=1e-3),
    )
