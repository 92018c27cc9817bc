import csv
import gzip
import json
import random
import sys
import types

import numpy as np
import own_files
import pytest
import small_run

from jaxattn.data.command import main
from jaxattn.data.readers import choice, lines
from jaxattn.data.readers.tables import load, reading, rows
from jaxattn.data.splits import SIDES


def same(one, other):
    """Whether two data sets are equal; says where not."""
    assert one.vocabulary == other.vocabulary and one.classes == other.classes
    for side in SIDES:
        a, b = getattr(one, side), getattr(other, side)
        for name in ("inputs", "lengths", "labels", "ids", "evidence"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert one.digest == other.digest


def as_table(path, records, delimiter=",", evidence=json.dumps):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(records[0])
        for record in records:
            values = {**record, "evidence": evidence(record["evidence"])}
            writer.writerow(values[name] for name in records[0])
    return path


@pytest.fixture
def good(tmp_path):
    return own_files.write(tmp_path / "good.jsonl", own_files.records())


def test_every_form_of_file_gives_the_same_data(tmp_path, good):
    records = own_files.records()
    expected = load(good, 8, 1)
    zipped = tmp_path / "good.jsonl.gz"
    zipped.write_bytes(gzip.compress(good.read_bytes()))
    misnamed = tmp_path / "misnamed.jsonl"
    misnamed.write_bytes(zipped.read_bytes())
    marked = tmp_path / "BOM.JSONL"
    marked.write_bytes(b"\xef\xbb\xbf" + good.read_bytes().replace(b"\n", b"\r\n\n"))
    array = tmp_path / "array.json"
    array.write_text(json.dumps(records, indent=1))
    one_a_line = tmp_path / "lines.json"
    one_a_line.write_bytes(good.read_bytes())
    table = as_table(tmp_path / "good.csv", records)
    tabs = as_table(tmp_path / "good.tsv", records, "\t")
    for path in (zipped, misnamed, marked, array, one_a_line, table, tabs):
        same(expected, load(path, 8, 1))
    assert expected.train.evidence is not None
    assert (expected.train.evidence[:, 0] == 1).all()
    assert np.nansum(expected.train.evidence) == len(expected.train.labels)


def test_tokens_and_other_forms_of_evidence_give_the_same_data(tmp_path, good):
    expected, forms = load(good, 8, 1), {}
    read = [
        (row, r)
        for row, r in zip(rows(reading(good)), own_files.records(), strict=True)
    ]
    for name, evidence in {
        "flags": lambda row: [1, *[0] * (len(row.tokens) - 1)],
        "spans": lambda row: [[0, 1]],
        "dicts": lambda row: [[{"start_token": 0, "end_token": 1}]],
    }.items():
        forms[name] = [
            {
                "tokens": row.tokens,
                "label": r["label"],
                "rationale": evidence(row),
                "id": r["id"],
            }
            for row, r in read
        ]
    for name, records in forms.items():
        same(expected, load(own_files.write(tmp_path / f"{name}.jsonl", records), 8, 1))
    plain = [
        {**r, "tokens": " ".join(r["tokens"]), "evidence": r["rationale"]}
        for r in forms["flags"]
    ]
    for r in plain:
        del r["rationale"]
    spaced = as_table(
        tmp_path / "spaced.csv", plain, evidence=lambda e: " ".join(map(str, e))
    )
    same(expected, load(spaced, 8, 1))


def test_fields_of_other_names(tmp_path, good):
    renamed = [
        {
            "stars": r["label"],
            "review": r["text"],
            "why": r["evidence"],
            "key": r["id"],
            "split": "ignored",
        }
        for r in own_files.records()
    ]
    path = own_files.write(tmp_path / "renamed.jsonl", renamed)
    fields = ("label=stars", "text=review", "evidence=why", "id=key", "split=")
    said = []
    same(load(good, 8, 1), load(path, 8, 1, None, fields, said.append))
    assert "fields not used: split" in said
    same(
        load(good, 8, 1),
        load(
            as_table(
                tmp_path / "r.csv", [{**r, "evidence": r["why"]} for r in renamed]
            ),
            8,
            1,
            None,
            ("label=stars", "text=review", "id=key", "split="),
        ),
    )


def test_labels_may_be_of_any_plain_type(tmp_path):
    for name, labels, classes in (
        ("bool", (True, False), ("false", "true")),
        ("int", (10, 9), ("9", "10")),
        ("float", (1.0, 0.0), ("0", "1")),
    ):
        records = [
            {**r, "label": labels[i % 2]} for i, r in enumerate(own_files.records())
        ]
        path = own_files.write(tmp_path / f"{name}.jsonl", records)
        assert load(path, 8, 1).classes == classes


def jsonl(*records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def bad_files():
    """Name, content, and what is said of it in one line."""
    base = own_files.records()
    one = base[0]

    def with_row(**changes):
        row = {**one, "id": "other", "text": "another text", **changes}
        return jsonl(*base, {k: v for k, v in row.items() if v is not ...})

    def in_splits(**changes):
        """Rows of three splits, with the first of the test changed."""
        split = [{**r, "split": SIDES[max(i % 10 - 7, 0)]} for i, r in enumerate(base)]
        first = next(i for i, r in enumerate(split) if r["split"] == "test")
        split[first] = {**split[first], **changes}
        return jsonl(*split)

    tokens = {"text": ..., "tokens": ["a", "b"]}
    return {
        "empty.jsonl": (b"", "empty.jsonl is empty"),
        "blank.jsonl": (b"\n \n", "blank.jsonl has no row"),
        "empty.csv": (b"", "empty.csv is empty"),
        "header.csv": (b"text,label\n", "header.csv has no row"),
        "no_label.jsonl": (
            with_row(label=...),
            "row 61: no field 'label' (label); there are: text, evidence, id",
        ),
        "null_label.jsonl": (with_row(label=None), "row 61: no label: label is null"),
        "empty_label.jsonl": (with_row(label=""), "row 61: no label"),
        "blank_label.csv": (b"text,label\na,1\nb,\n", "row 3: no label"),
        "list_label.jsonl": (
            with_row(label=[1]),
            "row 61: label [1]; allowed: a text or",
        ),
        "share.jsonl": (with_row(label=0.25), "row 61: label 0.25; allowed: a text or"),
        "no_text.jsonl": (
            with_row(text=...),
            "row 61: no field 'text' (text); there are: label",
        ),
        "number_text.jsonl": (with_row(text=7), "row 61: text is int, not a text"),
        "text_tokens.jsonl": (
            with_row(tokens="a b"),
            "row 61: tokens is str, not a list",
        ),
        "number_tokens.jsonl": (
            with_row(tokens=["a", 1], evidence=None),
            "row 61: tokens must be texts",
        ),
        "one_class.jsonl": (
            jsonl(*({**r, "label": "x"} for r in base)),
            "one_class.jsonl: all 60 rows have the label 'x': at least two",
        ),
        "classes.jsonl": (
            jsonl(*({"text": f"t{i}", "label": i} for i in range(10_000))),
            "classes.jsonl: 10,000 classes for 7,",
        ),
        "long_evidence.jsonl": (
            with_row(**tokens, evidence=[1, 0, 0]),
            "row 61: evidence has 3 numbers for 2 tokens",
        ),
        "far_span.jsonl": (
            with_row(**tokens, evidence=[[1, 3]]),
            "row 61: span 1 to 3 lies outside the 2 tokens",
        ),
        "overlap.jsonl": (
            with_row(evidence=[{"start": 0, "end": 5}, {"start": 3, "end": 7}]),
            "row 61: spans 0 to 5 and 3 to 7 overlap",
        ),
        "no_offsets.jsonl": (
            with_row(**tokens, evidence=[{"start": 0, "end": 1}]),
            "row 61: character spans (start, end) are of a text without tokens",
        ),
        "two_evidences.jsonl": (
            with_row(rationale=[1, 0]),
            "row 61: both evidence and rationale",
        ),
        "word_evidence.csv": (
            b"text,label,evidence\na b,1,yes no\n",
            "row 2: evidence 'yes no': allowed: numbers with spaces",
        ),
        "json_evidence.csv": (
            b'text,label,evidence\na b,1,"[0,"\n',
            "row 2: evidence is no JSON",
        ),
        "latin.jsonl": (
            jsonl(*base) + '{"text": "caf\xe9", "label": "pos"}\n'.encode("latin-1"),
            "row 61: not UTF-8 (byte 0xe9 at column 14): save the file as UTF-8",
        ),
        "latin.csv": (
            b"text,label\na,1\ncaf\xe9,2\n",
            "row 3: line 3: not UTF-8 (byte 0xe9 at column 4)",
        ),
        "utf16.jsonl": (
            jsonl(*base).decode().encode("utf-16"),
            "utf16.jsonl is UTF-16: save it as UTF-8",
        ),
        "nul.jsonl": (
            jsonl(*base) + b'{"text": "a\0b"}\n',
            "row 61: a NUL byte: no text has one",
        ),
        "nul.csv": (b"text,label\na,1\nb\0,2\n", "row 3: line 3: a NUL byte"),
        "escaped_nul.jsonl": (
            with_row(text="a\0b", evidence=None),
            "row 61: a NUL character",
        ),
        "surrogate.jsonl": (
            with_row(text="a \ud800 b", evidence=None),
            "row 61: a character is broken",
        ),
        "no_json.jsonl": (
            jsonl(*base) + b"{'text': 1}\n",
            "row 61: no JSON (Expecting property name",
        ),
        "deep.jsonl": (
            jsonl(*base) + b'{"a":' + b"[" * 100_000,
            "row 61: no JSON that can be read",
        ),
        "digits.jsonl": (
            jsonl(*base) + b'{"label": ' + b"1" * 5000 + b"}",
            "row 61: no JSON that can be read",
        ),
        "a_list.jsonl": (jsonl(*base) + b"[1]\n", "row 61: a JSON list, not an object"),
        "array.json": (
            json.dumps([*base, 3]).encode(),
            "row 61: a JSON int, not an object",
        ),
        "broken.json": (
            json.dumps(base).encode()[:-9],
            "broken.json is no JSON array:",
        ),
        "nul_header.csv": (b"te\0xt,label\na,1\n", "nul_header.csv, row 1: a NUL byte"),
        "long_field.csv": (
            b"x" * 200_000 + b",label\na,1\n",
            "long_field.csv: no field 'text' (text); there are: xxxxxxxxxx",
        ),
        "cut.jsonl.gz": (
            gzip.compress(random.Random(0).randbytes(9999).hex().encode())[:999],
            "cut.jsonl.gz, row 1: the gzip file is damaged",
        ),
        "cut.json.gz": (
            gzip.compress(b"[\n" + random.Random(0).randbytes(9**6).hex().encode())[
                :400_000
            ],
            "cut.json.gz: the gzip file is damaged",
        ),
        "fields.csv": (
            b"text,label\na,1\nb,2,3\n",
            "row 3: 3 fields, and the header has 2",
        ),
        "quote.csv": (
            b'text,label\na,1\n"b,2\nc,3\n',
            "row 3: no CSV (unexpected end of data)",
        ),
        "after_quote.csv": (b'text,label\n"a" b,1\n', "row 2: no CSV ("),
        "twice.csv": (
            b"text,label,label\na,1,2\n",
            "twice.csv: the header names label twice",
        ),
        "headless.csv": (
            b"good,1\nbad,0\n",
            "headless.csv: no field 'text' (text); there are: good, 1",
        ),
        "semicolon.csv": (
            b"text;label\na;1\n",
            "no field 'text' (text); there are: text;label",
        ),
        "id.jsonl": (with_row(id=[1]), "row 61: id is list; allowed: a text"),
        "long_id.jsonl": (with_row(id="x" * 500), "row 61: id has 500 characters"),
        "split.jsonl": (
            in_splits(split="tset"),
            "split 'tset'; allowed: val, dev, valid, train",
        ),
        "no_split.jsonl": (in_splits(split=None), "has no split and"),
        "same_id.jsonl": (
            in_splits(id="doc_0"),
            "1 ids are in two splits, as 'doc_0' in same_id.jsonl, row 1 (train) and "
            "same_id.jsonl, row 10 (test)",
        ),
        "train_only.jsonl": (
            jsonl(*({**r, "split": "train"} for r in base)),
            "no row of validation or test (60 train, 0 validation, 0 test)",
        ),
        "copies.jsonl": (
            jsonl(
                *(
                    {**r, "split": s, "id": f"{s}{i}"}
                    for s in ("train", "test")
                    for i, r in enumerate(base)
                )
            ),
            "of the texts of training are in validation or test too",
        ),
        "text.txt": (b"hello\n", "allowed: FILE.jsonl"),
    }


BAD = bad_files()


@pytest.mark.parametrize("name", list(BAD))
def test_bad_files_through_the_command_line(tmp_path, capfd, name):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    code = small_run.run("--data", path, "--workdir", tmp_path / "run", "--quiet")
    written = capfd.readouterr()
    assert code == 2, written
    assert written.err.startswith("error: ") and written.err.count("\n") == 1
    assert message in written.err
    assert name in written.err
    assert "Traceback" not in written.err and len(written.err) < 700
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [n for n in BAD if n.endswith(("l", "v", "n", "gz"))])
def test_bad_files_are_refused_by_check_too(tmp_path, capfd, name):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["check", str(path)]) == 2
    written = capfd.readouterr()
    said = " ".join((written.out + written.err).split())
    # The place stands in front of what is wrong, in brackets.
    *_, tail = message.rpartition("row 61: ")
    *_, tail = tail.rpartition("row 3: ")
    *_, tail = tail.rpartition("row 2: ")
    assert tail in said
    assert "Traceback" not in said


