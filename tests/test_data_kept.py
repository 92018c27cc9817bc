"""Prepared data: found again by their content, refused where they are not the same."""

import json

import numpy as np
import own_files
import pytest
import small_run
from own_files import load, same

from jaxattn.data.command import main
from jaxattn.data.readers import prepared_file, tables
from jaxattn.data.readers.options import Options
from jaxattn.data.sources import bags


@pytest.fixture
def file(tmp_path):
    records = own_files.records()
    for record in records[:9]:
        del record["evidence"]
    return own_files.write(tmp_path / "mine.jsonl", records)


def prepare(file, *more):
    words = ["prepare", file, "--length", 8, "--min-count", 1, *more]
    return main([*map(str, words)])


def test_prepared_data_are_the_data(tmp_path, file, capsys, said):
    out = tmp_path / "folder" / "mine.npz"
    assert prepare(file, "-o", out) == 0
    assert "mine.npz: 50 / 7 / 3 rows" in " ".join(capsys.readouterr().out.split())
    before = len(said())
    prepared = load(out)
    assert said()[before:][-1].startswith("no split is given")
    same(load(file), prepared)
    assert [p.name for p in out.parent.iterdir()] == ["mine.npz"]


def test_a_run_finds_what_was_prepared_by_its_content(tmp_path, file, monkeypatch):
    plain = load(file)
    assert prepare(file, "--data-dir", tmp_path / "kept") == 0
    monkeypatch.setattr(tables, "read", lambda *a: pytest.fail("read again"))
    same(plain, load(file, data_dir=tmp_path / "kept"))
    moved = file.rename(tmp_path / "moved.jsonl")
    same(plain, load(moved, data_dir=tmp_path / "kept"))


def test_data_without_tokens_are_kept_too(tmp_path):
    few = bags.load_bags({"train": 4, "validation": 2, "test": 2})
    out, options = tmp_path / "bags.npz", Options(8, 1)
    prepared_file.save(out, few, options, ["said"])
    kept = prepared_file.load(out, options)
    assert kept.digest == few.digest and not kept.vocabulary
    np.testing.assert_array_equal(kept.test.truth, few.test.truth)


@pytest.mark.parametrize("change", ["content", "length", "min_count", "fields", "code"])
def test_prepared_data_of_something_else_are_not_taken(
    tmp_path, file, monkeypatch, change
):
    assert prepare(file, "--data-dir", tmp_path / "kept") == 0
    given = {"length": 8, "min_count": 1, "fields": ()}
    if change == "content":
        file.write_text(file.read_text() + json.dumps({"text": "new", "label": "pos"}))
    elif change == "code":
        monkeypatch.setattr(prepared_file, "_CODE", (tables,))
    else:
        given |= {change: 7} if change != "fields" else {"fields": ("id=",)}
    read = []
    monkeypatch.setattr(tables, "read", lambda *a: read.append(a))
    load(file, data_dir=tmp_path / "kept", **given)
    assert len(read) == 1


def test_another_tokenizer_of_the_same_name_is_not_taken(tmp_path, file, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "kept_tokens.py"
    module.write_text("def words(text):\n    return text.split()\n")
    options = Options(8, 1, tmp_path, ["evidence="], tokenizer="kept_tokens:words")
    place = prepared_file.place_of(file, options, module)
    module.write_text("def words(text):\n    return text.upper().split()\n")
    assert place != prepared_file.place_of(file, options, module)
    assert tables.table_of(file, options).tokenizer.file == module


@pytest.mark.parametrize(
    "given, message",
    [
        ({"length": 9}, "was prepared with length 8, not 9: change --data.length"),
        ({"min_count": 2}, "with min_count 1, not 2: change --data.min-count"),
        ({"fields": ("label=x",)}, r"fields \[\], not \['label=x'\]: change --fields"),
        ({"tokenizer": "a:b"}, "with tokenizer , not a:b: change --tokenizer"),
    ],
)
def test_other_settings_than_prepared_are_refused(tmp_path, file, given, message):
    out = tmp_path / "mine.npz"
    prepare(file, "-o", out)
    with own_files.refused(message):
        load(out, **given)


def changed(out, **arrays):
    with np.load(out) as stored:
        kept = dict(stored)
    np.savez(out, **(kept | arrays))


DAMAGES = {
    "cut": lambda out: out.write_bytes(out.read_bytes()[:-200]),
    "flip": lambda out: small_run.flip(out, 0.4),
    "text": lambda out: out.write_text("text"),
    "empty": lambda out: out.write_text(""),
    "labels": lambda out: changed(out, train_labels=np.ones(50, np.int32)),
    "about": lambda out: changed(out, about=np.frombuffer(b"{}", np.uint8)),
    "type": lambda out: changed(out, train_labels=np.array([None] * 50, object)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prepared_data_are_refused(tmp_path, file, capfd, damage):
    out = tmp_path / "mine.npz"
    prepare(file, "-o", out)
    DAMAGES[damage](out)
    message = "mine.npz is no prepared file or damaged; prepare it again"
    with own_files.refused(message):
        load(out)
    if damage == "cut":  # as the command says it
        words = ("--data", out, "--data.length", "8", "--data.min-count", "1")
        assert small_run.run(*words, "--workdir", tmp_path / "run") == 2
        err = capfd.readouterr().err
        assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["x.jsonl"], "data file x.jsonl does not exist"),
        (["MINE", "-o", "out.txt"], "out.txt: its name must end in .npz"),
        (["MINE", "--length", "0"], "length is 0"),
        (["MINE", "--fields", "label=x"], "no field 'x' (label)"),
        (["MINE", "-o", "MINE/x.npz"], "MINE"),
        (["imdb:nowhere"], "imdb:nowhere is no single file: say where with -o"),
    ],
)
def test_bad_preparations(tmp_path, file, capfd, words, message):
    words = [w.replace("MINE", str(file)) for w in words]
    assert main(["prepare", *words]) == 2
    err = capfd.readouterr().err
    assert message.replace("MINE", str(file)) in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.jsonl"]
