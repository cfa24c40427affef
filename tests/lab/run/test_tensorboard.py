"""Read by TensorBoard itself."""

import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_pep.lab.run import Config, RunDirectory, train
from tests.backends import eagerly
from tests.few_rows import have_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = RunDirectory(tmp_path_factory.mktemp("tensorboard") / "run")
    config = Config(
        search="budget",
        embedding_dim=8,
        batch_size=256,
        max_epochs=2,
        search_epochs=4,
        retrain_epochs=2,
        sparsity=(0.8,),
        granularity="dimension",
    )
    with pytest.MonkeyPatch.context() as patch, eagerly():
        have_rows(patch, 4000)
        return directory, train(config, directory)


def read(folder):
    found = EventAccumulator(str(folder), {"histograms": 0, "scalars": 0})
    found.Reload()
    return found


def scalars(found, tag):
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_every_stage_has_its_figures(run):
    """Those of history.csv and of the ticket, to float32."""
    directory, metrics = run
    (budget,) = metrics["budgets"]
    name = f"budget-{budget['target']}"
    assert {p.name for p in directory.logs.iterdir()} == {
        "dense",
        "search",
        name,
    }
    history = directory.read_history()
    for stage in ("dense", "search", name):
        found = read(directory.logs / stage)
        rows = [row for row in history if row["stage"] == stage]
        for tag, column in (
            ("loss", "loss"),
            ("validation/auc", "val_auc"),
            ("validation/logloss", "val_logloss"),
            ("embedding/parameters", "embedding_parameters"),
        ):
            assert scalars(found, tag) == [
                (row["epoch"], pytest.approx(row[column], rel=1e-6))
                for row in rows
            ]
    last = scalars(found, "embedding/sparsity")[-1][1]
    assert last == pytest.approx(budget["sparsity"], abs=1e-6)

    table = directory.load_ticket(budget["target"]).tables["embedding"]
    sizes = table.embedding_sizes()
    ends = np.cumsum([600, 400, 300, 120])
    by_field = [part.sum() for part in np.split(sizes, ends)]
    tags = [f"parameters by field/{f}" for f in _fields(found)]
    assert [scalars(found, tag)[-1][1] for tag in tags] == by_field
    histogram = found.Histograms("embedding sizes")[-1].histogram_value
    assert histogram.num == sizes.size
    assert histogram.sum == sizes.sum()


def _fields(found):
    """In the order that they are written in."""
    return [
        tag.removeprefix("parameters by field/")
        for tag in found.Tags()["scalars"]
        if tag.startswith("parameters by field/")
    ]


def test_thresholds_rise_while_a_table_is_searched(run):
    directory, _ = run
    found = read(directory.logs / "search")
    medians = [v for _, v in scalars(found, "threshold of embedding/50%")]
    assert medians[0] < medians[-1]
    assert (
        "threshold of embedding/50%"
        not in read(directory.logs / "dense").Tags()["scalars"]
    )


def test_logs_of_an_old_run_go_and_nothing_else(run, tmp_path):
    path = shutil.copytree(run[0].path, tmp_path / "run")
    directory = RunDirectory(path)
    mine = directory.logs / "mine.txt"
    mine.write_text("notes")
    directory.delete_outputs()
    assert [*directory.logs.iterdir()] == [mine]
    mine.unlink()
    directory.delete_outputs()
    assert not directory.logs.exists()


@pytest.mark.usefixtures("eager")
def test_a_run_goes_on_without_them(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        "keras_pep.lab.run.tensorboard.TensorBoardLog._write", _full
    )
    config = Config(
        dataset="synthetic",
        search="budget",
        embedding_dim=4,
        batch_size=50_000,
        max_epochs=2,
        search_epochs=5,
        retrain_epochs=1,
        sparsity=(0.5,),
    )
    train(config, RunDirectory(tmp_path / "run"))
    told = [line for line in caplog.messages if "TensorBoard" in line]
    assert len(told) == 3  # once in each stage
    assert "No space left" in told[0]


def _full(*_):
    raise OSError("No space left on device")
