import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import keras_pep
from keras_pep.lab.cli import main
from tests.backends import eagerly, python
from tests.commands import Command

COMMAND = Path(sys.executable).with_name("keras-pep")
QUICK = ("--max-epochs", "1", "--search-epochs", "2", "--embedding-dim", "8")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def environment():
    """As a user has it: silencing TensorFlow is up to the command."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TF_")}


def run(*arguments, **kwargs):
    """The command as it is installed, in a process of its own."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment(),
        **kwargs,
    )


def close_to(budget):
    """Float32 may not tell the last entries apart: never more, hardly fewer."""
    return pytest.approx(budget - 1, abs=1)


@pytest.fixture
def train(small_movielens, tmp_path):
    def train(*arguments):
        return invoke(
            "train",
            "--dataset",
            "movielens",
            "--data-dir",
            small_movielens,
            "--run-dir",
            tmp_path / "run",
            *QUICK,
            *arguments,
        )

    return train


@pytest.fixture(scope="module")
def trained(movielens, tmp_path_factory):
    """A run of one size and its dense model."""
    run = tmp_path_factory.mktemp("trained") / "run"
    data = ("--dataset", "movielens", "--data-dir", movielens)
    with eagerly():
        result = invoke(
            *("train", *data, "--run-dir", run, *QUICK, "--budget", 300)
        )
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize(
    "command", [(), ("train",), ("evaluate",), ("report",), ("compare",)]
)
def test_help_shows_an_example(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples?:\n +keras-pep ", result.output)


@pytest.mark.slow
def test_a_run_leaves_what_the_contract_says(train, tmp_path):
    result = train("--budget", 400, "--budget", 200, "--sparsity", 0.9)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    features = metrics["feature_count"]
    assert {
        key: metrics[key]
        for key in ("dataset", "features", "model", "embedding_dim", "seed")
    } == {
        "dataset": "movielens-1m",
        "features": "full",
        "model": "fm",
        "embedding_dim": 8,
        "seed": 0,
    }
    dense = metrics["dense"]
    assert dense["embedding_parameters"] == 8 * features
    assert dense["total_parameters"] == 9 * features + 1
    assert dense["bytes"] == 4 * dense["total_parameters"]
    budgets = [400, 200, round(0.1 * 8 * features)]
    assert [b["target"] for b in metrics["budgets"]] == budgets
    for budget in metrics["budgets"]:
        kept = budget["embedding_parameters"]
        assert kept == close_to(budget["target"])
        assert budget["total_parameters"] == kept + features + 1
        # 4 bytes a value, 4 a first-order weight, 4 where each 32 rows start;
        # and a byte for the column of each value and for each row, or one for
        # the eight columns of each row and for every eighth row.
        groups = -(-features // 32)
        csr = kept + features + 1 + 4 * -(-(features + 1) // 32)
        bits = (32 + 4) * groups - (-features // 8)
        rows = min(csr, bits)
        assert budget["bytes"] == 4 * kept + rows + 4 * (features + 1)
        assert budget["sparsity"] == pytest.approx(
            1 - kept / (8 * features), abs=1e-6
        )
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.json",
        "vocabularies.json",
        "counts.npy",
        "kept.csv",
        "report.html",
        "history.csv",
        "logs",
        "dense.keras",
        *(f"budget-{n}.keras" for n in budgets),
        *(f"budget-{n}.ticket.npz" for n in budgets),
    }
    history = pd.read_csv(folder / "history.csv")
    assert history["stage"].value_counts().to_dict() == {
        "dense": 1,
        "search": 2,
        **{f"budget-{n}": 1 for n in budgets},
    }
    assert history["val_auc"].between(0, 1).all()
    for budget, line in zip(
        budgets, result.output.splitlines()[-len(budgets) - 3 :], strict=False
    ):
        assert line.split()[0] == f"{budget:,}"

    assert result.output.splitlines()[-1] == f"report: {folder}/report.html"
    config = json.loads((folder / "config.json").read_text())
    assert config["command"].startswith("keras-pep train --dataset movielens ")
    assert config["command"].endswith(
        "--budget 400 --budget 200 --sparsity 0.9"
    )
    counts = np.load(folder / "counts.npy", allow_pickle=False)
    fields = json.loads((folder / "vocabularies.json").read_text())["fields"]
    sizes = [len(field["values"]) for field in fields.values()]
    assert counts.size == sum(sizes) == features
    ends = np.cumsum([0, *sizes])[:-1]
    assert (np.add.reduceat(counts, ends) == metrics["rows"]["train"]).all()
    kept = pd.read_csv(folder / "kept.csv")
    assert set(kept["stage"]) == {"search"}
    assert kept["step"].is_monotonic_increasing
    assert kept["step"].iloc[0] == 0
    assert kept["step"].iloc[-1] == metrics["search"]["steps"]
    numbers = kept["embedding_parameters"]
    assert numbers.iloc[0] == 8 * features
    assert numbers.is_monotonic_decreasing
    assert numbers.iloc[-1] == metrics["budgets"][-1]["embedding_parameters"]
    assert len(kept) > 2  # more often than once an epoch

    again = invoke("evaluate", folder, "--json")
    entries = json.loads(again.output)
    assert [e["target"] for e in entries] == [None, *budgets]
    for entry, known in zip(entries, [dense, *metrics["budgets"]], strict=True):
        assert entry["auc"] == pytest.approx(known["test"]["auc"], abs=1e-7)
        for name in ("embedding_parameters", "total_parameters", "bytes"):
            assert entry[name] == known[name]
        assert entry["sparsity"] == known.get("sparsity", 0.0)
    table = invoke("evaluate", folder, "--split", "validation").output
    assert f"{dense['validation']['auc']:.4f}" in table


def test_tickets_and_models_belong_together(trained):
    ticket = keras_pep.Ticket.load(trained / "budget-300.ticket.npz")
    model = keras.saving.load_model(trained / "budget-300.keras")
    (table,) = ticket.tables.values()
    np.testing.assert_array_equal(model.embedding.sparse().mask(), table.mask())


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_baselines_of_the_same_budget_are_compared(train, tmp_path):
    methods = ("uniform", "mixed-dimension", "magnitude", "paper")
    budgets = 400, 30  # the smaller one does not hold a column
    arguments = [x for m in methods for x in ("--compare", m)]
    arguments += [x for b in budgets for x in ("--budget", b)]
    result = train(*arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    found = {(b["method"], b["target"]): b for b in metrics["baselines"]}
    assert found.keys() == {
        ("uniform", 400),
        ("mixed-dimension", 400),
        ("magnitude", 400),
        ("magnitude", 30),
    }
    assert "no uniform table for 30" in result.output
    assert "no paper table for 400: not reached" in result.output
    features = metrics["feature_count"]
    for (method, target), entry in found.items():
        kept = entry["embedding_parameters"]
        assert entry["total_parameters"] == kept + features + 1
        assert f"{method} {target:,}" in result.output
        assert 0 < kept <= target
        assert 0 <= entry["test"]["auc"] <= 1
    assert found["uniform", 400]["embedding_parameters"] == 400 // features * (
        features
    )
    assert found["magnitude", 400]["embedding_parameters"] >= 398
    again = invoke("evaluate", tmp_path / "run", "--split", "validation")
    assert again.exit_code == 0, again.output
    auc = found["mixed-dimension", 400]["validation"]["auc"]
    assert re.search(rf"mixed-dimension 400 .*{auc:.4f}", again.output)


@pytest.mark.usefixtures("eager")
def test_first_order_weights_share_the_budget(train, tmp_path):
    result = train("--budget", 300, "--linear", "pep")
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    features = metrics["feature_count"]
    assert metrics["dense"]["embedding_parameters"] == 9 * features
    assert metrics["dense"]["total_parameters"] == 9 * features + 1
    (budget,) = metrics["budgets"]
    assert budget["embedding_parameters"] == close_to(300)
    assert budget["total_parameters"] == budget["embedding_parameters"] + 1
    ticket = keras_pep.Ticket.load(tmp_path / "run" / "budget-300.ticket.npz")
    assert set(ticket.tables) == {"embedding", "linear_weights"}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("granularity", ["feature", "field-dimension"])
def test_granularities_are_spelt_with_a_hyphen(train, granularity, tmp_path):
    result = train(
        *("--granularity", granularity, "--budget", 300),
        *("--no-baseline", "--quiet"),
    )
    assert result.exit_code == 0, result.output
    assert "epoch" not in result.output
    assert "dense" not in result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["dense"] is None
    assert metrics["search"]["granularity"] == granularity.replace("-", "_")
    (budget,) = metrics["budgets"]
    assert budget["embedding_parameters"] == close_to(300)


@pytest.mark.usefixtures("eager")
def test_logistic_regression_keeps_features(train, tmp_path):
    result = invoke("train", "--model", "lr", "--embedding-dim", 4)
    assert result.exit_code == 2
    assert "expected 1" in result.output
    result = train("--model", "lr", "--embedding-dim", 1, "--budget", 30)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["budgets"][0]["total_parameters"] == 31


@pytest.mark.usefixtures("eager")
def test_a_budget_out_of_reach_of_the_paper_is_reported(train, tmp_path):
    """The dense model, and what else there is, is not lost for it."""
    result = train(
        *("--search", "paper", "--budget", 300, "--compare", "uniform"),
    )
    assert result.exit_code == 1
    run_dir = tmp_path / "run"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    steps, left = (
        metrics["search"][name] for name in ("steps", "embedding_parameters")
    )
    assert result.stderr == (
        f"Error: No budget was reached: {left:,} embedding parameters are kept "
        f"after {steps:,} steps. Allow more --search-epochs, or use --search "
        "budget.\n"
    )
    assert left > metrics["budgets_not_reached"][0] == 300
    assert metrics["budgets"] == []
    entries = json.loads(invoke("evaluate", run_dir, "--json").stdout)
    found = [(entry["method"], entry["target"]) for entry in entries]
    assert found == [(None, None), ("uniform", 300)]
    again = invoke("train", "--resume", run_dir)
    assert again.exit_code == 1
    assert f"{run_dir} is finished." in again.stdout
    assert again.stderr == result.stderr


@pytest.mark.parametrize("budget", [10**6, 8 * 10**3])
def test_an_impossible_budget_is_refused_before_anything(
    train, tmp_path, budget
):
    result = train("--budget", budget)
    assert result.exit_code == 1
    assert f"{budget:,}" in result.output
    assert not (tmp_path / "run").exists()


def test_results_are_not_overwritten(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("mine")
    result = train()
    assert result.exit_code == 1
    assert "--force" in result.output
    assert (tmp_path / "run" / "metrics.json").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_run_is_repeated_by_its_config(train, tmp_path):
    settings = ("--budget", 300, "--retrain-epochs", 1, "--l2", 1e-4)
    assert train(*settings, "--optimizer", "lazy-adam").exit_code == 0
    config = tmp_path / "run" / "config.json"
    result = invoke(
        "train", "--config", config, "--run-dir", tmp_path / "again"
    )
    assert result.exit_code == 0, result.output
    found = [
        json.loads((tmp_path / name / "metrics.json").read_text())
        for name in ("run", "again")
    ]
    assert found[0]["budgets"][0]["test"] == found[1]["budgets"][0]["test"]
    assert found[0]["dense"]["test"] == found[1]["dense"]["test"]
    settings = [
        json.loads((tmp_path / name / "config.json").read_text())
        for name in ("run", "again")
    ]
    for each in settings:
        del each["command"], each["checksum"]
    assert settings[0] == settings[1]

    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1'))
    result = invoke("train", "--config", config)
    assert result.exit_code == 2
    assert "it has changed since it was written" in result.output
    config.write_text('{"seed": 1}')
    result = invoke("train", "--config", config)
    assert result.exit_code == 2
    assert "not the config.json of a run" in result.output


def test_resume_takes_no_other_settings(trained, tmp_path):
    run_dir = trained
    result = invoke("train", "--resume", run_dir)
    assert result.exit_code == 0, result.output
    assert f"{run_dir} is finished." in result.output
    assert "\n300 " in result.output
    for arguments, flag in (
        (("--seed", 3), "--seed"),
        (("--model", "lr"), "--model"),
        (("--force",), "--force"),
        (("--dataset", "criteo"), "--dataset"),
        (("--config", run_dir / "config.json"), "--config"),
    ):
        result = invoke("train", "--resume", run_dir, *arguments)
        assert result.exit_code == 2
        assert f"leave {flag} out" in result.output
    result = invoke("train", "--resume", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "is not a run directory" in result.output


@pytest.mark.usefixtures("eager")
def test_force_leaves_nothing_of_the_old_run(train, finished):
    run_dir = finished
    (run_dir / "notes.txt").write_text("mine")
    result = train("--budget", 200, "--no-baseline", "--force")
    assert result.exit_code == 0, result.output
    assert {path.name for path in run_dir.iterdir()} == {
        "config.json",
        "metrics.json",
        "vocabularies.json",
        "counts.npy",
        "kept.csv",
        "report.html",
        "history.csv",
        "logs",
        "budget-200.keras",
        "budget-200.ticket.npz",
        "notes.txt",
    }


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--budget", 0], "0 is not in the range x>=1"),
        (["--sparsity", 1.0], "1.0 is not in the range"),
        (["--model", "deep"], "'deep' is not one of"),
        (["--granularity", "row"], "'row' is not one of"),
        (["--learning-rate", 0], "0.0 is not in the range"),
        (["--no-such"], "No such option"),
        (["--threshold-init", "nan"], "nan is not a finite number"),
        (["--learning-rate", "inf"], "inf is not a finite number"),
        (["--data-dir", "ml-1m"], "synthetic has no such option"),
        (["--features", "paper"], "synthetic has no such option"),
        (["--threshold-init", "1e9"], "is not in the range x<=0"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--deep"], "fm has no such option"),
        (["--linear", "pep", "--model", "autoint"], "autoint has no such"),
        (["--linear", "pep", "--model", "dcn"], "dcn has no such option"),
        (["--compare", "uniform", "--model", "lr"], "lr has no such option"),
        (["--compare", "smaller"], "'smaller' is not one of"),
        (["--search", "paper", "--retrain-rate", "1"], "--retrain-rate"),
        (["--model", "lr", "--search-dim", "2"], "--search-dim"),
        (["--max-bytes", "100 apples"], "Received: '100 apples'"),
        (["--search", "auto", "--search-dim", "2"], "found --search auto"),
        (["--search", "budget", "--effort", "quick"], "found --search budget"),
        (["--start", "reinit", "--tolerance", "0"], "found --search budget"),
        (["--start", "twice"], "'twice' is not one of"),
        *(
            (
                ["--optimizer", optimizer, "--search", "paper"],
                "use adam, or --search budget",
            )
            for optimizer in ("lazy-adam", "rowwise-adagrad")
        ),
    ],
)
def test_wrong_usage_exits_with_2(arguments, found):
    result = invoke("train", *arguments)
    assert result.exit_code == 2
    assert found in result.output


@pytest.mark.usefixtures("eager")
def test_config_file_gives_defaults_and_flags_win(train, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        "seed = 5\nbudget = 250\nmax-bad-rows = 0.1\nl2 = 0\nbaseline = false\n"
    )
    assert train("--config", path, "--l2", 0.5).exit_code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["budget"]) == (5, [250])
    assert (config["max_bad_rows"], config["l2"]) == (0.1, 0.5)
    assert config["baseline"] is False
    assert config["environment"]["keras"] == keras.__version__


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("epochs = 3", "unknown key 'epochs'"),
        ("no-baseline = true", "unknown key 'no-baseline'"),
        ("seed = ", "run.toml"),
        ('seed = "many"', "'many' is not a valid integer"),
    ],
)
def test_a_wrong_config_file_is_wrong_usage(train, tmp_path, content, found):
    path = tmp_path / "run.toml"
    path.write_text(content)
    result = train("--config", path)
    assert result.exit_code == 2
    assert found in result.output


def test_evaluate_refuses_what_is_no_run_and_other_data(
    finished, small_movielens, tmp_path
):
    result = invoke("evaluate", tmp_path)
    assert result.exit_code == 1
    assert "metrics.json not found" in result.output
    run_dir = finished
    ratings = small_movielens / "ratings.dat"
    ratings.write_text(ratings.read_text() + "1::2::5::978999999\n")
    result = invoke("evaluate", run_dir, "--data-dir", small_movielens)
    assert result.exit_code == 1
    assert "fingerprints differ" in result.output
    for content in ("{", "{}", "[]", '{"dense": null, "budgets": [{}]}'):
        (run_dir / "metrics.json").write_text(content)
        result = invoke("evaluate", run_dir)
        assert result.exit_code == 1
        assert "damaged" in result.output


def test_evaluate_says_which_model_is_missing_or_damaged(finished):
    path = finished / "budget-300.keras"
    path.write_bytes(path.read_bytes()[:1000])
    result = invoke("evaluate", finished)
    assert result.exit_code == 1
    assert "budget-300.keras is damaged" in result.output
    path.unlink()
    assert "budget-300.keras not found" in invoke("evaluate", finished).output


@pytest.mark.usefixtures("eager")
def test_evaluate_from_elsewhere_and_with_moved_data(
    train, small_movielens, tmp_path, monkeypatch
):
    monkeypatch.chdir(small_movielens.parent)
    assert train("--budget", 300, "--data-dir", "ml-1m").exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke("evaluate", tmp_path / "run").exit_code == 0
    moved = small_movielens.rename(tmp_path / "moved")
    result = invoke("evaluate", tmp_path / "run")
    assert "ml-1m: no such folder" in result.output
    result = invoke("evaluate", tmp_path / "run", "--data-dir", moved)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("eager")
def test_malformed_rows_are_reported(train, small_movielens, tmp_path):
    ratings = small_movielens / "ratings.dat"
    ratings.write_text("1::2::9::978999999\n" + ratings.read_text())
    result = train("--budget", 300, "--max-bad-rows", 0.01)
    assert result.exit_code == 0, result.output
    assert "left out: 1 malformed rows" in result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["malformed_rows"] == 1


def test_the_papers_search_takes_what_it_reaches(train, tmp_path):
    result = train(
        *("--search", "paper", "--budget", 500, "--budget", 1),
        *("--threshold-init", -6, "--learning-rate", 0.02, "--l2", 0.01),
        *("--search-epochs", 12, "--batch-size", 64),
        *("--no-baseline", "--quiet"),
    )
    assert result.exit_code == 1
    assert "not reached: 1." in result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["budgets_not_reached"] == [1]
    (budget,) = metrics["budgets"]
    assert 0 < budget["embedding_parameters"] <= 500
    assert 0 < budget["search_step"] <= metrics["search"]["steps"]
    assert invoke("evaluate", tmp_path / "run").exit_code == 0


@pytest.mark.slow
def test_the_papers_search_is_a_baseline_too(train, tmp_path):
    result = train(
        *("--compare", "paper", "--budget", 500, "--search-epochs", 12),
        *("--threshold-init", -6, "--learning-rate", 0.02, "--l2", 0.01),
        *("--batch-size", 64),
    )
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (entry,) = metrics["baselines"]
    assert entry["method"] == "paper"
    assert 0 < entry["embedding_parameters"] <= 500
    assert entry["search_step"] < metrics["search"]["steps"]
    assert entry["search_seconds"] > 0
    assert metrics["search"]["granularity"] == "global"


@pytest.mark.usefixtures("eager")
def test_a_narrower_table_is_searched_for_the_same_budget(train, tmp_path):
    arguments = ("--budget", 100, "--search-dim", 3, "--search-rate", 0.01)
    result = train(*arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    features = metrics["feature_count"]
    assert metrics["dense"]["embedding_parameters"] == 8 * features
    (budget,) = metrics["budgets"]
    kept = budget["embedding_parameters"]
    assert kept == close_to(100)
    assert budget["sparsity"] == pytest.approx(
        1 - kept / (8 * features), abs=1e-6
    )
    ticket = keras_pep.Ticket.load(tmp_path / "run" / "budget-100.ticket.npz")
    assert ticket.tables["embedding"].shape == (features, 3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    found = config["learning_rate"], config["search_rate"]
    assert found == (None, 0.01)
    assert config["derived"]["learning_rate"] == 0.001

    arguments = ("--budget", 4 * features, "--search-dim", 3, "--force")
    result = train(*arguments)
    assert result.exit_code == 1
    assert f"less than the {3 * features:,} embedding" in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_labels_are_softened_by_the_dense_model_if_there_is_one(
    train, tmp_path
):
    losses, steps, shares = {}, {}, {}
    for name, arguments in {
        "half": (),
        "none": ("--distillation", 0),
        "no teacher": ("--no-baseline",),
    }.items():
        arguments += ("--budget", 300, "--force", "--search-rate", 0.03)
        assert train(*arguments).exit_code == 0
        history = pd.read_csv(tmp_path / "run" / "history.csv")
        search = history[history["stage"] == "search"]
        losses[name] = search["loss"].to_numpy()
        steps[name] = search["step"].tolist()
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        shares[name] = config["derived"]["distillation"]
    assert shares == {"half": 0.5, "none": 0.0, "no teacher": 0.0}
    # The dense model changes nothing else. Sums of float32 in another order;
    # another order of rows gives 1e-3.
    np.testing.assert_allclose(losses["none"], losses["no teacher"], atol=1e-5)
    assert steps["none"] == steps["no teacher"]
    # Labels between 0 and 1 have more entropy.
    assert (losses["half"] > losses["none"] + 0.001).all()


def test_help_is_there_at_once():
    code = (
        "import sys, keras_pep.lab.cli\n"
        "print({'tensorflow', 'keras', 'plotly'} & {*sys.modules})\n"
    )
    assert python("-c", code).stdout == "set()\n"


def have_terminal(path):
    os.dup2(os.open(path, os.O_RDWR), 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "-1"])  # a good run, a wrong usage
def test_a_terminal_has_a_bar_and_its_cursor_back(
    small_movielens, tmp_path, seed
):
    main_end, command_end = pty.openpty()
    process = Command(
        tmp_path,
        *("train", "--dataset", "movielens", "--seed", seed),
        *("--data-dir", small_movielens, "--run-dir", tmp_path / "run"),
        *("--budget", "300", *QUICK),
        before=partial(have_terminal, os.ttyname(command_end)),
    )
    output = b""
    while True:
        alive = process.is_alive()
        if select.select([main_end], [], [], 0.1)[0]:
            output += os.read(main_end, 4096)
        elif not alive:
            break
    os.close(main_end)
    os.close(command_end)
    assert process.exitcode == (0 if seed == "0" else 2)
    assert (b"search         epoch   1  [" in output) == (seed == "0")
    assert output.rfind(b"\x1b[?25l") <= output.rfind(b"\x1b[?25h")


def test_an_error_of_the_installed_command_is_one_line(tmp_path):
    arguments = (
        *("train", "--dataset", "movielens", "--data-dir", tmp_path),
        *("--max-bytes", "1kB"),  # which is read by what needs TensorFlow
    )
    began = time.monotonic()
    result = run(*arguments, cwd=tmp_path)
    assert time.monotonic() - began < 120  # no retries over a network
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1  # TensorFlow is silent too
    assert "found no ratings.dat" in result.stderr
    assert list(tmp_path.iterdir()) == []


def hear_interrupts():
    """As on a terminal: who runs tests in the background ignores them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_interrupt_leaves_no_broken_files(small_movielens, tmp_path):
    run_dir = tmp_path / "run"
    process = Command(
        tmp_path,
        *("train", "--dataset", "movielens"),
        *("--data-dir", small_movielens, "--run-dir", run_dir),
        *("--search-epochs", "500", "--max-epochs", "2"),
        before=hear_interrupts,
    )
    try:
        deadline = time.monotonic() + 300
        while not (run_dir / "dense.stage.json").exists():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)  # into the search
        os.kill(process.pid, signal.SIGINT)
        code, _, error = process.ended()
    finally:
        process.kill()
    assert code == 1
    assert error == (
        f"Interrupted. Continue with: keras-pep train --resume {run_dir}\n"
    )
    of_an_epoch = {"checkpoint.npz", "kept.csv"}  # of the search, if one ended
    assert {path.name for path in run_dir.iterdir()} - of_an_epoch == {
        "config.json",
        "vocabularies.json",
        "counts.npy",
        "history.csv",
        "logs",
        "dense.stage.json",
        "dense.keras",
    }
    keras.saving.load_model(run_dir / "dense.keras")


@pytest.mark.slow
def test_the_demo_finds_the_planted_sizes(tmp_path):
    """`make demo` as it is, but for the retraining, which sizes do not need."""
    result = run(
        "train",
        *("--run-dir", tmp_path / "run", "--max-epochs", 1, "--no-baseline"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    printed = re.findall(
        r"rank correlation of learned and planted sizes ([\d.]+) "
        r"\(of popularity and planted sizes ([\d.]+)\)",
        result.stdout,
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(printed) == len(metrics["budgets"]) == 3
    for budget, (learned, popularity) in zip(
        metrics["budgets"], printed, strict=True
    ):
        assert float(learned) >= 0.6
        assert float(learned) > float(popularity) + 0.1
        assert float(learned) == pytest.approx(
            budget["planted_rank_correlation"], abs=0.005
        )


@pytest.mark.slow
def test_movielens_for_real(ml_1m, tmp_path):
    """Short of the README's run in epochs, which are faster ones."""
    run_dir = tmp_path / "run"
    result = invoke(
        *("train", "--dataset", "movielens", "--data-dir", ml_1m),
        *("--features", "paper", "--budget", 30000, "--run-dir", run_dir),
        *("--max-epochs", 2, "--search-epochs", 3, "--retrain-epochs", 2),
        *("--batch-size", 4096, "--learning-rate", 0.008),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["dense"]["embedding_parameters"] == 264_256
    assert metrics["dense"]["total_parameters"] == 268_386
    (budget,) = metrics["budgets"]
    kept = budget["embedding_parameters"]
    assert 30_000 - 10 <= kept <= 30_000
    # Seen: 0.8465 and 0.8483.
    assert metrics["dense"]["test"]["auc"] > 0.84
    assert budget["test"]["auc"] > 0.84

    dense, small = (
        (run_dir / name).stat().st_size
        for name in ("dense.keras", "budget-30000.keras")
    )
    assert dense >= 5 * small
    dataset = keras_pep.data.load("movielens", ml_1m, features="paper")
    model = keras.saving.load_model(run_dir / "budget-30000.keras")
    figures = keras_pep.metrics.evaluate(
        model, dataset.test.ids, dataset.test.labels
    )
    assert figures["auc"] == pytest.approx(budget["test"]["auc"], abs=1e-6)
