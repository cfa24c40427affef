"""A run that goes on from another: ids, sizes, export, and kill -9."""

import hashlib
import json
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from keras_pep.data import DataError, load
from keras_pep.data import rows as raw
from keras_pep.data.rows import Malformed
from keras_pep.lab.cli import main
from keras_pep.lab.presets import _VALUES
from keras_pep.lab.run import (
    Config,
    RunDirectory,
    RunError,
    continued_line,
    evaluate_run,
    export_run,
    scorer_of_run,
    train,
)
from keras_pep.lab.run.continuing import _Before
from keras_pep.lab.run.train import _run as run_of
from keras_pep.lab.run.workers import Workers
from keras_pep.lab.scoring import scorer_of_saved_model
from keras_pep.metrics import auc
from keras_pep.serving import describe
from tests.backends import eagerly
from tests.commands import Command, leave_graphs_alone
from tests.lab.run.results import without_times
from tests.lab.run.test_killed import state

USERS, ITEMS = 60, 30
TASTE = np.random.default_rng(0).normal(0, 2, (USERS, 1))
QUALITY = np.random.default_rng(1).normal(0, 1, ITEMS)


def write_day(path, users, rows=2000, seed=0):
    """Clicks of some users on all items, by a taste of each."""
    random = np.random.default_rng(seed)
    user = random.choice(users, rows)
    item = random.integers(0, ITEMS, rows)
    score = TASTE[user, 0] + QUALITY[item]
    clicked = random.random(rows) < 1 / (1 + np.exp(-score))
    lines = [
        f"u{u},i{i},{int(y)}\n"
        for u, i, y in zip(user, item, clicked, strict=True)
    ]
    path.write_text("user,item,clicked\n" + "".join(lines))
    return path


