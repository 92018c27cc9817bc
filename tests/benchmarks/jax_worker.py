"""JAX in three ways: one seed at a time, many seeds side by side, jaxattn's engine."""

import functools
import sys
from typing import Any

from protocol import serve, timed
from setups import (
    DRAWS,
    EXAMPLES,
    FEATURES,
    LEARNING_RATE,
    PENALTY,
    PREDICTOR,
    SEEDS,
    SELECTOR,
    SETUPS,
    TEMPERATURE,
    Setup,
    syn4,
    widths,
)

from jaxattn.system import runtime

KIND, LANE = sys.argv[1], int(sys.argv[2])
# Before jax is imported. Nothing here is read from or written to a cache of programs.
runtime.configure(cpu_devices=1 if KIND == "one" else None, cache=False)

import flax  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

SIDE = 1024
ADAM = optax.adam(LEARNING_RATE)


def init(setup: Setup, key: Any) -> tuple[Any, Any]:
    normal = jax.nn.initializers.lecun_normal()
    params = {}
    for i, (name, layers) in enumerate(widths(setup.method).items()):
        keys = jax.random.split(jax.random.fold_in(key, i), len(layers) - 1)
        shapes = zip(keys, layers, layers[1:], strict=False)
        params[name] = [(normal(k, (a, b)), jnp.zeros(b)) for k, a, b in shapes]
    return params, ADAM.init(params)


def mlp(layers: Any, x: Any) -> Any:
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = layers[-1]
    return x @ w + b


