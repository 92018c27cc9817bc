"""The command `jaxattn data`."""

import pathlib
import re

import numpy as np
import own_files
import pytest

from jaxattn.data.command import main
from jaxattn.data.dataset import Split, assemble
from jaxattn.data.show import passages
from jaxattn.data.tasks import TASKS, load, names

ROOT = pathlib.Path(__file__).parents[1]


def said(capsys):
    written = capsys.readouterr()
    assert all(len(line) <= 80 for line in written.out.splitlines())
    return written.out


def test_the_list_is_true(data_dir, capsys):
    assert main(["list"]) == 0
    out = said(capsys)
    assert set(names()) <= set(re.findall(r"\w+", out))
    for name, task in TASKS.items():
        if task.load is not None:
            dataset = load(name, data_dir=data_dir)
            splits = own_files.splits_of(dataset).values()
            assert sum(len(split.labels) for split in splits) == task.examples, name
            assert len(dataset.classes) == task.classes
            assert f"{task.examples:,}" in out


def test_check_lists_all_problems_at_once(tmp_path, capsys):
    records = own_files.records(80)
    for i in (3, 4, 60, 61, 62, 63, 64):
        records[i]["label"] = None
    records[10]["evidence"] = [{"start": 0, "end": 900}]
    records[11]["evidence"] = [{"start": 0, "end": 901}]
    records[12]["evidence"] = [{"start": 0, "end": 2}]
    records[20] |= {"text": records[21]["text"], "note": 1}
    records[22] |= {"label": "POS"}
    path = own_files.write(tmp_path / "bad.jsonl", records)
    with open(path, "ab") as file:
        file.write(b'{"text": "caf\xe9"}\nno json\n')
    assert main(["check", str(path), "--length", "3"]) == 2
    out = " ".join(said(capsys).split())
    for told in (
        "bad.jsonl: 82 rows read, 71 good",
        "problem: 7 rows (4, 5, 61, 62, 63, ...): no label: label is null",
        "problem: 2 rows (11, 12): span 0 to 900 lies outside the",
        "problem: 1 row (81): not UTF-8",
        "problem: 1 row (82): no JSON",
        "note: fields not used: note",
        " character spans cut through a token",
        "note: 1 rows repeat the text of another row",
        "note: 1 texts have two labels, as bad.jsonl, row 21 and row 22",
        "note: labels 'pos' and 'POS' are different classes",
        "cuts 100.0% of the texts",
    ):
        assert told in out
    assert out.endswith("a run would refuse it")


def test_check_of_a_good_file(tmp_path, capsys):
    records = own_files.records(80)
    del records[0]["evidence"]
    path = own_files.write(tmp_path / "good.jsonl", records)
    assert main(["check", str(path)]) == 0
    out = said(capsys)
    assert re.search(r"neg +\d+ +\d+ +\d+\n", out)
    counts = re.search(r"with evidence +(\d+) +(\d+) +(\d+)", out)
    assert counts and sum(map(int, counts.groups())) == 79
    # The first of six tokens (with the comma and the stop).
    assert "evidence: 20.0% of the tokens of marked texts" in out
    assert "median 5, 95 % have at most 5, longest 5" in out
    assert out.endswith("a run would take it\n")


def test_check_shows_the_commonest_of_many_classes(tmp_path, capsys):
    records = [{"text": f"t{i}", "label": i % 12} for i in range(480)]
    path = own_files.write(tmp_path / "many.jsonl", records)
    assert main(["check", str(path)]) == 0
    out = said(capsys)
    assert len(re.findall(r"^\d+ +\d+ +\d+ +\d+$", out, re.M)) == 10
    assert re.search(r"^2 more +\d+", out, re.M)


@pytest.mark.parametrize("words", [["check"], ["show"], ["nothing"], []])
def test_wrong_commands(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2


@pytest.mark.parametrize(
    "words, message",
    [
        (["show", "sentimental"], "'sentimental': perhaps you meant sentiment;"),
        (["show", "x.jsonl"], "data file x.jsonl does not exist"),
        (["show", "sentiment", "-n", "0"], "n = 0: at least 1"),
        (["check", "x.txt"], "its name must end in .jsonl"),
        (["check", "x.jsonl", "--length", "0"], "length is 0"),
    ],
)
def test_wrong_sources(words, message, capfd):
    assert main(words) == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1


def test_show_puts_evidence_in_brackets(tmp_path, capsys):
    records = own_files.records()
    for record in records:
        record["evidence"] = [0.5, 1, 0, 0.1, 0]
    path = own_files.write(tmp_path / "good.jsonl", records)
    assert main(["show", str(path), "-n", "60", "--min-count", "1"]) == 0
    out = said(capsys)
    shown = r"^\[(fine|dull) \w+\] , \((<unk>|number\d+)\) \.$"
    assert len(re.findall(shown, out, re.M)) == 60
    assert len(re.findall(r"^doc_\d+ \((train|validation|test)\): ", out, re.M)) == 60
    assert "\x1b" not in out


def test_show_draws_by_seed_and_takes_embedded_tasks(data_dir, capsys):
    def show(*more):
        assert main(["show", *more, "--data-dir", str(data_dir), "-n", "2"]) == 0
        return said(capsys)

    one = show("planted")
    assert "[" in one and one == show("planted", "--seed", "0")
    assert one != show("planted", "--seed", "1")
    assert re.search(r"positions of 784 numbers; evidence at (none|\d)", show("bags"))
    assert "49 positions of 16 numbers\n" in show("digits_patches")


def dataset(evidence):
    split = Split(
        np.array([[2, 3, 4, 2]], np.uint8),
        np.array([4], np.int32),
        np.array([0], np.int32),
        np.array(["x"]),
        evidence=None if evidence is None else np.array([evidence], np.float32),
    )
    words = ("<pad>", "<unk>", "a", "b", "c")
    splits = {"train": split, "validation": split, "test": split}
    return assemble("d", ("k",), splits, words)


@pytest.mark.parametrize(
    "evidence, text",
    [
        ([0, 1, 1, 0], "a [b c] a"),
        ([1, 0, 0.2, 0.5], "[a] b (c) [a]"),
        ([1, 1, 1, 1], "[a b c a]"),
        ([0, 0, 0, 0], "a b c a"),
        ([np.nan] * 4, "a b c a"),
        (None, "a b c a"),
    ],
)
def test_passages(evidence, text):
    (shown,) = passages(dataset(evidence), [("test", 0)], colour=False)
    head, body = shown.plain.split("\n")
    assert body == text
    unmarked = evidence is not None and bool(np.isnan(evidence).any())
    assert head == "x (test): k" + "  (nobody marked it)" * unmarked
    (shown,) = passages(dataset(evidence), [("test", 0)], colour=True)
    assert shown.plain.split("\n")[1] == "a b c a"
    coloured = [] if unmarked or evidence is None else [e for e in evidence if e > 0]
    assert len(shown.spans) == 1 + len(coloured)
