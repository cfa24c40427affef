"""All rivals of the command, in a run: `--compare NAME`."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from keras_pep.data import load
from keras_pep.lab.run import Config
from keras_pep.lab.run.results import in_int4
from keras_pep.lab.settings import SEARCHED
from keras_pep.serving import export_saved_model
from tests.lab.cli.test_cli import invoke

pytestmark = pytest.mark.requires_tensorflow
# Labels follow from pairs of user and film: without training AUC is near 0.5.
_QUICK = (
    *("--max-epochs", 3, "--embedding-dim", 8),
    *("--batch-size", 64, "--learning-rate", 0.05),
)


def of_run(folder):
    return json.loads((folder / "metrics.json").read_text())


def is_trained(method, auc, losses):
    """Whether it has learned pairs; few hashes learn some by rote alone."""
    if method == "dhe":
        return losses[-1] < losses[0] - 0.05
    return 0.75 < auc <= 1


@pytest.mark.slow
def test_every_rival_is_trained_and_counted(small_movielens, tmp_path):
    methods = [
        *("uniform", "magnitude", "gradual-magnitude", "bet", "hot-rows"),
        *("hashing",),
        *("tensor-train", "dhe", "low-rank", "cce", "cel"),
    ]
    result = invoke(
        *("train", "--dataset", "movielens", "--data-dir", small_movielens),
        *("--run-dir", tmp_path / "run", "--budget", 800, *_QUICK),
        *("--search-epochs", 3, "--retrain-epochs", 4),
        *(x for method in methods for x in ("--compare", method)),
    )
    assert result.exit_code == 0, result.output
    metrics = of_run(tmp_path / "run")
    found = {entry["method"]: entry for entry in metrics["baselines"]}
    assert [*found] == methods
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    losses = history[history["stage"] == "dhe-800"]["loss"].to_numpy()
    for method, entry in found.items():
        kept = entry["embedding_parameters"]
        assert 640 < kept <= 800, method
        assert is_trained(method, entry["test"]["auc"], losses), method
        in_int8, in_int4 = entry["exported_bytes"]["int8"], entry["int4"]
        # Half a byte or a byte a value, and what tells where it is.
        assert kept / 2 < in_int4["table"], method
        assert kept < in_int8["table"], method
        assert is_trained(method, in_int4["test"]["auc"], losses), method
        assert ("search_seconds" in entry) == (method in SEARCHED)
    assert found["gradual-magnitude"]["retrain"] == "finetune"
    # A scale, and the weights; pointers besides, of a byte each.
    entry = found["hashing"]
    assert entry["exported_bytes"]["int8"]["table"] == (
        entry["embedding_parameters"] + 4
    )
    features = metrics["feature_count"]
    entry = found["cce"]
    assert entry["exported_bytes"]["int8"]["table"] == (
        entry["embedding_parameters"] + 8 + 8 * features
    )
    again = invoke("evaluate", tmp_path / "run", "--split", "validation")
    assert again.exit_code == 0, again.output
    assert "hot-rows 800" in again.output


@pytest.mark.slow
def test_rivals_fit_a_size_in_bytes(small_movielens, tmp_path):
    methods = ("gradual-magnitude", "bet", "hot-rows", "low-rank", "cce")
    result = invoke(
        *("train", "--dataset", "movielens", "--data-dir", small_movielens),
        *("--run-dir", tmp_path / "run", "--max-bytes", 700),
        *("--effort", "quick", *_QUICK),
        *(x for method in methods for x in ("--compare", method)),
    )
    assert result.exit_code == 0, result.output
    found = {e["method"]: e for e in of_run(tmp_path / "run")["baselines"]}
    assert [*found] == [*methods[:-1]]
    for entry in found.values():
        assert entry["exported_bytes"]["int8"]["table"] <= 700
        assert entry["max_bytes"] == 700
        assert 0.9 < entry["test"]["auc"] <= 1
    assert "no cce table is as small as 700" in result.output  # its pointers


def test_a_table_is_rounded_to_4_bits_and_its_bytes_counted():
    dataset = load("synthetic")
    config = Config(model="fm", embedding_dim=6)
    model = config.build_model(dataset, "uniform", 6 * dataset.feature_count)

    class Run:
        pass

    run = Run()
    run.dataset = dataset
    before = keras.ops.convert_to_numpy(model.embedding.embeddings)
    found = in_int4(run, model)["int4"]
    scale = np.float16(np.abs(before).max(axis=1, keepdims=True) / 7)
    expected = np.rint(before / np.float32(scale)) * np.float32(scale)
    after = keras.ops.convert_to_numpy(model.embedding.embeddings)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    # 3 bytes a row, and 2 of its scale; and a row of a field's unknown values.
    more = found["table"] - 5 * dataset.feature_count
    assert 0 <= more <= 12 * len(dataset.fields)
    assert 0 < found["test"]["auc"] < 1


def test_a_compressor_is_exported_unless_values_may_be_unknown(tmp_path):
    dataset = load("synthetic")
    model = Config(embedding_dim=4).build_model(dataset, "hashing", 100)
    made = export_saved_model(model, tmp_path / "ids")
    assert made.report["table_bytes"]
    assert not any(each.unknown for each in dataset.vocabularies.values())
    with pytest.raises(ValueError, match="as many rows"):
        export_saved_model(model, tmp_path / "raw", dataset)
