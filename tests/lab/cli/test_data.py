import json

import numpy as np
import pandas as pd
import pytest

import keras_pep
from keras_pep.data import kaggle
from keras_pep.lab.cli import dataset
from keras_pep.lab.run import RunDirectory
from tests.lab.cli.test_cli import close_to, invoke

QUICK = ["--max-epochs", "4", "--sparsity", "0.5", "--embedding-dim", "4"]

# The last line, of a column of the file that is of no use.
NOTE = (
    "always: of no use, every training row has the same value 'same'. It is "
    "left out; always:category in --fields keeps it."
)


@pytest.fixture
def clicks(tmp_path):
    """A stranger's file: commas, quotes, lists, gaps, values never seen."""
    random = np.random.default_rng(5)
    lines = ["user,place,price,always,tags,clicked\n"]
    for n in range(3000):
        user = random.integers(0, 20) if n % 10 else 1000 + n
        place = ('"Łódź, PL"', '"the ""best"""', "東京", "")[n % 4]
        price = f"{random.lognormal():.3f}" if n % 5 else ""
        tags = "|".join(random.choice(["a", "b", "c"], random.integers(1, 4)))
        clicked = int(user % 2 == 0)
        lines.append(f"{user},{place},{price},same,{tags},{clicked}\n")
    path = tmp_path / "clicks.csv"
    path.write_text("".join(lines))
    return path


