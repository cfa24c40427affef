"""What is done block by block is what is done to whole tables, bit for bit."""

import keras
import numpy as np
import pytest

import keras_pep
from keras_pep import blocks
from keras_pep.layers import PrunedEmbedding, variables
from keras_pep.layers.storage import STORAGES, Layout
from keras_pep.serving.compact import tables_of
from keras_pep.sparse import SparseTable

ROWS, COLUMNS = 103, 7
NAMES = ("values", "columns", "row_splits")


@pytest.fixture(params=[1, 5 * COLUMNS, 102 * COLUMNS, 10_000])
def at_once(request, monkeypatch):
    """Blocks of a row, of five, of all but one, and one of all."""
    monkeypatch.setattr(blocks, "ENTRIES_AT_ONCE", request.param)


def table_of(density, seed=0):
    random = np.random.default_rng(seed)
    table = random.normal(size=(ROWS, COLUMNS)).astype("float32")
    table[random.random(table.shape) > density] = 0
    table[random.random(ROWS) < 0.3] = 0
    return table


def assert_same(one, other):
    for name in NAMES:
        ours, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_sparse_tables(density):
    table = table_of(density)
    mask = table > 0
    for sparse, kept in (
        (SparseTable.from_dense(table), table != 0),
        (SparseTable.from_dense(table, mask), mask),
    ):
        np.testing.assert_array_equal(sparse.values, table[kept])
        np.testing.assert_array_equal(sparse.columns, np.nonzero(kept)[1])
        np.testing.assert_array_equal(
            sparse.row_splits, [0, *np.cumsum(kept.sum(axis=1))]
        )
        assert (sparse.columns.dtype, sparse.row_splits.dtype) == ("u1", "i4")
        np.testing.assert_array_equal(sparse.to_dense(), table * kept)
        np.testing.assert_array_equal(sparse.mask(), kept)
        other = table_of(1.0, seed=1)
        moved = sparse.with_values_of(np.array_split(other, 9))
        np.testing.assert_array_equal(moved.values, other[kept])


@pytest.mark.usefixtures("at_once")
def test_columns_that_do_not_ascend_are_found_wherever_they_are():
    table = SparseTable.from_dense(table_of(0.3))
    parts = {name: getattr(table, name) for name in NAMES}
    row = np.repeat(np.arange(ROWS), np.diff(table.row_splits))
    found = 0
    for place in range(1, table.values.size):
        columns = table.columns.copy()
        columns[place] = columns[place - 1]
        fits = (np.diff(row * COLUMNS + columns.astype(int)) > 0).all()
        found += not fits
        if fits:
            SparseTable(**{**parts, "columns": columns}, output_dim=COLUMNS)
            continue
        with pytest.raises(ValueError, match="do not describe a table"):
            SparseTable(**{**parts, "columns": columns}, output_dim=COLUMNS)
    assert 50 < found < table.values.size - 20


@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("density", [0.02, 0.5, 1.0])
def test_storage(storage, quantize, density, monkeypatch):
    table = SparseTable.from_dense(table_of(density))
    layout = Layout.smallest(table, (storage,), quantize)
    whole = layout.pack(table)
    back = layout.unpack(whole)
    for entries in (1, 5 * COLUMNS, 102 * COLUMNS):
        monkeypatch.setattr(blocks, "ENTRIES_AT_ONCE", entries)
        made = layout.pack(table)
        assert list(made) == list(whole)
        for name, array in made.items():
            np.testing.assert_array_equal(array, whole[name])
            assert array.dtype == whole[name].dtype
        assert_same(layout.unpack(made), back)


def test_marks_of_other_rows_than_are_stored_are_refused():
    table = np.zeros((320, 4), dtype="float32")
    table[7] = 1.0
    sparse = SparseTable.from_dense(table)
    layout = Layout.smallest(sparse, ("csr",))
    arrays = layout.pack(sparse)
    arrays["present"][1] = 5
    with pytest.raises(ValueError, match="marks other"):
        layout.unpack(arrays)


@pytest.mark.usefixtures("at_once")
def test_variables_are_read_and_filled():
    table = table_of(1.0)
    variable = keras.Variable(np.zeros_like(table))
    variables.assign_blocks(variable, SparseTable.from_dense(table).blocks())
    np.testing.assert_array_equal(variable.numpy(), table)
    read = list(variables.blocks(variable))
    np.testing.assert_array_equal(np.concatenate(read), table)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.usefixtures("at_once")
def test_one_number_everywhere(large, monkeypatch):
    monkeypatch.setattr(variables, "LARGE", 100 if large else 10_000)
    for shape in ((ROWS, COLUMNS), (300,), (20, 3, 2), ()):
        variable = keras.Variable(np.ones(shape), dtype="float32")
        variables.fill(variable, 0.25)
        np.testing.assert_array_equal(variable.numpy(), np.full(shape, 0.25))
        values = np.random.default_rng(0).normal(size=shape).astype("float32")
        variables.assign(variable, values)
        copied = variables.values_of(variable)
        np.testing.assert_array_equal(copied, values)
        variable.assign(np.zeros(shape))
        np.testing.assert_array_equal(copied, values)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("shrunk", [True, False])
def test_tickets(shrunk):
    layer = keras_pep.PEPEmbedding(
        ROWS, COLUMNS, threshold_init=-3.0, name="table"
    )
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layer])
    initial = layer.embeddings.numpy()
    learned = table_of(0.7, seed=2)
    layer.embeddings.assign(learned)
    layer.clock.assign(2.0)
    pruned, kept = layer.pruned_embeddings(), layer.mask()
    assert 0.1 < kept.mean() < 0.5
    ticket = keras_pep.Ticket.from_model(model, (), 1, 1, shrunk=shrunk)
    assert_same(ticket.tables["table"], SparseTable.from_dense(initial, kept))
    np.testing.assert_array_equal(
        ticket.learned_values["table"], (pruned if shrunk else learned)[kept]
    )
    assert_same(tables_of(model)["table"][1], SparseTable.from_dense(pruned))


@pytest.mark.usefixtures("at_once")
def test_a_rewound_table():
    layer = keras_pep.PEPEmbedding(ROWS, COLUMNS)
    layer.build()
    table = table_of(0.4)
    layer.assign_sparse(SparseTable.from_dense(table))
    np.testing.assert_array_equal(layer.embeddings.numpy(), table)
    np.testing.assert_array_equal(layer.pruned_embeddings(), table)
    small = PrunedEmbedding.from_sparse(layer.sparse())
    assert_same(small.sparse(), SparseTable.from_dense(table))
