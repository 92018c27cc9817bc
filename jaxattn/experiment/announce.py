"""What a run says before it begins: machine, data, models, and what will cost much."""

import logging
from typing import Any

from jax.sharding import Mesh

from jaxattn.config import Config
from jaxattn.data.splits import SPLITS
from jaxattn.experiment import after_training
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source, majority
from jaxattn.methods.table import FULL_TEXT
from jaxattn.nn import model as nn_model
from jaxattn.system import runtime
from jaxattn.training.evaluation import attention

logger = logging.getLogger("jaxattn")


def tell(
    config: Config,
    sources: list[Source],
    programs: list[Program],
    mesh: Mesh,
    begun: bool,
) -> None:
    """Says all of it; `begun` is whether an earlier run is resumed."""
    device: Any = mesh.devices.flat[0]
    tasks = f"{len(sources)} tasks x " if len(sources) > 1 else ""
    settings = f" x {1 + len(config.also)} settings" if config.also else ""
    logger.info(
        f"jaxattn {runtime.environment()['versions']['jaxattn'] or '(source)'} on "
        f"{_many(mesh.size, f'{device.platform} device')}: {tasks}"
        f"{_many(len(config.methods), 'method')}{settings} x "
        f"{_many(config.seeds, 'seed')}, "
        f"{'resuming a' if begun else 'new'} run"
    )
    texts = [text for source in sources for text in _described(config, source)]
    texts.append(f"parameters of each model: {_parameters_of(programs)}")
    texts += after_training.prices(programs)
    for program in [p for p in programs if attention.applies(p.cell)][:1]:
        prices = attention.prices(config, program.source.inputs.length)
        texts += [
            f"{group}: {prices[group]}, each seed and method"
            for group in config.metrics
            if group in prices
        ]
    for text in texts:
        logger.info(text)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _parameters_of(programs: list[Program]) -> str:
    """How many numbers a model learns; programs of several tasks differ in it."""
    texts = []
    for name, full in (("", False), (" (full text)", True)):
        models = {p.cell.model for p in programs if (FULL_TEXT in p.settings) == full}
        counts = sorted({nn_model.size(m) for m in models})
        ends = dict.fromkeys(f"{n:,}" for n in (counts[:1] + counts[-1:]))
        texts += [" to ".join(ends) + name] if counts else []
    return ", ".join(texts)


def _described(config: Config, source: Source) -> list[str]:
    """Sizes and classes of a task's data, and how much of the texts is cut."""
    data, dataset = config.data, source.dataset
    if dataset is None:
        return [
            f"{source.task}: {data.examples:,} / {data.test_examples // 4:,} / "
            f"{data.test_examples:,} generated examples (train / validation / test), "
            f"{source.inputs.length} features, own ones for each seed"
        ]
    sizes = " / ".join(f"{len(getattr(dataset, s).labels):,}" for s in SPLITS)
    kind = "texts" if dataset.vocabulary else "examples"
    texts = [f"{source.task}: {sizes} {kind} (train / validation / test)"]
    if source.black_box is not None:
        texts.append(
            f"the model to explain {source.black_box.told}; its answers are the labels "
            "from here on"
        )
    shares: Any = majority(source, "train")
    named = [f"{n} {x:.3f}" for n, x in zip(dataset.classes, shares, strict=True)]
    few = f"{len(named)} classes, of {shares.min():.3f} to {shares.max():.3f}"
    texts.append(
        f"{few} of the training split"
        if len(named) > 10
        else f"classes of the training split: {', '.join(named)}"
    )
    if dataset.vocabulary:
        kept = f"{len(dataset.vocabulary):,} token types; {data.length} tokens kept"
        cut = dataset.cut.get("train")
        if cut is not None:
            lost = cut.tokens / (cut.tokens + dataset.train.lengths.sum())
            kept += f", {cut.examples:,} texts cut, {lost:.1%} of tokens lost"
        texts.append(kept)
    return texts
