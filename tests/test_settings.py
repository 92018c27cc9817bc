import dataclasses

import pytest

from jaxattn import train
from jaxattn.config import Config, Model, Optimizer, at_setting
from jaxattn.experiment import config_files

RATE = "optimizer.learning_rate"


def test_a_grid_is_every_combination_in_order():
    axes = ["optimizer.learning-rate=1e-3,3e-3", "model.hidden=8,16"]
    assert config_files.grid(axes) == [
        f"{RATE}=1e-3 model.hidden=8",
        f"{RATE}=1e-3 model.hidden=16",
        f"{RATE}=3e-3 model.hidden=8",
        f"{RATE}=3e-3 model.hidden=16",
    ]
    assert config_files.grid([]) == []
    assert config_files.grid(["a=1,1,2"]) == ["a=1", "a=2"]


@pytest.mark.parametrize("axis", ["", "a", "a=", "=1", "a=,"])
def test_an_axis_of_another_form_is_refused(axis):
    with pytest.raises(ValueError, match="not of the form FIELD=VALUE,VALUE"):
        config_files.grid([axis])


def test_an_axis_given_twice_is_refused():
    with pytest.raises(ValueError, match="names model.hidden more than once"):
        config_files.grid(["model.hidden=8", "model.hidden=16"])


def test_nothing_runs_but_the_points_that_were_asked():
    config = Config()  # learning rate 3e-3
    found = config_files.placed(config, [f"{RATE}=1e-3", f"{RATE}=0.003"])
    assert found == dataclasses.replace(config, also=(f"{RATE}=0.001",))
    # The first point is the main one where none is the config's own.
    found = config_files.placed(config, [f"{RATE}=1e-2", f"{RATE}=1e-1", f"{RATE}=.01"])
    assert found.optimizer == Optimizer(0.01)
    assert found.also == (f"{RATE}=0.1",)
    assert config_files.placed(config, []) == config


def test_a_point_changes_several_fields_also_of_the_structure():
    point = "model.query=gru model.hidden=8 epochs=2"
    there = at_setting(Config(), point)
    assert there == dataclasses.replace(
        Config(), epochs=2, model=Model(query="gru", hidden=8)
    )
    (also,) = config_files.placed(Config(), ["epochs=8", point]).also
    assert at_setting(Config(), also) == there


def file(tmp_path, sweep):
    path = tmp_path / "swept.py"
    path.write_text(
        "from jaxattn.config import Config\n"
        "def get_config():\n    return Config(name='swept')\n"
        f"def sweep(add):\n    {sweep}\n"
    )
    return path


def test_a_file_adds_points(tmp_path):
    path = file(
        tmp_path,
        f"for rate in (1e-3, 3e-3):\n        add({{'{RATE}': rate, 'epochs': 4}})",
    )
    found = config_files.load(path)
    assert (found.name, found.epochs, found.optimizer) == ("swept", 4, Optimizer(1e-3))
    assert found.also == (f"{RATE}=0.003",)
    # And the command line may sweep something else.
    flags = train.parse(["--config", str(path), "--sweep", "model.hidden=32,64"])
    assert flags.config.also == (f"{RATE}=0.003", "model.hidden=64")


@pytest.mark.parametrize(
    "sweep, said",
    [
        ("add(3)", "expected a mapping"),
        ("add({})", "expected a mapping"),
        ("add({'model.hiden': 3})", "perhaps you meant model.hidden"),
        ("add({'model.hidden': 'x'})", "'x' is not a whole number"),
        ("add({'data.length': 3})", "allowed: epochs"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_adds_nonsense_is_refused_in_one_line(
    tmp_path, capsys, sweep, said
):
    path = file(tmp_path, sweep)
    assert train.main(["--config", str(path), "--workdir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--sweep", "model.hidden=8,16", "--sweep=epochs=1,2", "--seeds", "3"],
        ["--seeds", "3", "--sweep", "model.hidden=8,16", "epochs=1,2"],
    ],
)
def test_the_command_line_takes_several_axes(words):
    found = train.parse(words).config
    assert found.seeds == 3 and found.model.hidden == 8 and found.epochs == 1
    assert found.also == (
        "epochs=2",
        "model.hidden=16",
        "epochs=2 model.hidden=16",
    )


@pytest.mark.parametrize(
    "axis, said",
    [
        ("model.hiden=8", "perhaps you meant model.hidden"),
        ("model.hidden=8,x", "'x' is not a whole number"),
        ("model.hidden=0", "allowed is 1 to"),
        ("model.query=grue", "perhaps you meant gru"),
        ("seeds=1,2", "allowed: epochs"),
        ("model.hidden", "not of the form"),
    ],
)
def test_a_wrong_axis_is_one_line(tmp_path, capsys, axis, said):
    words = ["--sweep", axis, "--workdir", str(tmp_path / "run")]
    assert train.main(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
