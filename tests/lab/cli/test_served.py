"""`keras-pep export`, `inspect` and `predict`."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from keras_pep.lab.run import RunDirectory
from tests.backends import eagerly
from tests.clicks import FIELDS, labelled_rows, raw_rows, write_csv
from tests.lab.cli.test_cli import QUICK, invoke


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a file of one's own, which has fields of every kind."""
    folder = tmp_path_factory.mktemp("trained")
    write_csv(folder / "clicks.csv", labelled_rows(2000), delimiter=";")
    with eagerly():
        result = invoke(
            *("train", "--dataset", folder / "clicks.csv"),
            *("--label", "clicked", "--delimiter", ";"),
            *("--fields", ",".join(FIELDS), "--cache-dir", folder / "cache"),
            *("--run-dir", folder / "run", "--linear", "pep", *QUICK),
            *("--budget", 400, "--budget", 150),
        )
    assert result.exit_code == 0, result.output
    shutil.rmtree(folder / "cache")  # nothing below needs the data
    (folder / "clicks.csv").unlink()
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def new_rows(tmp_path):
    write_csv(tmp_path / "new.csv", raw_rows(300, seed=7))
    return tmp_path / "new.csv"


def test_export_inspect_and_predict(run, new_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    best = max(
        json.loads((run / "metrics.json").read_text())["budgets"],
        key=lambda entry: entry["validation"]["auc"],
    )
    result = invoke("export", run, "--quantize", "none")
    assert result.exit_code == 0, result.output
    assert "SavedModel: saved_models/run/1" in result.output
    metrics = json.loads((run / "metrics.json").read_text())
    (entry,) = (e for e in metrics["budgets"] if "export" in e)
    assert entry["target"] == best["target"]
    sizes = entry["export"]
    features = metrics["feature_count"]
    assert sizes["table_bytes_dense"] == 4 * features * (8 + 1)
    assert sizes["table_bytes"] < sizes["table_bytes_dense"]
    folder = tmp_path / "saved_models" / "run"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sizes["files_bytes"] == sum(path.stat().st_size for path in files)
    vocabularies = folder.glob("1/assets/*.tsv")
    assert sizes["vocabulary_bytes"] == sum(
        path.stat().st_size for path in vocabularies
    )
    assert f"{sizes['table_bytes']:,} bytes" in result.output

    again = invoke("export", run, "--budget", 150)  # by default in int8
    assert "saved_models/run/2" in again.output
    refused = invoke("export", run, "--version", 2)
    assert refused.exit_code == 1
    assert "saved_models/run/2 exists" in refused.output

    # Both the run and the SavedModel say what a field keeps.
    for path, more in ((run, ("--budget", best["target"])), (folder / "1", ())):
        shown = invoke("inspect", path, *more)
        assert shown.exit_code == 0, shown.output
        lines = re.findall(r"^user id +\S+ +\S+ +(\S+)", shown.output, re.M)
        (kept,) = {int(line.replace(",", "")) for line in lines}
        assert 0 < kept < best["embedding_parameters"]
    latest = invoke("inspect", folder)
    assert "csr of int8" in latest.output or "bitmask of int8" in latest.output
    assert "takes user id: string (batch)" in latest.output
    assert "takes price: float64 (batch)" in latest.output

    # And give a row the same probability, to float32.
    scores = {}
    for path, name in ((run, "run.csv"), (folder / "1", "model.parquet")):
        done = invoke(
            *("predict", path, "--input", new_rows),
            *("--output", tmp_path / name),
        )
        assert done.exit_code == 0, done.output
        assert "300 rows" in done.output
        read = pd.read_csv if name.endswith("csv") else pd.read_parquet
        scores[name] = read(tmp_path / name)
        assert [*scores[name]] == ["probability"]
    one, other = (table["probability"] for table in scores.values())
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.between(0, 1).all()
    assert one.nunique() > 100


def test_predict_reads_what_train_has_read(run, tmp_path):
    """By the delimiter of the run, of the file's ending, or as it is told."""

    def scores(of, name, delimiter, *more):
        write_csv(tmp_path / name, raw_rows(300, seed=7), delimiter)
        done = invoke(
            *("predict", of, "--input", tmp_path / name, "--force", *more),
            *("--output", tmp_path / "scores.csv"),
        )
        assert done.exit_code == 0, done.output
        return pd.read_csv(tmp_path / "scores.csv")["probability"].tolist()

    expected = scores(run, "new.csv", ",")
    assert len(set(expected)) > 100
    assert scores(run, "new.csv", ";") == expected
    assert scores(run, "new.tsv", "\t") == expected
    assert scores(run, "new.csv", "\t", "--delimiter", r"\t") == expected
    saved = tmp_path / "models"
    floats = ("--quantize", "none")
    assert invoke("export", run, "--output", saved, *floats).exit_code == 0
    np.testing.assert_allclose(
        scores(saved, "new.csv", ";", "--delimiter", ";"), expected, atol=1e-6
    )
    for path, more, found in (
        (saved, (), "';' seems to: --delimiter ';'"),
        (run, ("--delimiter", "|"), "';' seems to: --delimiter ';'"),
        (run, ("--delimiter", ""), "found the delimiter ''"),
    ):
        done = invoke(
            *("predict", path, "--input", tmp_path / "new.csv", "--force"),
            *("--output", tmp_path / "scores.csv", *more),
        )
        assert done.exit_code == 1
        assert found in done.output
    same = tmp_path / "new.csv"
    done = invoke("predict", run, "--input", same, "--output", same, "--force")
    assert done.exit_code == 2
    assert "is the input file" in done.output


@pytest.mark.slow
def test_features_of_nothing_leave_if_asked(run, new_rows, tmp_path):
    """They count as unknown then, which is said."""
    scores = {}
    for way in ("--keep-vocabulary", "--drop-vocabulary"):
        folder = tmp_path / way
        done = invoke(
            *("export", run, "--budget", 150, way, "--output", folder)
        )
        assert done.exit_code == 0, done.output
        left = re.search(r"([\d,]+) values that counted nothing", done.output)
        assert (left is not None) == (way == "--drop-vocabulary")
        done = invoke(
            *("predict", folder, "--input", new_rows, "--force"),
            *("--output", tmp_path / "scores.csv"),
        )
        assert done.exit_code == 0, done.output
        scores[way] = pd.read_csv(tmp_path / "scores.csv")["probability"]
        assert "that the model knows" not in done.output
    same = (np.abs(np.subtract(*scores.values())) < 1e-6).mean()
    assert 0.0 < same < 0.95
    strange = tmp_path / "strange.csv"
    write_csv(strange, [{**row, "city": "?"} for row in raw_rows(30)])
    for path in (run, tmp_path / "--keep-vocabulary"):
        done = invoke(
            *("predict", path, "--input", strange, "--force"),
            *("--output", tmp_path / "scores.csv"),
        )
        assert "city: of 30 rows 0 have a value that the model" in done.output
        assert done.output.count("that the model knows") == 1


def test_the_dense_model(run, tmp_path):
    done = invoke("export", run, "--dense", "--output", tmp_path / "dense")
    assert done.exit_code == 0, done.output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dense"]["export"]["path"] == str(tmp_path / "dense" / "1")
    shown = invoke("inspect", run, "--dense")
    assert "dense of" in shown.output
    both = invoke("export", run, "--dense", "--budget", 150)
    assert both.exit_code == 2


def test_train_exports_if_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(
        *("train", "--dataset", "synthetic", *QUICK, "--run-dir", "here"),
        *("--sparsity", 0.9, "--no-baseline", "--export"),
    )
    assert done.exit_code == 0, done.output
    assert "SavedModel: saved_models/here/1" in done.output
    assert (tmp_path / "saved_models/here/1/saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"price": "cheap"}, r"row 2.*'cheap'.*'price'.*number"),
        ({"seen": "2.5"}, r"row 2.*'2\.5'.*'seen', expected an integer"),
        ({"when": "soon"}, r"row 2.*'soon'.*'when', expected a time"),
    ],
)
@pytest.mark.parametrize("of", ["run", "saved model"])
def test_malformed_values_are_refused(of, change, found, run, tmp_path):
    path = run
    if of == "saved model":
        path = tmp_path / "models"
        assert invoke("export", run, "--output", path).exit_code == 0
    rows = raw_rows(3)
    rows[1].update(change)
    write_csv(tmp_path / "new.csv", rows)
    done = invoke(
        *("predict", path, "--input", tmp_path / "new.csv"),
        *("--output", tmp_path / "scores.csv"),
    )
    assert done.exit_code == 1
    assert re.search(found, done.output)
    assert not (tmp_path / "scores.csv").exists()


