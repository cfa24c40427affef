"""Runs that were interrupted, or are going on."""

import json

import pytest

from keras_pep.lab.report import comparison_table, read_runs
from keras_pep.lab.report.charts import charts
from keras_pep.lab.report.page import page
from keras_pep.lab.run import Config, RunDirectory, RunError, resume, train
from tests.few_rows import have_rows
from tests.runs import change, history, unfinish, write_run
from tests.said import saying


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def bare(run):
    """Leaves nothing but the settings."""
    for path in run.iterdir():
        if path.name != "config.json":
            path.unlink()
    return run


def test_finished_stages_have_the_figures_they_will_have(run):
    (finished,) = read_runs([run])
    (content,) = read_runs([unfinish(run)])
    assert content.models == finished.models[:2]  # dense, 60
    assert content.kept == finished.kept
    # Of both tickets, though one has no model.
    assert content.features == finished.features
    assert [stage.name for stage in content.stages] == [
        *("dense", "search", "budget-60", "budget-20")
    ]
    assert content.facts == {
        **finished.facts,
        "data": "clicks",
        "feature set": "",
        "rows": "",
    }
    (content,) = read_runs([run])
    assert "FM on clicks, unfinished" in page([content])


def test_candidates_of_all_sizes_share_a_name_in_the_legend(run):
    """A run that tries many of them would fill the figure with names."""
    stages = ["dense-1", "try-one-shot-570B", "try-one-shot-16-285B-scaled"]
    stages += ["search-prefix-570B", "try-prefix-search-285", "uniform-60"]
    directory = RunDirectory(run)
    (run / "history.csv").unlink()
    directory.write_history(history(stages))
    (content,) = read_runs([run])
    ((_, drawn),) = charts([content])["epochs"]
    shown = [t["name"] for t in drawn["data"] if t["showlegend"]]
    assert shown == ["full table", "one-shot", "prefix-search", "uniform"]
    assert len(drawn["data"]) == 6


def test_baselines_of_finished_stages_are_known_by_their_method(run):
    (finished,) = read_runs([run])
    stages = ["dense", "search", "budget-60", "budget-20"]
    stages += ["magnitude", "magnitude-60"]
    (content,) = read_runs([unfinish(run, stages, "magnitude-20")])
    assert content.models == finished.models[:4]
    assert content.models[3].name == "magnitude 60"


@pytest.mark.parametrize(
    ("stages", "begun", "state"),
    [
        ((), None, "No stage is finished."),
        ((), "dense", "No stage is finished. dense has 3 epochs so far."),
        (("dense",), None, "Finished stages: dense."),
        (
            ("dense", "search"),
            "budget-60",
            "Finished stages: dense, search. budget-60 has 3 epochs so far.",
        ),
    ],
)
def test_it_says_how_far_the_run_is(run, stages, begun, state):
    (content,) = read_runs([unfinish(run, stages, begun)])
    assert content.unfinished.state == f"{state} No process is training it."
    assert content.unfinished.hint == "Continue with"


def test_nothing_but_the_settings_is_enough(run):
    (content,) = read_runs([bare(run)])
    assert content.models == content.stages == []
    assert content.features is None
    assert content.kept is None
    assert content.facts["model"] == "FM"
    assert content.facts["features"] == ""
    assert "No stage is finished." in page([content])
    assert len(comparison_table([content]).splitlines()) == 1


def test_the_command_takes_any_path(tmp_path):
    run = bare(write_run(tmp_path / "my <run>"))
    (content,) = read_runs([run])
    assert content.unfinished.command == f"keras-pep train --resume '{run}'"
    text = page([content])
    assert "<run>" not in text
    assert "&lt;run&gt;" in text


def test_a_run_is_read_while_it_is_trained(run):
    unfinish(run)
    directory = RunDirectory(run)
    with directory.lock():
        (content,) = read_runs([run])
        assert content.unfinished.state.endswith(" A process is training it.")
        assert content.unfinished.hint == "If it is interrupted, continue with"
    (content,) = read_runs([run])
    assert content.unfinished.state.endswith(" No process is training it.")
    with directory.lock():  # who has read it keeps nobody out
        pass


def test_what_locks_cannot_tell_is_not_said(run, monkeypatch):
    unfinish(run)
    monkeypatch.setattr(RunDirectory, "in_use", lambda _: None)
    (content,) = read_runs([run])
    assert content.unfinished.state == (
        "Finished stages: dense, search, budget-60. budget-20 has 3 epochs so "
        "far."
    )
    assert content.unfinished.hint == "If it is interrupted, continue with"


def test_a_run_may_end_while_it_is_read(run, monkeypatch):
    (finished,) = read_runs([run])
    metrics = RunDirectory(run).read_json("metrics.json")
    unfinish(run)
    read_history = RunDirectory.read_history

    def ends(directory):
        if not directory.finished:
            directory.finish(metrics)
        return read_history(directory)

    monkeypatch.setattr(RunDirectory, "read_history", ends)
    (content,) = read_runs([run])
    assert content.unfinished is None
    assert content.models == finished.models


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "dense.stage.json").write_text("{"), "is damaged"),
        (
            lambda run: change(run / "dense.stage.json", result={}),
            "stage.json or config.json is damaged",
        ),
        (
            lambda run: change(run / "search.stage.json", result=3),
            "stage.json or config.json is damaged",
        ),
        (
            lambda run: change(run / "config.json", dataset=None),
            "stage.json or config.json is damaged",
        ),
        (
            lambda run: (run / "budget-20.ticket.npz").unlink(),
            "budget-20.ticket.npz not found",
        ),
    ],
)
def test_damage_is_said(run, damage, message):
    unfinish(run)
    damage(run)
    with pytest.raises(RunError, match=message):
        read_runs([run])


class InterruptedHereError(KeyboardInterrupt):
    pass


def test_what_a_real_run_knows_halfway_is_true_in_the_end(
    tmp_path, monkeypatch
):
    have_rows(monkeypatch, 4000)
    config = Config(
        search="budget",
        max_epochs=2,
        search_epochs=2,
        retrain_epochs=1,
        embedding_dim=8,
        sparsity=(0.8,),
        compare=("uniform", "magnitude"),
    )
    directory = RunDirectory(tmp_path / "run")

    def until_magnitude(line):
        if line.startswith("magnitude-"):
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError), saying(until_magnitude):
        train(config, directory)
    (content,) = read_runs([directory.path])
    resume(directory)
    (finished,) = read_runs([directory.path])
    names = [model.name.split()[0] for model in content.models]
    assert names == ["dense", "2,283", "uniform"]
    assert content.models == finished.models[:3]
    assert len(finished.models) == 4
    assert content.features == finished.features
    assert json.dumps(content.kept["search"]) in json.dumps(finished.kept)
    assert content.unfinished.state.startswith(
        "Finished stages: dense, search, budget-2283, uniform-2283, magnitude."
    )
    assert content.settings == finished.settings
    for fact in ("model", "embedding", "features", "search", "seed", "data"):
        assert content.facts[fact] == finished.facts[fact]
