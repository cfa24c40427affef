"""A pruned table in memory: compressed sparse rows, in the narrowest types."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_pep.blocks import joined, row_blocks

# Values, their columns, and how many are of each of some rows.
_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


def column_dtype(output_dim: int) -> str:
    """Choose the narrowest integer type that holds every column number."""
    return str(np.min_scalar_type(output_dim - 1))


def splits_of(sizes: np.ndarray) -> np.ndarray:
    """Compute where each row begins and the last ends: int32, `(rows + 1,)`.

    Args:
        sizes: Kept entries of each row.

    Raises:
        ValueError: If too many are kept.
    """
    _check_total(int(sizes.sum(dtype=np.int64)))
    splits = np.zeros(sizes.size + 1, np.int32)
    np.cumsum(sizes, dtype=np.int32, out=splits[1:])
    return splits


def _check_total(kept: int) -> None:
    if kept > np.iinfo(np.int32).max:
        raise ValueError(
            "A pruned table holds at most 2**31 - 1 entries. "
            f"Received: {kept:,} to keep"
        )


@dataclass(frozen=True, eq=False)
class SparseTable:
    """The kept entries of an embedding table, row by row.

    Attributes:
        values: Kept entries, float, `(kept,)`.
        columns: Their columns, ascending within a row, unsigned, `(kept,)`.
        row_splits: Row `i` is `values[row_splits[i]:row_splits[i + 1]]`;
            int32, `(rows + 1,)`.
        output_dim: Number of columns of the table.

    Raises:
        ValueError: If the parts do not describe a table.
    """

    values: np.ndarray
    columns: np.ndarray
    row_splits: np.ndarray
    output_dim: int

    def __post_init__(self) -> None:
        values, columns, splits = self.values, self.columns, self.row_splits
        fits = (
            (values.dtype.kind, splits.dtype.kind) == ("f", "i")
            and columns.dtype.kind in "iu"
            and values.ndim == columns.ndim == splits.ndim == 1
            and values.size == columns.size
            and splits.size > 1
            and (splits[0], splits[-1]) == (0, values.size)
            and all(
                (splits[rows] <= splits[rows.start + 1 : rows.stop + 1]).all()
                for rows in row_blocks(splits.size - 1, 1)
            )
        )
        if not fits or not self._columns_ascend():
            raise ValueError(
                "The parts do not describe a table: `row_splits` must rise "
                "from 0 to the number of values, and the columns within a row "
                f"from 0 to less than {self.output_dim}."
            )

    def _columns_ascend(self) -> bool:
        """Tell whether columns ascend within each row, below `output_dim`."""
        columns = self.columns
        if not columns.size:
            return True
        if columns.min() < 0 or columns.max() >= self.output_dim:
            return False
        for part in row_blocks(columns.size - 1, 1):
            # Of another type they would be compared with a copy.
            ends = np.array([part.start, part.stop], self.row_splits.dtype) + 1
            first, last = np.searchsorted(self.row_splits, ends)
            rises = columns[part.start + 1 : part.stop + 1] > columns[part]
            # The first of a row may have any column.
            rises[self.row_splits[first:last] - (part.start + 1)] = True
            if not rises.all():
                return False
        return True

    @classmethod
    def from_dense(cls, table: Any, mask: Any = None) -> "SparseTable":
        """Keep the entries of a table that a mask selects.

        Args:
            table: Float array of shape `(rows, output_dim)`.
            mask: Boolean array of the same shape; by default `table != 0`.

        Raises:
            ValueError: If shapes do not fit.
        """
        table = np.asarray(table)
        mask = None if mask is None else np.asarray(mask, dtype=bool)
        if table.ndim != 2 or (mask is not None and mask.shape != table.shape):
            raise ValueError(
                "`table` must be a matrix and `mask` of the same shape. "
                f"Received: table of shape {table.shape}, mask of shape "
                f"{None if mask is None else mask.shape}"
            )
        return cls.from_parts(
            (
                _kept(table[rows], None if mask is None else mask[rows])
                for rows in row_blocks(*table.shape)
            ),
            table.shape,
        )

    @classmethod
    def from_blocks(
        cls, blocks: Iterable[np.ndarray], shape: tuple[int, int]
    ) -> "SparseTable":
        """Keep what is not zero in a table that comes some rows at a time.

        Args:
            blocks: At least one float array of shape `(some, output_dim)`.
            shape: Rows and columns of the table.

        Raises:
            ValueError: If too many are kept.
        """
        return cls.from_parts(map(_kept, blocks), shape)

    @classmethod
    def from_parts(
        cls,
        parts: Iterable[_Part],
        shape: tuple[int, int],
    ) -> "SparseTable":
        """Make a table from the kept entries of blocks of rows.

        Args:
            parts: Values, their columns, and how many are of each row.
            shape: Rows and columns of the table.

        Raises:
            ValueError: If they do not describe a table, or too many are kept.
        """
        count, output_dim = shape
        # Lists of parts would take as much again. What is not written to takes
        # no memory: there is room for a value of every row to begin with.
        values = np.empty(count, np.float32)
        columns = np.empty(count, column_dtype(output_dim))
        row_splits = np.zeros(count + 1, np.int32)
        kept = rows = 0
        for value, column, sizes in parts:
            if not rows:
                values = np.empty(count, value.dtype)
            _check_total(kept + value.size)
            ends = kept + np.cumsum(sizes, dtype=np.int32)
            values = _put(values, kept, value)
            columns = _put(columns, kept, column)
            row_splits[rows + 1 : rows + 1 + ends.size] = ends
            kept, rows = kept + value.size, rows + ends.size
        values.resize(kept, refcheck=False)
        columns.resize(kept, refcheck=False)
        return cls(values, columns, row_splits, output_dim)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the table."""
        return self.row_splits.size - 1, self.output_dim

    def to_dense(self) -> np.ndarray:
        """Return the table with zeros for what was pruned."""
        return joined(self.blocks(), self.shape[0])

    def blocks(self) -> Iterator[np.ndarray]:
        """`to_dense` of one of `row_blocks` after the other."""
        for rows in row_blocks(*self.shape):
            block = np.zeros(
                (rows.stop - rows.start, self.output_dim), self.values.dtype
            )
            block[self.places(rows)] = self.values[self.kept(rows)]
            yield block

    def kept(self, rows: slice) -> slice:
        """Return the slice of values of some rows."""
        first, last = self.row_splits[[rows.start, rows.stop]]
        return slice(first, last)

    def places(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column of the kept entries of some rows.

        Args:
            rows: Which rows; the first of them is row 0.
        """
        sizes = np.diff(self.row_splits[rows.start : rows.stop + 1])
        return (
            np.repeat(np.arange(sizes.size), sizes),
            self.columns[self.kept(rows)],
        )

    def with_values_of(self, blocks: Iterable[np.ndarray]) -> "SparseTable":
        """Take the same entries of another table, given in blocks of rows.

        Args:
            blocks: Float arrays of shape `(some, output_dim)`, as many rows as
                there are in all.
        """
        start, values = 0, np.empty_like(self.values)
        for block in blocks:
            rows = slice(start, start + len(block))
            values[self.kept(rows)] = block[self.places(rows)]
            start = rows.stop
        return self.with_values(values)

    def with_values(self, values: np.ndarray) -> "SparseTable":
        """Return the same entries with other values."""
        return replace(self, values=values)

    def reordered(self, order: np.ndarray) -> "SparseTable":
        """Return the table with its rows in another order.

        Args:
            order: Of each row, which of the present rows it is to be.
        """
        splits = splits_of(np.diff(self.row_splits)[order])
        places = np.arange(splits[-1])
        shift = self.row_splits[:-1][order] - splits[:-1]
        places += np.repeat(shift, np.diff(splits))
        return SparseTable(
            *(self.values[places], self.columns[places]),
            *(splits, self.output_dim),
        )

    def moved(self, rows: np.ndarray) -> "SparseTable":
        """Return a table of these rows and of new ones.

        Args:
            rows: Of each row, which of the present rows it is to be; -1: a new
                one, of which all is kept, at zero; -2: nothing is kept.
        """
        columns = np.arange(self.output_dim, dtype=self.columns.dtype)
        more = np.array([0, self.output_dim], self.row_splits.dtype)
        every = SparseTable(
            np.append(self.values, np.zeros(columns.size, self.values.dtype)),
            np.append(self.columns, columns),
            np.append(self.row_splits, more + self.row_splits[-1]),
            self.output_dim,
        )
        # The two rows more are found by -2 and -1.
        return every.reordered(np.asarray(rows))

    def mask(self) -> np.ndarray:
        """Return which entries are kept: boolean, of the table's shape."""
        mask = np.zeros(self.shape, dtype=bool)
        for rows in row_blocks(*self.shape):
            mask[rows][self.places(rows)] = True
        return mask

    def has_kept(self) -> np.ndarray:
        """Return which rows keep anything: boolean, `(rows,)`."""
        return self.row_splits[1:] > self.row_splits[:-1]

    def embedding_sizes(self) -> np.ndarray:
        """Kept entries of every row: int64, `(rows,)`."""
        return np.diff(self.row_splits).astype(np.int64)


def _put(array: np.ndarray, place: int, part: np.ndarray) -> np.ndarray:
    """Put a part into an array, made longer by an eighth if need be."""
    end = place + part.size
    if end > array.size:
        array.resize(end + end // 8, refcheck=False)
    array[place:end] = part
    return array


def _kept(block: np.ndarray, mask: np.ndarray | None = None) -> _Part:
    mask = block != 0 if mask is None else mask
    return block[mask], np.nonzero(mask)[1], np.count_nonzero(mask, axis=1)
