import numpy as np
import pytest
import tensorflow as tf

from keras_pep.thresholds import (
    field_of,
    logit_shape,
    soft_threshold,
    thresholds,
)


def test_soft_threshold_by_hand():
    values = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    expected = [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    np.testing.assert_array_equal(soft_threshold(values, 1.0), expected)
    np.testing.assert_array_equal(soft_threshold(values, 0.0), values)


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        ("global", (1, 1)),
        ("dimension", (1, 8)),
        ("feature", (100, 1)),
        ("feature_dimension", (100, 8)),
        ("field", (5, 1)),
        ("field_dimension", (5, 8)),
    ],
)
def test_logit_shape(granularity, shape):
    assert logit_shape(granularity, 100, 8, 5) == shape


@pytest.mark.parametrize(
    "dtype",
    # Integers of JAX have 32 bits.
    ["int32", pytest.param("int64", marks=pytest.mark.requires_tensorflow)],
)
def test_field_of(dtype):
    rows = np.arange(6, dtype=dtype)
    assert np.array(field_of(rows, (1, 3, 2))).tolist() == [0, 1, 1, 1, 2, 2]


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("shape", [(), (1, 1), (1, 3), (4, 1), (4, 3), (3,)])
def test_gradients_are_those_of_the_formulas(shape):
    random = np.random.default_rng(1)
    values = tf.constant(random.normal(size=(4, 3)))
    logits = tf.constant(random.normal(-1, 0.5, shape))
    clock = tf.constant(0.25, tf.float64)
    upstream = tf.constant(random.normal(size=(4, 3)))

    def formulas(values, logits, clock):
        limits = tf.exp(logits + clock) * tf.sigmoid(-logits)
        return tf.sign(values) * tf.nn.relu(tf.abs(values) - limits)

    def ours(values, logits, clock):
        return soft_threshold(values, thresholds(logits, clock))

    found = []
    for function in (formulas, ours):
        with tf.GradientTape() as tape:
            tape.watch([values, logits, clock])
            result = function(values, logits, clock)
        gradients = tape.gradient(result, [values, logits, clock], upstream)
        assert [x.shape for x in gradients] == [(4, 3), shape, ()]
        found.append([result, *gradients])
    assert np.count_nonzero(found[0][0]) not in (0, 12)
    for expected, computed in zip(*found, strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.requires_tensorflow
def test_thresholds_of_minus_infinity_leave_values_alone():
    values = tf.constant([[0.5, -0.25, 0.0]])
    logits = tf.constant([[-15.0, 2.0, -200.0]])
    with tf.GradientTape() as tape:
        tape.watch([values, logits])
        result = soft_threshold(values, thresholds(logits, -np.inf))
    np.testing.assert_array_equal(result, values)
    of_values, of_logits = tape.gradient(result, [values, logits])
    assert of_values.numpy().tolist() == [[1, 1, 0]]
    assert of_logits.numpy().tolist() == [[0, 0, 0]]
