import json

import numpy as np
import pytest

from keras_pep.lab.report import comparison_table, read_runs, stages_table
from keras_pep.lab.report.figures import size_of
from keras_pep.lab.run import RunDirectory, RunError
from keras_pep.pruning import Ticket
from tests.runs import (
    BUDGETS,
    change,
    history,
    ticket,
    vocabularies,
    write_run,
)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_models_are_those_of_the_metrics(run):
    metrics = json.loads((run / "metrics.json").read_text())
    (content,) = read_runs([run])
    known = [metrics["dense"], *metrics["budgets"], *metrics["baselines"]]
    names = ["dense", "60", "20", "magnitude 60", "magnitude 20"]
    assert [model.name for model in content.models] == names
    for model, entry in zip(content.models, known, strict=True):
        assert model.kept == entry["embedding_parameters"]
        assert model.total == entry["total_parameters"]
        assert model.bytes == entry["bytes"]
        assert model.sparsity == entry.get("sparsity", 0)
        for split in ("test", "validation"):
            assert model.figures[split] == entry[split]
    assert content.command == "keras-pep train --dataset 'a <b> & c.csv'"
    assert content.settings["fields"] == "user, price:number"
    assert content.settings["learning_rate"] == "0.001"
    assert content.settings["label"] == ""
    assert content.environment == {"python": "3.11.7", "keras": "3.15.1"}


def test_settings_have_what_follows_from_them(run):
    change(run / "config.json", derived={"search_dim": 8, "l2": 1e-5})
    (content,) = read_runs([run])
    assert content.settings["search_dim"] == "8"
    assert "derived" not in content.settings


def test_stages_are_those_of_the_history(run):
    (content,) = read_runs([run])
    assert [stage.name for stage in content.stages] == [
        *("dense", "search", "budget-60", "budget-20"),
        *("magnitude", "magnitude-60", "magnitude-20"),
    ]
    stage = content.stages[1]
    assert stage.epochs == [1, 2, 3]
    assert stage.auc == [0.7, 0.75, 0.74]
    assert stage.logloss == pytest.approx([0.5, 0.45, 0.46])
    assert stage.kept == [299, 298, 297]
    lines = stages_table(content).splitlines()
    assert lines[2].split() == [
        *("search", "3", "2", "0.7500", "0.4500", "297", "1.5")
    ]


def test_sizes_are_those_of_the_tickets(run):
    (content,) = read_runs([run])
    features = content.features
    for budget, of in zip(BUDGETS, features.budgets, strict=True):
        table = Ticket.load(run / f"budget-{budget}.ticket.npz").tables
        sizes = table["embedding"].embedding_sizes()
        assert of["kept"] == [sizes[:31].sum(), sizes[31:].sum()]
        assert sum(of["kept"]) == of["target"] == budget
        assert [
            features.drawn["sizes"][BUDGETS.index(budget)][i]
            for i in of["top"][0]
        ] == sorted(sizes[sizes > 0], reverse=True)[:20]


def test_curves_have_no_more_points_than_can_be_seen(run):
    lines = "".join(f"search,{n},{10**6 - n}\n" for n in range(50_000))
    (run / "kept.csv").write_text(f"stage,step,embedding_parameters\n{lines}")
    curve = read_runs([run])[0].kept["search"]
    assert len(curve["steps"]) == len(curve["kept"]) == 1000
    assert (curve["steps"][0], curve["steps"][-1]) == (0, 49_999)
    assert curve["kept"][-1] == 10**6 - 49_999


def test_a_run_of_before_lacks_what_it_had_not_noted(run):
    for name in ("counts.npy", "kept.csv", "vocabularies.json"):
        (run / name).unlink()
    directory = RunDirectory(run)
    config = directory.read_json("config.json")
    del config["command"]
    directory.write_json("config.json", config)
    (content,) = read_runs([run])
    assert (content.kept, content.features, content.command) == (None,) * 3
    assert len(content.models) == 5


