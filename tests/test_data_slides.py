"""Bags of instances: tables of labels and HDF5 files, good and bad."""

import sys
import tracemalloc

import numpy as np
import own_files
import pytest

from jaxattn.data import limits
from jaxattn.data.readers import bags, load_own
from jaxattn.data.readers.bags import Arrays
from jaxattn.system import runtime

h5py = pytest.importorskip("h5py", reason="h5py is an extra: jaxattn[h5]")
N, D = 40, 6
SIZES = [3 + i % 7 for i in range(N)]


def bag(i, n=None):
    rng = np.random.default_rng(i)
    n = SIZES[i % N] if n is None else n
    return rng.normal(size=(n, D)).astype(np.float32), rng.permutation(n * 2)[: n * 2]


def write(path, array, coords=None, name="features"):
    with h5py.File(path, "w") as file:
        file[name] = array
        if coords is not None:
            file["coords"] = coords


def table(folder, rows, header="case_id,slide_id,label"):
    text = "\n".join([header, *(",".join(map(str, row)) for row in rows)])
    (folder / "slides.csv").write_text(text + "\n")


ROWS = [(f"p{i // 2}", f"slide_{i}", ("normal", "tumor")[i % 2]) for i in range(N)]


@pytest.fixture
def folder(tmp_path):
    for i in range(N):
        write(tmp_path / f"slide_{i}.h5", bag(i)[0])
    table(tmp_path, ROWS)
    return tmp_path


def load(folder, *fields, length=32, data_dir=None):
    source = f"bags:{folder}/slides.csv"
    return own_files.load(source, length, fields=fields, data_dir=data_dir)


def refused(match, folder, *fields, kind=ValueError, **more):
    with own_files.refused(match, kind):
        load(folder, *fields, **more)


def splits(dataset):
    return own_files.splits_of(dataset).values()


def test_bags_become_vectors(folder, said):
    found = load(folder)
    assert found.classes == ("normal", "tumor") and found.vocabulary == ()
    met = {}
    for split in splits(found):
        assert split.inputs.shape[1:] == (max(SIZES), D)
        assert split.inputs.dtype == np.float32
        for inputs, n, label, id_ in zip(*split[:4], strict=True):
            i = int(id_.split("_")[1])
            met[i] = label
            np.testing.assert_array_equal(inputs[:n], bag(i)[0])
            assert not inputs[n:].any()
    assert met == {i: i % 2 for i in range(N)}
    assert "40 bags of 3 to 9 instances (median 6) with 6 features" in said()


