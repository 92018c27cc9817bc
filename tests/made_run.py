"""Folders of runs made by hand, so that what a report says can be known beforehand."""

import json
import pathlib

import numpy as np

from jaxattn.config import Config, Model, fingerprint, to_dict
from jaxattn.reports.results import Row, summarise, write_results, write_seeds

WORDS = ("<pad>", "<unk>", "a", "fine", "film", "dull")
TASK = "movie_sentiment"
N, LENGTH = 40, 6


def config_of(**changes) -> Config:
    model = Model(values=changes.pop("values", "inputs"), normalizer="softmax")
    given = {"methods": ("joint", "mask_swap", "uniform"), "seeds": 8, "epochs": 2}
    return Config(model=model, **(given | changes))


def make(
    folder: pathlib.Path,
    config: Config | None = None,
    numbers: dict | None = None,
    words=WORDS,
    n=N,
    ids=None,
    classes=("negative", "positive"),
    digest="d" * 64,
) -> pathlib.Path:
    """A finished run; `numbers` maps (method, `metric:variant`) to values of seeds."""
    config = config or config_of()
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    rows = [
        Row(TASK, "reference", s, name, "", "test", value)
        for s in seeds
        for name, value in (("majority", 0.5), ("label_entropy", np.log(2)))
    ]
    given = {
        (m, name): rng.normal(mean, 0.01, len(seeds))
        for k, m in enumerate(config.methods)
        for name, mean in (
            ("accuracy", 0.8 - 0.05 * k),
            ("nll", 0.5),
            ("leak_bits", 0.3 - 0.1 * k),
            ("leak_bits:permuted", 0.0),
            ("foreign_values_accuracy", 0.7 - 0.05 * k),
        )
    } | (numbers or {})
    for (method, name), values in given.items():
        metric, _, variant = name.partition(":")
        rows += [
            Row(TASK, method, s, metric, variant, "test", float(v))
            for s, v in zip(seeds, values, strict=True)
        ]
    write_seeds(folder / "seeds.csv", rows)
    write_results(folder / "results.csv", summarise(rows))
    text = {
        "config": to_dict(config),
        "fingerprint": fingerprint(config),
        "data_digest": digest,
    }
    (folder / "config.json").write_text(json.dumps(text))
    start = {"versions": {"jaxattn": "0.1.0"}, "command": ["python", "-m", "x"],
             "date": "2026-01-01", "platform": "cpu", "devices": 2}  # fmt: skip
    (folder / "environment.json").write_text(json.dumps([start]))
    lines = [
        {"program": p, "epoch": e, "cells": [[m, s] for s in seeds],
         "validation_accuracy": [0.5 + 0.1 * e] * len(seeds)}
        for p, m in enumerate(config.methods[:2])
        for e in (1, 2)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (folder / "data").mkdir()
    names = {"classes": classes, "vocabulary": words, "ratings": {"3": 2.5, "5": -2.0}}
    (folder / "data" / f"{TASK}.json").write_text(json.dumps(names))
    _masks(folder / "masks", config, rng, words, n, ids, seeds)
    return folder


def _masks(folder, config, rng, words, n, ids, seeds) -> None:
    folder.mkdir()
    lengths = rng.integers(2, LENGTH + 1, n)
    there = np.arange(LENGTH) < lengths[:, None]
    tokens = np.where(there, rng.integers(2, len(words), (n, LENGTH)), 0)
    # Whatever is drawn, the last word must be among what is shown.
    tokens[:, 0] = len(words) - 1
    defaults = np.ones((n, config.model.default_tokens), bool)
    usable = {
        "inputs": there,
        "default_tokens": defaults,
        "inputs_and_default_tokens": np.concatenate([there, defaults], axis=1),
    }[config.model.values]
    for method in config.methods:
        masks = rng.gamma(0.5, size=(len(seeds), *usable.shape)) * usable
        masks /= masks.sum(axis=2, keepdims=True)
        np.savez_compressed(
            folder / f"{method}.npz",
            masks=masks.astype(np.float32),
            seeds=np.array(seeds),
            alive=np.ones(len(seeds), bool),
            labels=np.arange(n) % 2,
            lengths=lengths,
            tokens=tokens.astype(np.uint16),
            ids=np.array(ids or [f"text-{i}" for i in range(n)]),
            leak_bits=rng.normal(size=(len(seeds), n)).astype(np.float32),
        )
