"""The command that says what trained models make of texts, files and numbers."""

import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from test_trained import EXPECTED, STORED

import jaxattn
from jaxattn import predict
from jaxattn.inference import run_key
from jaxattn.predict import disagreement
from jaxattn.system import console

TEXTS = EXPECTED["movie_sentiment"]["texts"]
WORDS = ["--task", "movie_sentiment"]


@pytest.fixture(scope="module")
def words():
    return jaxattn.load_model(STORED, "movie_sentiment")


@pytest.fixture(scope="module")
def numbers():
    return jaxattn.load_model(STORED, "syn1")


def call(*arguments):
    try:
        return predict.main([str(STORED), *map(str, arguments)])
    except SystemExit as end:
        return end.code


def objects(capsys, *arguments):
    assert call(*arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def standard_input(monkeypatch, raw):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))


def test_json_lines_hold_what_the_models_say(capsys):
    texts = [word for text in TEXTS for word in ("--text", text)]
    found = objects(capsys, *WORDS, *texts)
    expected = EXPECTED["movie_sentiment"]
    for i, one in enumerate(found):
        answers = np.array(expected["probabilities"])[:, i]
        n = expected["lengths"][i]
        masks = np.array(expected["masks"])[:, i, :n]
        np.testing.assert_allclose(one["probabilities_of_seeds"], answers, atol=1e-4)
        np.testing.assert_allclose(one["masks"], masks, atol=1e-4)
        np.testing.assert_allclose(one["mask"], masks.mean(axis=0), atol=1e-4)
        place = answers.mean(axis=0).argmax()
        assert one["label"] == ["negative", "positive"][place]
        assert one["probability"] == pytest.approx(answers[:, place].mean(), abs=1e-4)
        assert one["ci_low"] <= one["probability"] <= one["ci_high"]
        assert one["votes"] == (answers.argmax(axis=1) == place).sum()
        assert one["seeds"] == [0, 1] and one["text"] == TEXTS[i]
        assert len(one["tokens"]) == n and one["cut"] == 0
        p, q = masks
        middle = (p + q) / 2
        bits = sum((x * np.log2(x / middle)).sum() for x in (p, q)) / 2
        assert one["disagreement_bits"] == pytest.approx(bits, abs=1e-3)
    assert found[0]["tokens"] == "bad and dull film , too long .".split()
    assert "dull" in found[0]["unknown"] and "film" not in found[0]["unknown"]


def test_people_are_shown_a_heat_map(capsys):
    assert call(*WORDS, "--text", "Bad film.\x1b[31m\n too long" + " film" * 20) == 0
    out, err = capsys.readouterr()
    assert "negative 0." in out and "2 of 2 seeds" in out and "bits apart" in out
    rows = [line.split()[0] for line in out.splitlines() if "█" in line]
    assert {"mean", "seed"} == set(rows)
    assert "unknown to the model: " in out and "not read: the last 12 words" in out
    assert "\x1b" not in out and max(map(len, out.splitlines()[3:])) <= 80
    assert err == ""
    assert call(*WORDS, "--text", "film", "--seeds", 1) == 0
    out = capsys.readouterr().out
    assert "seed 1" in out and "mean" not in out and "bits" not in out


def test_words_that_nobody_knows_are_a_warning(capsys):
    assert call(*WORDS, "--text", "film", "--text", "Zorglub zwei") == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("warning: text 2: the model knows")
    assert "unknown to the model: zorglub, zwei" in out


def test_many_seeds_are_drawn_as_their_range(words):
    several = words._replace(seeds=tuple(range(5)))
    example = predict.from_texts(("bad film",), words)[0]
    masks = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.5, 0.5]])
    answers = np.tile([0.25, 0.75], (5, 1))
    padded = np.pad(masks, ((0, 0), (0, 14)))
    one = predict._of_one(several, example, answers, padded)
    told = predict._told(several, one, 1)
    rows = [line for line in told.splitlines() if "█" in line]
    assert [row.split()[0] for row in rows] == ["mean", "lowest", "highest"]
    assert ".10" in rows[1] and ".90" in rows[2] and "5 of 5 seeds" in told


