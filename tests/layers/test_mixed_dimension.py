import keras
import numpy as np
import pytest

from keras_pep.layers import MixedDimensionEmbedding, mixed_dimensions

SIZES, DIMS = (4, 3, 5), (2, 6, 1)
ROWS = np.array([[0, 4, 7], [3, 6, 11], [3, 5, 7]])


def test_every_field_is_looked_up_and_projected():
    layer = MixedDimensionEmbedding(SIZES, DIMS, 6)
    vectors = layer(ROWS).numpy()
    assert vectors.shape == (3, 3, 6)
    for field, (table, projection) in enumerate(
        zip(layer.tables, layer.projections, strict=True)
    ):
        assert table.shape == (SIZES[field], DIMS[field])
        expected = table.numpy()[ROWS[:, field] - (0, 4, 7)[field]]
        if field == 1:  # as wide as the output
            assert projection is None
        else:
            expected = expected @ projection.numpy()
        np.testing.assert_allclose(vectors[:, field], expected, atol=1e-6)
    # 4 x 2 + 3 x 6 + 5 x 1 entries, 2 x 6 and 1 x 6 in projections.
    assert layer.count_params() == 31 + 18


def test_it_is_saved_and_loaded(tmp_path):
    layer = MixedDimensionEmbedding(SIZES, DIMS, 6)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0)
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
    with pytest.raises(ValueError, match=r"field_dims=\(2, 6\)"):
        MixedDimensionEmbedding(SIZES, (2, 6), 6)
