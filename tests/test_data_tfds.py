"""Prepared TFDS data sets of every kind, and what is said where there is none."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import own_files
import pytest
import small_run
import tensorflow_datasets as tfds
from prepared_sets import frame, png, prepare, to_tfrecord

from jaxattn.data import limits
from jaxattn.data.readers import tfds as tfds_reader
from jaxattn.data.tfds_records import read_tfrecord

F = tfds.features
ROOT = Path(__file__).parents[1]
NAME = "imdb_reviews"
TWO = F.ClassLabel(names=["neg", "pos"])


def load(folder, name, fields=(), length=12, download=False):
    more = {"data_dir": folder, "fields": fields, "download": download}
    return own_files.load(f"tfds:{name}", length, **more)


def refused(match, *args, kind=ValueError, **more):
    with own_files.refused(match, kind) as error:
        load(*args, **more)
    return str(error.value)


def sizes(dataset):
    return [len(split.labels) for split in own_files.splits_of(dataset).values()]


def words(dataset, split, row):
    return own_files.words(dataset, getattr(dataset, split), row)


def made(n, start=0, classes=2, **texts):
    """Examples with labels in turn; {i} in their texts is their number."""
    for i in range(start, start + n):
        row = {name: text.replace("{i}", str(i)) for name, text in texts.items()}
        yield row | {"label": i % classes}


def reviews(n, start=0):
    for row in made(n, start, text="Film {i}<br /><br />is "):
        yield row | {"text": row["text"] + ("awful.", "great.")[row["label"]]}


@pytest.fixture(scope="session")
def imdb(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imdb")
    features = {"text": F.Text(), "label": TWO}
    splits = {
        "train": reviews(60),
        "test": reviews(20, 100),
        "unsupervised": [{"text": "x", "label": -1}],
    }
    prepare(folder, "imdb_reviews", features, splits, config="plain_text")
    return folder


@pytest.fixture
def copied(imdb, tmp_path):
    """A copy of the reviews that a test may damage: the root and the files' folder."""
    shutil.copytree(imdb, tmp_path / "data")
    return tmp_path / "data", tmp_path / "data/imdb_reviews/plain_text/1.0.0"


