import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_pep._tf_kernels import on_cpu
from keras_pep.layers import lookup
from tests.backends import run_on

IDS = np.array([[7, 1, 7], [3, 1, 7]], dtype="int32")


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("width", [1, 24, 31, 32, 37, 64, 96])
def test_gradients_of_an_id_are_added_up(width, dtype, graph):
    """Narrow rows, rows that are cut, and 37, which cannot be."""
    random = np.random.default_rng(width)
    table = keras.Variable(random.normal(size=(9, width)), dtype=dtype)
    upstream = random.integers(-8, 8, (*IDS.shape, width)).astype(dtype)

    def gradient_of_loss():
        with tf.GradientTape() as tape:
            rows, spread = lookup.distinct(tf.constant(IDS))
            values = spread(lookup.take(table, rows))
            loss = tf.reduce_sum(values * upstream)
        gradient = tape.gradient(loss, table.value)
        return values, gradient.indices, gradient.values

    compute = tf.function(gradient_of_loss) if graph else gradient_of_loss
    values, rows, gradients = compute()
    np.testing.assert_array_equal(values, table.numpy()[IDS])
    assert rows.numpy().tolist() == [7, 1, 3]
    expected = np.zeros((9, width), dtype)
    np.add.at(expected, IDS, upstream)
    np.testing.assert_array_equal(gradients, expected[[7, 1, 3]])


@pytest.mark.requires_tensorflow
@pytest.mark.usefixtures("either_way")
def test_a_batch_may_be_empty():
    table = keras.Variable(np.ones((9, 4)), dtype="float32")
    with tf.GradientTape() as tape:
        rows, spread = lookup.distinct(tf.zeros((0, 3), "int32"))
        values = spread(lookup.take(table, rows))
    assert values.shape == (0, 3, 4)
    assert tape.gradient(values, table.value).values.shape == (0, 4)


def test_kernels_of_the_cpu_are_not_for_xla():
    asked = []

    def ask():
        asked.append(on_cpu())
        return tf.constant(0)

    ask()
    tf.function(ask)()
    tf.function(ask, jit_compile=True)()
    tf.function(tf.function(ask), jit_compile=True)()
    here = not tf.config.list_physical_devices("GPU")
    assert asked == [here, here, False, False]


@pytest.mark.parametrize(("value", "used"), [("", True), ("1", False)])
def test_one_variable_switches_all_tricks_off(value, used):
    found = run_on(
        keras.backend.backend(),
        "-c",
        "import json, keras; from keras_pep._tf_kernels import USED\n"
        "print(json.dumps(list(USED.values())))",
        env={"KERAS_PEP_PLAIN": value},
    )
    assert found == [used] * 5
