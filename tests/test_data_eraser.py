"""Folders in the form of ERASER."""

import json
import shutil

import numpy as np
import own_files
import pytest

DOCS = {
    f"{split}_{i}.txt": f"{split} {i} It 's a\nvery Good film , a very good film ."
    for split, n in (("train", 40), ("val", 8), ("test", 8))
    for i in range(n)
}


def row(name, label, *spans):
    pieces = [{"docid": name, "start_token": a, "end_token": b} for a, b in spans]
    return {
        "annotation_id": name,
        "classification": label,
        "evidences": [pieces[:1], pieces[1:]],
        "query": "What is the sentiment of this review ?",
        "query_type": None,
    }


def write(folder, rows, docs=DOCS):
    (folder / "docs").mkdir(exist_ok=True)
    for name, text in docs.items():
        (folder / "docs" / name).write_text(text)
    for split, records in rows.items():
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / f"{split}.jsonl").write_text("".join(lines))


def usual():
    rows = {"train": [], "val": [], "test": []}
    for i, name in enumerate(DOCS):
        made = row(name, ("NEG", "POS")[i % 2], (5, 8), (9, 11))
        rows[name.split("_")[0]].append(made)
    return rows


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, usual())
    return tmp_path


def load(folder, length=20, fields=()):
    return own_files.load(folder, length, fields=fields)


def refused(match, folder, kind=ValueError, **more):
    with own_files.refused(match, kind):
        load(folder, **more)


def test_tokens_are_those_of_the_files_and_evidence_stays_in_its_place(folder, said):
    found = load(folder)
    assert found.classes == ("NEG", "POS") and said() == []
    sizes = [len(s.labels) for s in (found.train, found.validation, found.test)]
    assert sizes == [40, 8, 8]
    tokens = DOCS["test_0.txt"].lower().split()
    assert found.test.lengths[0] == len(tokens) == 14
    assert own_files.words(found, found.test, 0)[2:] == tokens[2:]
    expected = [0] * 5 + [1] * 3 + [0] + [1] * 2 + [0] * 3
    assert found.test.evidence[0, :14].tolist() == expected
    assert np.isnan(found.test.evidence[0, 14:]).all()
    assert list(found.test.ids[:2]) == ["test_0.txt", "test_1.txt"]


def test_the_cap_is_said(folder, said):
    found = load(folder, length=10)
    assert found.cut["test"] == (8, 32)
    # 4 marked tokens of 5 are among the first 10.
    assert said() == ["20.0% of the evidence lies behind the first 10 tokens: lost"]


def test_queries_that_differ_stand_in_front(folder):
    rows = usual()
    for records in rows.values():
        for i, record in enumerate(records):
            record["query"] = ("Is it good", "Is it long ?")[i % 2]
    write(folder, rows)
    found = load(folder, length=30)
    assert own_files.words(found, found.test, 0)[:4] == ["is", "it", "good", "<sep>"]
    expected = [0] * 9 + [1] * 3 + [0] + [1] * 2 + [0] * 3
    assert found.test.evidence[0, :18].tolist() == expected
    without = load(folder, length=30, fields=["query="])
    assert without.test.lengths[0] == 14


def test_several_documents_one_after_another(folder):
    rows = usual()
    first = rows["test"][0]
    first["docids"] = ["val_1.txt", "test_0.txt"]
    first["evidences"] = [[{"docid": "test_0.txt", "start_token": 0, "end_token": 1}]]
    write(folder, rows)
    found = load(folder, length=40)
    assert found.test.lengths[0] == 14 + 1 + 14
    assert found.test.evidence[0, :29].tolist() == [0] * 15 + [1] + [0] * 13


def test_documents_in_one_file(folder):
    before = load(folder)
    shutil.rmtree(folder / "docs")
    lines = [json.dumps({"docid": n, "document": t}) for n, t in DOCS.items()]
    (folder / "docs.jsonl").write_text("\n".join(lines))
    assert load(folder).digest == before.digest


def test_rows_that_nobody_marked(folder, said):
    rows = usual()
    rows["test"][0]["evidences"] = []
    rows["test"][1]["evidences"] = [[{"docid": "test_1.txt"}]]
    write(folder, rows)
    found = load(folder)
    assert np.isnan(found.test.evidence[:2]).all()
    assert not np.isnan(found.test.evidence[2, :14]).any()
    assert said() == [
        "nothing is marked in 2 rows: they have no evidence",
        "1 pieces of evidence have no place: left out",
    ]


def span(first, last):
    piece = {"docid": "val_0.txt", "start_token": first, "end_token": last}
    return {"evidences": [[piece]]}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"annotation_id": None}, "val.jsonl, row 1: no annotation_id"),
        ({"evidences": 3}, "row 1: evidences must be a list of lists"),
        ({"evidences": [["x"]]}, "row 1: evidences must be a list of lists"),
        ({"docids": "x"}, "row 1: docids must be a list of texts"),
        (
            {"evidences": [], "annotation_id": "other"},
            "row 1: neither docids nor evidences name a document",
        ),
        ({"docids": ["no.txt"]}, "row 1: there is no document 'no.txt'"),
        ({"docids": ["../val.jsonl"]}, "there is no document '../val.jsonl'"),
        ({"classification": None}, "val.jsonl, row 1: label None"),
        (span(3, 15), "from token 3 to 15 of 'val_0.txt', which has 14"),
        (span(3, 3), "evidence from token 3 to 3"),
        (span("1", 2), "evidence from token 1 to 2"),
        (span(False, 2), "evidence from token False to 2"),
    ],
)
def test_bad_rows_get_one_line(folder, change, said):
    write(folder, usual() | {"val": [row("val_0.txt", "POS", (0, 1)) | change]})
    refused(said, folder)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("test.jsonl", None, "no test.jsonl; a folder in ERASER"),
        ("docs", None, "neither a folder docs nor a file docs"),
        ("val.jsonl", b"[1]\n", "row 1: not a JSON object"),
        ("val.jsonl", b"\xff\xfe\n", "val.jsonl is UTF-16: save it as UTF-8"),
        ("docs/val_3.txt", b"\xff", "val_3.txt: not a text in UTF-8"),
        ("val.jsonl", b'{"a": 1', "val.jsonl, row 1: no JSON .*; the file may be cut"),
    ],
)
def test_bad_files_get_one_line(folder, name, content, said):
    if content is None:
        (folder / name).rename(folder / "elsewhere")
    else:
        (folder / name).write_bytes(content)
    refused(said, folder)


def test_an_id_in_two_splits_is_refused(folder):
    write(folder, usual() | {"val": usual()["train"][:2]})
    refused("ids are in two splits, as .*train.jsonl, row 1 .train. and", folder)


def test_fields_that_do_not_exist(folder):
    there = "no field 'stars' .label.; there are: annotation_id"
    refused(there, folder, fields=["label=stars"])
    refused("roles of .* are label, query", folder, fields=["text=x"])
