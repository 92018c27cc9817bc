"""IMDB and AG News from the archives that their authors publish."""

import gzip
import io
import tarfile

import numpy as np
import own_files
import pytest

from jaxattn.data import limits
from jaxattn.data.readers.archives import read_imdb, without_breaks, without_remains

N = 30


def imdb_files():
    """The layout of aclImdb_v1.tar.gz, with fewer reviews."""
    files = {"README": "Large Movie Review Dataset", "imdb.vocab": "the"}
    for split in ("train", "test"):
        for label, low in (("neg", 1), ("pos", 7)):
            for i in range(N):
                text = f"{split} {label}{i} film<br /><br />it's {label}"
                files[f"{split}/{label}/{i}_{low + i % 4}.txt"] = text
            url = "http://www.imdb.com/title/{}{}/usercomments\n"
            films = "".join(url.format(label, i // 2) for i in range(N))
            files[f"{split}/urls_{label}.txt"] = films
    files["train/unsup/0_0.txt"] = "nobody says"
    return files


def pack(path, files, top):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            raw = text if isinstance(text, bytes) else text.encode()
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


def unpack(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def imdb(tmp_path_factory):
    path = tmp_path_factory.mktemp("imdb") / "aclImdb_v1.tar.gz"
    return pack(path, imdb_files(), "aclImdb")


def load(source, *fields, length=12, folder=None):
    return own_files.load(source, length, fields=fields, data_dir=folder)


def refused(match, source, *fields, kind=ValueError):
    with own_files.refused(match, kind):
        load(source, *fields)


def test_imdb_from_its_archive(imdb):
    found = load(f"imdb:{imdb}")
    assert found.classes == ("neg", "pos")
    assert len(found.test.labels) == 2 * N
    assert len(found.train.labels) + len(found.validation.labels) == 2 * N
    assert own_files.words(found, found.test, 0)[2:5] == ["film", "it's", "neg"]
    assert found.test.ids[0] == "test-neg-00000"
    assert "br" not in found.vocabulary and "nobody" not in found.vocabulary
    # No film is in training and in validation.
    films = [
        {(i.split("-")[1], int(i.split("-")[2]) // 2) for i in split.ids}
        for split in (found.train, found.validation)
    ]
    assert all(films) and not films[0] & films[1]


def test_the_rating_is_a_label(imdb):
    found = load(f"imdb:{imdb}", "label=rating")
    assert found.classes == ("1", "2", "3", "4", "7", "8", "9", "10")
    by_id = {review.id: review.label for review in read_imdb(imdb, "rating")}
    ratings = [int(found.classes[label]) for label in found.test.labels]
    assert ratings == [by_id[id_] for id_ in found.test.ids]
    assert by_id["test-pos-00003"] == 10 and by_id["train-neg-00001"] == 2


def test_archive_and_folder_give_the_same(imdb, tmp_path):
    folder = unpack(tmp_path / "aclImdb", imdb_files())
    assert load(f"imdb:{folder}").digest == load(f"imdb:{imdb}").digest
    # The order in the archive does not matter, and without films reviews are divided.
    files = dict(reversed(imdb_files().items()))
    backwards = pack(tmp_path / "b.tar.gz", files, "aclImdb")
    assert load(f"imdb:{backwards}").digest == load(f"imdb:{imdb}").digest
    bare = {name: text for name, text in files.items() if "urls" not in name}
    assert {r.group for r in read_imdb(pack(tmp_path / "c.tar.gz", bare, "x"))} == {
        None
    }


def test_the_archive_is_looked_for_in_data_dir(imdb):
    found = load("imdb:aclImdb_v1.tar.gz", folder=imdb.parent)
    assert found.digest == load(f"imdb:{imdb}").digest


def test_every_cut_is_seen(imdb, tmp_path):
    """Also one between two reviews, which tarfile itself takes for the end."""
    raw = imdb.read_bytes()
    path = tmp_path / "cut.tar.gz"
    for size in np.linspace(1, len(raw) - 1, 40).astype(int):
        path.write_bytes(raw[:size])
        refused("not a whole .tar.gz archive .*fetch it again", f"imdb:{path}")


def test_every_flipped_byte_is_seen(imdb, tmp_path):
    raw = imdb.read_bytes()
    path = tmp_path / "flipped.tar.gz"
    for place in np.linspace(60, len(raw) - 1, 30).astype(int):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :])
        refused("flipped.tar.gz", f"imdb:{path}")


@pytest.mark.parametrize(
    "files, said",
    [
        ({"train/pos/1_11.txt": "x"}, "pos/1_11.txt: rating 11; allowed: 1 to 10"),
        ({"train/pos/1_9.txt": b"\xff"}, "train/pos/1_9.txt: not a text in UTF-8"),
        ({"train/positive/1.txt": "x"}, "no review in it; expected files like aclImdb"),
        ({"train/pos/1_9.txt": "x"}, "no row of validation or test"),
    ],
)
def test_bad_archives_get_one_line(tmp_path, files, said):
    refused(said, f"imdb:{pack(tmp_path / 'x.tar.gz', files, 'aclImdb')}")


def test_what_is_no_archive(tmp_path, imdb):
    text = tmp_path / "x.tar.gz"
    text.write_text("hello")
    refused("not a whole .tar.gz archive", f"imdb:{text}")
    text.write_bytes(gzip.compress(b"hello"))
    refused("not a whole .tar.gz archive", f"imdb:{text}")
    refused("there is no such file or folder", f"imdb:{tmp_path}/none.tar.gz")
    refused("imdb:PATH, an archive or a folder", "imdb:")
    there = "no field 'stars' .label.; there are: label, rating"
    refused(there, f"imdb:{imdb}", "label=stars")
    refused("roles of .* are text, label", f"imdb:{imdb}", "evidence=x")


def test_progress_is_said(imdb, monkeypatch, said):
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    list(read_imdb(imdb))
    assert said()[-1] == f"read {4 * N + 4} files of aclImdb_v1.tar.gz"


BACK = chr(92)


def news(split, n):
    return "".join(
        f'"{i % 4 + 1}","{split} {i} ""title""","AP - It{BACK}is #36;5, &lt;b&gt;"\n'
        for i in range(n)
    )


NEWS = {"train.csv": news("train", 60), "test.csv": news("test", 12), "x.txt": "x"}


@pytest.fixture
def ag_news(tmp_path):
    return pack(tmp_path / "ag_news_csv.tar.gz", NEWS, "ag_news_csv")


def test_news_from_archive_folder_and_table(ag_news, tmp_path, said):
    found = load(f"ag_news:{ag_news}", length=20)
    assert found.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert len(found.test.labels) == 12
    np.testing.assert_array_equal(found.test.labels, np.arange(12) % 4)
    told = '" title " ap - it is $ 5 , < b >'.split()
    assert own_files.words(found, found.test, 0)[2:] == told
    folder = unpack(tmp_path / "ag_news_csv", NEWS)
    assert load(f"ag_news:{folder}", length=20).digest == found.digest
    title = load(f"ag_news:{ag_news}", "text=title")
    assert title.test.lengths.tolist() == [5] * 12
    # One table has no split of its own.
    one = load(f"ag_news:{folder / 'train.csv'}")
    sizes = [len(s.labels) for s in (one.train, one.validation, one.test)]
    assert sum(sizes) == 60 and all(sizes) and "no split is given" in said()[-1]


def test_a_header_is_passed_over(tmp_path):
    files = {n: "Class Index,Title,Description\n" + t for n, t in NEWS.items()}
    with_header = load(f"ag_news:{unpack(tmp_path / 'a', files)}")
    without = load(f"ag_news:{unpack(tmp_path / 'b', NEWS)}")
    np.testing.assert_array_equal(with_header.test.inputs, without.test.inputs)


@pytest.mark.parametrize(
    "text, said",
    [
        ('"5","a","b"\n', "train.csv, row 61: class '5'; allowed: 1, 2, 3, 4"),
        ('"1","a"\n', "row 61: 2 cells; expected class, title, text"),
        ('"1","a","b', "cut off, a quotation mark is not closed"),
    ],
)
def test_bad_tables_get_one_line(tmp_path, text, said):
    files = NEWS | {"train.csv": NEWS["train.csv"] + text}
    refused(said, f"ag_news:{pack(tmp_path / 'x.tar.gz', files, 'ag_news_csv')}")


def test_no_news(tmp_path, ag_news):
    path = pack(tmp_path / "x.tar.gz", {"a": "b"}, "y")
    refused("no article in it; expected train.csv", f"ag_news:{path}")
    refused("no such file or folder", f"ag_news:{tmp_path}/none.csv")
    (tmp_path / "latin.csv").write_bytes(b'"1","\xe9","b"\n')
    refused("not a text in UTF-8", f"ag_news:{tmp_path}/latin.csv")
    refused("there are: title, description", f"ag_news:{ag_news}", "text=body")


def test_texts_become_what_people_read():
    assert without_breaks("a<br /><br/>b <BR>c") == "a  b  c"
    raw = r"It\is #39;s &lt;b&gt; AT&amp;T #8220;"
    assert without_remains(raw) == "It is 's <b> AT&T “"
    assert without_remains("C#39; #1") == "C#39; #1"
