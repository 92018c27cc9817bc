"""PLACEHOLDER"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="bags",
        tasks=("bags",),
        methods=(
            "joint",
            "random_pretraining",
            "instance_weighting",
            "mask_swap",
            "random_always",
            "mask_mix",
            "mask_mix_delayed",
            "uniform",
        ),
        epochs=15,
        model=Model(
            values="inputs",
            query="none",
            selector="gated",
            normalizer="softmax",
            features=32,
            hidden=32,
        ),
        optimizer=Optimizer(learning_rate=3e-3),
    )
