import keras
import numpy as np
import pytest

from keras_pep.lab.baselines import MixedDimensionEmbedding, mixed_dimensions
from keras_pep.models import DCN, FM, AutoInt, DeepFM, FvFM

SIZES, DIMS = (4, 3, 5), (2, 6, 1)
ROWS = np.array([[0, 4, 7], [3, 6, 11], [3, 5, 7]])


def test_every_field_is_looked_up_and_projected():
    layer = MixedDimensionEmbedding(SIZES, DIMS, 6)
    vectors = layer(ROWS).numpy()
    assert vectors.shape == (3, 3, 6)
    for field, (table, projection) in enumerate(
        zip(layer.tables, layer.projections, strict=True)
    ):
        assert table.embeddings.shape == (SIZES[field], DIMS[field])
        expected = table.embeddings.numpy()[ROWS[:, field] - (0, 4, 7)[field]]
        if field == 1:  # as wide as the output
            assert projection is None
        else:
            expected = expected @ projection.numpy()
        np.testing.assert_allclose(vectors[:, field], expected, atol=1e-6)
    # 4 x 2 + 3 x 6 + 5 x 1 entries, 2 x 6 and 1 x 6 in projections.
    assert layer.count_params() == 31 + 18


LENGTHS = (2, 1, 3)
LISTS = np.array([[0, 3, 4, 7, 7, 11], [1, 1, 6, 9, 8, 7]])


def test_a_list_has_a_vector_for_each_column():
    layer = MixedDimensionEmbedding(SIZES, DIMS, 6, field_lengths=LENGTHS)
    vectors = layer(LISTS).numpy()
    rows = []  # of the whole table, as wide as the output
    for table, projection in zip(layer.tables, layer.projections, strict=True):
        values = table.embeddings.numpy()
        rows.extend(values if projection is None else values @ projection)
    np.testing.assert_allclose(vectors, np.array(rows)[LISTS], atol=1e-6)


@pytest.mark.parametrize("model", [FM, FvFM, DeepFM, DCN, AutoInt])
def test_a_model_averages_a_list(model):
    """As it does with the same table, all columns of which are there."""
    mixed = MixedDimensionEmbedding(SIZES, DIMS, 6, field_lengths=LENGTHS)
    first = model(SIZES, 6, mixed, field_lengths=LENGTHS)
    other = model(SIZES, 6, "dense", field_lengths=LENGTHS)
    first.build()
    other.build()
    table = [
        table.numpy() if each is None else table.numpy() @ each.numpy()
        for table, each in zip(
            (each.embeddings for each in mixed.tables),
            mixed.projections,
            strict=True,
        )
    ]
    own = {id(weight) for weight in mixed.weights}
    rest = iter([w for w in first.weights if id(w) not in own])
    for weight in other.weights:
        is_table = weight is other.embedding.embeddings
        weight.assign(np.concatenate(table) if is_table else next(rest))
    ids = [[0, 3, 0, 0, 4, -1], [2, -1, 2, -1, -1, -1]]
    np.testing.assert_allclose(
        first.predict(np.array(ids), verbose=0),
        other.predict(np.array(ids), verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_it_is_saved_and_loaded(tmp_path, lengths):
    layer = MixedDimensionEmbedding(SIZES, DIMS, 6, field_lengths=lengths)
    rows = ROWS if lengths is None else LISTS
    model = keras.Sequential(
        [keras.Input(rows.shape[1:], dtype="int32"), layer]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(rows, verbose=0), model.predict(rows, verbose=0)
    )


@pytest.mark.parametrize("budget", [400, 1000, 10_000])
def test_popular_fields_are_wider_and_the_budget_is_met(budget):
    sizes = (2, 20, 150)
    widths = mixed_dimensions(sizes, 64, budget)
    assert widths[0] >= widths[1] >= widths[2] >= 1
    layer = MixedDimensionEmbedding(sizes, widths, 64)
    layer.build()
    assert 0.6 * budget < layer.count_params() <= budget


def test_without_temperature_all_fields_are_alike():
    assert mixed_dimensions((2, 20, 150), 64, 2_000, 0.0) == (5, 5, 5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="more than 10 parameters"):
        mixed_dimensions((4, 3, 5), 6, 10)
    with pytest.raises(ValueError, match=r"field_dims=\(2, 7, 1\)"):
        MixedDimensionEmbedding(SIZES, (2, 7, 1), 6)
    with pytest.raises(ValueError, match=r"each of the 3 fields.*\(2, 1\)"):
        MixedDimensionEmbedding(SIZES, DIMS, 6, field_lengths=(2, 1))
    with pytest.raises(ValueError, match=r"field_dims=\(2, 6\)"):
        MixedDimensionEmbedding(SIZES, (2, 6), 6)
