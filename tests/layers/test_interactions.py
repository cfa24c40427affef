import numpy as np
import pytest
import tensorflow as tf

from keras_pep.layers import FactorizationMachine


@pytest.mark.requires_tensorflow
def test_pairs_and_their_gradient_by_hand():
    """(1, 2), (3, -1), (0, 4): each gets the sum of the two others."""
    vectors = tf.constant([[[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        pairs = FactorizationMachine()(vectors)
    assert pairs.numpy().tolist() == [[(3 - 2) + (0 + 8) + (0 - 4)]]
    gradient = tape.gradient(pairs, vectors, tf.constant([[2.0]]))
    assert gradient.numpy().tolist() == [[[6, 6], [2, 12], [8, 2]]]


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types_are_kept(dtype):
    vectors = tf.constant(np.ones((2, 3, 4)), dtype)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        pairs = FactorizationMachine(dtype=dtype)(vectors)
    assert pairs.dtype == dtype
    assert pairs.numpy().tolist() == [[12], [12]]
    assert tape.gradient(pairs, vectors).dtype == dtype