def test_all_slides_of_a_patient_are_in_one_split(folder):
    for column in ("case_id", "patient", "hospital_number"):
        table(folder, ROWS, f"{column},slide_id,label")
        more = [f"group={column}"] if column == "hospital_number" else []
        found = load(folder, *more)
        patients = [
            {int(i.split("_")[1]) // 2 for i in split.ids} for split in splits(found)
        ]
        assert all(patients) and sum(map(len, patients)) == N // 2


def test_a_column_of_splits_is_taken_and_may_not_divide_a_patient(folder):
    names = ["train"] * 28 + ["val"] * 6 + ["test"] * 6
    rows = [(*row, split) for row, split in zip(ROWS, names, strict=True)]
    table(folder, rows, "case_id,slide_id,label,split")
    found = load(folder)
    assert [len(s.ids) for s in splits(found)] == [28, 6, 6]
    assert set(found.test.ids) == {f"slide_{i}" for i in range(34, 40)}
    rows[0], rows[28] = (*ROWS[0], "val"), (*ROWS[28], "train")
    table(folder, rows, "case_id,slide_id,label,split")
    refused("in two splits.*row 3 .train. and .*row 2 .validation.", folder)
    rows[0] = (*ROWS[0], "holdout")
    table(folder, rows, "case_id,slide_id,label,split")
    refused("row 2: split 'holdout'; allowed: val, dev", folder)


def test_without_patients_it_is_said(folder, said):
    table(folder, [row[1:] for row in ROWS], "slide_id,label")
    load(folder)
    assert any("every slide is a patient" in line for line in said())


def test_a_large_bag_is_a_part_of_itself(folder, said):
    found = load(folder, length=4)
    assert "a random part of each is kept" in said()[-1]
    lost = sum(max(n - 4, 0) for n in SIZES)
    assert f"{lost / sum(SIZES):.1%} of all instances are lost" in said()[-1]
    assert load(folder, length=4).digest == found.digest
    larger = sum(n > 4 for n in SIZES)
    assert sum(cut.examples for cut in found.cut.values()) == larger
    assert sum(cut.tokens for cut in found.cut.values()) == lost
    for split in splits(found):
        assert split.inputs.shape[1:] == (4, D)
        for inputs, n, id_ in zip(split.inputs, split.lengths, split.ids, strict=True):
            whole = bag(int(id_.split("_")[1]))[0]
            rows = [np.flatnonzero((whole == row).all(1)) for row in inputs[:n]]
            places = np.concatenate(rows)
            # Each is an instance of the bag, none twice, in the bag's order.
            assert len(places) == n == min(len(whole), 4)
            assert (np.diff(places) > 0).all()


def test_which_instances_are_kept_never_changes():
    assert bags.kept_of("slide 0", 20, 5).tolist() == [4, 10, 12, 17, 18]
    assert bags.kept_of("slide 1", 20, 5).tolist() == [1, 4, 5, 6, 10]
    assert bags.kept_of("slide 2", 3, 5).tolist() == [0, 1, 2]


def test_instances_come_in_reading_order(folder):
    array = bag(0)[0]
    write(folder / "slide_0.h5", array, [[9, 1], [2, 8], [1, 1]])
    (split,) = (s for s in splits(load(folder)) if "slide_0" in s.ids)
    inputs = split.inputs[list(split.ids).index("slide_0")]
    np.testing.assert_array_equal(inputs[:3], array[[2, 0, 1]])


def test_blocks_give_what_one_read_gives(folder, monkeypatch):
    whole = load(folder)
    monkeypatch.setattr(bags, "BLOCK", 2 * 4 * D)
    assert load(folder).digest == whole.digest
    assert load(folder, length=3).digest != whole.digest


def test_a_hundred_thousand_instances_are_never_in_memory(tmp_path, monkeypatch):
    n, width = 100_000, 64
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("features", (n, width), "f2", chunks=(1000, width))
        for start in range(0, n, 10_000):
            rows = np.arange(start, start + 10_000) % 97
            made[start : start + 10_000] = rows[:, None]
    kept = bags.kept_of("large", n, 500)
    monkeypatch.setattr(bags, "BLOCK", 1 << 20)
    bag = bags.measure(path, Arrays("features", "coords"))
    tracemalloc.start()
    found, at = bags.read(bag, Arrays("features", "coords"), kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, np.repeat((kept % 97)[:, None], width, 1))
    assert n * width * 2 == 12_800_000 and peak < 3_000_000
    assert np.isnan(at).all() and at.shape == (500, 2)


def test_instances_keep_their_places(folder):
    assert load(folder).test.places is None
    for i in range(N):
        array, order = bag(i)
        places = np.stack([256 * (order[: len(array)] % 3), order[: len(array)]], 1)
        write(folder / f"slide_{i}.h5", array, places)
    for split in splits(load(folder)):
        for id_, n, inputs, at in zip(
            split.ids, split.lengths, split.inputs, split.places, strict=True
        ):
            array, order = bag(int(id_.removeprefix("slide_")))
            # Reading order: the second coordinate first.
            rank = np.argsort(order[: len(array)], kind="stable")
            np.testing.assert_array_equal(inputs[:n], array[rank])
            np.testing.assert_array_equal(at[:n, 1], order[: len(array)][rank])
            assert np.isnan(at[n:]).all()


def test_where_the_features_are(folder):
    for name in ("h5_files", "features", "elsewhere"):
        (folder / name).mkdir()
        for path in folder.glob("*/*.h5"):
            path.rename(folder / path.name)
        for path in folder.glob("*.h5"):
            path.rename(folder / name / path.name)
        data_dir = folder / "elsewhere" if name == "elsewhere" else None
        assert len(load(folder, data_dir=data_dir).train.ids)
    refused("row 2: no slide_0.h5 in .*; --data-dir says where", folder)


def test_numbers_are_classes_in_their_order(folder):
    rows = [(p, s, (2, 10)[i % 2]) for i, (p, s, _) in enumerate(ROWS)]
    table(folder, rows, "case_id,slide_id,grade")
    assert load(folder, "label=grade").classes == ("2", "10")


def edit(**cells):
    """Changes cells of the fourth row of the table."""

    def change(folder):
        row = dict(zip(("case_id", "slide_id", "label"), ROWS[3], strict=True))
        table(folder, [*ROWS[:3], (row | cells).values(), *ROWS[4:]])

    return change


def renamed(suffix):
    return lambda folder: (folder / "slide_3.h5").rename(folder / f"slide_3{suffix}")


def holds(array, coords=None, name="features"):
    return lambda folder: write(folder / "slide_3.h5", array, coords, name)


def cut(folder):
    path = folder / "slide_3.h5"
    path.write_bytes(path.read_bytes()[:-50])


ONES = np.ones((5, D), np.float32)
NAN = np.where(np.arange(5)[:, None] == 2, np.nan, ONES)


@pytest.mark.parametrize(
    "damage, said",
    [
        (holds(ONES[:0]), r"features \[0, 6\] of float32: a bag without instances"),
        (holds(ONES[0]), r"features \[6\] of float32; allowed: \[instances, feat"),
        (holds(ONES[None]), r"features \[1, 5, 6\] of float32; allowed"),
        (holds(ONES[:, :0]), "a bag without features"),
        (holds(ONES[:, :5]), "slide_3.h5: 5 features an instance; .*slide_0.h5 has 6"),
        (holds(ONES, name="embeddings"), "no array 'features'; there are: embeddings"),
        (holds(np.array([[b"x"] * D])), r"\[1, 6\] of .S1; allowed: .* of numbers"),
        (holds(NAN), "features of instance 2 is not finite as float32 .1 of 5"),
        (holds(ONES.astype(np.float64) * 1e39), "instance 0 is not finite as float32"),
        (holds(ONES, np.ones((4, 2))), r"coords \[4, 2\] .*; allowed: \[5, 2\]"),
        (cut, "slide_3.h5: not a whole HDF5 file"),
        (lambda f: (f / "slide_3.h5").write_text("x"), "not a whole HDF5 file"),
        (lambda f: (f / "slide_3.h5").unlink(), "slides.csv, row 5: no slide_3.h5 in"),
        (renamed(".pt"), "row 5: .*slide_3.pt is no HDF5 file: .* = torch.load"),
        (renamed(".npy"), "row 5: .*slide_3.npy is no HDF5 file: .* = np.load"),
        (edit(slide_id=""), "row 5: no slide_id"),
        (edit(slide_id="../x"), "row 5: slide_id '../x' is no file name"),
        (edit(label=""), "row 5: no label"),
        (edit(case_id=""), "row 5: no case_id"),
        (edit(slide_id="slide_2"), "row 5: slide 'slide_2' is in .*row 4 too"),
        (lambda f: table(f, ROWS, "case,slide,label"), "no field 'slide_id' .id."),
        (lambda f: table(f, []), "slides.csv has no row"),
        (lambda f: (f / "slides.csv").write_text(""), "slides.csv is empty"),
        (lambda f: table(f, [*ROWS, ("a", "b")]), "row 42: 2 fields, and the header"),
        (lambda f: table(f, ROWS[:2]), "no row of"),
        (lambda f: (f / "slides.csv").unlink(), "there is no file"),
    ],
    ids=range(26),
)
def test_bad_input_gets_one_line(folder, damage, said):
    damage(folder)
    refused(said, folder)


def test_damage_within_a_compressed_file(folder):
    path = folder / "slide_3.h5"
    array = np.random.default_rng(0).normal(size=(50, D)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=array, fletcher32=True, chunks=(50, D))
    raw = bytearray(path.read_bytes())
    place = raw.index(array[25].tobytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    refused("slide_3.h5: damaged", folder)


def test_fields_that_do_not_exist(folder):
    for field, message in (
        ("label=grade", "no field 'grade' .label.; there are: case_id, slide_id"),
        ("group=who", "no field 'who' .group."),
        ("text=label", "roles of .* are id, label, group"),
        ("features=embeddings", "no array 'embeddings'; there are: features"),
    ):
        refused(message, folder, field)
    refused("length", folder, length=5000)
    with pytest.raises(ValueError, match="must be bags:FILE.csv"):
        load_own("bags:slides.jsonl")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    folder, monkeypatch
):
    monkeypatch.setattr(limits, "available_memory", lambda: 15_000)
    monkeypatch.setattr(bags, "read", None)
    refused("40 bags of 9 x 6 numbers need 0.0 GB .*: give --data.length 6$", folder)
    monkeypatch.setattr(limits, "available_memory", lambda: 1000)
    refused("give fewer bags", folder)


def test_memory_that_is_there():
    assert 1e6 < runtime.available_memory() < 1e15
    with pytest.raises(ValueError, match="numbers need 1,000,000.0 GB .*: buy some"):
        limits.check_fits(10**15, "numbers", "buy some")
    limits.check_fits(10, "numbers", "")


def test_without_h5py_its_name_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(r"not installed: pip install 'jaxattn\[h5\]'", folder)


def test_progress_is_said(folder, monkeypatch, said):
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    load(folder)
    assert "looked at 40 of 40 bags" in said() and "read 40 of 40 bags" in said()
