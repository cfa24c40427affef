"""Ragged and sparse ids, as `keras.layers.Embedding` takes them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.models import FM

LISTS = [[3, 7], [], [4, 4, 9], [1]]
PADDED = np.array([[3, 7, 0], [0, 0, 0], [4, 4, 9], [1, 0, 0]])
THERE = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], "float32")
TABLE = np.linspace(-1, 1, 48, dtype="float32").reshape(12, 4)


def layers_of(**settings):
    pep = keras_pep.PEPEmbedding(12, 4, threshold_init=-3.0, **settings)
    pep.build()
    pep.embeddings.assign(TABLE)
    yield pep
    mask = np.arange(48).reshape(12, 4) % 3 > 0
    for storage in ("csr", "bitmask"):
        for trainable in (True, False):
            yield keras_pep.PrunedEmbedding.from_dense(
                *(TABLE, mask),
                storage=storage,
                trainable=trainable,
                **settings,
            )


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_ragged_ids_have_ragged_vectors(dtype):
    for layer in layers_of():
        table = layer(np.arange(12)).numpy()
        vectors = layer(tf.ragged.constant(LISTS, dtype=dtype))
        assert vectors.shape.as_list() == [4, None, 4]
        assert vectors.dtype == tf.float32
        expected = [[table[i].tolist() for i in ids] for ids in LISTS]
        assert vectors.to_list() == expected


@pytest.mark.requires_tensorflow
def test_ragged_ids_of_more_than_two_axes():
    layer = next(layers_of())
    ids = tf.ragged.constant([[[3], [1, 2]], [], [[], [4]]], dtype="int32")
    vectors = layer(ids)
    table = layer(np.arange(12)).numpy()
    np.testing.assert_array_equal(vectors[0][1], table[[1, 2]])
    np.testing.assert_array_equal(vectors[2][1], table[[4]])
    assert vectors[1].shape == (0, None, 4)


@pytest.mark.requires_tensorflow
def test_sparse_ids_have_dense_vectors():
    """Where there is no id it is 0, as Keras has it."""
    ids = tf.sparse.from_dense(PADDED)
    keras_layer = keras.layers.Embedding(12, 4, weights=[TABLE])
    assert keras_layer(ids).shape == (4, 3, 4)
    for layer in layers_of():
        vectors = layer(ids)
        np.testing.assert_array_equal(vectors, layer(PADDED))
        assert vectors.shape == (4, 3, 4)


@pytest.mark.requires_tensorflow
def test_the_mask_is_ragged_or_dense():
    for layer in layers_of(mask_zero=True):
        mask = layer.compute_mask(tf.ragged.constant([[0, 2], [1]]))
        assert mask.to_list() == [[False, True], [True]]
        mask = layer.compute_mask(tf.sparse.from_dense(PADDED))
        np.testing.assert_array_equal(mask, PADDED != 0)


class Summed(keras.layers.Layer):
    """The sum of the vectors of a list."""

    def call(self, vectors, there=None):
        if there is not None:
            vectors = vectors * there[..., None]
        return tf.reduce_sum(vectors, axis=1)

    def compute_output_spec(self, vectors, there=None):
        return keras.KerasTensor((vectors.shape[0], vectors.shape[2]))


def models():
    """The same of ragged lists, and of padded ones with a mask."""
    for ragged in (True, False):
        ids = keras.Input((None,), dtype="int32", ragged=ragged)
        layer = next(layers_of())
        vectors = layer(ids)
        assert vectors.shape == (None, None, 4)
        assert getattr(vectors, "ragged", False) == ragged
        inputs, arguments = ids, (vectors,)
        if not ragged:
            there = keras.Input((None,))
            inputs, arguments = [ids, there], (vectors, there)
        head = keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Model(inputs, head(Summed()(*arguments)))
        model.compile(keras_pep.optimizers.LazyAdam(0.05), "mse")
        yield model


@pytest.mark.requires_tensorflow
def test_a_ragged_history_is_trained_as_a_padded_one():
    """Forty steps, of float32 that are added up in another order."""
    ragged, padded = models()
    lists = tf.ragged.constant(LISTS, dtype="int32")
    wanted = np.array([[1.0], [0.5], [-1.0], [2.0]], "float32")
    before = padded.get_weights()
    for model, inputs in ((ragged, lists), (padded, (PADDED, THERE))):
        data = tf.data.Dataset.from_tensor_slices((inputs, wanted))
        model.fit(data.batch(2), epochs=20, shuffle=False, verbose=0)
    found, expected = ragged.get_weights(), padded.get_weights()
    assert abs(expected[0] - before[0]).max() > 0.1
    assert (expected[1] != before[1]).any()  # thresholds
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(
        ragged.predict(lists, verbose=0),
        padded.predict([PADDED, THERE], verbose=0),
        atol=1e-4,
    )


@pytest.mark.requires_tensorflow
def test_gradients_of_ragged_ids_are_those_of_padded_ones():
    layer = next(layers_of())
    upstream = np.random.default_rng(0).normal(size=(4, 3, 4)).astype("float32")
    gradients = []
    for ids, weights in (
        (tf.ragged.constant(LISTS), upstream[THERE > 0]),
        (tf.constant(PADDED), upstream * THERE[..., None]),
    ):
        with tf.GradientTape() as tape:
            vectors = layer(ids)
            flat = getattr(vectors, "flat_values", vectors)
            loss = tf.reduce_sum(flat * weights)
        variables = [w.value for w in layer.trainable_weights]
        gradients.append(
            [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        )
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.requires_tensorflow
def test_a_wrong_ragged_id_is_an_error():
    for layer in layers_of():
        for wrong in (-1, 12, 2**32 + 1):
            ids = tf.ragged.constant([[1], [2, wrong]], dtype="int64")
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=f"Found: {wrong}"
            ):
                layer(ids)


@pytest.mark.requires_tensorflow
def test_models_say_that_their_lists_are_padded():
    model = FM([5, 5], 3, field_lengths=[1, 2])
    with pytest.raises(ValueError, match="Pad lists of features with -1"):
        model(tf.ragged.constant([[0, 1, 2], [1, 2]]))
    ids = np.array([[1, 2, 3], [3, 0, 4]])
    np.testing.assert_array_equal(model(tf.sparse.from_dense(ids)), model(ids))
