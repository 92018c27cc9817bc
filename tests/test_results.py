import json
import math
import subprocess
import sys

import made_run
import numpy as np
import pytest

from jaxattn.metrics import definitions
from jaxattn.metrics.definitions import METRICS, Metric
from jaxattn.metrics.statistics import mean_interval, paired_interval
from jaxattn.reports import page, verdict, versus
from jaxattn.reports.folder import read
from jaxattn.reports.results import (
    Result,
    Row,
    read_results,
    read_seeds,
    summarise,
    write_results,
    write_seeds,
)
from jaxattn.reports.tables import compact, write_markdown
from jaxattn.system import files
from jaxattn.system.files import append_json, write_text

METHODS = ("joint", "random_pretraining", "instance_weighting")


def rows(seeds=8, task="movie_sentiment"):
    rng = np.random.default_rng(0)
    made = []
    for seed in range(seeds):
        for i, method in enumerate(METHODS):
            values = [
                ("accuracy", "", 0.78 - 0.1 * i + 0.01 * rng.normal()),
                ("nll", "", 0.5 + 0.1 * i + 0.01 * rng.normal()),
                ("leak_bits", "", 0.3 + 0.01 * rng.normal()),
                ("leak_bits", "permuted", 0.01 * rng.normal()),
                ("majority", "", 0.517),
            ]
            made += [Row(task, method, seed, m, v, "test", x) for m, v, x in values]
    return made


def values_of(made, method, metric, variant=""):
    key = (method, metric, variant)
    rows = [r for r in made if (r.method, r.metric, r.variant) == key]
    return [float(np.float32(r.value)) for r in rows]


def one(results, method, metric, variant=""):
    (result,) = (r for r in results if r[1:4] == (method, metric, variant))
    return result


def dead(rows, cells):
    """The rows with the values of some (method, seed) not finite."""
    return [
        r._replace(value=math.nan) if (r.method, r.seed) in cells else r for r in rows
    ]


def test_seeds_csv_has_one_order_and_the_same_bytes(tmp_path):
    made = rows()
    first, again, other = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    write_seeds(first, made)
    write_seeds(again, made)
    # Resumed runs and lanes hand the seeds over in another order.
    write_seeds(
        other, [r for s in (5, 0, 3, 7, 1, 2, 4, 6) for r in made if r.seed == s]
    )
    assert first.read_bytes() == again.read_bytes() == other.read_bytes()
    lines = first.read_text().splitlines()
    assert lines[0] == "task,method,seed,metric,variant,split,value"
    assert lines[1].startswith("movie_sentiment,joint,0,accuracy,,test,0.7")
    methods = [r.method for r in read_seeds(first)]
    assert methods == sorted((r.method for r in made), key=METHODS.index)
    joint = [r[3:5] + r[2:3] for r in read_seeds(first) if r.method == "joint"]
    assert joint[:2] == [("accuracy", "", 0), ("accuracy", "", 1)]
    assert [joint[16], joint[24]] == [("leak_bits", v, 0) for v in ("", "permuted")]
    assert not list(tmp_path.glob(".*"))


