import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from small_run import flip

from jaxattn.experiment import checkpoint

ROOT = pathlib.Path(__file__).parents[1]


class State(NamedTuple):
    params: dict
    moments: optax.OptState
    frozen: jax.Array
    step: jax.Array


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "jaxattn")
    return caplog


def make_state(seed: int = 0) -> State:
    w = jax.random.normal(jax.random.key(seed), (4, 3))
    params = {"w": w.at[1, 2].set(jnp.nan), "b": {"c": jnp.arange(4.0)}}
    state = State(
        params=params,
        moments=jax.vmap(optax.adam(1e-3).init)(params),
        frozen=jnp.array([True, False, True, False]),
        step=jnp.arange(4) + seed,
    )
    return spread(state)


def spread(state):
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("seeds",))
    return jax.device_put(state, NamedSharding(mesh, P("seeds")))


def same(a, b) -> bool:
    def bits(x):
        return x.dtype, x.shape, np.asarray(x).tobytes()

    assert jax.tree.structure(a) == jax.tree.structure(b)
    return [*map(bits, jax.tree.leaves(a))] == [*map(bits, jax.tree.leaves(b))]


def restored(directory, like=None):
    like = make_state() if like is None else like
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    step = checkpoint.restore(directory, lambda meta: empty)
    assert step is not None
    return step


def steps(directory) -> list[str]:
    return sorted(os.listdir(directory))


def child(code: str, *arguments) -> list[str]:
    """A command that runs `code` after the helpers of this file."""
    start = """
        import sys
        sys.path[:0] = sys.argv[1:3]
        from jaxattn.system.runtime import configure
        configure(cpu_devices=2)
        from test_checkpoint import *
    """
    text = textwrap.dedent(start) + textwrap.dedent(code)
    paths = [str(ROOT), str(ROOT / "tests")]
    return [sys.executable, "-c", text, *paths, *map(str, arguments)]


def test_restores_every_bit_as_numpy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the directory may be a relative one
    state, meta = make_state(), {"phase": 1, "loss": 0.1, "names": ["a"]}
    checkpoint.save("a/b", 7, state, meta)
    step, arrays, kept = restored("a/b")
    assert (step, kept) == (7, meta) and same(arrays, state)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(arrays))
    assert not same(arrays, make_state(seed=1))


def test_nothing_saved(tmp_path):
    assert checkpoint.restore(tmp_path, lambda meta: ()) is None
    assert checkpoint.restore(tmp_path / "absent", lambda meta: ()) is None
    assert not (tmp_path / "absent").exists()


def test_keeps_the_newest_two_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "007").mkdir()
    for step in (2, 4, 10):
        checkpoint.save(tmp_path, step, make_state(step), {})
    assert steps(tmp_path) == ["007", "10", "4", "notes.txt"]
    assert restored(tmp_path)[0] == 10


@pytest.mark.parametrize("step", [8, 6])
def test_saving_an_old_step_again_replaces_it_and_the_later_ones(tmp_path, step):
    checkpoint.save(tmp_path, 4, make_state(4), {})
    checkpoint.save(tmp_path, 8, make_state(8), {})
    checkpoint.save(tmp_path, step, make_state(99), {"again": True})
    assert steps(tmp_path) == ["4", str(step)]
    newest, arrays, meta = restored(tmp_path)
    assert newest == step and meta == {"again": True}
    assert same(arrays, make_state(99))


def test_what_a_killed_save_leaves_is_completed_or_removed(tmp_path):
    checkpoint.save(tmp_path, 4, make_state(4), {})
    checkpoint.save(tmp_path, 8, make_state(8), {})
    # All was written, and the earlier step was not yet replaced.
    shutil.copytree(tmp_path / "8", tmp_path / "8.unfinished")
    shutil.copytree(tmp_path / "4", tmp_path / "9.unfinished")
    (tmp_path / "9.unfinished" / "SHA256SUMS").unlink()
    step, arrays, _ = restored(tmp_path)
    assert step == 8 and same(arrays, make_state(8))
    assert steps(tmp_path) == ["4", "8"]
    shutil.rmtree(tmp_path / "8")
    shutil.move(tmp_path / "4", tmp_path / "4.unfinished")
    assert restored(tmp_path)[0] == 4


def test_a_flipped_byte_in_any_file_is_noticed(tmp_path, said):
    old, new = make_state(1), make_state(2)
    checkpoint.save(tmp_path / "good", 1, old, {"n": 1})
    checkpoint.save(tmp_path / "good", 2, new, {"n": 2})
    step = tmp_path / "good" / "2"
    files = [p.relative_to(step) for p in step.rglob("*") if p.is_file()]
    assert len(files) > 5
    for position, name in enumerate(files):
        work = tmp_path / "work"
        shutil.copytree(tmp_path / "good", work)
        flip(work / "2" / name, position * 0.31 % 1)
        said.clear()
        step, arrays, meta = restored(work)
        assert step == 1 and same(arrays, old) and meta == {"n": 1}
        (line,) = said.messages
        assert line.startswith(f"checkpoint 2 in {work} is damaged and skipped: ")
        # A damaged step does not stop the run that goes on from the one before.
        checkpoint.save(work, 2, new, {})
        step, arrays, _ = restored(work)
        assert step == 2 and same(arrays, new)
        shutil.rmtree(work)


