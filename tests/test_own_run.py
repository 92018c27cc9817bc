"""Data of one's own go through the whole command, as the embedded texts do."""

import json

import numpy as np
import own_files
import pytest
from small_run import (
    ROOT,
    compile_nothing,
    contents,
    draw_nothing,
    keep_compiled,
    run,
    unlike,
)

from jaxattn import train
from jaxattn.config import Data
from jaxattn.data.command import main
from jaxattn.experiment import config_files, source
from jaxattn.reports.results import read_results

SMALL = (
    "--seeds 2 --epochs 1 --full-text-epochs 1 --lane 1 --model.features 4 "
    "--model.hidden 4 --data.length 6 --data.min-count 1 --batch-size 32"
).split()
CAD = ROOT.parent / "shared/data/cad_imdb.jsonl.gz"


def three_classes(path, n=300):
    kinds = ("bad", "fair", "good")
    rows = [
        {
            "id": f"review_{i}",
            "stars": i % 3,
            "review": f"a {kinds[i % 3]} film{i // 3} ; Really.",
            "why": [{"start": 2, "end": 2 + len(kinds[i % 3])}] if i % 4 else None,
        }
        for i in range(n)
    ]
    return own_files.write(path, rows)


FIELDS = ["--fields", "label=stars", "text=review", "evidence=why"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A finished run of the reviews' kind with three classes, and its command."""
    folder = tmp_path_factory.mktemp("own")
    path = three_classes(folder / "mine.jsonl")
    command = ["--config", ROOT / "configs/reviews.py", "--data", path, *FIELDS, *SMALL]
    command += ["--methods", "joint,uniform", "--workdir", folder / "run"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_compiled(monkeypatch)
        assert run(*command) == 0
    return command, folder


def test_a_run_of_words_has_all_its_outputs(words):
    _, folder = words
    read = read_results(folder / "run/results.csv")
    found = {(r.task, r.method, r.metric) for r in read}
    assert {task for task, _, _ in found} == {"own"}
    assert {
        ("own", "joint", m) for m in ("accuracy", "leak_bits", "lexicon_mass")
    } <= found
    with np.load(folder / "run/masks/joint.npz") as stored:
        assert set(stored["labels"]) == {0, 1, 2}
        assert all(str(i).startswith("review_") for i in stored["ids"])
        n = stored["lengths"][:, None]
        assert stored["masks"].shape == (2, len(n), 6)
        padding = np.arange(6) >= n
        assert not stored["masks"][:, padding].any()
        tokens = stored["tokens"]
    names = json.loads((folder / "run/data/own.json").read_text())
    assert names["classes"] == ["0", "1", "2"]
    assert names["vocabulary"][tokens[0, 0]] == "a"
    page = (folder / "run/report.html").read_text()
    assert "film" in page and "really" in page
    config = json.loads((folder / "run/config.json").read_text())["config"]
    assert config["tasks"] == ["own"] and config["name"] == "reviews_mine"
    assert config["data"]["source"] == str(folder / "mine.jsonl")
    assert config["data"]["fields"] == FIELDS[1:]


def test_the_same_command_resumes_and_other_data_are_refused(words, capfd, monkeypatch):
    draw_nothing(monkeypatch)
    compile_nothing(monkeypatch)
    command, folder = words
    before = contents(folder / "run")
    assert run(*command) == 0
    assert not unlike(before, contents(folder / "run"))
    other = three_classes(folder / "other.jsonl")
    assert (
        run(*["--data" if w == "--data" else w for w in command], "--data", other) == 2
    )
    assert "data.source: " in capfd.readouterr().err
    kept = (folder / "mine.jsonl").read_text()
    try:
        # The path is the same, and so is all that a config says.
        (folder / "mine.jsonl").write_text(kept.replace("Really", "Indeed"))
        assert run(*command) == 2
    finally:
        (folder / "mine.jsonl").write_text(kept)
    assert "was made from other data (digest" in capfd.readouterr().err
    assert not unlike(before, contents(folder / "run"))


def test_prepared_data_give_the_same_numbers(words, capfd, monkeypatch):
    keep_compiled(monkeypatch)
    draw_nothing(monkeypatch)
    command, folder = words
    given = ["prepare", folder / "mine.jsonl", *FIELDS, "--length", "6"]
    kept = folder / "kept"
    given += ["--min-count", "1", "--data-dir", kept]
    assert main([str(word) for word in given]) == 0
    again = [folder / "again" if w == folder / "run" else w for w in command]
    assert run(*again, "--data-dir", kept) == 0
    assert "prepared before:" in capfd.readouterr().out
    assert not unlike(contents(folder / "run"), contents(folder / "again"))


def test_meaningless_tokens_and_twelve_classes(tmp_path, capsys):
    rows = [{"text": f"kind{i % 12} of film{i}", "label": i % 12} for i in range(600)]
    path = own_files.write(tmp_path / "twelve.jsonl", rows)
    command = ["--data", path, *SMALL, "--methods", "uniform", "--metrics"]
    assert run(*command, "--workdir", tmp_path / "run") == 0
    assert "12 classes, of 0.0" in capsys.readouterr().out
    page = (tmp_path / "run/report.html").read_text()
    assert "own" in page
    with np.load(tmp_path / "run/masks/uniform.npz") as stored:
        assert stored["masks"].shape[2] == 4
        assert stored["labels"].max() == 11


def test_settings_come_from_a_config_file_too(tmp_path, capfd, said):
    path = three_classes(tmp_path / "mine.jsonl")
    config = tmp_path / "mine.py"
    config.write_text(
        "from jaxattn.config import Config, Data\n"
        "def get_config():\n"
        f"    data = Data(source={str(path)!r}, fields={tuple(FIELDS[1:])!r})\n"
        "    return Config(name='mine', tasks=('own',), data=data)\n"
    )
    found = source.load(config_files.load(config), "own", source.Loading())
    assert found.classes == ("0", "1", "2") and "no split is given" in said()[0]
    # Fields on the command line take the place of the config's.
    workdir = tmp_path / "run"
    words = ["--config", config, "--workdir", workdir, "--fields", "label=stars"]
    assert run(*words) == 2
    assert "no field 'text' (text); there are: id, stars" in capfd.readouterr().err


def test_flags_of_ones_own_data_are_part_of_the_config():
    words = ["--data", "folder/my data.v2.jsonl.gz", "--tokenizer", "a:b"]
    found = train.parse([*words, *FIELDS, "--data.length", "7", "--download"])
    assert found.download and found.config.tasks == ("own",)
    assert found.config.name == "probe_my_data"
    expected = Data(7, source=words[1], tokenizer="a:b", fields=tuple(FIELDS[1:]))
    assert found.config.data == expected
    named = train.parse([*words, "--name", "mine", "--tasks", "own", "sentiment"])
    assert named.config.name == "mine" and named.config.tasks == ("own", "sentiment")


@pytest.mark.skipif(
    not CAD.is_file(),
    reason="shared/data/cad_imdb.jsonl.gz is not beside the repository",
)
def test_reviews_with_the_evidence_of_people(capsys):
    assert main(["check", str(CAD), "--fields", "group=pair"]) == 0
    out = capsys.readouterr().out
    assert "4,880 rows read, 4,880 good" in out
    assert "evidence: 9.4% of the tokens of marked texts" in out
    found = own_files.load(CAD, 512, 2, fields=("group=pair",))
    splits = (found.train, found.validation, found.test)
    # One text is in training and in validation.
    assert [len(s.labels) for s in splits] == [3413, 490, 976]
    assert found.classes == ("neg", "pos")
    for split in splits:
        assert split.evidence is not None
        marked = ~np.isnan(split.evidence)
        np.testing.assert_array_equal(marked.sum(1), split.lengths)
        assert 0.08 < split.evidence[marked].mean() < 0.11