@pytest.fixture
def offline(monkeypatch):
    """No network: whatever tries to reach it fails the test."""

    def forbidden(*args, **more):
        pytest.fail("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)


def test_reviews_by_their_name(imdb, said):
    found = load(imdb, "imdb_reviews")
    assert found.name == "imdb_reviews" and found.classes == ("neg", "pos")
    assert len(found.test.labels) == 20
    assert len(found.train.labels) + len(found.validation.labels) == 60
    assert words(found, "test", 1) == "film <unk> is great .".split()
    np.testing.assert_array_equal(found.test.labels, np.arange(20) % 2)
    assert "not read: unsupervised" in "\n".join(said())
    assert "tensorflow" not in sys.modules


def test_array_record_and_tfrecord_give_the_same(imdb, copied):
    root, folder = copied
    to_tfrecord(folder, shards=3)
    assert not list(folder.glob("*array_record*"))
    assert load(root, "imdb_reviews").digest == load(imdb, "imdb_reviews").digest
    one, other = load(root, "imdb_reviews/plain_text:1.0.0"), load(root, NAME)
    np.testing.assert_array_equal(one.test.inputs, other.test.inputs)


def test_records_are_read_or_refused(tmp_path):
    path, records = tmp_path / "x", [b"one", b"", b"three" * 50]
    whole = b"".join(map(frame, records))
    path.write_bytes(b"")
    assert read_tfrecord(path) == []
    path.write_bytes(whole)
    assert read_tfrecord(path) == records
    ends = [19, 35, len(whole)]
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        if cut in ends:
            # Whole records: only the count of the data set tells.
            assert read_tfrecord(path) == records[: ends.index(cut) + 1]
            continue
        with pytest.raises(ValueError, match="cut off within record"):
            read_tfrecord(path)


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def shorter(file):
    # Whole records only, one fewer than there were.
    records = read_tfrecord(file)
    file.write_bytes(b"".join(map(frame, records[:-1])))


@pytest.mark.parametrize(
    "form, damage",
    [
        *itertools.product(["array_record", "tfrecord"], [cut, Path.unlink]),
        ("array_record", lambda file: small_run.flip(file, 0.02)),
        ("tfrecord", shorter),
    ],
)
def test_damaged_records_are_refused(copied, form, damage):
    root, folder = copied
    if form == "tfrecord":
        to_tfrecord(folder)
    damage(next(folder.glob("*train*")))
    message = refused("damaged prepared data in .* delete that folder", root, NAME)
    assert str(folder) in message


def test_a_folder_without_its_description_is_not_prepared(copied):
    root, folder = copied
    (folder / "dataset_info.json").unlink()
    refused("is not prepared in", root, NAME)


def test_a_description_that_is_cut_off(copied):
    root, folder = copied
    os.truncate(folder / "dataset_info.json", 100)
    refused("imdb_reviews", root, NAME)


def test_files_alone_without_their_features(tmp_path):
    features = {"text": F.Text(), "label": TWO}
    folder = prepare(tmp_path, "mine", features, {"train": made(60, text="row {i}")})
    (folder / "features.json").unlink()
    refused("tfds:mine", tmp_path, "mine")


def test_a_format_that_is_not_offered(copied):
    root, folder = copied
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "riegeli"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    refused("holds riegeli files; allowed: array_record and tfrecord", root, NAME)


def test_news_and_yelp_by_their_names(tmp_path):
    topics = ["World", "Sports", "Business", "Sci/Tech"]
    label = F.ClassLabel(names=topics)
    features = {"title": F.Text(), "description": F.Text(), "label": label}
    texts = {"description": r"A\B&lt; #39;s", "classes": 4}
    splits = {
        "train": made(60, title="T{i} train", **texts),
        "test": made(8, title="T{i} test", **texts),
    }
    prepare(tmp_path, "ag_news_subset", features, splits)
    found = load(tmp_path, "ag_news_subset")
    assert found.classes == tuple(topics)
    assert words(found, "test", 0) == "t0 <unk> a b < ' s".split()
    only = load(tmp_path, "ag_news_subset", ["text=title"])
    assert words(only, "test", 0) == ["t0", "<unk>"]
    features = {"text": F.Text(), "label": F.ClassLabel(names=["1", "2"])}
    text = ' {i}\\n""So good""'
    splits = {"train": made(60, text="a" + text), "test": made(8, text="b" + text)}
    prepare(tmp_path, "yelp_polarity_reviews", features, splits, version="0.2.0")
    found = load(tmp_path, "yelp_polarity_reviews")
    assert found.classes == ("1", "2")
    assert words(found, "test", 0) == ["<unk>", "0", '"', "so", "good", '"']


@pytest.fixture(scope="session")
def sst2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glue")
    features = {
        "sentence": F.Text(),
        "label": F.ClassLabel(names=["negative", "positive"]),
        "idx": np.int32,
    }

    def rows(split, n, label=None):
        for i in range(n):
            known = i % 2 if label is None else label
            yield {"sentence": f"{split} {i}", "label": known, "idx": i}

    splits = {
        "train": rows("train", 80),
        "validation": rows("validation", 10),
        "test": rows("test", 6, -1),
    }
    prepare(folder, "glue", features, splits, config="sst2", version="2.0.0")
    return folder


def test_a_test_split_without_labels_gives_way(sst2, said):
    found = load(sst2, "glue/sst2")
    told = "tfds:glue/sst2: test has no labels: validation is read in its place"
    assert told in said()
    assert found.name == "glue_sst2"
    assert len(found.test.labels) == 10
    assert len(found.train.labels) + len(found.validation.labels) == 80
    assert list(found.test.ids[:2]) == ["validation-1", "validation-2"]


def test_single_examples_without_a_label_are_left_out(tmp_path, said):
    rows = [{"text": f"row {i} is", "label": i % 3 - 1} for i in range(90)]
    prepare(tmp_path, "mine", {"text": F.Text(), "label": TWO}, {"train": rows})
    assert sum(sizes(load(tmp_path, "mine"))) == 60
    assert "tfds:mine: left out 30 examples without a label" in said()


def test_rationales_are_found_in_their_reviews(tmp_path, said):
    def rows(n, split):
        marked = [[], ["very good"], ["the plot", "the plot", "no such"]]
        review = split + " {i} the plot is very good , the plot is very good"
        for i, row in enumerate(made(n, review=review)):
            yield row | {"evidences": marked[i % 3]}

    features = {
        "review": F.Text(),
        "label": F.ClassLabel(names=["NEG", "POS"]),
        "evidences": F.Sequence(F.Text()),
    }
    splits = {"train": rows(30, "t"), "validation": rows(9, "v"), "test": rows(9, "w")}
    prepare(tmp_path, "movie_rationales", features, splits, version="0.1.0")
    found = load(tmp_path, "movie_rationales", length=13)
    marked = found.test.evidence
    assert np.isnan(marked[0]).all()
    assert marked[1].tolist() == [0] * 5 + [1, 1] + [0] * 6
    assert marked[2].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert "16 of 64 parts marked as evidence are not found" in str(said())


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, channels in (("mnist", 1), ("colours", 3)):
        rng = np.random.default_rng(channels)
        size = (28, 28) if channels == 1 else (6, 5)
        shape = size if channels == 1 else (*size, 3)
        splits = {
            split: [
                {"image": png(rng.integers(0, 256, shape, np.uint8)), "label": i % 10}
                for i in range(n)
            ]
            for split, n in {"train": 60, "test": 20}.items()
        }
        features = {
            "image": F.Image(shape=(*size, channels)),
            "label": F.ClassLabel(num_classes=10),
        }
        version = "3.0.1" if name == "mnist" else "1.0.0"
        keys = ("image", "label")
        prepare(folder, name, features, splits, version=version, supervised_keys=keys)
    return folder


def test_grey_images_are_scalars(digits):
    found = load(digits, "mnist")
    assert found.classes == tuple("0123456789") and not found.vocabulary
    assert found.test.inputs.shape == (20, 784) and (found.test.lengths == 784).all()
    assert found.test.inputs.dtype == np.float32
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, 256, (28, 28), np.uint8) for _ in range(80)]
    expected = np.stack(drawn[60:]).reshape(20, 784) / np.float32(255)
    np.testing.assert_array_equal(found.test.inputs, expected)
    np.testing.assert_array_equal(found.test.labels, np.arange(20) % 10)
    assert len(found.train.labels) + len(found.validation.labels) == 60