def test_a_line_of_100_mb_is_refused_and_passed_over(tmp_path, capfd):
    path = tmp_path / "long.jsonl"
    with open(path, "wb") as file:
        file.write(jsonl(*own_files.records()))
        file.write(b'{"label": "pos", "text": "')
        for _ in range(100):
            file.write(b"a" * 10**6)
        file.write(b'"}\n')
        file.write(b'{"label": "pos", "text": 3}\n')
    assert small_run.run("--data", path, "--workdir", tmp_path / "run", "--quiet") == 2
    written = capfd.readouterr()
    assert "long.jsonl, row 61: longer than 16 MiB" in written.err
    assert main(["check", str(path)]) == 2
    out = capfd.readouterr().out
    assert "62 rows read, 60 good" in out
    assert "1 row (61): longer than 16 MiB" in out
    assert "1 row (62): text is int" in out


def test_lines_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 32)
    monkeypatch.setattr(lines, "_CHUNK", 7)
    path = tmp_path / "a.jsonl"
    fits = b'{"label": 1, "text": "123456789"}'[:31] + b"\n"
    path.write_bytes(b"x" * 31 + b"\n" + b"x" * 32 + b"\n" + b"x" * 60 + b"\n" + fits)
    found = list(lines._lines(path))
    assert [(n, bool(wrong)) for n, _, wrong in found] == [
        (1, False),
        (2, True),
        (3, True),
        (4, False),
    ]
    assert found[3][1].encode() == fits


