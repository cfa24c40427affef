"""A part that fails takes nothing along, and can be tried again."""

import json
import pkgutil
import signal

import pytest

from keras_pep.lab.report import comparison_table, read_runs
from keras_pep.lab.report.page import page
from keras_pep.lab.run import Config, RunDirectory, results_table, resume, train
from keras_pep.lab.run.progress import DivergedError
from tests.clicks import FIELDS, labelled_rows, write_csv
from tests.lab.cli.test_cli import invoke
from tests.lab.run.results import without_times
from tests.lab.run.test_killed import folder

pytestmark = pytest.mark.usefixtures("eager")
SHORT = {
    "search": "budget",
    "batch_size": 1024,
    "max_epochs": 1,
    "search_epochs": 2,
    "retrain_epochs": 1,
    "embedding_dim": 8,
    "min_count": 1,
}
OPTIONS = [
    option
    for name, value in SHORT.items()
    for option in (f"--{name.replace('_', '-')}", value)
]


@pytest.fixture
def data(tmp_path):
    """Of 43 features, three of which are unknown values."""
    return folder(tmp_path / "data") / "clicks.csv"


@pytest.fixture
def train_command(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it exports to

    def command(*options):
        return invoke(
            *("train", "--dataset", data, "--label", "clicked", *OPTIONS),
            *("--budget", 160, "--quiet", "--run-dir", "run", *options),
        )

    return command


def metrics_of(run):
    return RunDirectory(run).read_json("metrics.json")


def failing(monkeypatch, place, when, error):
    """Has a function fail if its arguments are so."""
    owner, _, name = place.rpartition(".")
    target = pkgutil.resolve_name(owner)
    function = getattr(target, name)

    def fails(*args, **kwargs):
        if when(*args, **kwargs):
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(target, name, fails)


def is_mixed(*arguments, **_):
    return "mixed-dimension" in arguments


@pytest.mark.slow
def test_a_baseline_takes_nothing_along(train_command, tmp_path, monkeypatch):
    options = [
        option
        for method in ("mixed-dimension", "uniform", "magnitude")
        for option in ("--compare", method)
    ]
    with monkeypatch.context() as broken:
        failing(
            *(broken, "keras_pep.lab.run.config.Config.build_model", is_mixed),
            ValueError("operands could\nnot be broadcast"),
        )
        result = train_command(*options)
    assert result.exit_code == 1
    reason = "ValueError: operands could not be broadcast"
    assert result.stderr.splitlines() == [
        f"mixed-dimension-160 failed: {reason} (--debug shows where)",
        "Error: failed: mixed-dimension 160. Everything else is done. Try "
        "again with: keras-pep train --resume run",
    ]
    run = tmp_path / "run"
    metrics = metrics_of(run)
    assert metrics["budgets_failed"] == {}
    assert metrics["baselines_failed"] == {"mixed-dimension": {"160": reason}}
    assert [b["target"] for b in metrics["budgets"]] == [160]
    known = [(b["method"], b["target"]) for b in metrics["baselines"]]
    assert known == [("uniform", 160), ("magnitude", 160)]
    assert f"mixed-dimension 160   failed: {reason}" in result.stdout
    assert (run / "report.html").exists()

    # Everything that reads the run copes.
    entries = json.loads(invoke("evaluate", run, "--json").stdout)
    found = {(e["method"], e["target"]): e["auc"] for e in entries}
    assert found == {
        (entry.get("method"), entry.get("target")): pytest.approx(
            entry["test"]["auc"], abs=1e-7
        )
        for entry in (
            *(metrics["dense"], *metrics["budgets"]),
            *metrics["baselines"],
        )
    }
    assert reason in invoke("evaluate", run).stdout
    (content,) = read_runs([run])
    assert content.unfinished is None
    assert f"mixed-dimension 160 failed: {reason}" in page([content])
    assert f"run: mixed-dimension 160 failed: {reason}" in comparison_table(
        [content]
    )

    # Only what has failed is done again, and ends as if it never had.
    times = {p.name: p.stat().st_mtime_ns for p in run.glob("*.keras")}
    result = invoke("train", "--resume", run)
    assert result.exit_code == 0, result.output
    trained = [
        line.split()[0]
        for line in result.stdout.splitlines()
        if "val AUC" in line
    ]
    assert trained == ["mixed-dimension-160"]
    assert times == {name: (run / name).stat().st_mtime_ns for name in times}
    assert not {*run.glob("*.stage.json"), *run.glob("checkpoint.npz")}
    assert "failed" not in result.stdout
    result = train_command(*options, "--run-dir", "whole")
    assert result.exit_code == 0, result.output
    assert without_times(metrics_of(run)) == without_times(
        metrics_of(tmp_path / "whole")
    )


@pytest.mark.slow
def test_a_search_takes_nothing_along(data, tmp_path, monkeypatch, caplog):
    settings = Config(
        **SHORT,
        dataset=str(data),
        label="clicked",
        budget=(160, 80),
        compare=("uniform",),
    )
    run = RunDirectory(tmp_path / "run")
    error = KeyError("lost")
    with monkeypatch.context() as broken:
        failing(
            *(
                broken,
                "keras_pep.lab.run.searching.collect",
                lambda *_, **__: True,
            ),
            error,
        )
        metrics = train(settings, run)
    (told,) = caplog.records
    assert told.getMessage() == "search failed: KeyError: 'lost'"
    assert told.exc_info[1] is error
    assert metrics["budgets"] == metrics["budgets_not_reached"] == []
    assert metrics["budgets_failed"] == {
        "160": "KeyError: 'lost'",
        "80": "KeyError: 'lost'",
    }
    assert metrics["search"]["steps"] is None
    assert [b["target"] for b in metrics["baselines"]] == [160, 80]
    assert metrics["dense"]["test"]["auc"] > 0.4
    (content,) = read_runs([run.path])
    assert [m.name for m in content.models] == [
        *("dense", "uniform 160", "uniform 80")
    ]
    assert "80 failed: KeyError" in page([content])
    metrics = resume(run)
    assert [b["target"] for b in metrics["budgets"]] == [160, 80]
    assert metrics["budgets_failed"] == {}
    assert [row["stage"] for row in run.read_history()] == [
        *("dense", "uniform-160", "uniform-80", "search", "search"),
        *("budget-160", "budget-80"),
    ]


def test_report_and_export_take_nothing_along(
    train_command, tmp_path, monkeypatch
):
    def always(*_, **__):
        return True

    with monkeypatch.context() as broken:
        failing(
            *(broken, "keras_pep.lab.report.write_report", always),
            OSError(28, "No space left on device", "report.html"),
        )
        failing(
            *(broken, "keras_pep.lab.run.export_run", always), TypeError("no")
        )
        result = train_command("--export")
    assert result.exit_code == 1
    report, export, error = result.stderr.splitlines()
    assert report.startswith(
        "report failed: report.html: No space left on device"
    )
    assert export.startswith("SavedModel failed: internal error: TypeError: no")
    assert error.startswith(
        "Error: failed: report, SavedModel. Everything else"
    )
    assert results_table(metrics_of(tmp_path / "run")) in result.stdout
    result = invoke("train", "--resume", "run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[-2:]
    assert lines == [
        "report: run/report.html",
        "SavedModel: saved_models/run/1",
    ]


@pytest.mark.slow
def test_one_budget_that_diverges_is_tried_again(
    train_command, tmp_path, monkeypatch
):
    """The other is exported, and stays so, until this one is better."""

    def is_small(_, ticket, *__, **___):
        return ticket.budget == 80

    with monkeypatch.context() as broken:
        failing(
            *(broken, "keras_pep.lab.run.stages.retrain", is_small),
            DivergedError("budget-80: the loss is nan."),
        )
        result = train_command("--budget", 80, "--export")
    assert result.exit_code == 1
    metrics = metrics_of(tmp_path / "run")
    assert metrics["budgets_failed"] == {"80": "budget-80: the loss is nan."}
    assert metrics["budgets_not_reached"] == []
    (known,) = metrics["budgets"]
    result = invoke("train", "--resume", "run", "--quiet")
    assert result.exit_code == 0, result.output
    metrics = metrics_of(tmp_path / "run")
    first = metrics["budgets"][0]
    assert without_times(first) == without_times(known)
    best = max(metrics["budgets"], key=lambda b: b["validation"]["auc"])
    version = 1 if best is first else 2
    assert result.stdout.splitlines()[-1] == (
        f"SavedModel: saved_models/run/{version}"
    )


def test_what_diverges_is_said_and_the_dense_model_stays(
    train_command, tmp_path
):
    result = train_command("--retrain-rate", 1e30, "--compare", "uniform")
    assert result.exit_code == 1
    metrics = metrics_of(tmp_path / "run")
    assert metrics["budgets"] == metrics["baselines"] == []
    for failed, name in (
        (metrics["budgets_failed"], "budget-160"),
        (metrics["baselines_failed"]["uniform"], "uniform-160"),
    ):
        assert failed["160"].startswith(f"{name}: the ")
        assert failed["160"].endswith(
            "Training diverged: lower --learning-rate (with --search budget "
            "also --search-rate or --retrain-rate)."
        )
    assert metrics["dense"]["embedding_parameters"] == 43 * 8
    assert len(result.stderr.splitlines()) == 3
    assert invoke("evaluate", "run").exit_code == 0
    assert "no model of a budget" in invoke("export", "run").output


def test_an_interrupt_is_no_failure(train_command, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return True

    failing(
        *(monkeypatch, "keras_pep.lab.run.stages.retrain", interrupted),
        AttributeError("made of an interrupt"),
    )
    result = train_command()
    assert result.exit_code == 1
    assert result.stderr == (
        "Interrupted. Continue with: keras-pep train --resume run\n"
    )
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
def test_every_method_takes_lists(tmp_path):
    write_csv(tmp_path / "clicks.csv", labelled_rows(600))
    methods = ("uniform", "mixed-dimension", "magnitude")
    config = Config(
        **{**SHORT, "min_count": 8},
        dataset=str(tmp_path / "clicks.csv"),
        label="clicked",
        fields=tuple(FIELDS),
        linear="pep",
        sparsity=(0.4,),
        compare=methods,
        baseline=False,
    )
    metrics = train(config, RunDirectory(tmp_path / "run"))
    assert metrics["baselines_failed"] == {}
    assert tuple(b["method"] for b in metrics["baselines"]) == methods
    for entry in metrics["baselines"]:
        kept = entry["embedding_parameters"]
        assert 0.7 * entry["target"] < kept <= entry["target"]
        assert entry["total_parameters"] == kept + 1  # and a bias
