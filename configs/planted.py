"""PLACEHOLDER"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="planted",
        tasks=("planted",),
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
        epochs=6,
        model=Model(values="inputs", normalizer="softmax"),
        optimizer=Optimizer(learning_rate=1e-3),
    )
