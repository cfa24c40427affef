import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.sparse import SparseTable


def sparse_table(rows=6, columns=4, density=0.4):
    random = np.random.default_rng(0)
    table = random.normal(size=(rows, columns)).astype("float32")
    table *= random.random(table.shape) < density
    table[2] = 0.0  # a feature that lost everything
    return table


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 1, 3), (0, 3)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_looks_up_what_a_dense_table_does(shape, dtype):
    table = sparse_table()
    layer = keras_pep.PrunedEmbedding.from_dense(table)
    ids = np.random.default_rng(1).integers(0, 6, size=shape).astype(dtype)
    output = layer(ids)
    assert output.shape == (*shape, 4) == layer.compute_output_shape(shape)
    np.testing.assert_array_equal(output, table[ids.astype(int)])


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("jax_formulation", [False, True])
def test_gradient_is_the_dense_gradient_at_the_kept_entries(
    jax_formulation, monkeypatch
):
    table = sparse_table()
    layer = keras_pep.PrunedEmbedding.from_dense(table)
    if jax_formulation:
        monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    ids = np.array([[0, 2, 5], [5, 5, 1]])
    upstream = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("f4")
    with tf.GradientTape() as tape:
        output = layer(ids)
        loss = tf.reduce_sum(output * upstream)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.values.value))
    dense = np.zeros(table.shape, dtype="float32")
    np.add.at(dense, ids, upstream)
    np.testing.assert_array_equal(output, table[ids])
    np.testing.assert_allclose(gradient, dense[table != 0], rtol=1e-6)


def test_training_leaves_pruned_entries_pruned():
    table = sparse_table()
    layer = keras_pep.PrunedEmbedding.from_dense(table)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    model.compile(keras_pep.optimizers.AdamL2(0.1), "mse")
    ids = np.random.default_rng(1).integers(0, 6, size=(64, 3))
    model.fit(ids, np.ones((64, 3, 4)), epochs=2, verbose=0)
    after = layer(np.arange(6)).numpy()
    np.testing.assert_array_equal(after != 0, table != 0)
    assert (after != table)[table != 0].all()


def test_it_counts_what_it_keeps():
    """4 of 9 entries, one of them a kept 0, in rows of 3, 0 and 1 of 3."""
    mask = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0]], bool)
    table = np.array([[1, 2, 3], [4, 5, 6], [7, 0, 8]], "float32")
    layer = keras_pep.PrunedEmbedding.from_dense(table, mask)
    assert layer.embedding_sizes().tolist() == [3, 0, 1]
    assert layer.nonzero_parameters() == 4
    assert layer.sparsity() == pytest.approx(5 / 9)


@pytest.mark.parametrize(
    ("columns", "dtype"), [(256, "uint8"), (257, "uint16")]
)
def test_columns_are_stored_in_the_narrowest_type(columns, dtype):
    table = np.zeros((2, columns), dtype="float32")
    table[1, [0, columns - 1]] = 1.0, 2.0
    layer = keras_pep.PrunedEmbedding.from_dense(table, storage="csr")
    assert layer.columns.dtype == dtype
    np.testing.assert_array_equal(layer(np.array([1, 0])), table[[1, 0]])


def test_a_mask_keeps_entries_that_are_zero():
    table = np.array([[0.0, 1.0], [2.0, 3.0]], dtype="float32")
    mask = np.array([[True, False], [False, True]])
    layer = keras_pep.PrunedEmbedding.from_dense(table, mask)
    assert layer.values.numpy().tolist() == [0.0, 3.0]
    np.testing.assert_array_equal(layer(np.array([0, 1])), table * mask)


def test_a_table_that_lost_everything():
    layer = keras_pep.PrunedEmbedding.from_dense(np.zeros((5, 3)))
    output = layer(np.array([[1, 4]]))
    np.testing.assert_array_equal(output, np.zeros((1, 2, 3)))


