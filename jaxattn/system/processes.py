"""Several processes as one run: who they are, what they share, how they end together.

All processes do the same things in the same order on the cells of one mesh; only the
first one writes. With one process everything here is free.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxattn.system.errors import reason

HEARTBEAT_SECONDS = 10
"""A process that is silent for so long is dead, and the job with it."""
ENDED_EARLY = 75
"""Exit code of a run that saved and stopped because it was told to (EX_TEMPFAIL)."""
PEER_DIED = 134
"""Exit code of a process whose peer died; where jax notices first it aborts (SIGABRT),
which gives the same."""


class Address(NamedTuple):
    """Where the processes of a job meet; None is found out by jax's detectors."""

    coordinator: str | None
    processes: int | None
    index: int | None


def parse(text: str, environment: Any = os.environ) -> Address | None:
    """What `--distributed` asks for: None is one process.

    `auto` is one process unless a launcher is seen: SLURM or Open MPI with more than
    one task, a Kubernetes job, a TPU pod, or JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises: ValueError for anything but auto, off and HOST:PORT,N,I.
    """
    if text == "off":
        return None
    if text == "auto":
        return _seen(environment)
    parts = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", text)
    if not parts:
        raise ValueError(
            f"distributed = {text!r}: allowed are auto, off and HOST:PORT,N,I (where "
            "process 0 listens, how many processes there are, which one this is)"
        )
    return _checked(parts[1], int(parts[2]), int(parts[3]))


def _checked(coordinator: str | None, processes: int, index: int) -> Address:
    if not 0 <= index < processes:
        told = f"processes count from 0, so that the last is {max(processes - 1, 0)}"
        raise ValueError(f"process {index} of {processes}: {told}")
    return Address(coordinator, processes, index)


def _seen(environment: Any) -> Address | None:
    def number(name: str) -> int:
        text = environment.get(name, "0")
        if not text.isdecimal():
            raise ValueError(f"{name} = {text!r} is not a whole number")
        return int(text)

    # jax does not read these two, though launchers such as Kubeflow's set them.
    if "JAX_NUM_PROCESSES" in environment:
        if number("JAX_NUM_PROCESSES") == 1:
            return None
        coordinator = environment.get("JAX_COORDINATOR_ADDRESS")
        if not coordinator:
            raise ValueError("JAX_NUM_PROCESSES is set without JAX_COORDINATOR_ADDRESS")
        return _checked(
            coordinator, number("JAX_NUM_PROCESSES"), number("JAX_PROCESS_ID")
        )
    slurm = "SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1
    mpi = number("OMPI_COMM_WORLD_SIZE") > 1
    kubernetes = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= {*environment}
    tpu = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    return Address(None, None, None) if slurm or mpi or kubernetes or tpu else None


def start(address: Address | None) -> None:
    """Joins the job; before anything else uses jax's devices.

    Raises: ValueError, one line, where the job cannot be found out.
    """
    if address is None:
        return
    # We agree on when to stop by ourselves; its handler would take our signals.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *address, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"cannot join the other processes: {reason(error)}") from error


def end(code: int, together: bool) -> None:
    """Leaves the job: with the others, or at once where they will not come along.

    Then their next step together fails, and they end as well.
    """
    if jax.distributed.is_initialized() and together:
        jax.distributed.shutdown()
    elif jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def lost(error: BaseException) -> bool:
    """Whether an error says that another process of the job is gone."""
    signs = ("Gloo ", "NCCL", "Connection closed", "oordination service", "UNAVAILABLE")
    return jax.process_count() > 1 and any(sign in str(error) for sign in signs)


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def share(value: Any) -> Any:
    """What the first process gives, a JSON value, on all of them."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = multihost_utils.broadcast_one_to_all(np.int32(len(text)))
    buffer = np.resize(text, int(size))  # only the first one's counts
    sent = multihost_utils.broadcast_one_to_all(buffer)
    return json.loads(np.asarray(sent).tobytes())


def lead(action: Callable[[], Any]) -> Any:
    """What an action gives that only the first process does; None on the others.

    Where it raises ValueError or OSError there the others end as well, in silence.
    """
    value, problem = None, None
    try:
        value = action() if first() else None
    except (ValueError, OSError) as error:
        problem = error
    if share(problem is not None):
        wait("the first process has failed")
        raise problem or SystemExit(2)
    return value


def most(*values: float) -> tuple[float, ...]:
    """The largest of each number over all processes."""
    if jax.process_count() == 1:
        return values
    each = multihost_utils.process_allgather(np.array(values, np.float32))
    return tuple(np.asarray(each).max(axis=0).tolist())


def wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def whole(array: Any) -> np.ndarray:
    """An array that is sharded over all devices, on every process."""
    if getattr(array, "is_fully_addressable", True):
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def placed(value: np.ndarray, sharding: Any) -> jax.Array:
    """An array that every process has whole, with its parts on their devices."""
    return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])