def test_float32_values_come_back_bit_for_bit(tmp_path):
    values = np.random.default_rng(1).normal(size=50).astype(np.float32)
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-30, 3.4e38, 1e300, 1]
    path = tmp_path / "seeds.csv"
    write_seeds(
        path,
        [Row("t", "m", i, "nll", "", "test", v) for i, v in enumerate([*values, *odd])],
    )
    back = np.array([r.value for r in read_seeds(path)], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(back, np.float32([*values, *odd]))


def test_means_and_intervals_are_those_of_the_seeds():
    made = rows()
    result = one(summarise(made), "joint", "nll")
    values = values_of(made, "joint", "nll")
    assert (*result[6:9], result.n_seeds) == mean_interval(values)
    assert math.isnan(result.null) and result[10:] == ("nats", "lower", "mean")


def test_nulls_by_number_by_metric_and_by_variant():
    made = rows()
    made += [r._replace(metric="gradient_tau") for r in made if r.metric == "nll"]
    results = summarise(made)
    permuted = np.mean(values_of(made, "joint", "leak_bits", "permuted"))
    assert one(results, "joint", "leak_bits").null == pytest.approx(permuted)
    assert math.isnan(one(results, "joint", "leak_bits", "permuted").null)
    assert one(results, "joint", "accuracy").null == pytest.approx(0.517)
    assert one(results, "joint", "gradient_tau").null == 0
    assert math.isnan(one(results, "joint", "majority").null)


def test_a_null_is_of_the_split_that_it_is_the_null_of():
    made = [r for r in rows() if r.metric in ("accuracy", "majority")]
    other = [r._replace(split="validation", value=0.25) for r in made]
    results = [r for r in summarise(other + made) if r.metric == "accuracy"]
    nulls = {r.split: r.null for r in results}
    assert nulls == pytest.approx({"validation": 0.25, "test": 0.517})


def test_a_null_kept_once_serves_every_method():
    made = [r for r in rows() if r.metric != "majority"]
    made += [Row("movie_sentiment", "", 0, "majority", "", "test", 0.517)]
    results = summarise(made)
    assert {r.null for r in results if r.metric == "accuracy"} == {
        one(results, "", "majority").mean
    }


def test_difference_to_joint_is_paired_over_the_seeds_both_have():
    missing = {("instance_weighting", 2), ("joint", 6)}
    made = [r for r in rows() if (r.method, r.seed) not in missing]
    results = summarise(dead(made, [("joint", 5)]))
    result = one(results, "instance_weighting", "accuracy_vs_joint")
    both = [r for r in made if r.seed in (0, 1, 3, 4, 7)]
    own = values_of(both, "instance_weighting", "accuracy")
    joint = values_of(both, "joint", "accuracy")
    assert result.n_seeds == 5 and result.null == 0
    assert result[6:9] == paired_interval(own, joint)[:3]
    assert not [r for r in results if r[1:3] == ("joint", "accuracy_vs_joint")]
    alone = [r for r in made if r.method != "joint"]
    assert not [r for r in summarise(alone) if r.metric == "accuracy_vs_joint"]


def test_diverged_seeds_are_left_out():
    made = [r._replace(value=math.nan) if r.seed == 3 else r for r in rows()]
    made = [r._replace(value=99.0) if r.seed == 4 else r for r in made]
    results = summarise(dead(made, [("joint", 4)]))
    values = values_of([r for r in made if r.seed not in (3, 4)], "joint", "accuracy")
    result = one(results, "joint", "accuracy")
    assert (*result[6:9], result.n_seeds) == mean_interval(values)
    everything = summarise(dead(made, [("joint", s) for s in range(8)]))
    gone = one(everything, "joint", "accuracy")
    assert gone.n_seeds == 0 and math.isnan(gone.mean)


def test_results_can_be_made_again_from_seeds_csv(tmp_path):
    made = rows()
    write_seeds(tmp_path / "seeds.csv", made)
    results = summarise(made)
    write_results(tmp_path / "a.csv", results)
    write_results(tmp_path / "b.csv", summarise(read_seeds(tmp_path / "seeds.csv")))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    back = read_results(tmp_path / "a.csv")
    assert [r[:6] for r in back] == [r[:6] for r in results]
    for old, new in zip(results, back, strict=True):
        assert new[6:10] == pytest.approx(old[6:10], rel=1e-6, nan_ok=True)
    header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert header[:6] == ["task", "method", "metric", "variant", "split", "n_seeds"]
    assert header[6:10] == ["mean", "ci_low", "ci_high", "null"]
    assert header[10:] == ["unit", "direction", "statistic"]


def test_the_interquartile_mean_is_reported_where_asked():
    values = [0.1, 0.4, 0.5, 0.5, 0.6, 0.6, 0.7, 5.0]
    made = [
        Row("t", "joint", i, "accuracy", "", "test", v) for i, v in enumerate(values)
    ]
    mean, iqm = (summarise(made, statistic)[0] for statistic in ("mean", "iqm"))
    assert mean.mean == pytest.approx(np.mean(values)) and mean.statistic == "mean"
    assert iqm.mean == pytest.approx(0.55) and iqm.statistic == "iqm"
    assert iqm.ci_low <= 0.55 <= iqm.ci_high < mean.ci_high


def test_the_null_of_a_variant_is_that_of_its_like():
    made = [
        Row("t", "joint", seed, "comprehensiveness", variant, "test", value + seed)
        for seed in range(3)
        for variant, value in (
            *(("", 5.0), ("random", 1.0), ("ferret", 6.0), ("ferret random", 2.0)),
            *(("model.penalty=1", 7.0), ("random model.penalty=1", 3.0)),
            ("other", 8.0),
        )
    ]
    found = {r.variant: r.null for r in summarise(made)}
    assert found[""] == 2 and found["ferret"] == 3 and found["model.penalty=1"] == 4
    assert found["other"] == 2  # none of its own: the plain one
    assert all(np.isnan(v) for k, v in found.items() if "random" in k.split())


def test_summarise_refuses_what_it_cannot_name():
    made = rows()
    with pytest.raises(ValueError, match="unknown metric 'acuracy'"):
        summarise([made[0]._replace(metric="acuracy")])
    with pytest.raises(ValueError, match="two values for .*joint, 0, accuracy"):
        summarise([made[0], made[0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"\xff\xfe\n", "UTF-8"),
        (b"task,method\n", "header must be task,method,seed"),
        (b"HEAD\nt,m,0,nll,,test,0.5", "cut off"),
        (b"HEAD\nt,m,0,nll,,test\n", "line 2: 6 fields instead of 7"),
        (b"HEAD\nt,m,zero,nll,,test,1\n", "line 2: .*'zero'"),
        (b"HEAD\nt,m,0,nll,,test,1\nt,m,1,nll,,test,x\n", "line 3: .*'x'"),
        (b'HEAD\n"t,m,0,nll,,test,1\n', "line 2: "),
    ],
)
def test_malformed_files_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "seeds.csv"
    path.write_bytes(content.replace(b"HEAD", ",".join(Row._fields).encode()))
    with pytest.raises(ValueError, match=message) as caught:
        read_seeds(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_folder_are_os_errors(tmp_path):
    with pytest.raises(OSError):
        read_results(tmp_path / "results.csv")
    with pytest.raises(OSError):
        write_results(tmp_path / "none" / "results.csv", [])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.md"
    write_text(path, "old\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new\n")
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]


def test_json_lines_are_strict_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_json(path, {"loss": math.nan, "top": np.float32("inf"), "n": np.int64(3)})
    append_json(path, {"by_seed": np.array([1.5, np.nan]), "names": ("a", None)})
    lines = path.read_text().splitlines()
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert first == {"loss": None, "top": None, "n": 3}
    assert second == {"by_seed": [1.5, None], "names": ["a", None]}


PLACES = ("paired", "difference", "outcomes", "compared", "verdict")


def test_every_metric_is_defined_in_one_sentence():
    for name, m in METRICS.items():
        assert m.unit in (
            *("share", "nats", "bits", "positions", "rank", "tau"),
            *("shape", "ratio", "standard deviations"),
        )
        assert m.direction in ("higher", "lower", "none")
        assert m.text[0].isupper() or m.text[0] == "`"
        assert m.text.endswith(".") and "\n" not in m.text
        assert set(m.shown) <= set(PLACES) and set(m.headline) <= set(METRICS)
        if isinstance(m.null, str):
            assert (m.null.partition(":")[0] or name) in METRICS
    assert all(
        "paired" in METRICS[name].shown for name in definitions.shown("outcomes")
    )


def test_a_metric_from_outside_is_in_every_table(tmp_path, monkeypatch):
    speed = Metric("Speed.", "share", "higher", 0.5, ("paired", "compared", "verdict"))
    monkeypatch.setitem(METRICS, "speed", speed)
    made = [r._replace(metric="speed") for r in rows() if r.metric == "nll"]
    folder = made_run.make(
        tmp_path / "run", numbers={(m, "speed"): np.arange(8) for m in ("joint",)}
    )
    results = summarise(made)
    assert one(results, "joint", "speed").null == 0.5
    assert one(results, "instance_weighting", "speed_vs_joint").mean > 0
    write_markdown(tmp_path / "results.md", "x", results, [])
    text = (tmp_path / "results.md").read_text()
    assert f"### {definitions.OTHERS}" in text and "- `speed` (share, higher" in text
    run = read(folder)
    assert verdict.judge(run, made_run.TASK).plausible == "speed"
    compared = versus.compare([run, run])
    assert compared and "speed" in {row.metric for row in compared.rows}
    assert "<dt>speed</dt>" in page.render([run])


def test_names_of_older_runs_are_read_as_those_of_today(tmp_path):
    path = tmp_path / "seeds.csv"
    row = Row("t", "joint", 0, "channel_leak_bits", "all", "test", 0.5)
    write_seeds(path, [row, row._replace(variant="shape")])
    names = [(r.metric, r.variant) for r in read_seeds(path)]
    assert names == [("audit_bits", "mask"), ("audit_bits", "shape")]


def test_terminal_table_fits_80_columns():
    made = [r for r in rows(16) if (r.method, r.seed) != ("instance_weighting", 2)]
    results = summarise(made)
    headers, body = compact(results, ["accuracy", "nll", "leak_bits"])
    assert headers[0] == "method\n16 seeds" and headers[1] == "accuracy\nnull .517"
    assert headers[3].startswith("leak_bits\nnull ")
    assert [row[0] for row in body] == [
        "joint",
        "random_pretraining",
        "instance_weighting\n15 of 16 seeds",
    ]
    table = [headers, *body]
    widths = [
        max(len(part) for row in table for part in row[column].split("\n"))
        for column in range(len(headers))
    ]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    mean, low, high = one(results, "joint", "accuracy")[6:9]
    assert body[0][1] == f"{mean:.3f} [{low:.3f}, {high:.3f}]".replace(
        "[0", "["
    ).replace(" 0", " ")
    # The variant can be asked for; a metric nobody has gives an empty cell.
    named = compact(results, ["leak_bits:permuted", "ess_share"])[1]
    assert named[0][2] == "-" and named[0][1] != body[0][3]


def test_markdown_shows_nulls_notes_definitions_and_gaps(tmp_path):
    made = rows(task="movie_sentiment") + rows(task="sources")
    made = [
        r._replace(value=math.nan) if r.method == "joint" and r.metric == "nll" else r
        for r in made
    ]
    path = tmp_path / "results.md"
    results = summarise(made)
    write_markdown(path, "probe", results, ["Seed 3 of joint diverged."])
    text = path.read_text()
    assert text.startswith(
        "# probe\n\n- Seed 3 of joint diverged.\n\n## movie_sentiment"
    )
    assert "## sources" in text and "- majority: 0.517\n" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    cells = [c.strip() for c in table[2].split("|")[1:-1]]
    mean, low, high = one(results[: len(results) // 2], "joint", "accuracy")[6:9]
    assert cells[:3] == ["joint", "8", f"{mean:.3f} [{low:.3f}, {high:.3f}] (0.517)"]
    assert cells[3] == "-"
    for name in ("accuracy", "leak_bits", "majority"):
        assert f"- `{name}` (" in text
    assert "- `ess_share`" not in text


def test_small_and_negative_numbers_stay_readable():
    row = Result("t", "m", "x", "", "test", 3, 0, 0, 0, math.nan, "share", "none")
    numbers = [
        ("accuracy_vs_joint", (-0.25, -0.3, 0.01), "-.250 [-.300, .010]"),
        ("accuracy", (-0.0001, -0.0002, 0.0001), "0.000 [.000, .000]"),
        ("smallest_probability", (2e-9, 1e-9, 4e-9), "2.0e-09 [1.0e-09, 4.0e-09]"),
        ("nll", (1.234, 1.2, 12.75), "1.234 [1.20, 12.75]"),
        ("nll", (math.nan, math.nan, math.nan), "-"),
        ("nll", (0.5, math.nan, math.nan), "0.500"),
    ]
    for metric, (mean, low, high), text in numbers:
        result = row._replace(metric=metric, mean=mean, ci_low=low, ci_high=high)
        assert compact([result], [metric])[1] == [["m", text]]


def test_reading_results_needs_no_jax_and_drawing_no_window():
    code = (
        "import sys\n"
        "from jaxattn.reports import results\n"
        "assert 'jax' not in sys.modules\n"
        "from jaxattn.reports import page\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
