import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import jaxattn
from jaxattn.leakage import command, readers, significance
from jaxattn.leakage.masks import masks_of
from jaxattn.leakage.questions import Data, Settings, ask
from jaxattn.leakage.rendering import SCHEMA
from jaxattn.system import console

N, T = 400, 6
FEW = ["--permutations", "19"]


def example(bits=True, n=N, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = rng.normal(size=(n, T))
    scores[:, 2] += 2 * labels * bits
    masks = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return masks, labels


MASKS, LABELS = example()


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    console.settings.quiet = False


def audit(capsys, *words, code=0):
    assert command.main([*map(str, words), *FEW]) == code
    return capsys.readouterr()


def refused(capsys, match, *words):
    """One line on standard error that says `match`, exit 2, nothing written."""
    printed = audit(capsys, *words, code=2)
    assert printed.out == ""
    assert re.fullmatch(f"error: .*{match}.*\n", printed.err), printed.err


def test_a_leak_is_found_and_told(tmp_path, capsys):
    np.savez("m.npz", masks=MASKS, labels=np.where(LABELS, "good", "bad"))
    printed = audit(capsys, "m.npz")
    assert "400 masks of 6 positions; 2 classes (bad" in printed.out
    assert "The masks alone tell" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80
    page = (tmp_path / "audits/m/audit.html").read_text()
    assert "http" not in page and "<script" not in page
    found = json.loads((tmp_path / "audits/m/audit.json").read_text())
    assert found["schema"] == SCHEMA and found["verdict"] == "leak"
    assert found["masks"]["low"] <= found["masks"]["bits"] <= found["masks"]["high"]
    assert len(found["masks"]["pointwise_bits"]) == N
    assert found["channels"]["place"]["holm_p"] >= found["channels"]["place"]["p"]
    assert len(found["examples"]) == 10
    report = jaxattn.audit(MASKS, LABELS, permutations=19)
    assert report.masks.bits == pytest.approx(found["masks"]["bits"], abs=1e-6)


def test_the_report_depends_on_what_it_should_only():
    rng = np.random.default_rng(1)
    report = jaxattn.audit(MASKS, LABELS, permutations=19)
    assert report.verdict == "leak" and report.masks.p == 0.05
    assert report.channels["place"].bits > report.channels["shape"].bits
    again = jaxattn.audit(MASKS.tolist(), LABELS.tolist(), permutations=19)
    assert again.masks.bits == report.masks.bits
    named = jaxattn.audit(MASKS, np.where(LABELS, "z", "a"), permutations=19)
    assert named.masks.bits == report.masks.bits
    padded = jaxattn.audit(
        np.pad(MASKS, ((0, 0), (0, 3))), LABELS, lengths=[T] * N, permutations=19
    )
    assert padded.masks.bits == pytest.approx(report.masks.bits, abs=0.01)
    swapped = jaxattn.audit(MASKS, 1 - LABELS, permutations=19)
    assert swapped.masks.bits == pytest.approx(report.masks.bits, abs=0.02)
    nothing = jaxattn.audit(MASKS, rng.permutation(LABELS), permutations=19)
    assert nothing.verdict != "leak" and nothing.masks.p > 0.05
    order = np.argsort(-report.masks.pointwise)[:10]
    assert [e.index for e in report.examples] == order.tolist()


def test_length_is_told_apart_from_the_rest():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    lengths = rng.integers(3, 9, 600) + 3 * labels
    rows = [rng.dirichlet(np.ones(k)) for k in lengths]
    report = jaxattn.audit(rows, labels, permutations=99)
    assert report.masks.p == report.channels["length"].p == 0.01
    assert report.channel_p["length"] == pytest.approx(3 * 0.01)  # of three channels
    assert report.beyond_length.p > 0.05
    assert any("length tells the label" in said for said in report.warned)


def test_a_map_of_the_predicted_class_is_suspected():
    rng = np.random.default_rng(0)
    masks, predictions = example(n=800)
    labels = np.where(rng.random(800) < 0.65, predictions, 1 - predictions)
    report = jaxattn.audit(masks, labels, predictions=predictions, permutations=19)
    assert report.prediction.low > report.masks.high
    assert any("leaks it by construction" in said for said in report.warned)
    same = jaxattn.audit(masks, labels, predictions=np.ones(800, int), permutations=19)
    assert same.prediction is None and "nothing to betray" in same.warned[-1]


def test_encoding_is_what_the_values_do_not_explain():
    """The mask that tells nothing but what its values tell is no code."""
    masks, labels = example(n=1000)
    rng = np.random.default_rng(0)
    fresh = rng.normal(size=(1000, T, 2))
    code = jaxattn.audit(masks, labels, values=fresh, permutations=19)
    told = np.concatenate([masks, rng.normal(size=(1000, 1))], axis=1)
    open_ = jaxattn.audit(masks, labels, values=told, permutations=19)
    assert code.beyond_values.bits > 0.1 and code.beyond_values.p == 0.05
    assert open_.beyond_values.high < code.beyond_values.low
    with pytest.raises(ValueError, match="values have shape"):
        jaxattn.audit(masks, labels, values=fresh[:, :2], permutations=19)


def test_groups_are_kept_together():
    """One mask repeated in a group must not pass for many examples."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 10)
    masks = rng.dirichlet(np.ones(T), 40)[groups]
    labels = (groups % 2).astype(int)
    apart = jaxattn.audit(masks, labels, permutations=19)
    together = jaxattn.audit(masks, labels, groups=groups, permutations=19)
    assert apart.masks.bits > 0.5 and apart.verdict == "leak"
    assert together.masks.bits < 0.2 and together.verdict != "leak"
    assert together.groups == 40
    mixed = np.where(np.arange(400) % 50 == 0, 1 - labels, labels)
    stuck = jaxattn.audit(masks, mixed, groups=groups, permutations=19)
    assert any("hardly vary within groups" in said for said in stuck.warned)


def test_copies_of_a_mask_make_no_interval_narrower(monkeypatch):
    one = {"linear": significance.FAMILIES["linear"]}  # compiles in half the time
    monkeypatch.setattr(significance, "FAMILIES", one)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 8)
    labels = rng.integers(0, 2, 100)
    told = (rng.random(100) < 0.15) ^ (labels == 1)
    masks = np.where(told[:, None], [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1])
    masks = masks + rng.uniform(0, 0.02, (100, 4))
    masks = (masks / masks.sum(axis=1, keepdims=True))[groups]
    data = Data(masks_of(masks), labels[groups], groups)
    finding = ask(data, Settings(5, 19, 0))[0]["masks"].answer(lambda done: None)
    error = finding.pointwise.reshape(100, 8).mean(axis=1).std() / np.sqrt(100)
    assert 0.1 < finding.bits < finding.high < 0.9
    assert finding.high - finding.low >= 2 * 1.96 * error - 1e-6


def test_attended_words_are_a_channel_and_are_shown():
    rng = np.random.default_rng(0)
    words = np.array(["the", "<b>good", "bad"])
    tokens = words[rng.integers(0, 3, (N, T))]
    labels = rng.integers(0, 2, N)
    scores = np.where(tokens == np.where(labels, "<b>good", "bad")[:, None], 3.0, 0)
    masks = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    report = jaxattn.audit(masks, labels, tokens=tokens, permutations=19)
    assert report.channels["types"].bits > 0.8
    assert report.channels["place"].p > 0.05
    assert report.examples[0].words[0] in words


def test_equal_masks_carry_exactly_nothing(capsys):
    np.savez("m.npz", masks=np.full((N, T), 1 / T), labels=LABELS)
    printed = audit(capsys, "m.npz")
    assert "exactly 0 bits" in printed.out
    found = json.loads(Path("audits/m/audit.json").read_text())
    assert found["masks"]["bits"] == 0 and found["verdict"] == "none"


def test_exit_codes(capsys):
    np.savez("m.npz", masks=MASKS, labels=LABELS)
    printed = audit(capsys, "m.npz", "--fail-above", "0.05", code=3)
    assert "is above 0.05" in printed.err
    audit(capsys, "m.npz", "--fail-above", "0.9", "--quiet", code=0)
    few = np.random.default_rng(5).permutation(LABELS)[:80]
    np.savez("n.npz", masks=MASKS[:80], labels=few)
    printed = audit(capsys, "n.npz", code=4)
    assert "more examples are needed" in " ".join(printed.out.split())
    with pytest.raises(SystemExit) as stopped:
        command.main(["m.npz", "--permutation", "9"])
    assert stopped.value.code == 2
    assert "permutations" in capsys.readouterr().err


def test_json_is_the_last_line(capsys):
    np.savez("m.npz", masks=MASKS, labels=LABELS)
    printed = audit(capsys, "m.npz", "--json", "--quiet")
    assert json.loads(printed.out)["verdict"] == "leak"


def test_arrays_may_come_from_anywhere(capsys):
    np.save("weights.npy", MASKS)
    np.savez("more.npz", y=LABELS, patient=np.arange(N) // 4)
    audit(capsys, "weights.npy", "--labels", "more.npz:y")
    groups = ["--groups", "more.npz:patient"]
    printed = audit(capsys, "weights.npy", "--labels", "more.npz:y", *groups)
    assert "100 groups" in printed.out
    with open("rows.jsonl", "w") as file:
        for mask, label in zip(MASKS, LABELS, strict=True):
            row = {"attention": mask.tolist(), "label": f"class {label}"}
            file.write(json.dumps(row) + "\n")
    assert "class 0" in audit(capsys, "rows.jsonl").out
    with h5py.File("one.h5", "w") as file:
        file["out/weights"], file["out/y"] = MASKS, LABELS
    audit(capsys, "one.h5:out/weights", "--labels", "out/y")


def bags(folder, n=60):
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["slide,label"]
    for i in range(n):
        size = int(rng.integers(5, 9))
        with h5py.File(folder / f"slide{i}.h5", "w") as file:
            file["attention_scores"] = rng.normal(size=(size, 1)) + 2 * (i % 2)
            file["coords"] = rng.integers(0, 9, (size, 2))
        lines.append(f"slide{i},{'tumour' if i % 2 else 'normal'}")
    return "\n".join(lines) + "\n"


def test_a_folder_of_bags_as_clam_writes_them(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(bags(tmp_path / "slides"))
    printed = audit(capsys, "slides", "--labels", "labels.csv", code=4)
    assert "60 masks" in printed.out and "tumour 30" in printed.out
    refused(capsys, "give --labels FILE.csv", "slides")
    (tmp_path / "labels.csv").write_text("slide,label\nslide1,normal\n")
    refused(capsys, "59 of 60 bags have no label", "slides", "--labels", "labels.csv")


def test_labels_of_bags_are_in_the_last_column(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("slide1,patient7,tumour\nslide0,patient8,normal\n")
    labels = readers.labels_of_bags(path, ["slide0", "slide1"])
    assert labels.tolist() == ["normal", "tumour"]


def test_patches_are_read_in_the_order_of_their_places(tmp_path):
    folder = tmp_path / "slides"
    bags(folder)
    from jaxattn.leakage.readers import read

    rows = read(folder)["masks"]
    with h5py.File(folder / "slide0.h5") as file:
        places, scores = file["coords"][()], file["attention_scores"][()].ravel()
    order = sorted(range(len(scores)), key=lambda i: (places[i][1], places[i][0]))
    assert np.sort(rows[0]).tolist() == np.sort(scores).tolist()
    assert [places[i][1] for i in order] == sorted(p[1] for p in places)


def test_a_run_of_ours_can_be_audited(capsys):
    many = np.stack([MASKS, MASKS[::-1]])
    np.savez("joint.npz", masks=many, labels=LABELS, seeds=[0, 5], alive=[False, True])
    assert "seed 5 of a run's 2" in audit(capsys, "joint.npz", code=4).out
    refused(capsys, "run-seed = 0", "joint.npz", "--run-seed", "0")
    np.savez("m.npz", masks=MASKS, labels=LABELS)
    refused(capsys, "jaxattn.train wrote", "m.npz", "--run-seed", "0")


def test_bad_files_get_one_line(tmp_path, capsys):
    refused(capsys, "no such file", "none.npz")
    (tmp_path / "notes.txt").write_text("no masks")
    refused(capsys, "allowed are .npz", "notes.txt")
    np.savez("m.npz", masks=MASKS, y2=LABELS)
    refused(capsys, r"no array of labels \(masks, y2\)", "m.npz")
    refused(capsys, "has no array 'm2': there are masks, y2", "m.npz:m2")
    refused(capsys, "neither a file nor an array", "m.npz", "--labels", "y3")
    np.savez("odd.npz", other=MASKS)
    refused(capsys, "which array", "odd.npz", "--labels", "other")
    whole = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    refused(capsys, "cut.npz is damaged", "cut.npz")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused(capsys, "empty.npy is damaged", "empty.npy")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n")
    refused(capsys, "not a whole HDF5", "cut.h5")
    (tmp_path / "odd.jsonl").write_text('{"masks": [1]}\nx\n')
    refused(capsys, "odd.jsonl, row 2: no JSON", "odd.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    refused(capsys, "empty.jsonl is empty", "empty.jsonl")
    (tmp_path / "nothing").mkdir()
    refused(capsys, "no .h5 file", "nothing", "--labels", "x.csv")
    assert not (tmp_path / "audits").exists()


def test_pickles_are_refused_unless_asked_for(capsys):
    rows = np.empty(N, object)
    rows[:] = [list(m) for m in MASKS]
    np.savez("m.npz", masks=rows, labels=LABELS)
    refused(capsys, "runs code", "m.npz")
    audit(capsys, "m.npz", "--allow-pickle")


@pytest.mark.parametrize(
    "match, change",
    [
        ("not finite", {"masks": np.where(MASKS > 0.9, np.nan, MASKS)}),
        ("one class only", {"labels": np.zeros(N, int)}),
        ("labels are float64", {"labels": LABELS * 0.5}),
        ("399 labels for 400 masks", {"labels": LABELS[1:]}),
        ("40 masks: at least 50", {"masks": MASKS[:40], "labels": LABELS[:40]}),
        ("too few examples", {"labels": np.where(np.arange(N) < 1, 7, LABELS)}),
        ("too few groups", {"groups": LABELS}),
        ("values are not all finite", {"values": np.full((N, 3), np.nan)}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arrays_get_one_line(match, change, capsys):
    np.savez("m.npz", **({"masks": MASKS, "labels": LABELS} | change))
    refused(capsys, match, "m.npz")


def test_bad_options_get_one_line(capsys):
    np.savez("m.npz", masks=MASKS, labels=LABELS)
    refused(capsys, "allowed are 2 to 20", "m.npz", "--folds", "1")
    refused(capsys, "must be 0 bits or more", "m.npz", "--fail-above", "-1")
    assert command.main(["m.npz", "--permutations", "3"]) == 2
    assert "19 to 9999" in capsys.readouterr().err


def test_tokens_are_escaped(capsys):
    tokens = np.full((N, T), "<script>alert(1)</script>")
    np.savez("m.npz", masks=MASKS, labels=LABELS, tokens=tokens)
    audit(capsys, "m.npz")
    page = Path("audits/m/audit.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_module_runs_by_itself(tmp_path):
    np.savez("m.npz", masks=MASKS, labels=LABELS)
    words = [sys.executable, "-m", "jaxattn", "audit", "m.npz", *FEW]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "The masks alone tell" in ran.stdout


def test_help_and_bad_files_need_no_jax():
    code = (
        "import sys\nfrom jaxattn.leakage.command import main\n"
        "assert main(['none.npz']) == 2\nsys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
