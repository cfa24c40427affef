"""What `keras-pep evaluate` prints, without models to be evaluated."""

import json
import math
from types import SimpleNamespace

import pytest

from keras_pep.lab.run import Config, RunDirectory
from tests.lab.cli.test_cli import invoke
from tests.runs import write_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Each model has the AUC of its name's length; that of 20 has none."""

    def evaluate(name, *_, **__):
        auc = math.nan if name == "budget-20" else len(name) / 100
        return {"auc": auc, "logloss": 0.25}

    rows = SimpleNamespace(ids=None, labels=None, weights=None)
    dataset = SimpleNamespace(
        fingerprint=lambda: "00ff", splits={"train": rows}
    )
    monkeypatch.setattr(Config, "load_data", lambda _: dataset)
    monkeypatch.setattr(RunDirectory, "load_model", lambda _, name: name)
    monkeypatch.setattr("keras_pep.lab.run.evaluate.evaluate", evaluate)
    return write_run(tmp_path / "run")


MODELS = {
    (None, None): 0.05,
    (None, 60): 0.09,
    (None, 20): None,  # JSON has no NaN
    ("magnitude", 60): 0.12,
    ("magnitude", 20): 0.12,
}


def no_json(word):
    pytest.fail(f"{word} is no JSON")


def test_json_has_what_the_table_has(run):
    done = invoke("evaluate", run, "--split", "train", "--json")
    assert done.exit_code == 0, done.output
    entries = json.loads(done.stdout, parse_constant=no_json)
    assert {(e["method"], e["target"]): e["auc"] for e in entries} == MODELS
    titles, *lines = invoke("evaluate", run, "--split", "train").stdout.split(
        "\n"
    )[:-1]
    assert "train AUC" in titles
    for entry, line in zip(entries, lines, strict=True):
        auc = "\N{EN DASH}" if entry["auc"] is None else f"{entry['auc']:.4f}"
        assert entry["split"] == "train"
        sizes = entry["exported_bytes"]
        assert line.split()[-7:] == [
            f"{entry['embedding_parameters']:,}",
            f"{entry['sparsity']:.1%}",
            *(auc, f"{entry['logloss']:.4f}"),
            *(f"{entry[name]:,}" for name in ("total_parameters", "bytes")),
            f"{sizes['int8']['table']:,}" if sizes else "\N{EN DASH}",
        ]