def test_a_prediction_does_not_depend_on_what_stands_beside_it(words):
    noisy = words._replace(apply=with_noise(words.apply))
    texts = tuple(f"bad film {'too ' * i}" for i in range(5))
    together = list(predict.predictions(noisy, predict.from_texts(texts, words)))
    for text, one in zip(texts, together, strict=True):
        (alone,) = predict.predictions(noisy, predict.from_texts((text,), words))
        np.testing.assert_allclose(one.masks, alone.masks, atol=1e-6)
        np.testing.assert_allclose(one.probabilities, alone.probabilities, atol=1e-6)


def with_noise(apply):
    import jax

    def noisy(params, inputs, lengths, key):
        probabilities, masks = apply(params, inputs, lengths)
        keys = jax.random.split(key, len(inputs))
        return probabilities, masks + jax.vmap(jax.random.uniform)(keys)[:, None]

    return noisy


def test_long_files_go_in_parts(words, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 4)
    texts = tuple("bad film too long".split() * 3)
    parts = list(predict.predictions(words, predict.from_texts(texts, words)))
    assert [one.example.text for one in parts] == list(texts)
    assert all(
        one.probability == parts[i % 4].probability for i, one in enumerate(parts)
    )


def test_masks_over_default_tokens_are_shown_as_such(words):
    both = words._replace(values="inputs_and_default_tokens", default_tokens=2)
    (example,) = predict.from_texts(("bad film",), words)
    masks = np.zeros((2, 16 + 2))
    masks[:, [0, 1, 16, 17]] = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]
    answers = np.tile([0.25, 0.75], (2, 1))
    one = predict._of_one(both, example, answers, masks)
    assert one.names == ("bad", "film", "default 1", "default 2")
    assert one.masks.tolist() == [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]
    alone = words._replace(values="default_tokens", default_tokens=2)
    one = predict._of_one(alone, example, answers, masks[:, 16:])
    assert one.names == ("default 1", "default 2")
    assert one.masks.tolist() == [[0.3, 0.4], [0.2, 0.1]]


@pytest.mark.parametrize(
    "masks, bits",
    [
        ([[1, 0], [0, 1]], 1),
        ([[0.5, 0.5], [0.5, 0.5]], 0),
        ([[1, 1, 0], [2, 2, 0]], 0),  # shares count, not sizes
        ([[0, 0], [1, 0]], 1),
        ([[0, 0], [0, 0]], 0),
        ([[1, 0], [0, 1], [0, 1]], 2 / 3),
        ([[1, 0], [0.5, 0.5]], 0.5 * (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5)),
        ([[1, 0]], np.nan),
    ],
)
def test_disagreement(masks, bits):
    found = disagreement(np.array(masks, float))
    assert found == pytest.approx(bits, abs=1e-9, nan_ok=True)


def test_files_and_standard_input_give_the_same(tmp_path, capsys, monkeypatch):
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode() + b"\r\n\r\n")
    lines.write_text("".join(json.dumps({"text": t, "id": 1}) + "\n" for t in TEXTS))
    found = []
    for file in (plain, lines):
        found.append(objects(capsys, *WORDS, "--file", file))
        standard_input(monkeypatch, file.read_bytes())
        found.append(objects(capsys, *WORDS, "--file", "-"))
    for other in found:
        for one, first in zip(other, found[0], strict=True):
            assert "row" in one.pop("where") and one["text"] in TEXTS
            assert {k: first[k] for k in one} == one


def test_numbers_are_read_from_json_lines(tmp_path, capsys):
    expected = EXPECTED["syn1"]
    file = tmp_path / "x.jsonl"
    file.write_text(
        "".join(json.dumps({"inputs": x}) + "\n" for x in expected["inputs"])
    )
    found = objects(capsys, "--task", "syn1", "--file", file)
    masks = np.array(expected["masks"])
    for i, one in enumerate(found):
        np.testing.assert_allclose(one["masks"], masks[:, i], atol=1e-4)
        assert one["tokens"] == [f"x{j}" for j in range(11)] and one["text"] is None


