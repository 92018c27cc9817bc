"""The stored tasks: what their labels are, and that they never change."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import own_files
import pytest

from jaxattn.data.dataset import Dataset, Split, assemble, digest_of
from jaxattn.data.sources import SOURCES
from jaxattn.data.sources.snippets import Snippets, load_snippets
from jaxattn.data.splits import SPLITS, document_of, split_of
from jaxattn.data.tasks import TASKS, Task, load, names, row, stored
from jaxattn.data.text import tokenize

RATED = ("movie_sentiment", "sentiment", "sources")


@pytest.fixture(scope="session")
def snippets(data_dir: Path) -> Snippets:
    return load_snippets(data_dir)


@pytest.fixture(scope="session")
def words(snippets) -> dict[str, list[str]]:
    """The tokens of every snippet."""
    pairs = zip(snippets.ids, snippets.texts, strict=True)
    return {id_: tokenize(text) for id_, text in pairs}


@pytest.fixture(scope="session")
def tasks(data_dir: Path) -> dict[str, Dataset]:
    return {task: load(task, data_dir=data_dir) for task in RATED}


def test_the_split_never_changes(snippets):
    counts = Counter(
        (source, split_of(id_))
        for source, id_ in zip(snippets.sources, snippets.ids, strict=True)
    )
    assert {s: tuple(counts[s, side] for side in SPLITS) for s in SOURCES} == {
        "movie": (8404, 1126, 1075),
        "amazon": (3007, 421, 280),
        "nyt": (4218, 496, 476),
        "tweet": (3352, 416, 432),
    }
    lines = "\n".join(f"{id_} {split_of(id_)}" for id_ in snippets.ids)
    assert (
        hashlib.sha256(lines.encode()).hexdigest()
        == "5921f26ebd3005ed2d5d3817647cd1cbfed04bb4cc84e81fecb75ff09246adac"
    )


def test_no_document_is_on_two_sides(snippets):
    sides = defaultdict(set)
    for id_ in snippets.ids:
        sides[document_of(id_)].add(split_of(id_))
    assert all(len(found) == 1 for found in sides.values())
    documents = Counter(document.partition("-")[0] for document in sides)
    # The source says 500 editorials; two of its numbers do not occur.
    assert documents == {"movie": 10_605, "amazon": 300, "nyt": 498, "tweet": 4_200}


SIZES = {
    "movie_sentiment": (8595, [[4032, 3959], [544, 517], [500, 520]]),
    "sentiment": (12909, [[7381, 8168], [924, 1120], [876, 990]]),
    "sources": (
        14610,
        [[8404, 3007, 4218, 3352], [1126, 421, 496, 416], [1075, 280, 476, 432]],
    ),
}


@pytest.mark.parametrize("task", RATED)
def test_arrays_are_as_the_interface_says(tasks, task):
    data, (vocabulary, counts) = tasks[task], SIZES[task]
    classes = SOURCES if task == "sources" else ("negative", "positive")
    assert (data.name, data.classes) == (task, classes)
    assert len(data.vocabulary) == len(data.kind) == len(data.lexicon) == vocabulary
    assert data.vocabulary[:2] == ("<pad>", "<unk>")
    assert len(set(data.vocabulary)) == vocabulary
    for side, sizes in zip(SPLITS, counts, strict=True):
        split, n = getattr(data, side), sum(sizes)
        assert np.bincount(split.labels).tolist() == sizes
        assert split.inputs.shape == (n, 32) and split.inputs.dtype == np.uint16
        assert split.lengths.shape == split.labels.shape == split.ids.shape == (n,)
        assert split.lengths.dtype == split.labels.dtype == np.int32
        assert split.ids.dtype.kind == "U"
        assert split.lengths.min() >= 1 and split.lengths.max() == 32
        valid = np.arange(32) < split.lengths[:, None]
        np.testing.assert_array_equal(split.inputs > 0, valid)
        assert split.inputs.max() < len(data.vocabulary)
        assert all(split_of(id_) == side for id_ in split.ids)
    assert set(data.cut) == set(SPLITS)


@pytest.mark.parametrize("task", RATED)
def test_labels_follow_the_ratings(tasks, snippets, task):
    rating = dict(zip(snippets.ids, snippets.ratings, strict=True))
    splits = own_files.splits_of(tasks[task]).values()
    labels = {i: n for s in splits for i, n in zip(s.ids, s.labels, strict=True)}
    if task == "sources":
        expected = {id_: SOURCES.index(id_.partition("-")[0]) for id_ in rating}
    else:
        start = "movie" if task == "movie_sentiment" else ""
        expected = {
            id_: int(r > 0)
            for id_, r in rating.items()
            if abs(r) >= 0.5 and id_.startswith(start)
        }
    assert labels == expected


@pytest.mark.parametrize("task", RATED)
def test_vocabulary_comes_from_training_alone(tasks, words, task):
    data = tasks[task]
    counts = Counter(token for id_ in data.train.ids for token in words[id_])
    assert {t for t, n in counts.items() if n >= 2} == set(data.vocabulary[2:])
    unseen = {t for id_ in data.test.ids for t in words[id_]} - set(counts)
    assert unseen and not unseen & set(data.vocabulary)


def test_tokens_spell_the_text(tasks, words):
    data = tasks["sources"]
    known = set(data.vocabulary)
    for side, split in own_files.splits_of(data).items():
        texts = [words[id_] for id_ in split.ids]
        for i, text in enumerate(texts):
            spelled = [w if w in known else "<unk>" for w in text[:32]]
            assert own_files.words(data, split, i) == spelled
        lost = [len(text) - 32 for text in texts if len(text) > 32]
        assert data.cut[side] == (len(lost), sum(lost))


def test_repeats_and_digest_sees_the_arguments(tasks, data_dir):
    first = tasks["movie_sentiment"]
    own_files.same(first, load("movie_sentiment", data_dir=data_dir))
    # The same everywhere and for ever.
    assert (
        first.digest
        == "dddeb6d2ec5ab41e2e0b9faedc8a5dd4c93ca9bd618fbc8f1546b8d629e5c3c9"
    )
    shorter = load("movie_sentiment", length=8, data_dir=data_dir)
    rarer = load("movie_sentiment", min_count=5, data_dir=data_dir)
    digests = {d.digest for d in (*tasks.values(), shorter, rarer)}
    assert len(digests) == len(tasks) + 2
    assert shorter.train.inputs.shape[1] == 8
    assert shorter.cut["train"].tokens > first.cut["train"].tokens
    np.testing.assert_array_equal(shorter.test.inputs, first.test.inputs[:, :8])
    assert len(rarer.vocabulary) < len(first.vocabulary)


def test_digest_sees_everything():
    array = np.arange(6, dtype=np.int32)
    base = ("n", ("a", "b"), ("x", "y"), (array,))
    others = [
        ("m", *base[1:]),
        ("n", ("ab",), *base[2:]),
        ("n", ("a", "b", "x"), ("y",), (array,)),
        (*base[:3], (array.reshape(2, 3),)),
        (*base[:3], (array.astype(np.int64),)),
        (*base[:3], (array[::-1],)),
        (*base[:3], (array[:3], array[3:])),
    ]
    digests = {digest_of(*arguments) for arguments in (base, *others)}
    assert len(digests) == 1 + len(others)
    # The order of bytes in memory is the machine's business.
    assert digest_of(*base) == digest_of(*base[:3], (array.astype(">i4"),))


def test_digest_sees_what_is_known_of_examples():
    rng = np.random.default_rng(0)
    plain = Split(
        rng.random((3, 2), np.float32),
        np.full(3, 2, np.int32),
        np.array([0, 1, 0], np.int32),
        np.array(["a", "b", "c"]),
    )
    scores = rng.random((3, 2), np.float32)
    others = [
        {},
        {"truth": scores > 0.5},
        {"truth": scores <= 0.5},
        {"targets": scores},
        {"attributions": {"gradient": scores}},
        {"attributions": {"random": scores}},
        {"attributions": {"gradient": scores, "random": scores}},
    ]
    digests = [
        assemble("n", ("x", "y"), dict.fromkeys(SPLITS, plain._replace(**o))).digest
        for o in others
    ]
    assert len(set(digests)) == len(others)
    # The order in which explanations were named does not matter.
    swapped = plain._replace(attributions={"random": scores, "gradient": scores})
    again = assemble("n", ("x", "y"), dict.fromkeys(SPLITS, swapped))
    assert again.digest == digests[-1]
    assert again.vocabulary == () and again.cut == {}
    assert len(again.kind) == len(again.lexicon) == 0
    # Without any of it, the digest is that of the four arrays.
    four = tuple(a for _ in SPLITS for a in plain[:4])
    assert digests[0] == digest_of("n", ("x", "y"), (), four)


def test_lexicon_and_kind_belong_to_the_vocabulary(tasks):
    data = tasks["movie_sentiment"]
    index = {token: i for i, token in enumerate(data.vocabulary)}
    assert data.lexicon[index["funny"]] == np.float32(1.9)
    assert np.isnan(data.lexicon[[0, 1, index["the"], index["."]]]).all()
    assert [data.kind[i] for i in (0, 1, index["the"], index["."])] == [0, 0, 1, 2]
    assert np.isfinite(data.lexicon).sum() == 1500


@pytest.mark.parametrize(
    "name, hint",
    [
        ("movie_sentimnt", "perhaps you meant movie_sentiment;"),
        ("digits_pixel", "perhaps you meant digits_pixels;"),
        ("zzz", "allowed"),
    ],
)
def test_unknown_task(name, hint, tmp_path):
    with own_files.refused(hint) as caught:
        load(name, data_dir=tmp_path)
    assert str(caught.value).endswith(
        "movie_sentiment, sentiment, sources, planted, bags, digits_pixels, "
        "digits_patches"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [{"length": 0}, {"length": 2.5}, {"length": 10**9}, {"min_count": 0}]
)
@pytest.mark.parametrize("task", ["sources", "planted", "bags"])
def test_bad_numbers_cost_no_preparation(task, arguments, tmp_path):
    with pytest.raises(ValueError, match="whole number"):
        load(task, data_dir=tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_min_count_that_leaves_nothing(data_dir):
    with pytest.raises(ValueError, match="leaves no token"):
        load("movie_sentiment", min_count=10**6, data_dir=data_dir)


def test_a_row_is_all_that_a_task_of_ones_own_needs(monkeypatch, tasks):
    row = Task("somebody's own", load=lambda *given: (*given, tasks["sources"]))
    monkeypatch.setitem(TASKS, "mine", row)
    assert "mine" in names() and "mine" in stored()
    assert load("mine", 9, 3, "here") == (9, 3, "here", tasks["sources"])


def test_every_task_has_a_row():
    assert row("syn4").budget == 5 and row("explain_cnn").explains in stored()
    assert all(row(name) for name in names())
    with pytest.raises(ValueError, match="task 'syn44': perhaps you meant syn4; allow"):
        row("syn44")


def test_the_readme_names_every_stored_task():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name in stored():
        assert f"`{name}`" in readme
    for name in ("movie_sentiment", "sources", "planted", "bags", "digits_pixels"):
        assert f"{TASKS[name].examples:,}" in readme