def test_figures_that_are_no_numbers_are_unknown(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["dense"]["test"]["auc"] = None  # as NaN is written
    change(run / "metrics.json", dense=metrics["dense"])
    (content,) = read_runs([run])
    assert content.models[0].figures["test"]["auc"] is None
    assert "–" in comparison_table([content])  # noqa: RUF001


def text_instead(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["budgets"][0]["bytes"] = "<b>"
    change(run / "metrics.json", budgets=metrics["budgets"])


def another_ticket(run):
    ticket(59, 35).save(run / "budget-60.ticket.npz")


def another_table(run):
    ticket(60, 34).save(run / "budget-60.ticket.npz")


def other_vocabularies(run):
    RunDirectory(run).write_vocabularies(vocabularies(["only"]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "is not a run directory"),
        (lambda run: (run / "metrics.json").write_text("{"), "is damaged"),
        (lambda run: change(run / "metrics.json", rows=3), "is damaged"),
        (lambda run: change(run / "metrics.json", budgets=[{}]), "is damaged"),
        (lambda run: change(run / "config.json", environment=3), "is damaged"),
        (text_instead, "expected an integer, found '<b>'"),
        (
            lambda run: (run / "budget-60.ticket.npz").unlink(),
            "budget-60.ticket.npz not found",
        ),
        (
            lambda run: (run / "budget-60.ticket.npz").write_text("PK"),
            "not a keras-pep ticket that can be read",
        ),
        (another_ticket, "keeps 59 parameters, its model 60"),
        (another_table, "tables of 34 rows, expected the 35 features"),
        (
            lambda run: np.save(run / "counts.npy", np.arange(3)),
            "counts.npy has 3 features, vocabularies.json 35",
        ),
        (
            lambda run: np.save(run / "counts.npy", -np.arange(35)),
            "expected a list of counts",
        ),
        (lambda run: (run / "counts.npy").write_text("x"), "is damaged"),
        (lambda run: (run / "kept.csv").write_text("a,b\n1,2"), "is damaged"),
        (lambda run: (run / "kept.csv").write_text(""), "is damaged"),
        (
            lambda run: (run / "kept.csv").write_text(
                "stage,step,embedding_parameters\nsearch,1,many\n"
            ),
            "is damaged",
        ),
        (lambda run: (run / "history.csv").write_text("a\n1"), "is damaged"),
        (
            lambda run: RunDirectory(run).write_history(
                [{**history(["dense"])[0], "val_auc": "<b>"}]
            ),
            "history.csv is damaged",
        ),
        (other_vocabularies, "counts.npy has 35 features"),
    ],
)
def test_damage_is_said_and_gives_no_wrong_figure(run, damage, message):
    damage(run)
    with pytest.raises(RunError, match=message):
        read_runs([run])


def test_runs_have_names_of_their_own(tmp_path):
    first = write_run(tmp_path / "a" / "run")
    second = write_run(tmp_path / "b" / "run")
    names = [content.name for content in read_runs([first, second])]
    assert names == [str(first), str(second)]
    link = tmp_path / "link"
    link.symlink_to(first)
    for again in (first, first / ".." / "run", link):
        with pytest.raises(RunError, match="given twice"):
            read_runs([first, second, again])


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999, "999 B"),
        (1_000, "1 kB"),
        (95_904, "95.9 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (2_500_000_000, "2.5 GB"),
        (10**15, "1e+03 TB"),
    ],
)
def test_bytes_are_in_the_unit_in_which_they_are_short(run, number, text):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["dense"]["bytes"] = 2 * number
    metrics["budgets"][0]["bytes"] = number
    change(
        run / "metrics.json",
        dense=metrics["dense"],
        budgets=metrics["budgets"],
    )
    (content,) = read_runs([run])
    found = size_of(content, content.models[1])
    assert found == f"{text}, 2.0× smaller"  # noqa: RUF001
    assert "smaller" not in size_of(content, content.models[0])


def test_a_comparison_has_a_line_for_every_model(run, tmp_path):
    other = write_run(tmp_path / "other", baselines=False, gain=0.01)
    lines = comparison_table(read_runs([run, other])).splitlines()
    assert len(lines) == 1 + 5 + 3
    assert lines[0].split()[:4] == ["run", "model", "kept", "sparsity"]
    assert lines[2].split() == [
        *("run", "60", "60", "78.6%", "0.7487", "-0.0013", "0.4513", "96"),
        *("440", "155"),
    ]
    assert lines[6].split()[:3] == ["other", "dense", "280"]
    assert "0.7600" in lines[6]
