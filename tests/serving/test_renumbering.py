"""Served models whose features are in order of what they keep."""

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.lab.run.results import exported_bytes
from keras_pep.serving import export, tables_of
from keras_pep.serving.renumbering import by_size, renumbering
from tests.clicks import drawn, raw_rows
from tests.serving.serving import in_c_runtime, raw_inputs
from tests.serving.test_export import CLOSE, probabilities, random_ids

COLUMNS = 6


def model_of(data, seed=0):
    """Features keep any number of first columns, some none, in no order."""
    random = np.random.default_rng(seed)
    shape = data.feature_count, COLUMNS
    # Of values that int8 holds as they are.
    table = random.integers(-127, 128, shape).astype("float32") / 64
    sizes = random.integers(0, COLUMNS + 1, len(table))
    table[0], sizes[0] = 127 / 64, COLUMNS
    mask = np.arange(COLUMNS) < sizes[:, None]
    model = keras_pep.models.FM(
        data.field_sizes,
        COLUMNS,
        keras_pep.PrunedEmbedding.from_dense(table, mask, name="embedding"),
        field_lengths=data.field_lengths,
    )
    model.build()
    kernel = model.first_order.kernel
    some = random.random(kernel.shape) < 0.8
    weights = random.integers(-127, 128, kernel.shape) * some
    weights[0] = 127
    kernel.assign(weights / 64)
    return model, sizes


def test_every_kind_of_field_is_scored_as_before(clicks, tmp_path, monkeypatch):
    """Raw values, known or not, or no longer, and the ids of before."""
    model, _ = model_of(clicks)
    rows = raw_rows(300, seed=3)
    rows[0]["user id"] = "nobody"
    ids = random_ids(clicks.field_sizes, clicks.field_lengths, 200)
    wrong = np.where(np.eye(*ids.shape, dtype=bool), 9999, ids)
    answers = []
    for renumbered in (False, True):
        if renumbered:  # although it would take more bytes here
            monkeypatch.setattr(export, "renumbering", forced)
        made = keras_pep.export_saved_model(
            model,
            tmp_path / f"{renumbered}" / "1",
            clicks,
            keep_vocabulary=False,
        )
        answers.append(
            in_c_runtime(
                made.path,
                [
                    ("serving_default", raw_inputs(made.report, rows)),
                    ("ids", {"ids": ids}),
                    ("ids", {"ids": wrong}),
                ],
            )
        )
    vocabulary = next(made.path.glob("assets/vocabulary-1-*.tsv"))
    lines = [line.split("\t") for line in vocabulary.read_text().splitlines()]
    assert any(now != before for _, now, before in lines)
    for before, now in zip(*answers, strict=True):
        np.testing.assert_allclose(
            now["probability"], before["probability"], atol=CLOSE
        )
    by_value, by_id, of_wrong = (x["probability"] for x in answers[1])
    np.testing.assert_allclose(by_id, probabilities(model, ids), atol=CLOSE)
    assert len({*np.round(by_value, 4)}) > 100
    assert np.isnan(of_wrong[: ids.shape[1]]).all()
    assert not np.isnan(of_wrong[ids.shape[1] :]).any()


def forced(model, tables, quantize):
    del quantize
    sizes = np.diff(tables["embedding"].row_splits)
    return by_size(model.field_sizes, sizes)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_nothing_but_values_is_stored(small_movielens, tmp_path, quantize):
    data = keras_pep.data.load("movielens", small_movielens)
    model, sizes = model_of(data)
    made = keras_pep.export_saved_model(model, tmp_path / "1", data, quantize)
    table = made.report["tables"]["embedding"]
    assert table["storage"] == "prefix"
    # Runs of 5 bytes, at most one a size and field; a scale for each column.
    runs = 5 * (COLUMNS + 1) * len(data.field_sizes)
    item = 1 if quantize else 4
    assert table["bytes"] <= item * sizes.sum() + runs + 4 * COLUMNS
    counted = exported_bytes(model, data.vocabularies)[quantize or "float32"]
    assert counted["table"] == table["bytes"]
    by_id, by_value = in_c_runtime(
        made.path,
        [
            ("ids", {"ids": data.test.ids}),
            (
                "serving_default",
                {
                    name: np.array([vocabulary[number] for number in column])
                    for (name, vocabulary), column in zip(
                        data.vocabularies.items(), data.test.ids.T, strict=True
                    )
                },
            ),
        ],
    )
    np.testing.assert_array_equal(by_id["probability"], by_value["probability"])
    expected = probabilities(model, data.test.ids)
    np.testing.assert_allclose(by_id["probability"], expected, atol=CLOSE)


def test_what_gains_nothing_stays_in_order(clicks):
    uniform = keras_pep.models.FM(
        clicks.field_sizes, COLUMNS, field_lengths=clicks.field_lengths
    )
    uniform.build()
    sparse = keras_pep.models.FM(
        clicks.field_sizes, COLUMNS, field_lengths=clicks.field_lengths
    )
    sparse.build()
    drawn(sparse, density=0.3)
    for model in (uniform, sparse, keras.Sequential()):
        tables = {name: table for name, (_, table) in tables_of(model).items()}
        assert renumbering(model, tables) is None


def test_the_largest_of_a_field_come_first():
    kept, more = np.array([0, 2, 2, 1, 3]), np.array([9, 1, 5, 0, 0])
    np.testing.assert_array_equal(by_size([3, 2], kept, more), [2, 1, 0, 4, 3])
