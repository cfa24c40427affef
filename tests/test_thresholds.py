import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_pep.thresholds import (
    GROWTH,
    field_of,
    logit_shape,
    prefix_threshold,
    soft_threshold,
    suffix_norms,
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


def cut_by_hand(values, limit):
    cut, norms = np.zeros_like(values), np.zeros_like(values)
    for row, column in np.ndindex(values.shape):
        norm = np.sqrt((values[row, column:] ** 2).sum())
        norms[row, column] = norm / GROWTH**column
        own = np.broadcast_to(limit, (len(values), 1))[row, 0]
        share = 1 - own * GROWTH**column / norm if norm else 0
        cut[row, column] = values[row, column] * max(share, 0)
    return cut, norms


@pytest.mark.parametrize("limit", [0.0, 0.3, 2.0, 9.0])
def test_a_prefix_of_each_row_is_kept(limit):
    values = np.random.default_rng(0).normal(size=(50, 7)).astype("float32")
    values[3] = 0.0
    values[4, 2:] = 0.0
    found = keras.ops.convert_to_numpy(prefix_threshold(values, limit))
    expected, norms = cut_by_hand(values.astype(np.float64), limit)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    kept = found != 0
    assert (kept[:, 1:] <= kept[:, :-1]).all()
    if limit == 2.0:
        assert len({*kept.sum(axis=1)}) >= 4
    found = keras.ops.convert_to_numpy(suffix_norms(values))
    np.testing.assert_allclose(found, norms, rtol=1e-5)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("shape", [(1, 1), (4, 1)])
def test_gradients_pass_through_what_is_kept(shape):
    random = np.random.default_rng(1)
    values = tf.constant(random.normal(size=(4, 3)))
    limits = tf.constant(random.uniform(0.5, 1, shape))
    upstream = random.normal(size=(4, 3))
    with tf.GradientTape() as tape:
        tape.watch([values, limits])
        result = prefix_threshold(values, limits)
    of_values, of_limits = tape.gradient(
        result, [values, limits], tf.constant(upstream)
    )
    kept = result.numpy() != 0
    assert kept.sum() not in (0, 12)
    np.testing.assert_array_equal(of_values, upstream * kept)
    step = 1e-6
    below, above = (
        cut_by_hand(values.numpy(), limits.numpy() + sign * step)[0]
        for sign in (-1, 1)
    )
    expected = (above - below) / (2 * step) * upstream
    rows = 1 if shape[0] == 4 else (0, 1)
    expected = expected.sum(axis=rows, keepdims=True)
    np.testing.assert_allclose(of_limits, expected, rtol=1e-6)
