"""Clustered embedding learning, against what NumPy or a hand computes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pep.data import Split
from keras_pep.lab.baselines import BudgetTooSmallError, CELEmbedding
from keras_pep.lab.baselines.splitting import Splitting, gradients_of
from keras_pep.layers import variables
from keras_pep.models import FM

SIZES = (10, 6)
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


def made(sizes, dim, rows):
    """A model of clusters, as many as rows in the end."""
    keras.utils.set_random_seed(0)
    features = sum(sizes)
    layer = CELEmbedding(
        *(features, dim, rows * dim), field_sizes=sizes, name="embedding"
    )
    model = FM(sizes, dim, layer)
    model.compile(keras.optimizers.Adam(0.1), LOSS)
    return model, layer


def clusters_of(layer):
    return ops.convert_to_numpy(layer.clusters).tolist()


def test_clusters_are_split_where_gradients_spread_the_most():
    """By hand: sums of squares are 90, then 24, 4.8 and 4, and 0."""
    _, layer = made(SIZES, 2, 8)
    assert clusters_of(layer) == [0] * 10 + [1] * 6
    gradients = np.zeros((16, 2))
    gradients[:10, 0] = [3, 3, 3, 3, 3, -3, -3, -3, -3, -3]
    gradients[:10, 1] = [1, 1, -1, -1, -1, 1, 1, 1, 1, -1.5]
    gradients[10:, 1] = [2, 2, 2, -2, -2, -2]
    before = ops.convert_to_numpy(layer(np.arange(16)))
    layer.split(gradients, 3)
    assert clusters_of(layer) == [0] * 5 + [2] * 5 + [1] * 6
    layer.split(gradients, 4)
    assert clusters_of(layer) == [0] * 5 + [2] * 5 + [1] * 3 + [3] * 3
    layer.split(gradients, 8)  # no other gradients differ
    split = [0, 0, 5, 5, 5, 2, 2, 2, 2, 4, 1, 1, 1, 3, 3, 3]
    assert clusters_of(layer) == split
    # Each part begins with the vector of the whole.
    after = ops.convert_to_numpy(layer(np.arange(16)))
    np.testing.assert_array_equal(after, before)


def rows_of(count):
    random = np.random.default_rng(0)
    ids = random.integers(0, SIZES, (count, 2)).astype(np.int32)
    return Split(ids, (ids.sum(axis=1) % 2).astype(np.float32))


def test_gradients_are_those_of_vectors_of_their_own():
    model, layer = made(SIZES, 3, 4)
    rows = rows_of(500)
    gradient = np.zeros((16, 3))
    for (first, second), label in zip(rows.ids, rows.labels, strict=True):
        pair = np.array([first, 10 + second])
        vectors = ops.convert_to_numpy(layer(pair)).astype(np.float64)
        share = 1 / (1 + np.exp(-vectors[0] @ vectors[1])) - label
        np.add.at(gradient, pair, share * vectors[::-1] / 500)
    before = model.get_weights()
    found = gradients_of(model, layer, rows)
    # A step of 0.01 is the difference of float32 numbers up to 0.6.
    np.testing.assert_allclose(found, gradient, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_features_move_to_the_cluster_where_their_loss_is_lower():
    """Even features of the first field have label 1; a third are wrong."""
    model, layer = made(SIZES, 1, 3)
    right = np.array([0, 2] * 5 + [1] * 6)
    wrong = right.copy()
    wrong[[0, 3, 6]] = 2, 0, 2
    variables.assign(layer.table, np.array([[2.0], [1.5], [-2.0]], np.float32))
    variables.assign(layer.clusters, wrong)
    rows = rows_of(400)
    rows = Split(rows.ids, 1.0 - rows.ids[:, 0] % 2)
    splitting = Splitting("embedding", rows)
    splitting.set_model(model)
    gradients = gradients_of(model, layer, rows)
    moved = splitting._move(layer, gradients)
    assert np.flatnonzero(moved).tolist() == [0, 3, 6]
    assert clusters_of(layer) == right.tolist()


def test_clusters_grow_and_tell_features_apart(tmp_path):
    """Label 1: one feature is even, the other odd.

    First-order weights, and a vector for each field, know no more than that
    even ones of the second field are more frequent: 4 to 1, a loss of 0.50.
    """
    model, layer = made(SIZES, 2, 4)
    random = np.random.default_rng(0)
    shares = np.array([4, 1] * 3) / 15
    ids = [random.integers(0, 10, 1000), random.choice(6, 1000, p=shares)]
    ids = np.stack(ids, axis=1).astype(np.int32)
    train = Split(ids, (ids.sum(axis=1) % 2).astype(np.float32))
    loss = model.fit(
        *(train.ids, train.labels),
        batch_size=50,
        epochs=8,
        callbacks=layer.callbacks(train),
        verbose=0,
    ).history["loss"]
    assert loss[0] > 0.5
    assert loss[-1] < 0.05
    even = np.arange(16) % 2
    found = np.unique([layer.fields, even, clusters_of(layer)], axis=1)
    assert found.shape == (3, 4)
    expected = ops.convert_to_numpy(model(train.ids))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(train.ids)), expected
    )
    # 4 vectors of 2 and a scale, and a byte for the cluster of each feature.
    assert layer.stored_bytes(8) == 8 + 4 + 16


def test_each_field_needs_a_vector():
    with pytest.raises(BudgetTooSmallError, match="more than 3 parameters"):
        CELEmbedding(16, 2, 3, field_sizes=SIZES).build()
