"""A data set in time order, played by every policy."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from keras_pep.data import DataError
from keras_pep.lab import replay as module
from keras_pep.lab.cli import main
from keras_pep.lab.replay import CONTINUED, NEVER, NOTHING, Scored, replay_table
from keras_pep.lab.run import Config, RunDirectory
from keras_pep.lab.text import UNKNOWN
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
    (said,) = caplog.messages
    assert said.startswith("left out: 2 malformed rows, the first: ")
    assert "row 4501: found 'nothing' in column 'when', expected a time" in said
    assert [*parts] == ["2023-11-14", "2023-11-15", "2023-11-16"]
    tables = [pa.parquet.read_table(each) for each in parts.values()]
    assert [table.num_rows for table in tables] == [1500] * 3
    assert {*tables[2]["user"].to_pylist()} == {f"u{n}" for n in range(40)}
    assert made.fields == ("user", "item")  # the time is none


def test_rows_that_are_none_are_counted_and_refused(tmp_path):
    """As train does: one too short, one that lacks a quote."""
    path = write_days(tmp_path / "clicks.csv", days=1, rows=97)
    torn = "\n".join(f"u{n},i1,1700000000,1" for n in range(30))
    with path.open("a") as file:
        file.write(f'u1,i1\nu1,"i1{torn}",1700000000,1\n')
    config = Config(dataset=str(path), label="clicked", max_bad_rows=0.2)
    # Of 128 rows 31 are malformed: the short one and, for 30 rows, a torn one.
    found = r"line 99: found 2 columns .* 31 of 128 rows are malformed; "
    with pytest.raises(DataError, match=found):
        module._divide(config, "when", "day", tmp_path / "parts")


def test_weights_that_are_none_are_counted_too(tmp_path):
    path = tmp_path / "clicks.csv"
    rows = [f"u1,1700000000,1,{weight}" for weight in (1, 0.5, -1, "much")]
    path.write_text("\n".join(["user,when,clicked,share", *rows]))
    config = Config(
        dataset=str(path), label="clicked", weight="share", max_bad_rows=0.5
    )
    parts, _ = module._divide(config, "when", "day", tmp_path / "parts")
    table = pa.parquet.read_table(parts["2023-11-14"])
    assert table["share"].to_pylist() == ["1", "0.5"]
    with pytest.raises(DataError, match="2 of 4 rows are malformed"):
        module._divide(
            *(replace(config, max_bad_rows=0.4), "when", "day"),
            tmp_path / "again",
        )
    with pytest.raises(DataError, match="found no column 'wight'"):
        module._divide(
            *(replace(config, weight="wight"), "when", "day"),
            tmp_path / "more",
        )


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


def test_a_period_of_one_class_stays_in_the_table():
    """Its AUC is unknown, and the mean is of the others."""
    found = [
        Scored(0, policy, "1", period, auc, seconds, 1000)
        for policy in module.POLICIES
        for period, auc, seconds in (("2", float("nan"), 60.0), ("3", 0.7, 4.0))
    ]
    lines = [line.split() for line in replay_table(found).splitlines()]
    assert lines[1] == ["2", *[UNKNOWN] * 3]
    assert lines[2:4] == [
        ["3", *["0.7000"] * 3],
        ["mean", "AUC", *["0.7000"] * 3],
    ]
    assert lines[4] == ["seconds", "a", "training", *["4.0"] * 3]
    alone = replay_table(found[::2]).splitlines()  # no training after the first
    assert alone[3].split() == ["seconds", "a", "training", *[UNKNOWN] * 3]


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


def test_what_cannot_be_trained_on_a_period_keeps_its_model(
    tmp_path, monkeypatch, caplog
):
    """On the third day nobody clicks: it has no AUC, and nothing to learn."""
    path = write_days(tmp_path / "clicks.csv", days=5, rows=100)
    trained = []

    def train(_, parts, folder):
        if [part.stem for part in parts] == ["2023-11-16"]:
            raise DataError("0 of them positive")
        trained.append(folder.name)
        return RunDirectory(folder), 1.0

    def auc(run, part, *_):  # it tells which model has scored
        ending = run.path.name[-2:].replace("st", "14")
        return np.nan if part.stem == "2023-11-16" else int(ending) / 100

    entry = {"exported_bytes": {"int8": {"table": 1}}}
    monkeypatch.setattr(module, "_train", train)
    monkeypatch.setattr(module, "_auc", auc)
    monkeypatch.setattr(module, "chosen_model", lambda *_: ("", entry))
    monkeypatch.setattr(RunDirectory, "read_json", lambda *_: {})
    config = Config(dataset=str(path), label="clicked")
    out = tmp_path / "out"
    found = module.replay(config, "when", "day", out, first=1, window=1)
    continued = [each for each in found if each.policy == CONTINUED]
    assert [each.period[-2:] for each in continued] == ["14", "15", "16", "17"]
    # The model of the 15th scores the 17th too: none is trained on the 16th.
    assert [each.auc for each in continued[2:]] == [0.15, 0.17]
    assert [each.seconds for each in continued] == [1.0, 1.0, 0.0, 1.0]
    assert "continued keeps its last model: 0 of them pos" in caplog.text
    assert "from-nothing-2023-11-16" in trained
    written = json.loads(
        (out / "replay.json").read_text(), parse_constant=pytest.fail
    )
    assert written["scored"][3]["auc"] is None