def test_where_there_are_many_positions_the_largest_are_told(numbers):
    n = 100
    wide = numbers._replace(inputs=numbers.inputs._replace(length=n))
    example = predict.Example(
        "here", "", np.zeros(n), n, tuple(map(str, range(n))), (), 0
    )
    masks = np.zeros((2, n))
    masks[:, 77], masks[:, 3] = 0.7, 0.3
    one = predict._of_one(wide, example, np.tile([0.2, 0.8], (2, 1)), masks)
    told = predict._told(wide, one, 4)
    assert "largest weights: 77 0.700, 3 0.300" in told and "█" not in told
    assert told.startswith("4  here")


@pytest.mark.parametrize(
    "name, raw, said",
    [
        ("a.txt", b"good\n\xff\n", "a.txt, row 2: not UTF-8 (byte 0xff at column 1)"),
        ("a.txt", b"good\na\0b\n", "a.txt, row 2: a NUL byte"),
        ("a.txt", b"good\n\nbad\n", "a.txt, row 2: the text is empty"),
        ("a.txt", b" \n", "a.txt has no row"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "a"}\n', "row 2: expected an object with"),
        ("a.jsonl", b'{"text": 3}\n', "row 1: 'text' is no text"),
        ("a.jsonl", b'"a"\n', "row 1: expected an object"),
        ("a.jsonl", b"{\n", "row 1: no JSON (Expecting property name"),
        ("a.jsonl", b'{"text": "a\\u0000"}\n', "row 1: it holds a NUL"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "row 1: not a text in UTF-8"),
        ("a.jsonl", b"[" * 100_000, "row 1: no JSON that can be read"),
    ],
)
def test_files_that_are_no_texts(tmp_path, capsys, name, raw, said):
    (tmp_path / name).write_bytes(raw)
    assert call(*WORDS, "--file", tmp_path / name) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.parametrize(
    "inputs, said",
    [
        ("[1, 2]", "have 2 positions, the model has 11"),
        ("[[1, 2]]", r"have shape [1, 2], expected [11]"),
        ("[]", r"have shape [0]"),
        ('"a"', "no array of numbers"),
        ("[[1], [1, 2]]", "no array of numbers"),
        (f"[{'1,' * 10} NaN]", "not all finite"),
        (f"[{'1,' * 10} 1e300]", "not all finite"),
        ("3", "have shape []"),
    ],
)
def test_numbers_that_the_model_cannot_take(tmp_path, capsys, inputs, said):
    (tmp_path / "a.jsonl").write_text(f'{{"inputs": {inputs}}}\n')
    assert call("--task", "syn1", "--file", tmp_path / "a.jsonl") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "give either --text TEXT or --file FILE"),
        (["--text", "a", "--file", "b"], "give either"),
        (["--text", "a"], "several tasks"),
        ([*WORDS, "--text", ""], "text 1: the text is empty"),
        ([*WORDS, "--text", "a\udcff"], "text 1: not a text in UTF-8"),
        ([*WORDS, "--text", "a", "--method", "mask_swop"], "you meant mask_swap"),
        ([*WORDS, "--text", "a", "--seeds", "9"], "seed 9: "),
        ([*WORDS, "--file", "none.txt"], "none.txt: No such file"),
        ([*WORDS, "--file", str(STORED)], "Is a directory"),
        (["--task", "syn1", "--text", "a"], "inputs are scalars, not texts"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(capsys, arguments, said):
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and out == ""


def test_masks_of_another_model_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(STORED, folder)
    path = folder / "models" / "syn1.json"
    text = path.read_text().replace('"scores": "selector"', '"scores": "gradient"')
    path.write_text(text)
    assert predict.main([str(folder), "--task", "syn1", "--text", "a"]) == 2
    assert "takes its masks from the model that it explains" in capsys.readouterr().err


def test_long_predictions_show_how_far_they_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "LONG", 3)
    monkeypatch.setattr(console.settings, "quiet", False)
    (tmp_path / "a.txt").write_text("bad\ngood\nfilm\n")
    assert call(*WORDS, "--file", tmp_path / "a.txt", "--json") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 3 and "100 %" in err


def test_the_key_is_a_pure_function_of_the_seed():
    import jax

    data = [jax.random.key_data(run_key(seed)).tolist() for seed in (0, 0, 1)]
    assert data[0] == data[1] != data[2]
