"""What stands in for LAPACK, whose calls can stop a program on a CPU for ever."""

from typing import get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattn.config import Config, Data, MetricGroup, Model
from jaxattn.experiment import wave
from jaxattn.experiment.plan import plan
from jaxattn.experiment.source import Loading, load
from jaxattn.nn.linalg import inverse, orthogonal


@given(st.integers(1, 100), st.integers(0, 9), st.floats(1e-3, 1))
def test_the_inverse_is_numpys(width, seed, penalty):
    x = np.random.default_rng(seed).normal(size=(60, width))
    matrix = x.T @ x / 60 + penalty * np.eye(width)
    found = inverse(jnp.asarray(matrix, jnp.float32))
    expected = np.linalg.inv(matrix)
    rounding = 5 * np.linalg.cond(matrix) * np.finfo(np.float32).eps
    np.testing.assert_allclose(found, expected, atol=rounding * np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 7, 64])
def test_orthogonal_weights_are_flaxs(size):
    key = jax.random.key(size)
    found = orthogonal(key, (size, size))
    np.testing.assert_allclose(found.T @ found, np.eye(size), atol=2e-6)
    expected = nn.initializers.orthogonal()(key, (size, size))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_only_square_weights_are_orthogonal():
    with pytest.raises(ValueError, match=r"\(3, 2\) is not square"):
        orthogonal(jax.random.key(0), (3, 2))


def test_the_check_would_see_a_call():
    lowered = jax.jit(jax.vmap(jnp.linalg.inv)).lower(jnp.zeros((2, 3, 3)))
    assert "lapack" in lowered.as_text()


@pytest.mark.parametrize("query", ["gru", "bigru", "bilstm"])
def test_no_program_calls_lapack(query, data_dir):
    asked = Config(
        model=Model(values="inputs", query=query, predictor="recurrent", features=4),
        data=Data(length=6, min_count=50),
        methods=("joint",),
        metrics=get_args(MetricGroup),
    )
    source = load(asked, "movie_sentiment", Loading(data_dir))
    program, mesh = plan(asked, source)[0], wave.mesh_of_all_devices()
    shape = wave.Shape(2)
    splits = wave.make_splits(source, mesh)
    cells = wave.stack(program, [program.cells[0]] * shape.cells(mesh), mesh)
    init, chunk, measure = wave.functions(mesh, shape)
    state = jax.eval_shape(init, cells)
    for lowered in (
        init.lower(cells),
        chunk.lower(state, cells, splits.stored),
        measure.lower(state, cells, splits),
    ):
        assert "lapack" not in lowered.as_text()