def test_a_model_beside_an_empty_table_trains():
    """Warnings are errors here: of a gradient that does not exist, say."""
    ids = keras.Input((2,), dtype="int32")
    table = keras_pep.PrunedEmbedding.from_dense(np.zeros((5, 3)))
    hidden = keras.layers.Flatten()(table(ids))
    model = keras.Model(ids, keras.layers.Dense(1)(hidden))
    model.compile(keras_pep.optimizers.LazyAdam(0.1, l2=0.1), "mse")
    model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=9, verbose=0)
    assert model.predict(np.zeros((1, 2)), verbose=0)[0, 0] > 0.5


def test_saved_model_predicts_the_same(tmp_path):
    layer = keras_pep.PrunedEmbedding.from_dense(sparse_table(), mask_zero=True)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    ids = np.array([[0, 1, 5]])
    expected = model.predict(ids, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), expected)
    assert loaded.layers[0].get_config() == layer.get_config()
    np.testing.assert_array_equal(
        loaded.layers[0].sparse().mask(), sparse_table() != 0
    )


@pytest.mark.skip_on_torch("its types are its own")
def test_half_precision_and_mask_zero():
    layer = keras_pep.PrunedEmbedding.from_dense(
        sparse_table(), dtype="mixed_float16", mask_zero=True
    )
    output = layer(np.array([1]))
    assert output.dtype == tf.float16
    np.testing.assert_allclose(output, sparse_table()[[1]], rtol=1e-3)
    assert layer.compute_mask(np.array([0, 1])).numpy().tolist() == [
        False,
        True,
    ]


def test_a_ticket_names_its_table():
    table = SparseTable.from_dense(sparse_table())
    one = keras_pep.Ticket(tables={"embedding": table})
    two = keras_pep.Ticket(tables={"user": table, "item": table})
    layer = keras_pep.PrunedEmbedding.from_ticket(one)
    np.testing.assert_array_equal(layer(np.arange(6)), sparse_table())
    assert keras_pep.PrunedEmbedding.from_ticket(two, "item").num_values
    with pytest.raises(ValueError, match=r"\['user', 'item'\]"):
        keras_pep.PrunedEmbedding.from_ticket(two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": -1}, "input_dim=-1"),
        ({"output_dim": "4"}, "output_dim='4'"),
        ({"num_values": 25}, "num_values=25"),
        ({"num_rows": 4}, "num_rows=4"),
        ({"storage": "coo"}, "storage='coo'"),
        ({"quantize": "int4"}, "quantize='int4'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    valid = {"input_dim": 6, "output_dim": 4, "num_values": 3, "num_rows": 2}
    with pytest.raises(ValueError, match=message):
        keras_pep.PrunedEmbedding(**{**valid, **arguments})


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        keras_pep.PrunedEmbedding.from_dense(np.ones((2, 3)), np.ones((3, 2)))


@pytest.mark.requires_tensorflow
def test_a_model_that_is_compiled_for_xla_where_it_can_be():
    """`jit_compile="auto"` must not choose XLA, as it does where a GPU is."""
    layer = keras_pep.PrunedEmbedding.from_dense(sparse_table())
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    model.compile("adam", "mse", jit_compile="auto")
    assert not layer.supports_jit
    assert not model.jit_compile


def test_a_table_of_another_size_is_refused():
    layer = keras_pep.PrunedEmbedding.from_dense(sparse_table())
    other = SparseTable.from_dense(sparse_table(columns=5))
    with pytest.raises(ValueError, match=r"of 24 entries.*of 30 entries"):
        layer.assign_sparse(other)


@pytest.mark.parametrize("storage", ["csr", "bitmask"])
def test_frozen_in_a_model_that_is_trained(storage):
    table = sparse_table()
    layer = keras_pep.PrunedEmbedding.from_dense(table, storage=storage)
    ids = keras.Input((), dtype="int32")
    top = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Model(ids, top(layer(ids)))
    layer.trainable = False
    model.compile("sgd", "mse")
    model.fit(np.arange(6), np.ones((6, 1)), verbose=0)
    assert np.all(top.kernel.numpy() != 0)
    np.testing.assert_array_equal(layer(np.arange(6)), table)
