"""What a run says before it begins: machine, data, models, and what will cost much."""

from typing import Any

from jax.sharding import Mesh

from jaxattn.config import Config
from jaxattn.experiment import after_training
from jaxattn.experiment.plan import Program
from jaxattn.experiment.source import Source, majority
from jaxattn.methods.table import FULL_TEXT
from jaxattn.nn import model as nn_model
from jaxattn.system import console, runtime
from jaxattn.training.evaluation import attention


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
    console.paragraph(
        f"jaxattn {runtime.environment()['versions']['jaxattn'] or '(source)'} on "
        f"{_many(mesh.size, f'{device.platform} device')}: {tasks}"
        f"{_many(len(config.methods), 'method')}{settings} x "
        f"{_many(config.seeds, 'seed')}, "
        f"{'resuming a' if begun else 'new'} run"
    )
    for s in sources:
        _describe(config, s)
    console.paragraph(f"parameters of each model: {_parameters_of(programs)}")
    _say_prices(config, programs)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _parameters_of(programs: list[Program]) -> str:
    """How many numbers a model learns; programs of several tasks differ in it."""
    texts = []
    for name, full in (("", False), (" (full text)", True)):
        models = {
            p.cell.model for p in programs if (p.cells[0][0] == FULL_TEXT) == full
        }
        counts = sorted({nn_model.size(m) for m in models})
        ends = dict.fromkeys(f"{n:,}" for n in (counts[:1] + counts[-1:]))
        texts += [" to ".join(ends) + name] if counts else []
    return ", ".join(texts)


def _say_prices(config: Config, programs: list[Program]) -> None:
    audited = sum(len(p.cells) for p in programs if after_training.audits_masks(p))
    if audited:
        console.paragraph(f"leak: {after_training.price_of_audits(audited)}")
    shown = [p for p in programs if after_training.asks_black_box(p)]
    if shown:
        console.paragraph(after_training.price_of_asking(shown))
    for program in programs:
        if attention.applies(program.cell):
            prices = attention.prices(config, program.source.inputs.length)
            for group in config.metrics:
                if group in prices:
                    console.paragraph(f"{group}: {prices[group]}, each seed and method")
            return


def _describe(config: Config, s: Source) -> None:
    data, dataset = config.data, s.dataset
    if dataset is None:
        console.paragraph(
            f"{s.task}: {data.examples:,} / {data.test_examples // 4:,} / "
            f"{data.test_examples:,} generated examples (train / validation / test), "
            f"{s.inputs.length} features, own ones for each seed"
        )
        return
    sizes = " / ".join(
        f"{len(x.labels):,}" for x in (dataset.train, dataset.validation, dataset.test)
    )
    kind = "texts" if dataset.vocabulary else "examples"
    console.paragraph(f"{s.task}: {sizes} {kind} (train / validation / test)")
    if s.black_box is not None:
        console.paragraph(
            f"the model to explain {s.black_box.told}; its answers are the labels from "
            "here on"
        )
    shares = majority(s, "train")
    assert shares is not None
    named = [f"{n} {x:.3f}" for n, x in zip(dataset.classes, shares, strict=True)]
    if len(named) > 10:
        few = f"{len(named)} classes, of {shares.min():.3f} to {shares.max():.3f}"
        console.paragraph(f"{few} of the training split")
    else:
        console.paragraph(f"classes of the training split: {', '.join(named)}")
    if not dataset.vocabulary:
        return
    cut = dataset.cut.get("train")
    text = f"{len(dataset.vocabulary):,} token types; {data.length} tokens kept"
    if cut is not None:
        lost = cut.tokens / (cut.tokens + dataset.train.lengths.sum())
        text += f", {cut.examples:,} texts cut, {lost:.1%} of tokens lost"
    console.paragraph(text)