def checksums(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def settings(folder, day, **more):
    return {
        "dataset": str(folder / day),
        "label": "clicked",
        "cache_dir": str(folder / "cache"),
        "min_count": 5,
        "embedding_dim": 4,
        "batch_size": 128,
        "learning_rate": 0.02,
        **more,
    }


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Users 0 to 39 on the first day, 20 to 59 on the second."""
    folder = tmp_path_factory.mktemp("days")
    write_day(folder / "first.csv", np.arange(40))
    write_day(folder / "second.csv", np.arange(20, USERS), seed=1)
    directory = RunDirectory(folder / "first")
    first = Config(
        **settings(folder, "first.csv"),
        search="budget",
        sparsity=(0.5,),
        search_epochs=2,
        retrain_epochs=2,
        baseline=True,
    )
    with eagerly():
        train(first, directory)
    return folder


def second(folder, dataset="second.csv"):
    return replace(
        RunDirectory(folder / "first").read_config()[0],
        dataset=str(folder / dataset) if "." in dataset else dataset,
        search="auto",
        continued=str(folder / "first"),
        decay=0.01,
        evict_below=1.0,
    )


@pytest.fixture(scope="module")
def later(days):
    before = checksums(days / "first")
    directory = RunDirectory(days / "second")
    metrics = train(second(days), directory)
    assert checksums(days / "first") == before
    return directory, metrics


def test_known_values_keep_ids_and_new_ones_get_some(days, later):
    directory, metrics = later
    first = RunDirectory(days / "first").read_vocabularies()["user"]
    now = directory.read_vocabularies()["user"]
    old = [*first]
    assert len(old) == 41
    assert [v for v in now if v is not None and v in old] == [
        value for value in old[1:] if int(value[1:]) >= 20
    ]
    assert all(
        value in (None, before) for value, before in zip(now, old, strict=False)
    )
    assert {*list(now)[41:]} == {f"u{n}" for n in range(40, USERS)}
    assert metrics["continued"]["fields"] == {
        "user": {"known": 21, "added": 20, "gone": 20},
        "item": {"known": 31, "added": 0, "gone": 0},
    }
    assert continued_line(metrics).startswith("20 new values, 20 gone. On ")


@pytest.mark.parametrize(
    "dense", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_with_all_rows_the_full_table_goes_on(days, tmp_path, dense):
    """Or what there is of it, if the earlier run has no dense model."""
    shutil.copytree(days / "first", tmp_path / "first")
    first = RunDirectory(tmp_path / "first")
    if not dense:
        (tmp_path / "first" / "dense.keras").unlink()
        before = first.read_json("metrics.json")
        first.write_json("metrics.json", {**before, "dense": None})
    config = replace(second(days), continued=str(first.path), decay=0.0)
    directory = RunDirectory(tmp_path / "second")
    metrics = train(config, directory)
    check_size(first, directory, metrics)
    check_better(metrics)
    assert metrics["dense"]["test"]["auc"] > 0.8
    # As of a run that has chosen the dense model.
    assert "20 new values" in continued_line({**metrics, "budgets": []})
    # The next one goes on from this one's.
    assert (tmp_path / "second" / "dense.keras").exists()


def test_of_mixed_dimensions_the_full_table_goes_on(
    days, tmp_path, monkeypatch
):
    monkeypatch.setitem(_VALUES, "candidates", {"normal": ("mixed-dimension",)})
    first = Config(**settings(days, "first.csv"), sparsity=(0.5,), max_epochs=2)
    config = replace(second(days), continued=str(tmp_path / "first"))
    with eagerly():
        before = train(first, RunDirectory(tmp_path / "first"))
        now = train(config, RunDirectory(tmp_path / "second"))
    assert before["budgets"][0]["method"] == "mixed-dimension"
    (entry,) = now["budgets"]
    assert 0 < entry["embedding_parameters"] <= entry["target"]
    assert entry["test"]["auc"] > now["continued"]["before"]["test"]["auc"]


def test_the_size_stays_and_new_features_have_their_part(days, later):
    check_size(RunDirectory(days / "first"), *later)


def check_size(first, directory, metrics):
    (before,) = first.read_json("metrics.json")["budgets"]
    (now,) = metrics["budgets"]
    assert now["target"] == before["target"]
    assert now["embedding_parameters"] <= before["target"]
    model = directory.load_model(f"budget-{now['target']}")
    kept = model.embedding.sparse().embedding_sizes()
    assert kept[41:61].sum() > 20
    users = enumerate(directory.read_vocabularies()["user"])
    free = [n for n, value in users if value is None][1:]
    assert len(free) == 20
    assert not kept[free].any()
    assert not model.first_order.kernel.numpy()[free].any()


def test_the_new_model_is_better_on_new_rows(later):
    check_better(later[1])


def check_better(metrics):
    (now,) = metrics["budgets"]
    before = metrics["continued"]["before"]["test"]["auc"]
    assert now["test"]["auc"] > before + 0.05
    assert now["test"]["auc"] > 0.8


def test_other_commands_know_the_run(later):
    directory, metrics = later
    (now,) = metrics["budgets"]
    found = evaluate_run(directory)["budgets"][0]["test"]
    assert found["auc"] == pytest.approx(now["test"]["auc"], abs=1e-6)
    _, columns = scorer_of_run(directory)
    assert {*columns} == {"user", "item"}
    from keras_pep.lab.report import write_report

    write_report(directory.path)


def users_of(seen):
    rows = pd.read_parquet(seen)
    return rows[rows["field"] == "user"].set_index("value")["times"]


def test_counts_go_on_from_version_to_version(days, later, tmp_path):
    """Values that have no id yet are counted too."""
    directory, _ = later
    seen = users_of(directory.read_seen())
    first = users_of(RunDirectory(days / "first").read_seen())
    loaded = load(days / "second.csv", label="clicked", cache_dir=tmp_path)
    today = users_of(loaded.seen)
    assert seen["u30"] == pytest.approx(0.01 * first["u30"] + today["u30"])
    assert seen["u0"] == pytest.approx(0.01 * first["u0"])


def scores(score, folder):
    files = raw.files_of(folder / "rows.csv")
    blocks = raw.blocks(files, ("user", "item"), Malformed())
    return np.concatenate([score(block) for block in blocks])


def test_the_next_version_is_exported_beside_the_last(days, later, tmp_path):
    directory, _ = later
    # Later than the run that goes on from it.
    export_run(RunDirectory(days / "first"), folder=tmp_path / "clicks")
    made = export_run(directory, quantize=None, unless_worse=0.001)
    assert made.path == tmp_path / "clicks" / "2"
    written = made.path / "assets.extra" / "keras_pep.json"
    changes = json.loads(written.read_text())["changes"]
    assert changes["fields"]["user"] == {"known": 21, "added": 20, "gone": 20}
    assert changes["test_auc"]["now"] > changes["test_auc"]["before"]
    assert {*changes["table_bytes"]} == {"before", "now"}
    known = "".join(p.read_text() for p in made.path.glob("assets/*user*"))
    assert "u59\t" in known
    assert "None" not in known
    assert "u0\t" not in known
    # Of a user who stays, one who is new, one who is gone, and a stranger.
    (tmp_path / "rows.csv").write_text(
        "user,item\nu30,i1\nu59,i1\nu0,i1\nstranger,i1\n"
    )
    keras, served = (
        scores(score, tmp_path)
        for score, _ in (
            scorer_of_run(directory),
            scorer_of_saved_model(describe(made.path)),
        )
    )
    np.testing.assert_allclose(served, keras, atol=1e-6)
    assert served[2] == served[3]
    assert len({*served.tolist()}) == 3


def test_the_model_before_is_judged_with_the_values_it_knows(days, tmp_path):
    """Users who come back in test rows alone have lost their ids today."""
    today = pd.read_csv(days / "second.csv")
    back = pd.DataFrame({"user": [f"u{n}" for n in range(20)] * 5})
    back["item"] = [f"i{n % ITEMS}" for n in back.index]
    back["clicked"] = back.index % 2
    today = pd.concat([today, back], ignore_index=True)
    parts = np.array(["train", "validation", "test"])
    today["part"] = parts[np.minimum(today.index // 800, 2)]
    today.to_csv(tmp_path / "today.csv", index=False)
    there = {"dataset": str(tmp_path / "today.csv")}
    config = replace(second(days, "nowhere.csv"), split="column:part")
    files = RunDirectory(tmp_path / "run")
    # As of a run that is resumed elsewhere.
    run = run_of(config, files, Workers.of("none"), there)
    assert "u0" not in run.dataset.vocabularies["user"].texts().to_pylist()
    test = today[today["part"] == "test"]
    test.to_csv(tmp_path / "rows.csv", index=False)
    score, _ = scorer_of_run(RunDirectory(days / "first"))
    expected = auc(test["clicked"].to_numpy(), scores(score, tmp_path))
    found = _Before(run).described(run)["before"]["test"]["auc"]
    # Of 500 rows a pair of another order, by rounding, is 2e-5.
    assert found == pytest.approx(expected, abs=5e-5)


def test_a_worse_model_is_refused(days, later):
    directory, _ = later
    metrics = directory.read_json("metrics.json")
    metrics["continued"]["before"]["test"]["auc"] = 0.99
    directory.write_json("metrics.json", metrics)
    with pytest.raises(RunError, match=r"worse than before.*--unless-worse"):
        export_run(directory, unless_worse=0.001)
    with pytest.raises(RunError, match="goes on from no other run"):
        export_run(RunDirectory(days / "first"), unless_worse=0.001)


def test_data_without_a_place_for_new_values_are_refused(days):
    with pytest.raises(DataError, match="cannot go on"):
        second(days, "synthetic").load_data()


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_it_was_not(days, later, tmp_path):
    before = checksums(days / "first")
    arguments = (
        *("train", "--continue", str(days / "first"), "--quiet"),
        *("--dataset", str(days / "second.csv"), "--decay", "0.01"),
        *("--evict-below", "1", "--run-dir", "run"),
    )
    for moment in ("run/checkpoint.npz", "run/try-*.keras", "run/budget-*"):
        begun = (tmp_path / "run" / "config.json").exists()
        again = "train", "--resume", "run", "--quiet"
        given = again if begun else arguments
        process = Command(tmp_path, *given, before=leave_graphs_alone)
        last = state(tmp_path, moment)
        while state(tmp_path, moment) <= last:
            assert process.is_alive(), f"over before {moment}"
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    resume = ("train", "--resume", "run", "--quiet")
    process = Command(tmp_path, *resume, before=leave_graphs_alone)
    process.join()
    assert process.exitcode == 0
    assert checksums(days / "first") == before
    found = RunDirectory(tmp_path / "run").read_json("metrics.json")
    assert without_times(found) == without_times(later[1])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--dataset", "second.csv", "--model", "lr"], "leave --model out"),
        ([], "which rows are new?"),
    ],
)
def test_what_would_be_another_run_is_refused(
    days, monkeypatch, arguments, problem
):
    monkeypatch.chdir(days)
    done = CliRunner().invoke(
        main, ["train", "--continue", "first", *arguments]
    )
    assert done.exit_code == 2
    assert problem in done.output