def test_what_cannot_be_done_is_said_in_a_line(run, new_rows, tmp_path):
    def fails(code, found, *arguments):
        done = invoke(*arguments)
        assert done.exit_code == code, done.output
        assert re.search(found, done.output, re.DOTALL), done.output

    scores = ("--output", tmp_path / "scores.csv")
    rows = ("--input", new_rows)
    fails(1, "no budget of 7; it has 400, 150", "export", run, "--budget", 7)
    fails(1, "is not a run directory", "export", tmp_path / "nothing")
    fails(1, "is not a run directory", "inspect", tmp_path / "nothing")
    fails(2, "exists: .* --force", "predict", run, *rows, "--output", new_rows)
    pdf = tmp_path / "scores.pdf"
    fails(1, r"\.parquet", "predict", run, *rows, "--output", pdf)
    nowhere = tmp_path / "no" / "scores.csv"
    fails(1, "no such folder", "predict", run, *rows, "--output", nowhere)
    fewer = [{"city": "Ulm"}]
    write_csv(tmp_path / "fewer.csv", fewer)
    rows = ("--input", tmp_path / "fewer.csv")
    fails(1, "'user id', 'price', 'when'", "predict", run, *rows, *scores)
    (tmp_path / "ragged.csv").write_text(new_rows.read_text() + "1,2\n")
    rows = ("--input", tmp_path / "ragged.csv")
    fails(1, "Nothing was written", "predict", run, *rows, *scores)
    assert not (tmp_path / "scores.csv").exists()

    (run / "vocabularies.json").write_text('{"city": {}}')
    fails(1, "vocabularies.json is damaged", "export", run)
    (run / "vocabularies.json").unlink()
    fails(1, r"vocabularies.json not found", "export", run)
    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"\xff" * 50)
    fails(1, "is damaged", "inspect", tmp_path / "broken")


def test_one_process_at_a_time_writes_to_a_run(run, tmp_path):
    with RunDirectory(run).lock():
        done = invoke("export", run, "--output", tmp_path / "models")
        assert done.exit_code == 1
        assert "in use by another process" in done.output
        again = invoke(
            *("train", "--dataset", "synthetic", *QUICK),
            *("--run-dir", run, "--force"),
        )
        assert again.exit_code == 1
        assert "in use by another process" in again.output
    assert (run / "metrics.json").is_file()  # nothing was removed
    assert invoke("export", run, "--output", tmp_path / "models").exit_code == 0


def test_a_run_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke(
        *("train", "--dataset", "synthetic", *QUICK),
        *("--run-dir", tmp_path / "file" / "run"),
    )
    assert done.exit_code == 1
    assert "cannot be made: Not a directory" in done.output
