import json
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

from jaxattn.experiment import checkpoint

ROOT = pathlib.Path(__file__).parents[1]


class State(NamedTuple):
    params: dict
    moments: optax.OptState
    key: jax.Array
    frozen: jax.Array
    step: jax.Array


def on(devices: int) -> NamedSharding:
    mesh = jax.sharding.Mesh(jax.devices()[:devices], ("seeds",))
    return NamedSharding(mesh, P("seeds"))


def make_state(seed: int = 0, devices: int = 2) -> State:
    w = jax.random.normal(jax.random.key(seed), (4, 3))
    params = {"w": w.at[1, 2].set(jnp.nan), "b": {"c": jnp.arange(4.0)}}
    state = State(
        params=params,
        moments=jax.vmap(optax.adam(1e-3).init)(params),
        key=jax.random.split(jax.random.key(seed + 1), 4),
        frozen=jnp.array([True, False, True, False]),
        step=jnp.arange(4) + seed,
    )
    return jax.device_put(state, on(devices))


def target_of(state, devices: int = 2):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on(devices)), state
    )


def raw(leaf) -> bytes:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def same(a, b) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return all(
        x.dtype == y.dtype and x.shape == y.shape and raw(x) == raw(y) for x, y in pairs
    )


def restored(directory, like, devices: int = 2, say=None):
    found = checkpoint.restore(directory, target_of(like, devices), say)
    assert found is not None
    return found


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


@pytest.mark.parametrize("devices", [1, 2])
def test_restores_every_bit_on_any_number_of_devices(tmp_path, devices):
    state = make_state()
    checkpoint.save(tmp_path, 7, state, {"phase": 1, "loss": 0.1, "names": ["a"]})
    step, found, meta = restored(tmp_path, state, devices)
    assert (step, meta) == (7, {"phase": 1, "loss": 0.1, "names": ["a"]})
    assert same(found, state)
    assert all(x.sharding == on(devices) for x in jax.tree.leaves(found))
    assert not same(found, make_state(seed=1))


def test_a_target_without_shardings_goes_to_one_device(tmp_path):
    state = make_state()
    checkpoint.save(tmp_path, 0, state, {})
    found = checkpoint.restore(tmp_path, jax.eval_shape(lambda: state))
    assert found is not None and same(found[1], state)


def test_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = make_state()
    checkpoint.save("a/b", 0, state, {})
    assert restored("a/b", state)[0] == 0


def test_nothing_saved(tmp_path):
    target = target_of(make_state())
    assert checkpoint.restore(tmp_path, target) is None
    assert checkpoint.restore(tmp_path / "absent", target) is None
    assert not (tmp_path / "absent").exists()


def test_keeps_the_newest_two(tmp_path):
    for step in (2, 4, 10):
        checkpoint.save(tmp_path, step, make_state(step), {})
    assert steps(tmp_path) == ["10", "4"]
    assert restored(tmp_path, make_state())[0] == 10


@pytest.mark.parametrize("step", [8, 6])
def test_saving_an_old_step_again_replaces_it_and_the_later_ones(tmp_path, step):
    checkpoint.save(tmp_path, 4, make_state(4), {})
    checkpoint.save(tmp_path, 8, make_state(8), {})
    checkpoint.save(tmp_path, step, make_state(99), {"again": True})
    assert steps(tmp_path) == ["4", str(step)]
    found = restored(tmp_path, make_state())
    assert found[0] == step and found[2] == {"again": True}
    assert same(found[1], make_state(99))


