"""PLACEHOLDER"""

from jaxattn.config import Config, Data, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="known_features",
        tasks=(
            "syn1",
            "syn2",
            "syn3",
            "syn4",
            "syn5",
            "syn6",
            "xor",
            "orange_skin",
            "nonlinear_additive",
            "switch",
        ),
        methods=(
            "joint",
            "random_pretraining",
            "instance_weighting",
            "mask_swap",
            "random_always",
            "mask_mix",
            "mask_mix_delayed",
            "invase",
            "realx",
            "random_selection",
        ),
        epochs=30,
        batch_size=250,
        lane=8,
        data=Data(examples=10_000, test_examples=5_000),
        model=Model(
            values="inputs",
            query="none",
            selector="tabular",
            normalizer="gates",
            predictor="tabular",
            temperature=0.5,
            penalty=0.005,
            features=1,
            hidden=32,
        ),
        optimizer=Optimizer(learning_rate=3e-3),
    )
