"""PLACEHOLDER"""

from jaxattn.config import Config, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="explain",
        tasks=("explain_linear", "explain_cnn", "explain_gru"),
        methods=(
            "joint",
            "random_pretraining",
            "instance_weighting",
            "mask_swap",
            "random_always",
            "mask_mix",
            "random_selection",
            "gradient",
            "leave_one_out",
        ),
        also=("model.budget=10",),
        epochs=4,
        model=Model(
            values="inputs", normalizer="gumbel_top_k", temperature=0.5, features=16
        ),
        optimizer=Optimizer(learning_rate=3e-3),
    )
