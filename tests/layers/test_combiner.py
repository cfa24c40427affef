"""Lists of ids become one vector each, as by `keras_rs.layers.EmbedReduce`."""

import keras
import keras_rs
import numpy as np
import pytest
import tensorflow as tf

import keras_pep

TABLE = np.linspace(-1, 1, 48, dtype="float32").reshape(12, 4)
PADDED = np.array([[3, 7, 1], [2, 0, 0], [4, 4, 9], [1, 0, 5]])
SHARES = np.array([[1, 2, 3], [2, 0, 0], [1, 0, 1], [4, 0, 2]], "float32")


def of_kind(kind, values):
    """As they are, ragged, or sparse: of 3, 1, 3 and 2 values."""
    if kind == "dense":
        return values
    if kind == "flat":
        return values[:, 0]
    if kind == "ragged":
        lengths = [3, 1, 3, 2]
        return tf.RaggedTensor.from_tensor(values, lengths)
    places = [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0], [2, 1], [2, 2]]
    places += [[3, 0], [3, 2]]
    return tf.SparseTensor(places, tf.gather_nd(values, places), (4, 3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["dense", "flat", "ragged", "sparse"])
@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
def test_combines_as_embed_reduce(combiner, kind, weighted):
    """To 1e-6: sums of three float32 numbers below 12, in another order."""
    ids = of_kind(kind, PADDED)
    weights = (of_kind(kind, SHARES),) if weighted else ()
    theirs = keras_rs.layers.EmbedReduce(
        12, 4, combiner=combiner, weights=[TABLE]
    )
    expected = theirs(ids, *weights)
    searched = keras_pep.PEPEmbedding(
        12, 4, weights=[TABLE], combiner=combiner, threshold_init=-30.0
    )
    small = keras_pep.PrunedEmbedding.from_dense(TABLE, combiner=combiner)
    for layer in (searched, small):
        vectors = layer(ids, *weights)
        assert vectors.shape == expected.shape
        assert layer.compute_output_shape(ids.shape) == (4, 4)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_padding_weighs_nothing():
    layer = keras_pep.PEPEmbedding(
        *(12, 4),
        mask_zero=True,
        weights=[TABLE],
        combiner="mean",
        threshold_init=-30.0,
    )
    expected = [TABLE[[3, 7, 1]], TABLE[[2]], TABLE[[4, 4, 9]], TABLE[[1, 5]]]
    expected = [vectors.mean(axis=0) for vectors in expected]
    np.testing.assert_allclose(layer(PADDED), expected, atol=1e-6)
    assert layer.compute_mask(PADDED) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="combiner='max'"):
        keras_pep.PEPEmbedding(12, 4, combiner="max")
    with pytest.raises(ValueError, match="no `combiner` to"):
        keras_pep.PEPEmbedding(12, 4)(PADDED, SHARES)


def test_from_search_to_export(tmp_path):
    """Histories, weighted by how long ago: search, ticket, retrain, serve."""
    history = keras.Input((None,), dtype="int32", name="history")
    ages = keras.Input((None,), name="ages")
    table = keras_pep.PEPEmbedding(12, 4, combiner="sqrtn", name="table")
    output = keras.layers.Dense(1)(table(history, ages))
    model = keras.Model([history, ages], output)
    model.compile(keras_pep.optimizers.AdamL2(0.05), "mse")
    random = np.random.default_rng(0)
    ids = random.integers(0, 12, size=(256, 3)).astype("int32")
    rows = ({"history": ids, "ages": random.random((256, 3), "float32")},)
    rows = (*rows, (ids % 2).mean(axis=1, keepdims=True))
    (ticket,) = keras_pep.search(model, rows, budgets=[20], epochs=6)
    small = keras_pep.retrain(model, ticket, rows, epochs=2)
    assert small.get_layer("table").num_values == 20
    assert small.get_layer("table").combiner == "sqrtn"
    keras_pep.export_saved_model(small, tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    (answer,) = served.signatures["serving_default"](
        **{name: tf.constant(values) for name, values in rows[0].items()}
    ).values()
    expected = small.predict(rows[0], verbose=0)
    np.testing.assert_allclose(answer, expected, atol=1e-6)
