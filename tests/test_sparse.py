import numpy as np
import pytest

from keras_pep.sparse import SparseTable, column_dtype


def test_a_table_by_hand():
    table = SparseTable.from_dense([[0.0, 5.0], [0.0, 0.0], [6.0, 7.0]])
    assert table.values.tolist() == [5.0, 6.0, 7.0]
    assert table.columns.tolist() == [1, 0, 1]
    assert table.row_splits.tolist() == [0, 1, 1, 3]
    assert table.shape == (3, 2)
    assert table.embedding_sizes().tolist() == [1, 0, 2]
    assert table.mask().tolist() == [[False, True], [False] * 2, [True] * 2]


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (70_000, "uint32")],
)
def test_narrowest_column_type(columns, dtype):
    assert column_dtype(columns) == dtype


@pytest.mark.parametrize(
    "change",
    [
        {"columns": [1, 0, 2]},  # beyond the last column
        {"columns": [1, 1, 0]},  # falling within a row
        {"columns": [1, 1, 1]},  # twice the same place
        {"columns": [1, -1, 1]},
        {"columns": [1, 0]},
        {"row_splits": [0, 1, 1, 4]},
        {"row_splits": [1, 1, 1, 3]},
        {"row_splits": [0, 2, 1, 3]},
        {"row_splits": []},
        {"values": [[5.0, 6.0, 7.0]]},
    ],
)
def test_parts_that_describe_no_table_are_refused(change):
    parts = {
        "values": [5.0, 6.0, 7.0],
        "columns": [1, 0, 1],
        "row_splits": [0, 1, 1, 3],
        **change,
    }
    with pytest.raises(ValueError, match="do not describe a table"):
        SparseTable(
            **{name: np.array(part) for name, part in parts.items()},
            output_dim=2,
        )


def test_a_table_in_blocks_is_the_same():
    random = np.random.default_rng(0)
    table = random.normal(size=(7, 300)) * (random.random((7, 300)) < 0.2)
    whole = SparseTable.from_dense(table)
    parts = SparseTable.from_blocks(
        [table[:3], table[3:4], table[4:]], table.shape
    )
    for name in ("values", "columns", "row_splits"):
        ours, theirs = getattr(parts, name), getattr(whole, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(parts.to_dense(), table)
    np.testing.assert_array_equal(
        parts.with_values(-parts.values).to_dense(), -table
    )
