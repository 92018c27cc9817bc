"""Files of the user's own: every form, every mistake."""

import csv
import gzip
import json
import random
import re
import sys
import types

import numpy as np
import own_files
import pytest
import small_run
from own_files import load, same

from jaxattn.data.command import main
from jaxattn.data.readers import load_own
from jaxattn.data.readers.options import Options
from jaxattn.data.readers.tables import rows, table_of
from jaxattn.data.splits import SPLITS
from jaxattn.system import lines


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
    records, raw = own_files.records(), good.read_bytes()
    expected = load(good)
    for name, content in {
        "good.jsonl.gz": gzip.compress(raw),
        "misnamed.jsonl": gzip.compress(raw),
        "BOM.JSONL": b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n\n"),
        "array.json": json.dumps(records, indent=1).encode(),
        "lines.json": raw,
    }.items():
        (tmp_path / name).write_bytes(content)
        same(expected, load(tmp_path / name))
    same(expected, load(as_table(tmp_path / "good.csv", records)))
    same(expected, load(as_table(tmp_path / "good.tsv", records, "\t")))
    assert expected.train.evidence is not None
    assert (expected.train.evidence[:, 0] == 1).all()
    assert np.nansum(expected.train.evidence) == len(expected.train.labels)


@pytest.mark.parametrize(
    "evidence",
    [
        lambda n: [1, *[0] * (n - 1)],
        lambda n: [[0, 1]],
        lambda n: [[{"start_token": 0, "end_token": 1}]],
    ],
)
def test_tokens_and_other_forms_of_evidence_give_the_same_data(
    tmp_path, good, evidence
):
    tokens = [list(row.tokens) for row in rows(table_of(good, Options()))]  # type: ignore[union-attr]
    made = [
        {"tokens": t, "label": r["label"], "rationale": evidence(len(t)), "id": r["id"]}
        for t, r in zip(tokens, own_files.records(), strict=True)
    ]
    same(load(good), load(own_files.write(tmp_path / "tokens.jsonl", made)))


def test_tables_may_have_tokens_and_evidence_with_blanks_between(tmp_path, good):
    records = own_files.records()
    for row, record in zip(rows(table_of(good, Options())), records, strict=True):
        record["tokens"] = " ".join(row.tokens)
        record["evidence"] = [1, *[0] * (len(row.tokens) - 1)]
        del record["text"]
    path = tmp_path / "spaced.csv"
    as_table(path, records, evidence=lambda e: " ".join(map(str, e)))
    same(load(good), load(path))


def test_fields_of_other_names(tmp_path, good, said):
    names = {"label": "stars", "text": "review", "id": "key", "evidence": "evidence"}
    renamed = [
        {names[k]: v for k, v in r.items()} | {"split": "ignored"}
        for r in own_files.records()
    ]
    fields = ("label=stars", "text=review", "id=key", "split=")
    path = own_files.write(tmp_path / "renamed.jsonl", renamed)
    same(load(good), load(path, fields=fields))
    assert "fields not used: split" in said()
    same(load(good), load(as_table(tmp_path / "r.csv", renamed), fields=fields))


@pytest.mark.parametrize("classes", [(False, True), (9, 10), (0.0, 1.0)])
def test_labels_may_be_of_any_plain_type(tmp_path, classes):
    records = [{**r, "label": classes[i % 2]} for i, r in enumerate(BASE)]
    found = load(own_files.write(tmp_path / "a.jsonl", records)).classes
    told = {False: "false", True: "true"} if classes[0] is False else {}
    assert found == tuple(told.get(c, str(int(c))) for c in classes)