def test_coloured_images_are_vectors(digits):
    found = load(digits, "colours")
    assert found.test.inputs.shape == (20, 30, 3)
    assert found.test.inputs.max() <= 1


def test_images_that_do_not_fit(digits, monkeypatch):
    monkeypatch.setattr(limits, "available_memory", lambda: 20_000)
    refused("80 images of 784 pixels need 0.0 GB and 0.0 GB are free", digits, "mnist")


def test_images_too_large_or_of_any_size(tmp_path):
    one = [{"image": png(np.zeros((70, 60), np.uint8)), "label": 0}]
    for name, shape in (("large", (70, 60, 1)), ("any_size", (None, None, 1))):
        features = {"image": F.Image(shape=shape), "label": TWO}
        prepare(tmp_path, name, features, {"train": one})
    fields = ["image=image"]
    refused("70 x 60 are 4,200 positions; allowed: 4096", tmp_path, "large", fields)
    refused("allowed: bytes .uint8., all of one size", tmp_path, "any_size", fields)


def test_fields_of_ones_own(tmp_path, said):
    features = {
        "inner": {"headline": F.Text(), "stars": np.int32},
        "words": F.Sequence(F.Text()),
        "share": np.float32,
    }
    rows = [
        {
            "inner": {"headline": f"H{i} a", "stars": (1, 5, 10)[i % 3]},
            "words": ["Two-part", f"w{i}"],
            "share": 0.5,
        }
        for i in range(60)
    ]
    prepare(tmp_path, "mine", features, {"full": rows})
    fields = ["text=words+inner/headline", "label=inner/stars"]
    found = load(tmp_path, "mine", fields)
    # Numbers sort by size, and words that come apart stay as they are.
    assert found.classes == ("1", "5", "10")
    assert {"two-part", "a"} < set(found.vocabulary)
    told = "tfds:mine is read with text=words+inner/headline, label=inner/stars"
    assert told in said()
    there = "inner/headline .text.; inner/stars .int32.; share .float32.; words .texts."
    for given, message in (
        ([], "which field is the label.*" + there),
        (["label=share"], "label=share is of no use: it is float32"),
        (["label=stars"], "no field 'stars' .label.; there are: .*words"),
        (["label=stars"], "--fields label=inner/stars"),
        (["lable=x"], "perhaps you meant label; roles of tfds:mine are text, image"),
        (["label"], "not of the form ROLE=FIELD"),
    ):
        refused(message, tmp_path, "mine", given)


def test_text_that_is_no_text(copied):
    root, folder = copied
    to_tfrecord(folder, shards=1)
    file = next(folder.glob("*train*"))
    records = read_tfrecord(file)
    broken = records[3].replace(b"Film 3", b"Fil\xff 3")
    for bad, said in ((broken, "not a text in UTF-8"), (b"\xff\xff", "damaged")):
        changed = [*records[:3], bad, *records[4:]]
        file.write_bytes(b"".join(map(frame, changed)))
        refused(f"tfds:imdb_reviews, train 4: {said}", root, NAME)


