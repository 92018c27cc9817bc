import xml.etree.ElementTree as ElementTree

import pytest

from jaxattn.metrics import definitions
from jaxattn.reports import comparison, drawings, figures
from jaxattn.reports.results import Row, summarise


def results(differences, metric="evidence_auroc", task="syn4", base=0.5):
    """Results where each method is `difference` above joint, with a little spread."""
    rows = []
    for method, difference in {"joint": 0.0, **differences}.items():
        for seed in range(8):
            # The shared part cancels in a paired difference; the small one does not.
            value = base + 0.1 * seed + difference + 0.001 * (seed % 3)
            rows.append(Row(task, method, seed, metric, "", "test", value))
    return summarise(rows)


def outcomes(found):
    return {v.method: v.outcome for v in comparison.against_joint(found)}


def test_an_interval_on_one_side_of_zero_decides():
    found = results({"mask_swap": 0.2, "mask_mix": 0.0, "realx": -0.2})
    expected = {"mask_swap": "better", "mask_mix": "tie", "realx": "worse"}
    assert outcomes(found) == expected
    counted = comparison.counts(comparison.against_joint(found))
    assert counted["mask_swap"] == [1, 0, 0] and counted["realx"] == [0, 0, 1]


def test_where_lower_is_better_signs_turn():
    found = results({"mask_swap": 0.2, "realx": -0.2}, metric="fdr")
    differences = comparison.against_joint(found, ["fdr"])
    expected = {"mask_swap": "worse", "realx": "better"}
    assert {d.method: d.outcome for d in differences} == expected


def test_controls_are_no_remedies_and_settings_are_not_counted():
    found = results({"uniform": 0.3, "mask_swap": 0.2})
    assert set(outcomes(found)) == {"mask_swap"}
    setting = [r._replace(variant="model.penalty=1") for r in found]
    assert comparison.against_joint(setting) == [] == comparison.sentences(setting)


def test_table_and_sentence_name_tasks_methods_and_counts():
    found = results({"mask_swap": 0.2}) + results({"mask_swap": 0.0}, task="syn5")
    lines = comparison.markdown(found)
    (row,) = [line for line in lines if line.startswith("| mask_swap")]
    assert row.count("|") == 5 and row.endswith("| 1 / 1 / 0 |")
    assert "**+0.200 [+0.2" in row
    assert "syn4" in lines[2] and "syn5" in lines[2]
    (sentence,) = comparison.sentences(found)
    assert "mask_swap 1/1/0" in sentence and "2 tasks" in sentence
    assert comparison.markdown([]) == []


def curve_results():
    rows = []
    settings = {"": 0.5, "model.penalty=0.1": 0.3, "model.penalty=1": 0.1}
    for setting, tpr in settings.items():
        for metric, value in {"tpr": tpr, "fdr": tpr / 2}.items():
            for seed in range(4):
                given = value + 0.001 * seed
                rows.append(Row("syn4", "joint", seed, metric, setting, "test", given))
    rows.append(
        Row("syn4", "joint", 0, "tpr", "optimizer.learning_rate=1", "test", 0.9)
    )
    return summarise(rows)


def test_settings_are_in_order_of_their_number():
    main = "model.penalty=0.03"
    points = drawings.settings_of(curve_results(), "syn4", "fdr", "tpr", main)
    assert [round(y.mean, 1) for _, y in points["joint"]] == [0.5, 0.3, 0.1]
    assert drawings.settings_of(curve_results(), "syn5", "fdr", "tpr", "a=1") == {}
    title = "what it finds"
    svg = figures.tradeoff([("fdr", "tpr", points)], title)
    tree = ElementTree.fromstring(svg)
    text = {"".join(t.itertext()) for t in tree.iter() if t.text}
    assert {"joint", "true positive rate", "false discovery rate", title} <= text


@pytest.mark.parametrize("metric", definitions.shown("outcomes"))
def test_metrics_whose_outcomes_are_counted_have_a_paired_difference(metric):
    found = results({"mask_swap": 0.1}, metric=metric)
    assert [d.metric for d in comparison.against_joint(found)] == [metric]