def truncate(step: pathlib.Path) -> None:
    for file in step.glob("state/**/d/*"):
        os.truncate(file, file.stat().st_size // 2)


def empty(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def shorten_sums(step: pathlib.Path) -> None:
    lines = (step / "SHA256SUMS").read_text().splitlines(keepends=True)
    (step / "SHA256SUMS").write_text("".join(lines[1:]))


DAMAGE = {
    "truncated": truncate,
    "file missing": lambda step: next((step / "state" / "d").iterdir()).unlink(),
    "tree missing": lambda step: (step / "state" / "_METADATA").unlink(),
    "state missing": lambda step: shutil.rmtree(step / "state"),
    "meta missing": lambda step: (step / "meta.json").unlink(),
    "sums missing": lambda step: (step / "SHA256SUMS").unlink(),
    "sums cut off": shorten_sums,
    "empty": empty,
    "of another step": lambda step: [
        shutil.rmtree(step),
        shutil.copytree(step.parents[1] / "other" / "7", step),
    ],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_falls_back_or_says_what_to_do(tmp_path, damage, capfd, said):
    checkpoint.save(tmp_path / "other", 7, make_state(), {})
    folder = tmp_path / "here"
    for step in (1, 2):
        checkpoint.save(folder, step, make_state(step), {})
    damage(folder / "2")
    step, arrays, _ = restored(folder)
    assert step == 1 and same(arrays, make_state(1))
    assert len(said.messages) == 1 and "checkpoint 2" in said.messages[0]
    damage(folder / "1")
    with pytest.raises(ValueError, match="delete this directory") as error:
        restored(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda s: s._replace(step=s.step.astype(float)), r"state\.step is int32\[4\]"),
        (lambda s: s._replace(frozen=s.frozen[:2]), r"bool\[2\] here"),
        (lambda s: s._replace(params=s.params | {"x": s.step}), "is nothing there"),
        (lambda s: s._replace(params={"w": s.params["w"]}), "nothing here"),
    ],
)
def test_another_state_is_refused_in_one_line(tmp_path, change, text):
    state = make_state()
    checkpoint.save(tmp_path, 1, state, {})
    with pytest.raises(ValueError, match=text) as error:
        restored(tmp_path, change(state))
    assert "\n" not in str(error.value)


def test_a_step_of_the_first_release_is_read(tmp_path):
    """Its description was a text within the JSON that Orbax wrote, with a digest."""
    checkpoint.save(tmp_path, 3, make_state(3), {"n": 3})
    step = tmp_path / "3"
    record = (step / "meta.json").read_text()
    (step / "meta.json").unlink()
    (step / "meta").mkdir()
    sealed = {"record": record, "sha256": "of the record"}
    (step / "meta" / "metadata").write_text(json.dumps(sealed))
    sums = checkpoint._sums(step)
    (step / "SHA256SUMS").write_text("".join(f"{v}  {k}\n" for k, v in sums.items()))
    number, arrays, meta = restored(tmp_path)
    assert number == 3 and meta == {"n": 3} and same(arrays, make_state(3))


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write checkpoint 1 in .*file") as error:
        checkpoint.save(tmp_path / "file", 1, make_state(), {})
    assert "\n" not in str(error.value)


def test_full_disk_leaves_the_last_step(tmp_path):
    code = """
        import resource
        directory = sys.argv[3]
        checkpoint.save(directory, 1, make_state(1), {})
        checkpoint.save(directory, 2, make_state(2), {})
        x = jax.random.normal(jax.random.key(0), (4, 20_000))
        big = spread({str(i): x + i for i in range(10)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        for step in (2, 3):
            try:
                checkpoint.save(directory, step, big, {})
            except OSError as error:
                print(error)
            time.sleep(0.2)  # threads that Orbax leaves must stay silent
    """
    ran = subprocess.run(
        child(code, tmp_path), capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0 and ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    for step, line in zip((2, 3), lines, strict=True):
        assert line.startswith(f"cannot write checkpoint {step} in {tmp_path}: ")
    assert steps(tmp_path) == ["1", "2"]
    assert same(restored(tmp_path)[1], make_state(2))


def test_killed_while_saving_keeps_a_whole_step(tmp_path, said):
    code = """
        directory, step = sys.argv[3], int(sys.argv[4])
        x = jax.random.normal(jax.random.key(0), (4, 100_000))
        for step in range(step, step + 1000):
            checkpoint.save(directory, step, make_state(step)._replace(params=x), {})
            print(step, flush=True)
    """
    like = make_state()._replace(params=jnp.zeros((4, 100_000)))
    step = 0
    for wait in (0.0, 0.04):
        with subprocess.Popen(
            child(code, tmp_path, step + 1), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            reported = int(process.stdout.readline())
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            later = process.stdout.read().split()
            reported = int(later[-1]) if later else reported
        step, arrays, _ = restored(tmp_path, like)
        assert said.messages == [] and step in (reported, reported + 1)
        assert same(arrays._replace(params={}), make_state(step)._replace(params={}))
        assert all(name.isdecimal() for name in steps(tmp_path))