@pytest.mark.parametrize(
    "name, said",
    [
        ("imdb_reviewz", "no data set 'imdb_reviewz'; perhaps you meant imdb_reviews"),
        ("sst2", "perhaps you meant glue/sst2"),
        ("imdb_review", "perhaps you meant imdb_reviews"),
        ("qqqqqqqqqq", "no data set 'qqqqqqqqqq'; prepared in"),
        ("glue/sst", "no configuration 'sst'; perhaps you meant sst2"),
        ("imdb_reviews/foo", "no configuration 'foo'; it has plain_text"),
        ("imdb_reviews:9.9.9", "cannot be loaded at version 9.9.9, only: 1.0.0"),
        ("huggingface:glue", "must be tfds:NAME, /CONFIG and :VERSION may follow"),
        ("../etc", "must be tfds:NAME"),
        ("", "must be tfds:NAME"),
    ],
)
def test_names_that_do_not_exist(tmp_path, offline, name, said):
    for wanted in (False, True):
        refused(said, tmp_path, name, download=wanted)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_named(imdb, offline):
    there = "prepared in .*: imdb_reviews/plain_text/1.0.0$"
    refused(there, imdb, "qqqqqqqqqq")
    refused(there, imdb, "imdb_reviews:9.9.9")


UNPREPARED = """
import logging, socket, sys
logging.basicConfig()  # as a program that logs has done before
def forbidden(*args, **more):
    raise SystemExit("the network was asked for")
socket.getaddrinfo = socket.socket.connect = forbidden
from jaxattn.data.readers import Options, load_own
for name in sys.argv[2:]:
    try:
        load_own("tfds:" + name, Options(8, 1, sys.argv[1]))
    except ValueError as error:
        print(error)
assert "tensorflow" not in sys.modules
"""


def test_unprepared_answers_in_seconds_and_says_what_to_do(tmp_path):
    names = ["imdb_reviews", "ag_news_subset", "glue/sst2", "mnist"]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNPREPARED, str(tmp_path), *names],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    # Measured 1 to 3 on a busy machine; TFDS itself takes 206.
    assert time.monotonic() - start < 30
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert f"tfds:{name} is not prepared in {tmp_path}" in line
        assert f"tfds build {name} --data_dir {tmp_path}" in line
        assert "nothing is downloaded unless --download" in line
    assert "imdb:aclImdb_v1.tar.gz" in lines[0]
    assert "ag_news:ag_news_csv.tar.gz" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_download_without_tensorflow_says_so_at_once(tmp_path, offline):
    refused("pip install tensorflow", tmp_path, "glue/sst2", download=True)


class JaxattnTestReviews(tfds.core.GeneratorBasedBuilder):
    """Somebody's own, which needs neither TensorFlow nor a network."""

    VERSION = tfds.core.Version("1.0.0")
    broken = False

    def _info(self):
        features = F.FeaturesDict({"text": F.Text(), "label": TWO})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        if self.broken:
            raise RuntimeError("two\nlines")
        yield from enumerate(reviews(60))


def test_download_prepares_what_can_be_prepared(tmp_path, offline, monkeypatch, said):
    name = "jaxattn_test_reviews"
    refused("is not prepared in", tmp_path, name)
    monkeypatch.setattr(JaxattnTestReviews, "broken", True)
    message = f"cannot prepare tfds:{name}: .*two lines"
    refused(message, tmp_path, name, download=True, kind=OSError)
    monkeypatch.setattr(JaxattnTestReviews, "broken", False)
    found = load(tmp_path, name, download=True)
    assert f"preparing {name} in {tmp_path}/{name}/1.0.0" in said()
    assert load(tmp_path, name).digest == found.digest
    assert sum(sizes(found)) == 60 and all(sizes(found))


def test_a_configuration_that_was_not_named_is_said(tmp_path, said):
    features = {"sentence": F.Text(), "label": TWO}
    splits = {"train": made(60, sentence="row {i}")}
    prepare(tmp_path, "glue", features, splits, "cola", "2.0.0")
    load(tmp_path, "glue")
    assert "tfds:glue is glue/cola, the first of" in "\n".join(said())


def test_a_host_without_an_address_is_said_at_once(monkeypatch):
    def nowhere(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(OSError, match="cannot reach example.org .*is there a network"):
        tfds_reader.check_reachable(["https://example.org/x.tar.gz"])
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://p"})
    tfds_reader.check_reachable(["https://example.org/x.tar.gz"])
