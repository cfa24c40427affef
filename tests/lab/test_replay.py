"""A data set in time order, played by every policy."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from keras_pep.data import DataError
from keras_pep.lab import replay as module
from keras_pep.lab.cli import main
from keras_pep.lab.replay import CONTINUED, NEVER, NOTHING, Scored, replay_table
from keras_pep.lab.run import Config
from tests.lab.run.test_continued_run import TASTE

DAY = 86_400


def write_days(path, days=3, rows=1500):
    """Each day ten users more, in a CSV that is not in order of time."""
    random = np.random.default_rng(0)
    lines = []
    for day in range(days):
        for user in random.integers(0, 20 + 10 * day, rows).tolist():
            clicked = random.random() < 1 / (1 + np.exp(-TASTE[user, 0]))
            when = 1_700_000_000 + DAY * day
            item = random.integers(0, 9)
            lines.append(f"u{user},i{item},{when},{int(clicked)}\n")
    random.shuffle(lines)
    path.write_text("user,item,when,clicked\n" + "".join(lines))
    return path


@pytest.mark.parametrize(
    ("by", "texts", "time_format", "names"),
    [
        (
            "day",
            ["1700000000", "1700000000000", "", "2023-11-15 01:02:03"],
            "",
            ["2023-11-14", None, "", "2023-11-15"],
        ),
        ("month", ["14102123", "14110100"], "%y%m%d%H", ["2014-10", "2014-11"]),
        ("week", ["2021-01-03", "2021-01-04"], "", ["2020-W53", "2021-W01"]),
    ],
)
def test_periods_of_times(by, texts, time_format, names):
    for text, name in zip(texts, names, strict=True):
        if name is not None:
            found = module._periods(pa.array([text]), time_format, by)
            assert found.tolist() == [name]


def test_milliseconds_are_known_by_their_size():
    texts = pa.array(["1700000000000", "1700086400000"])
    assert module._periods(texts, "", "day").tolist() == [
        *("2023-11-14", "2023-11-15")
    ]


def test_rows_go_to_the_file_of_their_period(tmp_path, caplog):
    path = write_days(tmp_path / "clicks.csv")
    with path.open("a") as file:
        file.write("u1,i1,nothing,1\nu1,i1,1700000000,maybe\n")
    config = Config(dataset=str(path), label="clicked")
    with caplog.at_level("INFO"):
        parts, made = module._divide(
            *(config, "when", "day", tmp_path / "parts")
        )
    assert [line[:18] for line in caplog.messages] == ["left out: 2 rows w"]
    assert [*parts] == ["2023-11-14", "2023-11-15", "2023-11-16"]
    tables = [pa.parquet.read_table(each) for each in parts.values()]
    assert [table.num_rows for table in tables] == [1500] * 3
    assert {*tables[2]["user"].to_pylist()} == {f"u{n}" for n in range(40)}
    assert made.fields == ("user", "item")  # the time is none


def test_too_few_periods_are_refused(tmp_path):
    path = write_days(tmp_path / "clicks.csv", days=1, rows=10)
    config = Config(dataset=str(path), label="clicked")
    with pytest.raises(DataError, match="found 1 days, expected at least 2"):
        module.replay(config, "when", "day", tmp_path / "out")


def test_the_table_has_means_and_the_time_of_later_trainings():
    found = [
        Scored(0, policy, "1", period, auc, seconds, size)
        for policy, auc, seconds, size in (
            (NEVER, 0.7, 0.0, 1000),
            (NOTHING, 0.75, 40.0, 1200),
            (CONTINUED, 0.76, 4.0, 1100),
        )
        for period, seconds in (("2", 60.0), ("3", seconds))
    ]
    lines = [line.split() for line in replay_table(found).splitlines()]
    assert lines[1] == ["2", "0.7000", "0.7500", "0.7600"]
    assert lines[3] == ["mean", "AUC", "0.7000", "0.7500", "0.7600"]
    assert lines[4] == ["seconds", "a", "training", "0.0", "40.0", "4.0"]
    assert lines[5][-3:] == ["1,000", "1,200", "1,100"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--dataset", "synthetic", "--time", "t"], "synthetic has no times"),
        (["--dataset", "movielens"], "name the folder of MovieLens"),
        (["--dataset", "a.csv", "--label", "y"], "name the column of times"),
        (["--dataset", "a.csv", "--time", "t"], "name the column of labels"),
    ],
)
def test_what_cannot_be_played_is_refused(
    tmp_path, monkeypatch, arguments, problem
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("t,y\n")
    done = CliRunner().invoke(main, ["replay", *arguments])
    assert done.exit_code == 2
    assert problem in done.output


@pytest.mark.slow
def test_new_users_are_known_the_day_after(tmp_path):
    """Never retrained, it knows none of them."""
    config = Config(
        dataset=str(write_days(tmp_path / "clicks.csv", 4, rows=3000)),
        label="clicked",
        search="budget",
        sparsity=(0.5,),
        embedding_dim=4,
        search_epochs=2,
        retrain_epochs=4,
        learning_rate=0.02,
        batch_size=64,
        min_count=5,
        baseline=False,
    )
    found = module.replay(config, "when", "day", tmp_path / "out", first=2)
    aucs = {
        policy: [each.auc for each in found if each.policy == policy]
        for policy in module.POLICIES
    }
    assert len({scores[0] for scores in aucs.values()}) == 1  # the same model
    assert aucs[CONTINUED][1] > aucs[NEVER][1] + 0.03
    assert aucs[CONTINUED][1] > aucs[NOTHING][1] - 0.01
    written = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert [Scored(**each) for each in written["scored"]] == found
