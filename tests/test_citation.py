"""CITATION.cff is valid, and names what the READMEs rest on."""

import pathlib
import re
import tomllib

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
REFERENCES = CITATION["references"]

# What CFF 1.2 allows, of which we use this much.
TOP = {"abstract", "authors", "cff-version", "keywords", "license", "message",
       "references", "title", "type", "version"}  # fmt: skip
INSIDE = {"authors", "collection-title", "notes", "title", "type", "url", "year"}


def arxiv_ids(text: str) -> set[str]:
    return set(re.findall(r"\b\d{4}\.\d{5}\b", text))


def test_the_head_has_what_the_format_asks():
    assert set(CITATION) <= TOP
    assert {"authors", "cff-version", "message", "title"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert all(set(author) == {"name"} for author in CITATION["authors"])


def test_version_and_licence_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("version", "license"):
        assert CITATION[name] == project[name]


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: r["title"][:20])
def test_references_have_what_the_format_asks(reference):
    assert {"authors", "title", "type", "year"} <= set(reference) <= INSIDE
    assert reference["type"] == "conference-paper"
    assert isinstance(reference["year"], int) and 2014 <= reference["year"] <= 2026
    assert all(set(a) == {"family-names", "given-names"} for a in reference["authors"])
    # An id begins with the year and month of the first version: no paper is younger.
    for found in arxiv_ids(reference.get("url", "")):
        assert reference["url"] == f"https://arxiv.org/abs/{found}"
        assert 2000 + int(found[:2]) <= reference["year"]


def test_no_reference_is_there_twice():
    titles = [reference["title"].lower() for reference in REFERENCES]
    assert len(set(titles)) == len(titles) >= 12


@pytest.mark.parametrize("page", ["README.md", "configs/README.md"])
def test_papers_that_a_page_names_are_there(page):
    cited = arxiv_ids(" ".join(r.get("url", "") for r in REFERENCES))
    assert arxiv_ids((ROOT / page).read_text(encoding="utf-8")) <= cited
    assert {"2006.05656", "2103.01890", "1911.03429", "2411.02664"} <= cited