def test_interrupted_replacement_is_undone(tmp_path):
    state = make_state()
    checkpoint.save(tmp_path, 8, state, {})
    (tmp_path / "8").rename(tmp_path / "8.replaced")
    (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
    assert restored(tmp_path, state)[0] == 8
    assert steps(tmp_path) == ["8"]


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    (tmp_path / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    assert checkpoint.restore(tmp_path, target_of(make_state())) is None
    assert steps(tmp_path) == []


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "007").mkdir()
    checkpoint.save(tmp_path, 1, make_state(), {})
    assert restored(tmp_path, make_state())[0] == 1
    assert steps(tmp_path) == ["007", "1", "notes.txt"]


def flip(path: pathlib.Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x04
    path.write_bytes(content)


def test_a_flipped_byte_in_any_file_is_noticed(tmp_path):
    old, new = make_state(1), make_state(2)
    checkpoint.save(tmp_path / "good", 1, old, {"n": 1})
    checkpoint.save(tmp_path / "good", 2, new, {"n": 2})
    step = tmp_path / "good" / "2"
    files = [p.relative_to(step) for p in step.rglob("*") if p.is_file()]
    assert len(files) > 5
    for position, name in enumerate(files):
        work = tmp_path / "work"
        shutil.copytree(tmp_path / "good", work)
        size = (work / "2" / name).stat().st_size
        flip(work / "2" / name, position * 31 % size)
        said = []
        step, state, meta = restored(work, old, say=said.append)
        assert step == 1 and same(state, old) and meta == {"n": 1}
        assert len(said) == 1 and "\n" not in said[0]
        assert said[0].startswith(f"checkpoint 2 in {work} is damaged and skipped: ")
        # A damaged step does not stop the run that goes on from the one before.
        checkpoint.save(work, 2, new, {})
        step, state, _ = restored(work, old)
        assert step == 2 and same(state, new)
        shutil.rmtree(work)


@pytest.mark.parametrize("name", ["meta/metadata", "state/d/*"])
def test_without_sums_a_flipped_byte_is_noticed_too(tmp_path, name):
    checkpoint.save(tmp_path, 1, make_state(), {})
    (tmp_path / "1" / "SHA256SUMS").unlink()
    assert restored(tmp_path, make_state())[0] == 1
    for file in (tmp_path / "1").glob(name):
        flip(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="delete this directory"):
        restored(tmp_path, make_state())


def test_wrong_numbers_that_orbax_accepts_are_noticed(tmp_path):
    checkpoint.save(tmp_path, 1, make_state(1), {})
    checkpoint.save(tmp_path, 2, make_state(2), {})
    shutil.rmtree(tmp_path / "2" / "state")
    shutil.copytree(tmp_path / "1" / "state", tmp_path / "2" / "state")
    (tmp_path / "2" / "SHA256SUMS").unlink()
    said = []
    assert restored(tmp_path, make_state(), say=said.append)[0] == 1
    assert said == [
        f"checkpoint 2 in {tmp_path} is damaged and skipped: "
        "its arrays are not what was saved"
    ]


def test_altered_meta_and_renamed_step_are_noticed(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / str(step), step, make_state(), {"n": step})
    work = tmp_path / "work"
    shutil.copytree(tmp_path / "1" / "1", work / "1")
    shutil.copytree(tmp_path / "2" / "2", work / "2")
    shutil.copytree(tmp_path / "3" / "3", work / "9")
    file = work / "2" / "meta" / "metadata"
    sealed = json.loads(file.read_text())
    sealed["record"] = sealed["record"].replace('"n": 2', '"n": 3')
    file.write_text(json.dumps(sealed))
    (work / "2" / "SHA256SUMS").unlink()
    said = []
    assert restored(work, make_state(), say=said.append)[0] == 1
    assert "it was saved as step 3" in said[0]
    assert "its description is not what was saved" in said[1]


def truncate(step: pathlib.Path) -> None:
    for file in step.glob("state/ocdbt.process_0/d/*"):
        os.truncate(file, file.stat().st_size // 2)
    for file in step.glob("state/d/*"):
        os.truncate(file, file.stat().st_size // 2)


def remove_data(step: pathlib.Path) -> None:
    next((step / "state" / "d").iterdir()).unlink()


def empty(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


DAMAGE = {
    "truncated": truncate,
    "file missing": remove_data,
    "tree missing": lambda step: (step / "state" / "_METADATA").unlink(),
    "state missing": lambda step: shutil.rmtree(step / "state"),
    "meta missing": lambda step: shutil.rmtree(step / "meta"),
    "empty": empty,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_falls_back_or_says_what_to_do(tmp_path, damage, capfd):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, make_state(step), {})
    damage(tmp_path / "2")
    said = []
    step, state, _ = restored(tmp_path, make_state(), say=said.append)
    assert step == 1 and same(state, make_state(1))
    assert len(said) == 1 and "checkpoint 2" in said[0]
    damage(tmp_path / "1")
    with pytest.raises(ValueError, match="delete this directory") as error:
        restored(tmp_path, make_state())
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
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
        big = jax.device_put({str(i): x + i for i in range(10)}, on(2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        for step in (2, 3):
            try:
                checkpoint.save(directory, step, big, {})
            except OSError as error:
                print(error)
            time.sleep(0.2)  # threads that Orbax leaves must stay silent
    """
    ran = subprocess.run(
        child(code, tmp_path), capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0 and ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    for step, line in zip((2, 3), lines, strict=True):
        assert line.startswith(f"cannot write checkpoint {step} in {tmp_path}: ")
    assert steps(tmp_path) == ["1", "2"]
    assert same(restored(tmp_path, make_state())[1], make_state(2))


def test_killed_while_saving_keeps_a_whole_step(tmp_path):
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
        said = []
        step, state, _ = restored(tmp_path, like, say=said.append)
        assert said == [] and step in (reported, reported + 1)
        assert same(state._replace(params={}), make_state(step)._replace(params={}))
        assert all(name.isdecimal() for name in steps(tmp_path))
