"""All that the sweep benchmark knows of the library's inside, in one place."""

import dataclasses
import functools
import pathlib
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
from setups import DRAWS, EXAMPLES, LEARNING_RATE, PREDICTOR, SELECTOR, TEMPERATURE
from sweep_setups import Setup

from jaxattn import config as configs
from jaxattn.experiment import config_files, placement
from jaxattn.experiment.plan import Program, plan
from jaxattn.experiment.source import Loading, load
from jaxattn.experiment.wave import (
    functions,
    make_splits,
    mesh_of_all_devices,
    stack,
)
from jaxattn.nn import model as nn_model
from jaxattn.training import step as steps
from jaxattn.training.cell import Arrays, splits_of, unpack

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def config_of(setup: Setup, seeds: int) -> configs.Config:
    """The default config of a set-up, with `joint` alone."""
    if setup.config:
        asked = config_files.load(CONFIGS / f"{setup.config}.py")
        model = dataclasses.replace(asked.model, query=setup.query)
        if setup.config == "bags":
            model = asked.model
    else:
        model = configs.Model(
            values="inputs",
            query="none",
            selector="tabular",
            normalizer="gumbel_top_k",
            predictor="tabular",
            temperature=TEMPERATURE,
            budget=DRAWS,
            hidden=SELECTOR,
        )
        asked = configs.Config(
            tasks=("syn4",),
            # Validation is the sweep's habit; it is kept, but small.
            data=configs.Data(examples=EXAMPLES, test_examples=EXAMPLES // 20),
            optimizer=configs.Optimizer(learning_rate=LEARNING_RATE),
        )
    return configs.check(
        dataclasses.replace(
            asked, model=model, methods=("joint",), seeds=seeds, batch_size=setup.batch
        )
    )


def program_of(setup: Setup, seeds: int) -> Program:
    asked = config_of(setup, seeds)
    source = load(asked, asked.tasks[0], Loading())
    # The probe's reference on the full text comes second.
    program = plan(asked, source)[0]
    model = program.cell.model
    if setup.family == "tabular":
        parts = model.predictor.parts._replace(hidden=PREDICTOR)
        model = model._replace(predictor=model.predictor.clone(parts=parts))
    # The evaluator is no part of what the other sides train.
    settings = {
        label: cell.replace(model=model, evaluated=False)
        for label, cell in program.settings.items()
    }
    return program._replace(settings=settings)


# The number of seeds is no part of a program, so that all numbers share one.
_functions = functools.cache(functions)


class Sweep:
    """Many seeds by the library's own sweep, an epoch of a wave after another."""

    def __init__(self, setup: Setup, seeds: int):
        self.program = program_of(setup, seeds)
        self.mesh = mesh_of_all_devices()
        # What the library begins with where it is not told; see `placement.fastest`.
        shape = placement.guess(self.program, self.mesh, 0)
        self.size = shape.cells(self.mesh)
        self.waves = -(-seeds // self.size)
        self.steps = self.program.cell.steps_per_epoch
        self.lanes = f"{shape.lane} on each of {self.mesh.size}"
        self.stored = make_splits(self.program.source, self.mesh).stored
        self.init, self.chunk, _ = _functions(self.mesh, shape)
        self.states: dict[int, Any] = {}
        self.nats: dict[int, list[float]] = {}

    def cells(self, wave: int) -> Any:
        # The last wave is filled up, as the sweep does it.
        names = list(self.program.cells[wave * self.size : (wave + 1) * self.size])
        names += [names[-1]] * (self.size - len(names))
        return stack(self.program, names, self.mesh)

    def begin(self, wave: int) -> None:
        self.states[wave] = jax.block_until_ready(self.init(self.cells(wave)))

    def epoch(self, wave: int) -> None:
        state, curve = self.chunk(self.states[wave], self.cells(wave), self.stored)
        self.states[wave] = state
        nats = float(np.mean(np.asarray(curve["train_nll"])))
        self.nats.setdefault(wave, []).append(nats)


class OneSeed:
    """One seed after another; what one epoch of one seed takes says it all."""

    def __init__(self, setup: Setup):
        program = program_of(setup, 1)
        mesh = mesh_of_all_devices()
        self.steps = program.cell.steps_per_epoch
        cells = stack(program, [program.cells[0]] * mesh.size, mesh)
        cell = jax.tree.map(lambda x: x[0], cells)
        self.cell = cell.replace(key=jax.random.key(cell.key))
        self.stored = make_splits(program.source, mesh).stored
        self.chunk = jax.jit(steps.chunk, donate_argnums=1)
        self.state = jax.jit(steps.init)(self.cell)
        self.nats: list[float] = []

    def epoch(self) -> None:
        self.state, curve = self.chunk(self.cell, self.state, self.stored)
        self.nats.append(float(curve["train_nll"]))


def batch_of(one: OneSeed, rows: np.ndarray) -> Arrays:
    """Some rows of the training split."""
    train, _, _ = splits_of(one.cell, one.stored)
    return jax.tree.map(lambda x: x[rows], train)


def _batch(one: OneSeed, arrays: Arrays) -> steps.Batch:
    examples, classes = unpack(arrays), one.cell.classes
    prior = np.full(classes, 1 / classes, np.float32)
    return steps.Batch(examples, np.arange(len(arrays.labels)) % 2, prior)


def costs(setup: Setup) -> dict[str, float]:
    """FLOPs and bytes of one step of one seed by XLA's account, and its parameters.

    XLA counts the body of a loop once, however often it runs. So this is of a step by
    itself and not of an epoch, and the GRU's loop over positions is unrolled.
    """
    one = OneSeed(setup)
    batch = batch_of(one, np.arange(setup.batch))
    step = jax.jit(steps.step, donate_argnums=1)
    length = one.cell.model.inputs.length
    unrolled = functools.partial(nn.RNN, unroll=length)
    with mock.patch.object(nn, "RNN", unrolled):
        lowered = step.lower(one.cell, one.state, _batch(one, batch))
    found = lowered.compile().cost_analysis()
    params = sum(x.size for x in jax.tree.leaves(one.state.params))
    return {
        "flops": found["flops"],
        "bytes": found["bytes accessed"],
        "parameters": params,
    }


def case(setup: Setup, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters, noise, nats and the gradient's norm of one batch, for PyTorch.

    `inputs` are the arrays of a generated task; stored ones are in the answer.
    """
    one = OneSeed(setup)
    config, model = one.cell.config, one.cell.model
    rows = np.arange(setup.batch)
    if inputs:
        lengths = np.full(setup.batch, inputs["inputs"].shape[1], np.int32)
        batch = Arrays(inputs["inputs"][rows], lengths, inputs["labels"][rows])
    else:
        train = jax.tree.map(np.asarray, one.stored[0])
        inputs = {"inputs": train.inputs, "lengths": train.lengths}
        inputs["labels"] = train.labels
        batch = batch_of(one, rows)
    key = jax.random.key(7)

    def loss(params):
        return steps.loss(one.cell, params, (), _batch(one, batch), key)[0]

    nats, grads = jax.jit(jax.value_and_grad(loss))(one.state.params)
    found = {"check/rows": rows, "check/nats": nats}
    found["check/norm"] = sum((x**2).sum() for x in jax.tree.leaves(grads)) ** 0.5
    keys = jax.random.split(jax.random.split(key, 4)[0], setup.batch)
    positions = nn_model.positions(model, model.inputs.length)
    shape = {
        "gumbel_softmax": (positions,),
        "gumbel_top_k": (model.draws, positions),
    }.get(model.normalizer)
    if shape:
        found["check/noise"] = jax.vmap(lambda k: jax.random.gumbel(k, shape))(keys)
    leaves = jax.tree_util.tree_leaves_with_path(one.state.params)
    for path, value in leaves:
        found["param/" + "/".join(str(part.key) for part in path)] = value
    m = config.model
    sizes = {
        "features": m.features,
        "hidden": m.hidden,
        "default_tokens": m.default_tokens if m.values == "default_tokens" else 0,
        "tokens": model.inputs.size,
        "classes": one.cell.classes,
        "predictor_hidden": model.predictor.parts.hidden,
        "draws": model.draws,
        "temperature": m.temperature,
    }
    learning_rate = config.optimizer.learning_rate
    return inputs | found | {"sizes": sizes, "learning_rate": learning_rate}