def nats_of(layers: Any, x: Any, y: Any) -> Any:
    logits = mlp(layers, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def l2x(params: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
    scores = mlp(params["selector"], x)
    noise = jax.random.gumbel(key, (len(x), DRAWS, FEATURES))
    mask = jax.nn.softmax((scores[:, None] + noise) / TEMPERATURE).max(axis=1)
    nats = nats_of(params["predictor"], x * mask, y).mean()
    return nats, nats


def invase(params: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
    scores = mlp(params["selector"], x)
    rate = jax.nn.sigmoid(scores)
    mask = jax.random.bernoulli(key, jax.lax.stop_gradient(rate)).astype(x.dtype)
    nats = nats_of(params["predictor"], x * mask, y)
    base = nats_of(params["baseline"], x, y)
    log_p = -optax.sigmoid_binary_cross_entropy(scores, mask).sum(axis=1)
    surrogate = jax.lax.stop_gradient(nats - base) * log_p
    total = surrogate + PENALTY * rate.sum(axis=1) + nats + base
    return total.mean(), nats.mean()


LOSSES = {"l2x": l2x, "invase": invase}


def epoch(setup: Setup, state: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A scan of the steps of one epoch of one seed; also its mean nats."""
    loss = jax.value_and_grad(LOSSES[setup.method], has_aux=True)
    order = jax.random.permutation(key, EXAMPLES)[: setup.steps * setup.batch]

    def step(state, args):
        index, i = args
        params, moments = state
        (_, nats), grads = loss(params, jax.random.fold_in(key, i), x[index], y[index])
        updates, moments = ADAM.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), nats

    batches = order.reshape(setup.steps, setup.batch)
    state, nats = jax.lax.scan(step, state, (batches, jnp.arange(setup.steps)))
    return state, nats.mean()


class OneSeed:
    """One seed after another; what one epoch of one seed takes says it all."""

    seeds = 1

    def __init__(self, setup: Setup):
        self.epoch = jax.jit(functools.partial(epoch, setup), donate_argnums=0)
        self.state = jax.jit(functools.partial(init, setup))(jax.random.key(0))
        self.data = jax.device_put(syn4(0))
        self.epochs: list[float] = []

    def once(self) -> None:
        key = jax.random.key(len(self.epochs))
        self.state, nats = self.epoch(self.state, key, *self.data)
        self.epochs.append(float(nats))


def waves_of(setup: Setup) -> tuple[int, int]:
    """Seeds at once on each device, and how often that is repeated for all seeds."""
    devices = len(jax.devices())
    lane = min(LANE or setup.lane, max(1, SEEDS // devices))
    return lane, -(-SEEDS // (lane * devices))


class Lanes:
    """All seeds: some side by side on every device, wave after wave."""

    def __init__(self, setup: Setup):
        lane, waves = waves_of(setup)
        size = lane * len(jax.devices())
        self.seeds = size * waves
        self.mesh = Mesh(np.array(jax.devices()), ("seeds",))
        sharding = NamedSharding(self.mesh, P("seeds"))

        def sharded(function, **kwargs):
            inner = jax.shard_map(
                jax.vmap(function),
                mesh=self.mesh,
                in_specs=P("seeds"),
                out_specs=P("seeds"),
                check_vma=False,
            )
            return jax.jit(inner, **kwargs)

        self.sharding, self.size = sharding, size
        self.epoch = sharded(functools.partial(epoch, setup), donate_argnums=0)
        start = sharded(functools.partial(init, setup))
        self.states, self.data = [], []
        for wave in range(waves):
            numbers = range(wave * size, (wave + 1) * size)
            self.states.append(start(self._keys(numbers)))
            x, y = map(np.stack, zip(*map(syn4, numbers), strict=True))
            self.data.append(jax.device_put((x, y), sharding))
        self.epochs: list[float] = []

    def _keys(self, numbers: Any) -> Any:
        keys = jax.vmap(jax.random.key)(np.array(numbers, np.uint32))
        return jax.device_put(keys, self.sharding)

    def once(self) -> None:
        found = []
        for wave, (x, y) in enumerate(self.data):
            first = 10_000 * (1 + len(self.epochs)) + wave * self.size
            keys = self._keys(range(first, first + self.size))
            self.states[wave], nats = self.epoch(self.states[wave], keys, x, y)
            found.append(np.asarray(nats))
        self.epochs.append(float(np.mean(found)))


class Engine:
    """All seeds by jaxattn's own sweep: its generator, steps and validation."""

    def __init__(self, setup: Setup):
        from jaxattn import config
        from jaxattn.experiment import wave
        from jaxattn.experiment.plan import plan
        from jaxattn.experiment.source import Loading, load

        lane, waves = waves_of(setup)
        mesh = wave.mesh_of_all_devices()
        self.seeds = lane * mesh.size * waves
        method, normalizer = {
            "l2x": ("joint", "gumbel_top_k"),
            "invase": ("invase", "gates"),
        }[setup.method]
        asked = config.Config(
            tasks=("syn4",),
            methods=(method,),
            seeds=self.seeds,
            batch_size=setup.batch,
            lane=lane,
            # Validation is the sweep's habit; it is kept, but small.
            data=config.Data(examples=EXAMPLES, test_examples=EXAMPLES // 20),
            model=config.Model(
                values="inputs",
                query="none",
                selector="tabular",
                normalizer=normalizer,
                predictor="tabular",
                temperature=TEMPERATURE,
                budget=DRAWS,
                penalty=PENALTY if setup.method == "invase" else 0,
                hidden=SELECTOR,
            ),
            optimizer=config.Optimizer(learning_rate=LEARNING_RATE),
        )
        source = load(config.check(asked), "syn4", Loading())
        (program,) = plan(asked, source)
        model = program.cell.model
        parts = model.predictor.parts._replace(hidden=PREDICTOR)
        model = model._replace(predictor=model.predictor.clone(parts=parts))
        # The evaluator is no part of the published set-ups.
        settings = {
            label: cell.replace(model=model, evaluated=False)
            for label, cell in program.settings.items()
        }
        program = program._replace(settings=settings)
        init, self.chunk, _ = wave.functions(mesh, wave.Shape(lane))
        size = lane * mesh.size
        starts = range(0, self.seeds, size)
        self.cells = [
            wave.stack(program, list(program.cells[i : i + size]), mesh) for i in starts
        ]
        self.states = [init(cells) for cells in self.cells]
        self.epochs: list[float] = []

    def once(self) -> None:
        found = []
        for wave, cells in enumerate(self.cells):
            self.states[wave], curve = self.chunk(self.states[wave], cells, ())
            found.append(np.asarray(curve["train_nll"]))
        self.epochs.append(float(np.mean(found)))


def sgemm() -> Any:
    """One product of square matrices on each device at once."""
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("cores",))
    shape = (len(devices), SIDE, SIDE)
    x = jax.device_put(np.ones(shape, "f4"), NamedSharding(mesh, P("cores")))
    product = jax.jit(
        jax.shard_map(
            lambda x: x @ x, mesh=mesh, in_specs=P("cores"), out_specs=P("cores")
        )
    )
    return lambda: product(x).block_until_ready()


def main() -> None:
    kinds: dict[str, Any] = {"one": OneSeed, "lanes": Lanes, "engine": Engine}
    runs: dict[str, Any] = {}

    def run(name: str, seconds: float) -> dict:
        if name == "sgemm":
            if name not in runs:
                runs[name] = sgemm()
                runs[name]()
            found = timed(runs[name], seconds)
            work = 2 * SIDE**3 * len(jax.devices())
            return {"rate": work * found["count"] / found["seconds"]}
        setup = SETUPS[name]
        if name not in runs:
            runs[name] = kinds[KIND](setup)
            runs[name].once()
        found = timed(runs[name].once, seconds)
        while len(runs[name].epochs) < 2:
            runs[name].once()
        steps = found["count"] * setup.steps * runs[name].seeds
        nats = runs[name].epochs[1]
        return {"rate": steps / found["seconds"], "nats": nats}

    versions = {"jax": jax.__version__, "flax": flax.__version__}
    versions |= {"optax": optax.__version__, "numpy": np.__version__}
    serve(versions | {"devices": str(len(jax.devices()))}, run)


if __name__ == "__main__":
    main()
