"""Rows of tables on eight devices, against the same on one."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

import keras_pep
from tests.backends import devices, skip_without

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # must not be needed
from tests.sharded import main
main(*sys.argv[1:])
"""
ROWS, DIM = 8192, 16
TABLE = ROWS * DIM * 4


def begun(kind, folder, env):
    """`tests.sharded` in a process of its own."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, folder],
        env={**os.environ, "KERAS_BACKEND": "jax", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What both have found, and the folder with their files."""
    skip_without("jax")
    folder = tmp_path_factory.mktemp("distribution")
    eight = devices(8)
    eight["XLA_FLAGS"] += (
        f" --xla_dump_hlo_as_text --xla_dump_to={folder / 'programs'}"
    )
    processes = {
        "whole": begun("whole", folder / "whole", {}),
        "sharded": begun("sharded", folder / "sharded", eight),
    }
    found = {}
    for kind, process in processes.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        found[kind] = json.loads(output)
    return found["whole"], found["sharded"], folder


@pytest.mark.parametrize(
    ("program", "steps"),
    [
        ("in_one_fit", 40),  # twenty of search, twenty of retraining
        ("search_and_retrain", 20),  # those of retraining
        ("one_threshold_a_column", 20),
    ],
)
def test_losses_are_those_of_one_device(outcomes, program, steps):
    whole, sharded, _ = outcomes
    losses = [found[program]["losses"] for found in (whole, sharded)]
    assert len(losses[0]) == steps
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("name", ["0", "1", "fit"])
def test_tickets_are_identical(outcomes, name):
    _, _, folder = outcomes
    whole, sharded = (
        np.load(folder / kind / f"{name}.npz") for kind in ("whole", "sharded")
    )
    assert whole.files == sharded.files
    for array in whole.files:
        np.testing.assert_array_equal(whole[array], sharded[array])


@pytest.mark.parametrize("name", ["small", "fit"])
def test_saved_models_are_identical(outcomes, name):
    """Trained and pruned; any backend loads them, TensorFlow exports them."""
    _, _, folder = outcomes
    whole, sharded = (
        stored(folder / kind / f"{name}.keras") for kind in ("whole", "sharded")
    )
    assert whole.keys() == sharded.keys()
    assert sum(array.size for array in whole.values()) > 2_000
    for path, array in whole.items():
        np.testing.assert_array_equal(array, sharded[path])


def stored(path):
    with zipfile.ZipFile(path) as archive:
        content = archive.read("model.weights.h5")
    found = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_every_device_holds_an_eighth_of_what_grows_with_the_table(outcomes):
    _, sharded, _ = outcomes
    found = sharded["in_one_fit"]["layouts"]
    divided = {path for path, (own, whole) in found.items() if own < whole}
    moments = [
        f"fm_table_{name}_{moment}"
        for name in ("embeddings", "threshold_logits")
        for moment in ("momentum", "velocity")
    ]
    tables = {"table/embeddings", "table/threshold_logits", *moments}
    of_rows = {
        *("linear/kernel", "fm_linear_kernel_momentum"),
        *("fm_linear_kernel_velocity", "fm_linear_kernel_last_step"),
        "fm_table_embeddings_last_step",
    }
    assert divided == tables | of_rows
    for path in divided:
        whole = TABLE if path in tables else ROWS * 4
        assert found[path] == [whole // 8, whole]
    # And nothing else: batches and metrics are small.
    expected = sum(own for own, _ in found.values())
    assert expected <= sharded["in_one_fit"]["most"] < 1.1 * expected


def test_thresholds_of_columns_and_compact_tables_are_on_every_device(outcomes):
    _, sharded, _ = outcomes
    columns = sharded["one_threshold_a_column"]["layouts"]
    assert columns["table/embeddings"] == [TABLE // 8, TABLE]
    assert columns["table/threshold_logits"] == [DIM * 4, DIM * 4]
    compact = sharded["search_and_retrain"]["layouts"]
    assert compact["values"] == [2_000 * 4, 2_000 * 4]
    # They are in few rows, those that batches have had: a bit a column then.
    rows = compact["bits"][1] // (DIM // 8)
    assert 0 < rows < ROWS
    for name in ("bits", "starts", "offsets", "present", "rank"):
        assert compact[name][0] == compact[name][1]


def test_no_device_and_no_host_ever_has_the_table(outcomes):
    _, sharded, folder = outcomes
    assert sharded["largest_fetched"] < ROWS * DIM
    programs = list((folder / "programs").glob("*after_optimizations.txt"))
    assert sum("jit_train_step" in path.name for path in programs) == 4
    # What XLA has compiled are the programs of one device.
    for path in programs:
        assert not re.search(rf"\[{ROWS},{DIM}\]", path.read_text()), path.name


def test_predictions_are_those_of_one_device(outcomes):
    whole, sharded, _ = outcomes
    found, expected = (x["one_threshold_a_column"] for x in (sharded, whole))
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert found["kept"] == expected["kept"]


def test_rows_that_cannot_be_divided_are_refused(outcomes):
    _, sharded, _ = outcomes
    assert "'odd' has 8,189 rows, which 8 devices" in sharded["refusal"]
    assert "Add 3 rows" in sharded["refusal"]


def test_a_search_begins_with_values_that_xla_has_rounded(outcomes):
    _, sharded, _ = outcomes
    assert sharded["rounded_another_way"] > 0


def test_other_backends_are_refused():
    with pytest.raises(ValueError, match="KERAS_BACKEND=jax"):
        keras_pep.distribution.RowParallel()
