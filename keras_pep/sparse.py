"""A pruned table in memory: compressed sparse rows, in the narrowest types."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


def column_dtype(output_dim: int) -> str:
    """The narrowest integer type that holds every column number."""
    return str(np.min_scalar_type(output_dim - 1))


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
        sizes = np.diff(self.row_splits)
        fits = (
            (self.values.dtype.kind, self.row_splits.dtype.kind) == ("f", "i")
            and self.columns.dtype.kind in "iu"
            and self.values.ndim
            == self.columns.ndim
            == self.row_splits.ndim
            == 1
            and self.values.size == self.columns.size
            and self.row_splits.size > 1
            and self.row_splits[0] == 0
            and self.row_splits[-1] == self.values.size
            and (sizes >= 0).all()
        )
        if not fits or not self._columns_ascend():
            raise ValueError(
                "The parts do not describe a table: `row_splits` must rise "
                "from 0 to the number of values, and the columns within a row "
                f"from 0 to less than {self.output_dim}."
            )

    def _columns_ascend(self) -> bool:
        if not self.values.size:
            return True
        rows, columns = self.places()
        places = rows * self.output_dim + columns
        in_range = 0 <= self.columns.min() <= self.columns.max()
        return bool(
            in_range
            and self.columns.max() < self.output_dim
            and (np.diff(places) > 0).all()
        )

    @classmethod
    def from_dense(cls, table: Any, mask: Any = None) -> "SparseTable":
        """Keeps the entries of a table that a mask selects.

        Args:
            table: Float array of shape `(rows, output_dim)`.
            mask: Boolean array of the same shape; by default `table != 0`.

        Raises:
            ValueError: If shapes do not fit.
        """
        table = np.asarray(table)
        mask = table != 0 if mask is None else np.asarray(mask, dtype=bool)
        if table.ndim != 2 or mask.shape != table.shape:
            raise ValueError(
                "`table` must be a matrix and `mask` of the same shape. "
                f"Received: table of shape {table.shape}, mask of shape "
                f"{mask.shape}"
            )
        return cls._of(
            table[mask],
            np.nonzero(mask)[1],
            np.count_nonzero(mask, axis=1),
            table.shape[1],
        )

    @classmethod
    def from_blocks(cls, blocks: Iterable[np.ndarray]) -> "SparseTable":
        """Keeps what is not zero in a table that comes some rows at a time.

        Args:
            blocks: At least one float array of shape `(some, output_dim)`.

        Raises:
            ValueError: If too many are kept.
        """
        values, columns, sizes = [], [], []
        for block in blocks:
            mask = block != 0
            values.append(block[mask])
            columns.append(
                np.nonzero(mask)[1].astype(column_dtype(block.shape[1]))
            )
            sizes.append(np.count_nonzero(mask, axis=1))
        return cls._of(
            np.concatenate(values),
            np.concatenate(columns),
            np.concatenate(sizes),
            block.shape[1],
        )

    @classmethod
    def _of(
        cls,
        values: np.ndarray,
        columns: np.ndarray,
        sizes: np.ndarray,
        output_dim: int,
    ) -> "SparseTable":
        splits = np.concatenate([[0], np.cumsum(sizes)])
        if splits[-1] > np.iinfo(np.int32).max:
            raise ValueError(
                "A pruned table holds at most 2**31 - 1 entries. "
                f"Received: {splits[-1]:,} to keep"
            )
        return cls(
            values=values,
            columns=columns.astype(column_dtype(output_dim)),
            row_splits=splits.astype(np.int32),
            output_dim=output_dim,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the table."""
        return self.row_splits.size - 1, self.output_dim

    def to_dense(self) -> np.ndarray:
        """The table with zeros for what was pruned."""
        table = np.zeros(self.shape, self.values.dtype)
        table[self.places()] = self.values
        return table

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every kept entry, to index a table with."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.row_splits))
        return rows, self.columns

    def with_values(self, values: np.ndarray) -> "SparseTable":
        """The same entries with other values."""
        return replace(self, values=values)

    def mask(self) -> np.ndarray:
        """Which entries are kept: boolean, of the table's shape."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.places()] = True
        return mask

    def embedding_sizes(self) -> np.ndarray:
        """Kept entries of every row: int64, `(rows,)`."""
        return np.diff(self.row_splits).astype(np.int64)
