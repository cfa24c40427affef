"""The full table that is read by row, next to the one of Keras."""

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep.layers import RowEmbedding

IDS = np.array([[0, 3, 3], [7, 3, 0]])


def table(kind, **settings):
    """A table of nine rows, always the same."""
    normal = keras.initializers.RandomNormal(seed=1)
    layer = kind(9, 4, normal, name="table", **settings)
    layer.build()
    return layer


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_it_looks_up_and_trains_as_that_of_keras(policy):
    tables = []
    for kind in (RowEmbedding, keras.layers.Embedding):
        layer = table(kind, dtype=policy)
        vectors = layer(IDS)
        assert keras.backend.standardize_dtype(vectors.dtype) == (
            layer.compute_dtype
        )
        vectors = keras.ops.convert_to_numpy(keras.ops.cast(vectors, "float32"))
        inputs = keras.Input((3,), dtype="int32")
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras_pep.optimizers.AdamL2(0.01, l2=0.1), "mse")
        for _ in range(5):
            model.train_on_batch(IDS, np.ones((2, 3, 4)))
        tables.append((vectors, layer.embeddings.numpy()))
    np.testing.assert_array_equal(tables[0][0], tables[1][0])
    # Steps of Adam from gradients that are summed in another order, of which
    # halves keep two digits.
    close = 1e-6 if policy == "float32" else 1e-3
    np.testing.assert_allclose(tables[0][1], tables[1][1], atol=close)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("kind", [RowEmbedding, keras.layers.Embedding])
def test_it_never_reads_the_whole_table(kind):
    import tensorflow as tf

    layer = table(kind)
    graph = (
        tf.function(lambda ids: layer(ids))
        .get_concrete_function(tf.constant(IDS))
        .graph
    )
    whole = [x for x in graph.get_operations() if x.type == "ReadVariableOp"]
    assert bool(whole) == (kind is not RowEmbedding)


def test_it_is_saved_and_converted(tmp_path):
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, table(RowEmbedding)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.get_layer("table"), RowEmbedding)
    searched = keras_pep.convert(loaded)
    assert isinstance(searched.get_layer("table"), keras_pep.PEPEmbedding)
    for other in (loaded, searched):
        # Thresholds of 3e-7.
        np.testing.assert_allclose(
            other.predict(IDS, verbose=0),
            model.predict(IDS, verbose=0),
            atol=1e-6,
        )


def test_an_id_outside_is_refused():
    layer = table(RowEmbedding)
    with pytest.raises(Exception, match="table"):
        layer(np.array([[9]]))
