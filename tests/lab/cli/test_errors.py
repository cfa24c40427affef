"""Each kind of error says in a line what it is, and what to do."""

from pathlib import Path

import click
import pytest

from keras_pep.data import DataError
from keras_pep.lab.baselines.mixed_dimension import (
    mixed_dimensions,
    parameters_of_mixed,
)
from keras_pep.lab.cli import main
from keras_pep.lab.cli.common import tell_failure
from keras_pep.lab.run import RunDirectory, RunError
from keras_pep.lab.run.checked_json import parse_checked_json
from keras_pep.lab.run.config import Config
from keras_pep.metrics import log_loss
from tests.lab.cli.test_cli import invoke

BUG = (
    ". This is unexpected, and probably a bug of keras-pep: run it again with "
    "--debug, and report what it shows."
)


def raises(error):
    def function(*_, **__):
        raise error

    return function


def as_ours(line):
    """A function of our own that does something."""
    names = {"__name__": "keras_pep.some"}
    exec(f"def function(*_, **__):\n    {line}", names)  # nothing of a user's
    return names["function"]


def wrapped_by_a_library(function):
    """As Keras does it: the error of a call, from another place."""

    def outer(*_, **__):
        try:
            function()
        except Exception as error:
            raise error.with_traceback(error.__traceback__) from None

    return outer


@pytest.mark.parametrize(
    ("function", "message"),
    [
        # What checks of ours say.
        (
            lambda *_: log_loss([1], [1, 2]),
            "There must be one score for each label. Received: labels of shape "
            "(1,), scores of shape (2,)",
        ),
        (
            wrapped_by_a_library(lambda: log_loss([1], [1, 2])),
            "There must be one score for each label. Received: labels of shape "
            "(1,), scores of shape (2,)",
        ),
        (
            lambda *_: parse_checked_json("[]"),
            "expected an object.",
        ),
        (as_ours("raise TypeError('no\\n  list')"), "no list"),
        (as_ours("raise ValueError"), "no message"),
        (raises(DataError("a.csv, line 3: no label.")), "a.csv, line 3: no "),
        (raises(RunError("run is in use.")), "run is in use."),
        # What libraries say, whoever has called them.
        (
            lambda *_: parse_checked_json("{"),
            "internal error: JSONDecodeError: Expecting property name enclosed "
            f"in double quotes: line 1 column 2 (char 1){BUG}",
        ),
        (
            lambda *_: mixed_dimensions((), 4, 10),
            "internal error: ValueError: zero-size array to reduction "
            f"operation minimum which has no identity{BUG}",
        ),
        (
            lambda *_: parameters_of_mixed((1, 2), (1,), 3),
            "internal error: ValueError: zip() argument 2 is shorter than "
            f"argument 1{BUG}",
        ),
        (
            lambda *_: Config.of_run({}),
            f"internal error: KeyError: 'dataset'{BUG}",
        ),
        (
            as_ours("assert 1 == 2, 'odd'"),
            f"internal error: AssertionError: odd{BUG}",
        ),
        (
            as_ours("raise NotImplementedError"),
            f"internal error: NotImplementedError: no message{BUG}",
        ),
        (
            raises(ValueError("of another library.")),
            f"internal error: ValueError: of another library{BUG}",
        ),
        # What the system says.
        (
            lambda *_: Path("nowhere/file").read_text(),
            "nowhere/file: No such file or directory (FileNotFoundError; "
            "--debug shows where)",
        ),
        (
            raises(OSError(28, "No space left on device")),
            "No space left on device (OSError; --debug shows where)",
        ),
        (
            raises(MemoryError("Unable to allocate 3 TiB")),
            "There is not enough memory: Unable to allocate 3 TiB. Use a "
            "smaller --embedding-dim or --batch-size, or a larger machine.",
        ),
        (
            raises(ModuleNotFoundError("No module named 'x'")),
            "No module named 'x'. Is it installed? (--debug shows where)",
        ),
    ],
)
def test_each_kind_says_what_it_is(monkeypatch, function, message):
    monkeypatch.setattr("keras_pep.lab.run.evaluate_run", function)
    result = invoke("evaluate", "run")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {message}")
    assert result.stdout == ""
    assert ("internal error" in line) == ("internal error" in message)

    result = invoke("evaluate", "run", "--debug")
    assert result.exit_code == 1
    assert not isinstance(result.exception, SystemExit)  # Python shows it


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("keras_pep.lab.run.train", ["train", "--run-dir", "run"]),
        ("keras_pep.lab.run.resume", ["train", "--resume", "run"]),
        ("tomllib.loads", ["train", "--config", "a.csv"]),
        ("keras_pep.lab.run.evaluate_run", ["evaluate", "run"]),
        ("keras_pep.lab.report.read_runs", ["report", "run"]),
        ("keras_pep.lab.report.read_runs", ["compare", "run", "other"]),
        (
            "keras_pep.serving.find_saved_model",
            ["predict", "run", "--input", "a.csv", "--output", "b.csv"],
        ),
        ("keras_pep.serving.find_saved_model", ["inspect", "run"]),
        ("keras_pep.lab.run.export_run", ["export", "run"]),
        ("keras_pep.data.load", ["prepare"]),
        ("keras_pep.lab.benchmark.step_table", ["benchmark", "-q"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_command_shows_a_traceback(tmp_path, monkeypatch, place, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    run = RunDirectory("run")
    run.create()
    run.write_json(
        "config.json",
        {**Config().to_dict(), "environment": {}, "data_fingerprint": ""},
    )
    monkeypatch.setattr(place, raises(KeyError("x")))
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines() == [
        f"Error: internal error: KeyError: 'x'{BUG}"
    ]
    result = invoke(*arguments, "--debug")
    assert isinstance(result.exception, KeyError)


def test_help_and_wrong_usage_are_no_errors_of_ours():
    assert invoke("train", "--help").exit_code == 0
    result = invoke("train", "--seed", "x")
    assert result.exit_code == 2
    assert "internal" not in result.stderr
    assert invoke("no-such").exit_code == 2


def test_a_part_that_fails_shows_where_with_debug(capsys):
    said = []
    for debug in (False, True):
        with click.Context(main) as context:
            context.params["debug"] = debug
            try:
                log_loss([1], [1, 2])
            except ValueError as error:
                tell_failure("uniform-8 failed: no.", error)
        said.append(capsys.readouterr().err.splitlines())
    assert said[0] == ["uniform-8 failed: no. (--debug shows where)"]
    first, *_, last = said[1]
    assert first.startswith("Traceback")
    assert last == "uniform-8 failed: no."
