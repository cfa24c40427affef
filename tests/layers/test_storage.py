"""How pruned tables are stored, and looked up, in every layout."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_pep
from keras_pep.layers.rounding import clipped, needs_row_scales
from keras_pep.layers.storage import PREFIX, STORAGES, Layout
from keras_pep.sparse import SparseTable


def table_of(rows, columns, density, seed=0):
    random = np.random.default_rng(seed)
    table = random.normal(size=(rows, columns)).astype("float32")
    return table * (random.random(table.shape) < density)


# Of some rows nothing is kept, of few anything, of none or all everything; more
# rows than a word has bits; more columns than a byte has.
TABLES = {
    "some": table_of(6, 4, 0.4),
    "few": table_of(150, 9, 0.01),
    "one word": table_of(32, 3, 0.3),
    "most": table_of(70, 20, 0.7),
    "all": table_of(33, 5, 1.0),
    "whole rows": table_of(64, 8, 1.0) * (np.arange(64)[:, None] % 5 == 0),
    "wide": table_of(40, 300, 0.05),
    "one column": table_of(100, 1, 0.2),
    # One scale would be too rough for it; more in 32 rows than a byte counts.
    "one large": np.float32(
        table_of(300, 9, 0.9)
        * np.where(np.arange(9) == 4, 100, 1)
        * np.where(np.arange(300)[:, None] < 3, 1, 0.01)
    ),
}
QUANTIZE = [None, "float16", "int8"]


def prefixes(sizes, columns, seed=0):
    table = table_of(len(sizes), columns, 1.0, seed)
    return table * (np.arange(columns) < np.reshape(sizes, (-1, 1)))


PREFIXES = {
    "in order": prefixes([5] * 40 + [3] * 7 + [1] * 50 + [0] * 30, 5),
    "fields": prefixes([300, 300, 2, 0, 0, 299, 1, 1, 0], 300),
    "one run": prefixes([3] * 9, 3),
    "one each": prefixes(np.arange(70) % 9, 8),
    "nothing": prefixes([0] * 5, 2),
    # A row's number times its size, or the place of a value, is above 2**16.
    "far": prefixes([100] * 300 + [0] * 398 + [100, 99], 100),
    "many": prefixes([0, 1] + [100] * 700, 100),
    # A scale for each column is fine enough for it.
    "small columns": prefixes([4, 4, 3, 1, 1, 0], 4) * 0.01 ** np.arange(4),
}


@pytest.fixture(params=TABLES.values(), ids=TABLES)
def table(request):
    return request.param


def error_of(layout, table):
    """What rounding may cost an entry."""
    quantize = layout.quantize
    if quantize is None:
        return np.zeros_like(table)
    if quantize == "float16":
        return np.abs(table) * 2**-11 + 2**-25
    # Half a unit; a unit is a 127th of the largest, of a row's rounded up.
    axis = 0 if layout.storage == PREFIX else 1 if layout.row_scales else None
    largest = np.abs(table).max(axis=axis, keepdims=True)
    return np.broadcast_to(0.501 * largest / 127, table.shape)


def stored(table, storage, quantize):
    """The table that comes back from its arrays, which are as announced."""
    sparse = SparseTable.from_dense(table)
    layout = Layout.smallest(sparse, (storage,), quantize)
    arrays = layout.pack(sparse)
    found = {name: (a.shape, str(a.dtype)) for name, a in arrays.items()}
    assert found == layout.arrays
    assert layout.bytes == sum(array.nbytes for array in arrays.values())
    back = layout.unpack(arrays)
    assert (np.abs(back.to_dense() - table) <= error_of(layout, table)).all()
    return back


@pytest.mark.parametrize("quantize", QUANTIZE)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_stored_is_the_table(storage, quantize, table):
    back = stored(table, storage, quantize)
    if quantize is None:
        np.testing.assert_array_equal(back.mask(), table != 0)


@pytest.mark.parametrize(
    ("quantize", "trainable"),
    [(None, True), (None, False), ("float16", False), ("int8", False)],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_looked_up_is_the_table(storage, quantize, trainable, table):
    layer = keras_pep.PrunedEmbedding.from_dense(
        table, storage=storage, quantize=quantize, trainable=trainable
    )
    for shape in ((), (0, 3), (5, 40)):
        ids = np.random.default_rng(1).integers(0, len(table), shape)
        output = layer(ids).numpy()
        assert output.shape == (*shape, table.shape[1])
        error = np.abs(output - table[ids])
        assert (error <= error_of(layer.layout, table)[ids]).all()
    every = layer(np.arange(len(table))).numpy()
    np.testing.assert_array_equal(every, layer.sparse().to_dense())


@pytest.mark.parametrize("quantize", QUANTIZE)
@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes_are_stored_by_runs_of_rows(name, quantize):
    table = np.float32(PREFIXES[name])
    back = stored(table, PREFIX, quantize).to_dense()
    layer = keras_pep.PrunedEmbedding.from_dense(
        table, storage=PREFIX, quantize=quantize
    )
    assert not layer.trainable
    every = layer(np.arange(len(table)))
    every = keras.ops.convert_to_numpy(every)
    np.testing.assert_array_equal(every, back)
    again = type(layer).from_config(layer.get_config())
    again.build()
    again.assign_sparse(SparseTable.from_dense(table))
    ids = np.array([[len(table) - 1, 0], [1, 1]])
    again = keras.ops.convert_to_numpy(again(ids))
    np.testing.assert_array_equal(again, back[ids])


def test_prefixes_in_order_of_their_sizes_take_their_values_alone():
    table = SparseTable.from_dense(PREFIXES["in order"])
    kept = 40 * 5 + 7 * 3 + 50
    layout = keras_pep.PrunedEmbedding.layout_of(
        table, quantize="int8", trainable=False
    )
    # Four runs, of 2 + 1 bytes, and 1 from one to the next; five scales.
    size = kept + 4 * 3 + 3 * 1 + 5 * 4
    assert (layout.storage, layout.bytes) == (PREFIX, size)
    assert keras_pep.PrunedEmbedding.layout_of(table).storage != PREFIX


def test_what_is_no_prefix_is_not_stored_as_one():
    with pytest.raises(ValueError, match="first columns alone"):
        keras_pep.PrunedEmbedding.from_dense([[0.0, 1.0]], storage=PREFIX)
    rough = np.ones((400, 2)) * np.where(np.arange(400)[:, None] == 0, 1e3, 1)
    table = SparseTable.from_dense(rough)
    with pytest.raises(ValueError, match="differ too much"):
        Layout.smallest(table, (PREFIX,), "int8")


def test_the_smallest_is_chosen_by_its_bytes():
    """Counted by hand for 320 rows of 64 columns; ten words, of 8 bytes."""
    chosen = {}
    for name, table in {
        "sparse": table_of(320, 64, 0.05),
        "half": table_of(320, 64, 0.5),
        "full": table_of(320, 64, 1.0),
        "whole rows": np.ones((320, 64)) * (np.arange(320)[:, None] < 32),
    }.items():
        kept = np.count_nonzero(table)
        layout = Layout.smallest(SparseTable.from_dense(table))
        chosen[name] = layout.storage, layout.bytes - 4 * kept
    sparse = table_of(320, 64, 0.05)
    assert 300 < np.count_nonzero(sparse.any(axis=1)) < 320  # not worth 80
    assert chosen == {
        "sparse": ("csr", np.count_nonzero(sparse) + 321 + 4 * 11),
        "half": ("bitmask", 320 * 8 + 2 * 321 + 4 * 11),
        "full": ("dense", 0),
        "whole rows": ("dense", 80),
    }


def test_whole_rows_may_take_next_to_nothing_more():
    """A row without entries among 256 saves a 256th, less an end of a run."""
    for rows, storage in ((256, "dense"), (200, PREFIX)):
        table = np.ones((rows, 64))
        table[-1] = 0
        layout = keras_pep.PrunedEmbedding.layout_of(
            SparseTable.from_dense(table), trainable=False
        )
        assert layout.storage == storage


def test_rows_without_entries_take_a_quarter_of_a_byte():
    table = np.zeros((32_000, 8), dtype="float32")
    table[5, 3] = 1.0
    layout = Layout.smallest(SparseTable.from_dense(table), ("csr",))
    assert layout.bytes == 32_000 / 4 + 5 + 2 + 4  # two offsets, and a start


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("storage", STORAGES)
def test_gradient_and_training_of_every_storage(storage):
    table = TABLES["whole rows"]
    layer = keras_pep.PrunedEmbedding.from_dense(table, storage=storage)
    assert layer.trainable
    ids = np.array([[0, 1, 5, 5], [6, 63, 60, 0]])
    upstream = np.random.default_rng(1).normal(size=(2, 4, 8)).astype("f4")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids) * upstream)
    gradient = tape.gradient(loss, layer.values.value)
    # What was not looked up has no gradient, so that lazy optimizers see it.
    assert len(np.unique(gradient.indices)) == len(gradient.indices)
    dense = np.zeros(table.shape, dtype="float32")
    np.add.at(dense, ids, upstream)
    found = np.reshape(tf.convert_to_tensor(gradient), -1)
    np.testing.assert_allclose(found, dense[table != 0], rtol=1e-6)

    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    model.compile(keras_pep.optimizers.LazyAdam(0.1, l2=0.1), "mse")
    for _ in range(2):  # at the end of `fit` L2 acts on the other rows, too
        model.train_on_batch(ids, np.ones((2, 4, 8)))
    after = layer(np.arange(64)).numpy()
    np.testing.assert_array_equal(after != 0, table != 0)
    np.testing.assert_array_equal(
        np.nonzero((after != table).any(axis=1))[0], [0, 5, 60]
    )


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("wrong", [-1, "rows", "rows + 31"])
def test_an_id_out_of_range_is_an_error(table, wrong):
    """Rows are marked in words of 32: what is behind the last is no row."""
    wrong = {"rows": len(table), "rows + 31": len(table) + 31}.get(wrong, wrong)
    for trainable in (True, False):
        layer = keras_pep.PrunedEmbedding.from_dense(table, trainable=trainable)
        with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
            layer(np.array([0, wrong]))


def test_what_is_quantized_is_not_trained():
    layer = keras_pep.PrunedEmbedding.from_dense(
        TABLES["some"], quantize="int8", name="table"
    )
    assert not layer.trainable_weights
    loaded = type(layer).from_config(layer.get_config())
    assert not loaded.trainable
    assert loaded.layout == layer.layout


@pytest.mark.parametrize("storage", STORAGES)
def test_freezing_and_thawing(storage):
    table = TABLES["whole rows"]
    layer = keras_pep.PrunedEmbedding.from_dense(
        table, storage=storage, trainable=False
    )
    assert not layer.trainable_weights
    layer.trainable = True
    assert layer.trainable_weights == [layer.values]
    quantized = keras_pep.PrunedEmbedding.from_dense(
        table, storage=storage, quantize="int8"
    )
    before = quantized(np.arange(64)).numpy()
    quantized.trainable = True
    assert not quantized.trainable_weights
    np.testing.assert_array_equal(quantized(np.arange(64)), before)


@pytest.mark.parametrize(
    ("quantize", "message"), [("float16", "65,504"), ("int8", "8,319,008")]
)
def test_values_beyond_a_type_are_refused(quantize, message):
    table = np.ones((200, 2))
    table[7, 1] = 1e7
    with pytest.raises(ValueError, match=message):
        keras_pep.PrunedEmbedding.from_dense(table, quantize=quantize)


def test_int8_has_one_scale_unless_it_is_too_rough():
    """A 127th of the largest over the root of 12 is the error of rounding."""
    table = np.ones((400, 2))
    for largest, row_scales in ((10.0, False), (20.0, True)):
        table[7, 1] = largest
        layer = keras_pep.PrunedEmbedding.from_dense(
            table, storage="dense", quantize="int8"
        )
        assert layer.layout.row_scales == row_scales
        size = 400 * 2 + (400 * 2 if row_scales else 4)
        assert layer.layout.bytes == size


def test_clipped_values_need_no_scales_for_rows():
    """A 20 in a column of ones is 17 times their root mean square."""
    table = np.ones((1000, 2), np.float32)
    table[:, 1] = 0.5
    table[0], table[1] = [20, 1.5], [-3, 0.5]
    sparse = SparseTable.from_dense(table)
    assert needs_row_scales(sparse, by_column=True)
    made = clipped(sparse)
    assert not needs_row_scales(made, by_column=True)
    kept = made.to_dense()
    np.testing.assert_array_equal(kept[1:], table[1:])
    limit = 0.9 * 127 * np.sqrt(12) * 0.03 * np.sqrt(np.mean(table[:, 0] ** 2))
    assert kept[0].tolist() == [pytest.approx(limit, rel=1e-6), 1.5]


def test_values_of_any_spread_can_be_clipped():
    random = np.random.default_rng(0)
    table = random.lognormal(sigma=3, size=(2000, 2)).astype(np.float32)
    sparse = SparseTable.from_dense(table)
    assert needs_row_scales(sparse, by_column=True)
    made = clipped(sparse).to_dense()
    assert not needs_row_scales(SparseTable.from_dense(made), by_column=True)
    assert (made <= table).all()
    assert np.mean(made == table) > 0.95