def jsonl(*records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


BASE = own_files.records()
GOOD = jsonl(*BASE)
TOKENS = {"text": ..., "tokens": ["a", "b"]}
SPANS = [{"start": 0, "end": 5}, {"start": 3, "end": 7}]

ROWS = [
    ({"label": ...}, "no field 'label' (label); there are: text, evidence, id"),
    ({"label": None}, "no label: label is null"),
    ({"label": ""}, "no label"),
    ({"label": [1]}, "label [1]; allowed: a text or"),
    ({"label": 0.25}, "label 0.25; allowed: a text or"),
    ({"text": ...}, "no field 'text' (text); there are: label"),
    ({"text": 7}, "text is int, not a text"),
    ({"text": "a\0b", "evidence": None}, "a NUL character"),
    ({"text": "a \ud800 b", "evidence": None}, "a character is broken"),
    ({"tokens": "a b"}, "tokens is str, not a list"),
    ({"tokens": ["a", 1], "evidence": None}, "tokens must be texts"),
    ({**TOKENS, "evidence": [1, 0, 0]}, "evidence has 3 numbers for 2 tokens"),
    ({**TOKENS, "evidence": [[1, 3]]}, "span 1 to 3 lies outside the 2 tokens"),
    ({**TOKENS, "evidence": SPANS[:1]}, "character spans (start, end) are of a text"),
    ({"evidence": SPANS}, "spans 0 to 5 and 3 to 7 overlap"),
    ({"rationale": [1, 0]}, "both evidence and rationale"),
    ({"id": [1]}, "id is list; allowed: a text"),
    ({"id": "x" * 500}, "id has 500 characters"),
]
"""What is changed in row 61, and what is said of it."""

LINES = [
    (b'{"text": "caf\xe9"}\n', "not UTF-8 (byte 0xe9 at column 14): save the file"),
    (b'{"text": "a\0b"}\n', "a NUL byte: no text has one"),
    (b"{'text': 1}\n", "no JSON (Expecting property name"),
    (b'{"a":' + b"[" * 100_000, "no JSON that can be read"),
    (b'{"label": ' + b"1" * 5000 + b"}", "no JSON that can be read"),
    (b"[1]\n", "a JSON list, not an object"),
]
"""Line 61, and what is said of it."""

SPLIT = [
    ({"split": "tset"}, "split 'tset'; allowed: val, dev, valid, train"),
    ({"split": None}, "has no split and"),
    ({"id": "doc_0"}, "1 ids are in two splits, as bad.jsonl, row 1 (train) and bad"),
]
"""What is changed in the first row of the test split."""

NOISE = random.Random(0).randbytes(9**6).hex().encode()

WHOLE = {
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "blank.jsonl": (b"\n \n", "blank.jsonl has no row"),
    "empty.csv": (b"", "empty.csv is empty"),
    "header.csv": (b"text,label\n", "header.csv has no row"),
    "label.csv": (b"text,label\na,1\nb,\n", "row 3: no label"),
    "class.jsonl": (
        jsonl(*({**r, "label": "x"} for r in BASE)),
        "class.jsonl: all 60 rows have the label 'x': at least two",
    ),
    "classes.jsonl": (
        jsonl(*({"text": f"t{i}", "label": i} for i in range(10_000))),
        "classes.jsonl: 10,000 classes for 7,",
    ),
    "words.csv": (
        b"text,label,evidence\na b,1,yes no\n",
        "row 2: evidence 'yes no': allowed: numbers with spaces",
    ),
    "json.csv": (b'text,label,evidence\na b,1,"[0,"\n', "row 2: evidence is no JSON"),
    "latin.csv": (
        b"text,label\na,1\ncaf\xe9,2\n",
        "row 3: line 3: not UTF-8 (byte 0xe9 at column 4)",
    ),
    "nul.csv": (b"text,label\na,1\nb\0,2\n", "row 3: line 3: a NUL byte"),
    "nul_header.csv": (b"te\0xt,label\na,1\n", "nul_header.csv, row 1: a NUL byte"),
    "utf16.jsonl": (GOOD.decode().encode("utf-16"), "is UTF-16: save it as UTF-8"),
    "array.json": (json.dumps([*BASE, 3]).encode(), "row 61: a JSON int, not an"),
    "cut.json": (json.dumps(BASE).encode()[:-9], "cut.json is no JSON array:"),
    "cut.jsonl.gz": (gzip.compress(NOISE[:9999])[:999], ", row 1: the gzip file is"),
    "cut.json.gz": (gzip.compress(b"[\n" + NOISE)[:400_000], ".gz: the gzip file is"),
    "long.csv": (
        b"x" * 200_000 + b",label\na,1\n",
        "long.csv: no field 'text' (text); there are: xxxxxxxxxx",
    ),
    "fields.csv": (b"text,label\na,1\nb,2,3\n", "row 3: 3 fields, and the header"),
    "quote.csv": (b'text,label\na,1\n"b,2\n', "row 3: no CSV (unexpected end of data)"),
    "after.csv": (b'text,label\n"a" b,1\n', "row 2: no CSV ("),
    "twice.csv": (b"text,label,label\na,1,2\n", "the header names label twice"),
    "headless.csv": (b"good,1\nbad,0\n", "no field 'text' (text); there are: good, 1"),
    "semicolon.csv": (b"text;label\na;1\n", "(text); there are: text;label"),
    "train.jsonl": (
        jsonl(*({**r, "split": "train"} for r in BASE)),
        "no row of validation or test (60 train, 0 validation, 0 test)",
    ),
    "copies.jsonl": (
        jsonl(
            *({**r, "split": "train", "id": f"a{i}"} for i, r in enumerate(BASE)),
            *({**r, "split": "test"} for r in BASE),
        ),
        "of the texts of training are in validation or test too",
    ),
    "text.txt": (b"hello\n", "allowed: FILE.jsonl"),
}


def bad_files():
    """Name, content, and what is said of it in one line."""
    for changes, said in ROWS:
        row = {**BASE[0], "id": "other", "text": "another text", **changes}
        line = jsonl({k: v for k, v in row.items() if v is not ...})
        yield "bad.jsonl", GOOD + line, f"row 61: {said}"
    for line, said in LINES:
        yield "bad.jsonl", GOOD + line, f"row 61: {said}"
    for changes, said in SPLIT:
        rows = [{**r, "split": SPLITS[max(i % 10 - 7, 0)]} for i, r in enumerate(BASE)]
        rows[9] |= changes
        yield "bad.jsonl", jsonl(*rows), said
    for name, (content, said) in WHOLE.items():
        yield name, content, said


BAD = list(bad_files())


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_files(tmp_path, capfd, case):
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        load(path)
    error = str(caught.value)
    assert message in error and name in error
    assert "\n" not in error and len(error) < 700
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name != "text.txt":
        assert main(["check", str(path)]) == 2
        written = capfd.readouterr()
        said = " ".join((written.out + written.err).split())
        # The place stands in front of what is wrong, in brackets.
        for place in ("row 61: ", "row 3: ", "row 2: "):
            message = message.rpartition(place)[2]
        assert message in said and "Traceback" not in said


@pytest.mark.parametrize("case", [0, len(ROWS), len(BAD) - 1])
def test_bad_files_through_the_command_line(tmp_path, capfd, case):
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    code = small_run.run("--data", path, "--workdir", tmp_path / "run", "--quiet")
    written = capfd.readouterr()
    assert code == 2, written
    assert written.err.startswith("error: ") and written.err.count("\n") == 1
    assert message in written.err and name in written.err
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_line_of_100_mb_is_refused_and_passed_over(tmp_path, capfd):
    path = tmp_path / "long.jsonl"
    with open(path, "wb") as file:
        file.write(GOOD)
        file.write(b'{"label": "pos", "text": "')
        for _ in range(100):
            file.write(b"a" * 10**6)
        file.write(b'"}\n')
        file.write(b'{"label": "pos", "text": 3}\n')
    with pytest.raises(ValueError, match="long.jsonl, row 61: longer than 16 MiB"):
        load(path)
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
    read = list(lines._lines(path))
    assert [number for number, _, _ in read] == [1, 2, 3, 4]
    assert [bool(wrong) for _, _, wrong in read] == [False, True, True, False]
    assert read[3][1].encode() == fits


@pytest.mark.parametrize(
    "fields, message",
    [
        (["label=stars"], "no field 'stars' (label); there are: text, label, evidence"),
        (["text=texts"], "are: text, label, evidence, id; --fields text=text"),
        (["group=pair"], "no field 'pair' (group); there are: text, label, evidence"),
        (["labl=stars"], "'labl=stars' is not of the form ROLE=FIELD, as label=stars"),
        (["labl=stars"], "perhaps you meant label; roles of"),
        (["label"], "fields 'label' is not of the form ROLE=FIELD"),
        (["=x"], "fields '=x' is not of the form"),
        (["id=id", "id=key"], "fields names id more than once"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_fields_that_are_not_there(tmp_path, fields, message, kind):
    path = tmp_path / f"good.{kind}"
    (as_table if kind == "csv" else own_files.write)(path, own_files.records())
    with own_files.refused(re.escape(message)):
        load(path, fields=fields)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data", "nowhere.jsonl"], "data file nowhere.jsonl does not exist"),
        (["--data", "mydata"], "data 'mydata': allowed: FILE.jsonl"),
        (["--fields", "label=x"], "data.fields is for data of one's own: give --data"),
        (["--tokenizer", "a:b"], "data.tokenizer is for data of one's own"),
        (["--tasks", "own"], "task own needs data of one's own: give --data FILE"),
        (["--data.source", "x.jsonl"], "data.source is for data of one's own"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capfd, words, message):
    assert small_run.run(*words, "--workdir", tmp_path / "run") == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "source, reader",
    [
        ("tfds:glue/sst2", "tfds"),
        ("imdb:aclImdb.tar.gz", "archives"),
        ("ag_news:folder", "archives"),
        ("bags:slides.csv", "bags"),
        ("FOLDER", "eraser"),
        ("FOLDER/slides.csv", "bags"),
    ],
)
def test_every_source_goes_to_its_reader(tmp_path, monkeypatch, source, reader):
    (tmp_path / "slides.csv").write_text("slide,label\na,1\n")
    source = source.replace("FOLDER", str(tmp_path))
    module = types.ModuleType(reader)
    module.__dict__["load"] = lambda *given: given
    monkeypatch.setitem(sys.modules, f"jaxattn.data.readers.{reader}", module)
    options = Options(9, 3, tmp_path, ["label=x"], True)
    assert load_own(source, options) == (source, options)  # type: ignore[comparison-overlap]
    with pytest.raises(ValueError, match="has one of its own"):
        load(source, tokenizer="json:loads")


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
    marked = load(good, tokenizer="own_file_tokens:with_offsets")
    assert {"Fine", "Dull", "a,"} <= set(marked.vocabulary)
    evidence = marked.train.evidence
    assert evidence is not None and (evidence[:, :3] == [1, 0, 0]).all()
    with pytest.raises(ValueError, match="good.jsonl, row 1: character spans need"):
        load(good, tokenizer="own_file_tokens:words")
    plain = load(good, fields=["evidence="], tokenizer="own_file_tokens:words")
    assert plain.vocabulary == marked.vocabulary and plain.train.evidence is None


def test_a_tokenizer_for_rows_with_tokens_is_refused(tmp_path):
    path = own_files.write(tmp_path / "t.jsonl", [{"tokens": ["a"], "label": 1}])
    with pytest.raises(ValueError, match="row 1: it has tokens already"):
        load(path, tokenizer="json:loads")


def test_spans_that_do_not_fit_are_said(tmp_path, said):
    records = own_files.records()
    records[3]["evidence"] = [{"start": 0, "end": 2}, {"start": 4, "end": 5}]
    load(own_files.write(tmp_path / "cut.jsonl", records))
    assert (
        "1 of 61 character spans cut through a token, all of which counts (first: "
        "cut.jsonl, row 4, characters 0 to 2)" in said()
    )
    assert any(line.startswith("1 of 61 character spans touch no") for line in said())
