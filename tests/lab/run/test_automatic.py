"""Runs without settings: tuned, several methods for each size, one taken."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras_pep import export_saved_model
from keras_pep.data import Split
from keras_pep.lab.presets import preset
from keras_pep.lab.run import Config, RunDirectory, resume, train
from keras_pep.lab.run.automatic import choice
from keras_pep.lab.run.candidates import METHODS, Candidates, norms_of
from keras_pep.lab.run.models import chosen_model
from keras_pep.lab.run.progress import DivergedError
from keras_pep.lab.run.searches import (
    Searches,
    main_columns,
    sparse_rotation,
)
from keras_pep.lab.run.size import Size
from keras_pep.lab.run.table import advice
from keras_pep.lab.run.tuning import (
    DroppedIfBehind,
    Training,
    Tuning,
    _tune_l2,
)
from keras_pep.sparse import SparseTable
from tests.backends import eagerly
from tests.few_rows import have_rows
from tests.lab.run.results import without_times
from tests.lab.run.test_resume import InterruptedHereError, interrupting
from tests.said import saying

SHORT = {
    "dataset": "synthetic",
    "batch_size": 1024,
    "max_epochs": 2,
    "optimizer": "adam",
    "tolerance": 0.0,
}


@pytest.fixture(scope="module", autouse=True)
def _few_rows():
    with pytest.MonkeyPatch.context() as patch:
        have_rows(patch, 4000)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = RunDirectory(tmp_path_factory.mktemp("auto") / "run")
    with eagerly():
        return directory, train(Config(**SHORT), directory)


def test_every_size_has_the_best_of_several_methods(run):
    directory, metrics = run
    dense = metrics["dense"]
    best = max(metrics["tuning"], key=lambda tried: tried["auc"])
    assert dense["validation"]["auc"] == pytest.approx(best["auc"], abs=1e-6)
    assert metrics["embedding_dim"] == best["columns"]
    assert metrics["teachers"]["columns"][0] == best["columns"]
    assert metrics["teachers"]["auc"] >= best["auc"] - 1e-6
    whole = dense["exported_bytes"]["int8"]["table"]
    sizes = [entry["max_bytes"] for entry in metrics["budgets"]]
    assert sizes[:3] == [whole // 2, whole // 4, whole // 8]
    for entry in metrics["budgets"]:
        tried = entry["candidates"]
        assert {*tried} <= {*METHODS}
        assert entry["method"] in tried
        assert max(tried.values()) - tried[entry["method"]] < 0.03
        # What was kept of the search that won, or of the table.
        ticket = directory.load_ticket(entry["target"])
        assert ticket.embedding_parameters <= entry["embedding_parameters"]


def test_sizes_that_are_known_share_a_search(run):
    directory, metrics = run
    stages = {row["stage"] for row in directory.read_history()}
    searched = {name for name in stages if name.startswith("search-prefix")}
    later = [entry["max_bytes"] for entry in metrics["budgets"]][3:]
    columns = min(metrics["embedding_dim"], 16)
    shared = f"search-prefix-{columns}"
    assert searched <= {shared, *(f"{shared}-{n}B" for n in later)}
    assert shared in searched


def kept_of(report):
    tables = report["tables"].items()
    return sum(
        table["kept_parameters"]
        for name, table in tables
        if "weights" not in name
    )


def test_a_table_is_exported_in_no_more_bytes_than_its_size(run, tmp_path):
    directory, metrics = run
    vocabularies = directory.read_vocabularies()
    for entry in metrics["budgets"]:
        model = directory.load_model(f"budget-{entry['target']}")
        report = export_saved_model(
            model, tmp_path / str(entry["target"]), vocabularies, "int8"
        ).report
        tables = report["tables"].items()
        found = sum(
            table["bytes"] for name, table in tables if "weights" not in name
        )
        counted = entry["exported_bytes"]["int8"]["table"]
        if entry["method"] == "mixed-dimension":
            found += 4 * (entry["embedding_parameters"] - kept_of(report))
        assert found == counted <= entry["max_bytes"]
        whole = entry["exported_bytes"]["int8"]["model"]
        assert report["table_bytes"] <= whole < report["files_bytes"]


def test_nothing_but_results_is_left(run):
    directory, metrics = run
    expected = {"dense.keras"}
    for entry in metrics["budgets"]:
        name = f"budget-{entry['target']}"
        expected |= {f"{name}.keras", f"{name}.ticket.npz"}
    found = {path.name for path in directory.path.glob("*.*")}
    assert {n for n in found if n.endswith((".keras", ".npz"))} == expected
    assert not [*directory.path.glob("*.stage.json")]


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_it_goes_on_where_it_was_interrupted(tmp_path):
    config = Config(
        **SHORT, model="deepfm", embedding_dim=8, l2=1e-4, max_bytes=("4kB",)
    )
    expected = train(config, RunDirectory(tmp_path / "whole"))
    directory = RunDirectory(tmp_path / "broken")
    with pytest.raises(InterruptedHereError), saying(interrupting(7)):
        train(config, directory)
    done = directory.read_stages()
    assert any(name.startswith("try-") for name in done)
    assert without_times(resume(directory)) == without_times(expected)


@pytest.mark.usefixtures("eager")
def test_a_size_in_entries_and_one_in_bytes(tmp_path):
    config = Config(
        **{**SHORT, "max_epochs": 1},
        effort="quick",
        budget=(3000,),
        max_bytes=("2kB",),
        embedding_dim=4,
        l2=1e-5,
        learning_rate=0.01,
    )
    directory = RunDirectory(tmp_path / "run")
    metrics = train(config, directory)
    (tried,) = metrics["tuning"]  # nothing is left to be tuned
    assert (tried["columns"], tried["l2"], tried["rate"]) == (4, 1e-5, 0.01)
    first, second = metrics["budgets"]
    assert first["embedding_parameters"] <= 3000 == first["target"]
    assert second["exported_bytes"]["int8"]["table"] <= 2000
    # One of these was asked for, however much better the dense model is.
    assert metrics["choice"]["target"] in (first["target"], second["target"])
    assert chosen_model(directory, metrics)[0].startswith("budget-")
    json.dumps(metrics)


def test_bytes_for_no_entry_are_refused_before_anything_is_trained(tmp_path):
    config = Config(**SHORT, max_bytes=("2kB", "10"))
    with pytest.raises(
        ValueError, match=r"max_bytes=10\. Expected: at least 11"
    ):
        train(config, RunDirectory(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("eager")
def test_what_fails_takes_nothing_along(tmp_path, monkeypatch):
    failing = {"dense-2", "try-one-shot-1"}

    def planted(kind, method):
        work = getattr(kind, method)

        def do(self, *arguments):
            if names := failing.intersection(arguments):
                raise DivergedError(f"planted in {names.pop()}")
            return work(self, *arguments)

        monkeypatch.setattr(kind, method, do)

    planted(Tuning, "_train")
    planted(Candidates, "_one_shot")
    directory = RunDirectory(tmp_path / "run")
    config = Config(
        **{**SHORT, "max_epochs": 1},
        effort="quick",
        max_bytes=("11",),
        sparsity=(0.99999,),
    )
    metrics = train(config, directory)
    assert metrics["dense"]["test"]["auc"] > 0.4
    # A single entry is what a share of nearly all leaves.
    assert metrics["candidates_failed"] == {
        name: f"planted in {name}" for name in failing
    }
    assert metrics["budgets_failed"] == {"1": "planted in try-one-shot-1"}
    assert metrics["budgets_not_reached"] == [11]
    assert advice(metrics) == "No model fits."
    failing.clear()
    again = resume(directory)
    assert [entry["target"] for entry in again["budgets"]] == [1]
    assert again["candidates_failed"] == {}
    assert again["choice"]["target"] == 1


def figures(target, auc, size, method):
    return {
        "target": target,
        "method": method,
        "embedding_parameters": size,
        "validation": {"auc": auc},
        "int8": {"test": {"auc": auc}, "validation": {"auc": auc}},
        "exported_bytes": {"int8": {"table": size, "model": size}},
    }


def test_the_smallest_that_is_as_good_is_taken():
    dense = figures(None, 0.9, 1000, "dense")
    small = [
        figures(500, 0.8999, 500, "one-shot"),
        figures(250, 0.8996, 250, "warm-uniform"),
        figures(125, 0.88, 125, "search"),
    ]
    metrics = {"dense": dense, "budgets": small, "feature_count": 250}

    def taken(tolerance, entries=small, **more):
        found = choice(tolerance, dense, entries, **{"small": False, **more})
        return found, advice({**metrics, "choice": found})

    found, line = taken(0.0005)
    assert (found["target"], found["method"]) == (250, "warm-uniform")
    assert line.startswith("Pruning does not pay here: take a full table of 1 ")
    found, line = taken(0.0002)
    assert found["target"] == 500
    start = "Take the model of 500 entries (one-shot): a table of 500 bytes"
    assert line.startswith(start)
    found, line = taken(0.0)
    assert found["target"] is None
    assert line.startswith("Pruning does not pay here: take the dense model: ")
    assert taken(0.0, small=True)[0]["target"] == 500
    assert taken(0.0, [], small=True) == (None, "No model fits.")


def test_a_sparse_rotation_finds_the_axes_that_rows_lie_near():
    random = np.random.default_rng(0)
    sparse = random.normal(size=(1000, 6)) * (random.random((1000, 6)) < 0.2)
    hidden = np.linalg.qr(random.normal(size=(6, 6)))[0]
    table = (sparse @ hidden).astype(np.float32)
    found = table @ sparse_rotation(table)
    np.testing.assert_allclose(found @ found.T, sparse @ sparse.T, atol=1e-4)
    # Every column is one of those before, or its negative.
    alike = np.abs(np.corrcoef(found.T, sparse.T)[:6, 6:])
    np.testing.assert_allclose(np.sort(alike)[:, -1], 1, atol=0.01)
    assert {*alike.argmax(axis=1)} == {*range(6)}


def searches_of(table):
    """Searches of a dense table, whose own search has not been run."""
    rows, columns = table.shape
    model = SimpleNamespace(embedding=SimpleNamespace(embeddings=table))
    run = SimpleNamespace(
        dataset=SimpleNamespace(feature_count=rows),
        directory=SimpleNamespace(load_model=lambda _: model),
    )
    return Searches(run, Training(columns, 0.0, 0.01, 8), ())


def test_any_entries_are_searched_where_they_hold_more_than_prefixes():
    random = np.random.default_rng(0)
    rows, size = 2000, Size(bytes=8000, fields=(2000,), more=(0,))
    near_axes = random.normal(size=(rows, 16)) * random.binomial(
        1, 0.1, (rows, 16)
    )
    hidden = np.linalg.qr(random.normal(size=(16, 16)))[0]
    found = searches_of((near_axes @ hidden).astype(np.float32))
    assert found.scattered(size)
    assert found.columns("warm-search", size) == 16
    # Rows of many lengths and no direction.
    lengths = np.exp(random.normal(size=(rows, 1)))
    table = (lengths * random.normal(size=(rows, 16))).astype(np.float32)
    assert not searches_of(table).scattered(size)
    # Nor where a size is in entries, which places would be free of.
    entries = replace(size, entries=8000, bytes=None)
    assert not searches_of(table).scattered(entries)
    # Nor where no entry fits beside a bit for each row, or its scale.
    for small in replace(size, bytes=40), replace(size, row_bytes=4):
        searches = searches_of(table)
        assert not searches.scattered(small)
        assert searches.find("warm-search", small) is None


@pytest.mark.parametrize(
    ("effort", "auc", "ends"),
    [
        ("normal", 0.8, True),
        ("normal", 0.7, False),
        ("quick", 0.8, True),
        ("thorough", 0.8, False),
    ],
)
def test_the_last_candidate_is_for_what_is_behind_the_dense_table(
    effort, auc, ends, monkeypatch
):
    monkeypatch.setattr(Candidates, "_training", lambda _, method: method)
    dense = Training(64, 0.0, 0.01, 8)
    tuning = known(dense, lambda _: 0.8)
    tuning.run.config = SimpleNamespace(effort=effort)
    tuning.run.dataset.feature_count = 100
    candidates = Candidates(
        *(tuning.run, tuning, dense, Size(entries=400), None),
        found={"prefix-search": {"auc": auc}},
    )
    tried = [method for method, _ in candidates._trainings()]
    every = [*preset("candidates")[effort]]
    assert tried == (every[:-1] if ends else every)


def test_the_main_columns_keep_inner_products():
    table = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    table[:, 0] *= 10
    rotated = main_columns(table, 6)
    np.testing.assert_allclose(rotated @ rotated.T, table @ table.T, atol=1e-3)
    squares = np.square(rotated).sum(axis=0)
    assert (np.diff(squares) < 0).all()
    np.testing.assert_array_equal(main_columns(table, 2), rotated[:, :2])


def test_norms_of_what_follows():
    table = np.array([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]])
    np.testing.assert_allclose(norms_of(table), [[5, 4, 4], [2, 2, 0]])


def test_a_size_says_what_fits():
    size = Size(bytes=1004)
    assert size.columns(100) == 10
    assert Size(bytes=1004, row_bytes=2).columns(100) == 8
    assert Size(bytes=150, row_bytes=2).columns(100) == 1
    assert Size(entries=350).columns(100) == 3
    full = SparseTable.from_dense(np.ones((100, 10), np.float32))
    assert size.holds(full)
    assert not Size(bytes=1003).holds(full)
    assert not Size(entries=999).holds(full)
    assert 0 < size.searched(100, 64) < 1004
    # In order, its features are two runs of each field, the second of them
    # with a row more, of 1 + 1 + 1 bytes, but that the first begins at row 0;
    # there are ten scales, and 70 values.
    sizes = np.array([0, 2] * 10 + [1] * 50 + [0] * 30)
    fields = {"fields": (15, 5, 80), "more": (0, 1, 0)}
    assert sizes.sum() == 70
    assert Size(bytes=17 + 40 + 70, **fields).holds_prefixes(sizes, 10)
    assert not Size(bytes=17 + 40 + 69, **fields).holds_prefixes(sizes, 10)
    assert Size(entries=70).holds_prefixes(sizes, 10)
    assert not Size(entries=69).holds_prefixes(sizes, 10)
    assert Size(bytes=3).searched(100, 64) == 0


class Model:
    stop_training = False


@pytest.mark.parametrize(
    ("aucs", "far", "epochs", "stopped"),
    [
        ([0.5, 0.6, 0.6, 0.6], 0.2, 6, 3),
        ([0.5, 0.6, 0.6, 0.6], 0.09, 6, 2),
        ([0.5, 0.6, 0.8, 0.6], 0.2, 6, None),
        ([0.2, 0.3, 0.6, 0.6], 0.1, 12, 2),
        ([0.2, 0.3, 0.6, 0.6], 0.2, 12, None),
    ],
)
def test_what_is_behind_for_two_epochs_is_dropped(aucs, far, epochs, stopped):
    history = []
    rival = [0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    callback = DroppedIfBehind([rival], history, far)
    callback.set_params({"epochs": epochs})
    callback.set_model(Model())
    ended = None
    for epoch, auc in enumerate(aucs):
        callback.on_epoch_end(epoch, {"val_auc": auc})
        history.append({"val_auc": auc})
        if callback.model.stop_training and ended is None:
            ended = epoch + 1
    assert ended == stopped


@pytest.mark.parametrize(
    ("effort", "epochs", "is_tried"),
    [("normal", 8, False), ("normal", 4, True), ("thorough", 8, True)],
)
def test_gradual_pruning_is_tried_where_full_tables_overfit(
    effort, epochs, is_tried
):
    dense = Training(8, 0.0, 0.01, epochs)
    tried = {dense: {}, Training(8, 0.0, 0.01, 8): {}}
    tuning = SimpleNamespace(
        tried=tried, winner=dense, auc=lambda _: 0.8, best={}
    )
    run = SimpleNamespace(
        config=SimpleNamespace(effort=effort),
        dataset=SimpleNamespace(feature_count=100),
    )
    searches = SimpleNamespace(
        columns=lambda *_, **__: 8, find=lambda *_: (None, None)
    )
    candidates = Candidates(
        *(run, tuning, dense, Size(entries=400), searches),
        methods=("gradual-magnitude", "search"),
    )
    found = [method for method, _ in candidates._trainings()]
    assert found == ["gradual-magnitude"] * is_tried + ["search"]


def known(first, auc_of):
    """A tuning whose trainings end with an AUC that is known.

    A standard error is about 0.016.
    """
    labels = np.array([0, 1] * 500, np.float32)
    rows = Split(np.zeros((1000, 1), np.int32), labels)
    dataset = SimpleNamespace(validation=rows)
    run = SimpleNamespace(dataset=dataset, stages={})

    class Known(Tuning):
        def auc(self, training):
            found, name = auc_of(training), f"{training}"
            result = {"auc": found, "stage": name, "best_epoch": 1}
            self.tried[training] = result
            history = [{"val_auc": found}]
            run.stages[name] = SimpleNamespace(history=history)
            best = self.best.get(training.columns)
            if best is None or found > auc_of(best):
                self.best[training.columns] = training
            return found

    tuning = Known(run, 64)
    tuning.auc(first)
    return tuning


@pytest.mark.parametrize(
    ("peak", "expected"),
    [
        (3**0.4, 3**0.4),  # a bit above the first
        (3**1.7, 3**1.7),  # above, on the other side of the second step
        (3**-0.6, 3**-0.6),
        (3**0.1, 1),  # so near that nothing is to be gained
    ],
)
def test_l2_is_the_top_of_a_parabola(peak, expected):
    """AUC is a parabola of the logarithm of L2 here, and its top is found."""

    def auc_of(training):
        return 0.8 - 0.1 * math.log(training.l2 / peak, 3) ** 2

    tuning = known(Training(8, 1.0, 0.01, 4), auc_of)
    _tune_l2(tuning, 3.0)
    assert tuning.winner.l2 == pytest.approx(expected, rel=1e-3)


def test_a_gain_that_is_next_to_nothing_ends_a_climb():
    trainings = [Training(8, 0.5**n, 0.01, 4) for n in range(4)]
    aucs = dict(zip(trainings, (0.7, 0.75, 0.7501, 0.8), strict=True))
    tuning = known(trainings[0], aucs.get)
    assert tuning.climb(lambda best: replace(best, l2=best.l2 / 2))
    assert [*tuning.tried] == trainings[:3]
    assert tuning.winner == trainings[2]