def test_the_command_knows_every_dataset():
    assert dataset.NAMES == keras_pep.data.NAMES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "start", "options"),
    [
        ("fm", None, ""),
        ("lr", None, "--effort quick"),
        ("deepfm", "finetune", "--start finetune --linear pep"),
        ("autoint", "rewind", "--deep --optimizer lazy-adam"),
        ("fvfm", "reinit", "--start reinit --linear pep"),
        ("dcn", "rewind", "--optimizer rowwise-adagrad"),
        ("gem", "rewind", "--linear pep"),
    ],
)
def test_own_files_train_with_the_label_alone(
    clicks, tmp_path, model, start, options
):
    """Every model, and every way to retrain one."""
    run = tmp_path / "run"
    quick = QUICK if model != "lr" else QUICK[:4]
    quick = [*quick, "--batch-size", "128", "--learning-rate", "0.03"]
    result = invoke(
        *("train", "--dataset", clicks, "--label", "clicked", *quick),
        *("--model", model, "--run-dir", run, *options.split()),
        *(("--search", "budget") if start else ()),
    )
    assert result.exit_code == 0, result.output
    assert f"\n{NOTE}\nrun directory: " in result.output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dataset"] == "clicks"
    assert metrics["fields"] == 4
    # Users decide: 90 % of rows can be told apart, if by a coin of 22 votes.
    assert metrics["dense"]["test"]["auc"] > 0.8
    evaluated = invoke("evaluate", run, "--json")
    assert evaluated.exit_code == 0, evaluated.output
    figures = json.loads(evaluated.output)
    assert figures[0]["auc"] == metrics["dense"]["test"]["auc"]
    directory = RunDirectory(run)
    deep = getattr(directory.load_model("dense"), "deep", None)
    assert (deep is not None) == (
        model in ("deepfm", "dcn") or "--deep" in options
    )
    if start:
        (budget,) = metrics["budgets"]
        assert budget["embedding_parameters"] == close_to(budget["target"])
        assert budget["retrain"] == start


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [("criteo", "lr"), ("avazu", "fm")])
def test_criteo_and_avazu_train(shared_data, tmp_path, name, model):
    dim = ["--embedding-dim", "8"] if model == "fm" else []
    result = invoke(
        *("train", "--dataset", name, "--data-dir", shared_data / name, *dim),
        *("--model", model, "--max-epochs", "2", "--sparsity", "0.9"),
        *("--effort", "quick"),
        *("--batch-size", "256", "--run-dir", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Trained to the end, by the command's defaults, they have 0.76 and 0.73.
    assert metrics["dense"]["test"]["auc"] > 0.7
    assert metrics["budgets"][0]["test"]["auc"] > 0.66
    if name == "criteo":
        check_criteo_without_header(
            tmp_path / "run", shared_data / "criteo" / "train.txt", tmp_path
        )


def check_criteo_without_header(run, path, tmp_path):
    """`predict` takes it as `train` does, and `test.txt`, which is without
    labels, and a file of one's own that names the columns."""
    with path.open() as file:
        lines = [next(file) for _ in range(1000)]
    names = ["label", *kaggle.INTEGERS, *kaggle.CATEGORIES]
    scores = []
    for written, content in (
        ("train.txt", lines),
        ("test.txt", [line.partition("\t")[2] for line in lines]),
        ("own.tsv", ["\t".join(names) + "\n", *lines]),
    ):
        (tmp_path / written).write_text("".join(content))
        done = invoke(
            *("predict", run, "--input", tmp_path / written, "--force"),
            *("--output", tmp_path / "scores.csv"),
        )
        assert done.exit_code == 0, done.output
        scores.append(np.loadtxt(tmp_path / "scores.csv", skiprows=1).tolist())
    assert scores[0] == scores[1] == scores[2]
    labels = np.array([int(line[0]) for line in lines])
    assert keras_pep.metrics.auc(labels, np.array(scores[0])) > 0.66
    (tmp_path / "short.txt").write_text("1\t2\n")
    done = invoke(
        *("predict", run, "--input", tmp_path / "short.txt", "--force"),
        *("--output", tmp_path / "scores.csv"),
    )
    assert "found 2 columns divided by '\\t', expected a" in done.output


def test_prepare_says_what_there_is(clicks, tmp_path):
    arguments = ("prepare", "--dataset", clicks, "--label", "clicked")
    result = invoke(*arguments, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "clicks: counting values" in result.output
    assert "values without an id of their own: train 2" in result.output
    assert "tags   list" in result.output
    assert result.output.endswith(f"\n{NOTE}\n")
    again = invoke(*arguments, "--cache-dir", tmp_path / "cache", "--quiet")
    assert "counting" not in again.output
    assert again.output in result.output


def test_prepare_writes_vocabularies_and_reads_them(clicks, tmp_path):
    own = ("--dataset", clicks, "--label", "clicked", "--fields", "user,place")
    cache = ("--cache-dir", tmp_path / "cache")
    made = ("--write-vocabularies", tmp_path / "v")
    result = invoke("prepare", *own, *cache, *made)
    assert result.exit_code == 0, result.output
    assert f"vocabularies: {tmp_path / 'v'}\n" in result.output
    assert {p.name for p in (tmp_path / "v").iterdir()} == {
        "user.txt",
        "place.txt",
    }
    again = invoke(
        *("prepare", *own, *cache, "--vocabularies", tmp_path / "v"),
        *("--min-count", "0.5", "--max-values", 5),
    )
    assert again.exit_code == 0, again.output
    assert "features: 11 in 2 fields (user 6, place 5)" in again.output


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_train_takes_the_split_that_prepare_has_made(clicks, tmp_path):
    frame = pd.read_csv(clicks)
    frame["day"] = np.arange(3000) // 100
    frame.to_csv(clicks, index=False)
    data = ("--dataset", clicks, "--label", "clicked", "--fields", "user")
    data += ("--split", "time:day", "--cache-dir", tmp_path / "cache")
    prepared = invoke("prepare", *data, "--quiet")
    assert prepared.exit_code == 0, prepared.output
    assert "rows: train 2,400 (" in prepared.output
    # Every tenth user is there once.
    said = "test values that training has not seen: user 30 (10.00% of its"
    assert said in prepared.output
    run = tmp_path / "run"
    result = invoke("train", *data, *QUICK, "--run-dir", run)
    assert result.exit_code == 0, result.output
    assert "counting" not in result.output
    assert said in result.output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["unseen_in_test"] == {"user": {"distinct": 30, "share": 0.1}}
    assert metrics["rows"] == {"train": 2400, "validation": 300, "test": 300}
    again = invoke("train", "--resume", run, "--split", "random")
    assert "settings it was started with: leave --split out" in again.output


def test_prepare_says_how_rows_are_taken(tmp_path):
    rows = [f"{n},u{n % 7},{n % 3 // 2}," for n in range(300)]
    path = tmp_path / "clicks.csv"
    path.write_text("\n".join([",user,clicked", *rows]) + "\n")
    arguments = ("prepare", "--dataset", path, "--label", "clicked")
    result = invoke(*arguments, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "clicks.csv: left out '', taken for row numbers" in result.output
    assert "clicks.csv: the delimiter that ends every row" in result.output
    assert "features: 8 in 1 fields (user 8)" in result.output


@pytest.mark.usefixtures("eager")
def test_train_finds_what_is_prepared(clicks, tmp_path):
    cache = ("--cache-dir", tmp_path / "cache")
    data = ("--dataset", clicks, "--label", "clicked", *cache)
    assert invoke("prepare", *data).exit_code == 0
    result = invoke("train", *data, *QUICK, "--run-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "counting" not in result.output


@pytest.mark.parametrize(
    "fields",
    [
        "when:time(%b %d, %Y %H:%M),item",
        'item,"when:time(%b %d, %Y %H:%M)"',
        "item, when:time(%b %d, %Y %H:%M)",
    ],
)
def test_a_format_may_have_commas(tmp_path, fields):
    path = tmp_path / "own.csv"
    rows = [f'"Nov {n % 9 + 1}, 2026 9:30",{n % 3},{n % 2}' for n in range(200)]
    path.write_text("\n".join(["when,item,clicked", *rows]) + "\n")
    result = invoke(
        *("prepare", "--dataset", path, "--label", "clicked"),
        *("--fields", fields, "--cache-dir", tmp_path / "cache", "-q"),
    )
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.output.splitlines()[7:]]
    assert sorted(line[:3] for line in table[:3]) == [
        ["item", "category", "4"],
        ["when_hour", "hour", "2"],
        ["when_weekday", "weekday", "8"],
    ]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--dataset", "clicks.parquet"], "nor a file or folder that exists"),
        (["--dataset", "criteo", "--label", "a"], "--label: criteo has no"),
        (["--dataset", "avazu", "--fields", "a"], "--fields: avazu has no"),
        (["--dataset", "OWN", "--data-dir", "."], "of your own has no such"),
        (
            ["--dataset", "criteo", "--test-file", "OWN"],
            "file: criteo has no",
        ),
        (
            ["--dataset", "OWN", "--test-file", "OWN", "--split", "time:a"],
            "--split: found files for validation or test, and split 'time:a'",
        ),
        (["--dataset", "OWN", "--label", "a", "--label", "b"], "found 2, a, b"),
        (["--dataset", "OWN", "--positive", "4"], "--positive: found the rule"),
        (["--dataset", "criteo", "--positive", ">4"], "--positive: criteo"),
        (["--min-count", "0"], "--min-count"),
        (["--min-count", "1.5"], "expected a number of rows, or a share"),
        (["--max-values", "9"], "--max-values: synthetic has no"),
        (["--dataset", "OWN", "--split", "time"], "--split: found the split"),
        (["--dataset", "avazu", "--split", "a"], "expected random or time for"),
        (["--split", "time:a"], "expected random for synthetic"),
        (["--dataset", "movielens", "--split", "a"], "expected random or time"),
    ],
)
@pytest.mark.parametrize("command", ["train", "prepare"])
def test_wrong_usage_exits_with_2(clicks, command, arguments, found):
    given = [clicks if a == "OWN" else a for a in arguments]
    result = invoke(command, *given)
    assert result.exit_code == 2
    assert found in result.output


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "which column is the label?"),
        (["--label", "click"], "found no column 'click', expected one of user"),
        (["--label", "user"], "in column 'user', expected 0 or 1"),
        (["--label", "clicked", "--fields", "place:number"], "expected a num"),
        (["--label", "clicked", "--delimiter", ";"], "Is ';' what divides"),
        (["--label", "clicked", "--delimiter", "::"], "expected one ASCII"),
        (["--label", "clicked", "--delimiter", "é"], "expected one ASCII"),
    ],
)
def test_bad_data_exits_with_1_and_one_line(clicks, tmp_path, arguments, found):
    result = invoke(
        *("train", "--dataset", clicks, "--run-dir", tmp_path / "run"),
        *arguments,
    )
    assert result.exit_code == 1
    assert found in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_nothing_to_download_from(tmp_path, monkeypatch):
    import socket

    def no_network(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", no_network)
    result = invoke(
        "train", "--dataset", "movielens", "--run-dir", tmp_path / "r"
    )
    assert result.exit_code == 1
    assert "--data-dir" in result.stderr


@pytest.mark.slow
def test_movielens_by_time_is_trained_evaluated_and_exported(
    small_movielens, tmp_path
):
    run = tmp_path / "run"
    result = invoke(
        *("train", "--dataset", "movielens", "--data-dir", small_movielens),
        *("--split", "time", *QUICK, "--run-dir", run, "--export"),
    )
    assert result.exit_code == 0, result.output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "time"
    assert {*metrics["unseen_in_test"]} >= {"user_id", "time_bin"}
    evaluated = invoke("evaluate", run, "--json")
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads(evaluated.output)[0]["auc"]
    assert found == metrics["dense"]["test"]["auc"]
    # Training has not seen the last user, nor any other value.
    (tmp_path / "rows.csv").write_text(
        "user_id,movie_id,time_bin,gender,age,occupation,zip,year,genres\n"
        "1,2,100,F,18,1,00001,1982,Comedy\n"
        "999,999,999,X,99,99,x,1900,x\n"
    )
    predicted = invoke(
        *("predict", run, "--input", tmp_path / "rows.csv"),
        *("--output", tmp_path / "scores.csv"),
    )
    assert predicted.exit_code == 0, predicted.output
    scores = np.loadtxt(tmp_path / "scores.csv", skiprows=1)
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()