@pytest.mark.parametrize(
    "fields, message",
    [
        (["label=stars"], "no field 'stars' (label); there are: text, label, evidence"),
        (
            ["text=texts"],
            "no field 'texts' (text); there are: text, label, evidence, id; --fields "
            "text=text",
        ),
        (
            ["group=pair"],
            "no field 'pair' (group); there are: text, label, evidence, id",
        ),
        (
            ["labl=stars"],
            "'labl=stars' is not of the form ROLE=FIELD, as label=stars; perhaps you "
            "meant label; roles of",
        ),
        (["label"], "fields 'label' is not of the form ROLE=FIELD"),
        (["=x"], "fields '=x' is not of the form"),
        (["id=id", "id=key"], "fields names id more than once"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_fields_that_are_not_there(tmp_path, capfd, fields, message, kind):
    path = tmp_path / f"good.{kind}"
    if kind == "csv":
        as_table(path, own_files.records())
    else:
        own_files.write(path, own_files.records())
    workdir = tmp_path / "run"
    code = small_run.run("--data", path, "--fields", *fields, "--workdir", workdir)
    err = capfd.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1
    assert not workdir.exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data", "nowhere.jsonl"], "data file nowhere.jsonl does not exist"),
        (["--data", "mydata"], "data 'mydata': allowed: FILE.jsonl"),
        (["--fields", "label=x"], "data.fields is for data of one's own: give --data"),
        (["--tokenizer", "a:b"], "data.tokenizer is for data of one's own"),
        (["--tasks", "own"], "task own needs data of one's own: give --data FILE"),
        (
            ["--data.source", "x.jsonl"],
            "data.source is for data of one's own: give task",
        ),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capfd, words, message):
    assert small_run.run(*words, "--workdir", tmp_path / "run") == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "source, door",
    [
        ("tfds:glue/sst2", "tfds_door"),
        ("imdb:aclImdb.tar.gz", "archives"),
        ("ag_news:folder", "archives"),
        ("bags:slides.csv", "slides"),
        ("FOLDER", "eraser"),
        ("FOLDER/slides.csv", "slides"),
    ],
)
def test_every_source_goes_to_its_door(tmp_path, monkeypatch, source, door):
    (tmp_path / "slides.csv").write_text("slide,label\na,1\n")
    source = source.replace("FOLDER", str(tmp_path))
    module = types.ModuleType(door)
    module.__dict__["load"] = lambda *given: given
    monkeypatch.setitem(sys.modules, f"jaxattn.data.{door}", module)
    found = choice.load_own(source, 9, 3, tmp_path, ["label=x"], True, print)
    assert found == (source, 9, 3, tmp_path, ["label=x"], True, print)
    with pytest.raises(ValueError, match="has one of its own"):
        choice.load_own(source, tokenizer="json:loads")


def test_a_tokenizer_of_ones_own_with_spans_of_characters(tmp_path, monkeypatch, good):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_file_tokens.py").write_text(
        "import re\n"
        "def words(text):\n"
        "    return text.split()\n"
        "def with_offsets(text):\n"
        "    found = list(re.finditer(r'\\S+', text))\n"
        "    return [m.group() for m in found], [m.span() for m in found]\n"
    )
    found = load(good, 8, 1, tokenizer="own_file_tokens:with_offsets")
    assert {"Fine", "Dull", "a,"} <= set(found.vocabulary)
    evidence = found.train.evidence
    assert evidence is not None and (evidence[:, :3] == [1, 0, 0]).all()
    with pytest.raises(ValueError, match="good.jsonl, row 1: character spans need"):
        load(good, 8, 1, tokenizer="own_file_tokens:words")
    plain = load(good, 8, 1, fields=["evidence="], tokenizer="own_file_tokens:words")
    assert plain.vocabulary == found.vocabulary and plain.train.evidence is None


def test_a_tokenizer_for_rows_with_tokens_is_refused(tmp_path):
    path = own_files.write(tmp_path / "t.jsonl", [{"tokens": ["a"], "label": 1}])
    with pytest.raises(ValueError, match="row 1: it has tokens already"):
        load(path, 8, 1, tokenizer="json:loads")


def test_spans_that_do_not_fit_are_said(tmp_path):
    records = own_files.records()
    records[3]["evidence"] = [{"start": 0, "end": 2}, {"start": 4, "end": 5}]
    path = own_files.write(tmp_path / "cut.jsonl", records)
    said = []
    load(path, 8, 1, say=said.append)
    assert (
        "1 of 61 character spans cut through a token, all of which counts (first: "
        "cut.jsonl, row 4, characters 0 to 2)" in said
    )
    assert any(
        line.startswith("1 of 61 character spans touch no token") for line in said
    )
