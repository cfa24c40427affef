"""The size that is asked for of a small table, in entries or bytes."""

import bisect
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_pep.data import Dataset
from keras_pep.lab.baselines import (
    COMPRESSED,
    OF_FIELDS,
    BudgetTooSmallError,
    mixed_dimensions,
)
from keras_pep.lab.baselines.mixed_dimension import parameters_of_mixed
from keras_pep.layers import PEPEmbedding, RowEmbedding, variables
from keras_pep.layers.prefixes import fits_prefixes
from keras_pep.layers.rounding import clipped
from keras_pep.layers.storage import PREFIX, Layout
from keras_pep.pruning.sizes import entries_in_bytes
from keras_pep.serving.renumbering import by_size
from keras_pep.sparse import SparseTable

_QUANTIZED = "int8"
_SCALES = 128  # bytes of the scales of a compressor, at most


@dataclass(frozen=True)
class Size:
    """The most that a small table may have.

    Attributes:
        entries: How many entries, or None.
        bytes: How many bytes as exported in int8, or None.
        row_bytes: How many of them a row takes for a scale of its own, if one
            for the whole table would round too roughly.
        fields: Features of each field.
        more: Of each field, how many rows an exported table has besides: see
            `served_model`.
    """

    entries: int | None = None
    bytes: int | None = None
    row_bytes: int = 0
    fields: tuple[int, ...] = ()
    more: tuple[int, ...] = ()

    def of(self, dataset: Dataset) -> "Size":
        """The same for a table of a dataset's features."""
        vocabularies = dataset.vocabularies.values()
        more = tuple(int(not each.unknown) for each in vocabularies)
        return replace(self, fields=dataset.field_sizes, more=more)

    @property
    def name(self) -> str:
        """For stages and files."""
        if self.entries is not None:
            return f"{self.entries}"
        return f"{self.bytes}B" + "-scaled" * bool(self.row_bytes)

    @property
    def in_bytes(self) -> "Size":
        """The size in bytes, one byte an entry."""
        if self.entries is None:
            return self
        return replace(self, entries=None, bytes=self.entries)

    @property
    def more_rows(self) -> int:
        """Rows that an exported table has besides."""
        return sum(self.more)

    @property
    def most(self) -> int:
        """How many entries, or bytes."""
        found = self.bytes if self.entries is None else self.entries
        assert found is not None
        return found

    def holds(self, table: SparseTable) -> bool:
        """Whether a table is no larger."""
        if self.entries is not None:
            return bool(table.values.size <= self.entries)
        assert self.bytes is not None
        splits = np.pad(table.row_splits, (0, self.more_rows), "edge")
        table = replace(table, row_splits=splits)
        return Layout.smallest(table, quantize=_QUANTIZED).bytes <= self.bytes

    def holds_prefixes(self, sizes: np.ndarray, columns: int) -> bool:
        """Whether a table is no larger whose rows keep their first entries.

        As it is exported, with its features in order.

        Args:
            sizes: Kept entries of each row.
            columns: Of the table.
        """
        if self.entries is not None:
            return int(sizes.sum()) <= self.entries
        assert self.bytes is not None
        return self._of_prefixes(sizes, columns).bytes <= self.bytes

    def _of_prefixes(self, sizes: np.ndarray, columns: int) -> Layout:
        ends = np.cumsum(self.fields).repeat(self.more)
        served = np.insert(sizes.astype(np.int64), ends, 0)
        fields = np.add(self.fields, self.more).tolist()
        served = served[by_size(fields, served)]
        kept, stored = int(served.sum()), int(np.count_nonzero(served))
        return Layout(
            *(served.size, columns, kept, stored),
            storage=PREFIX,
            quantize=_QUANTIZED,
            num_runs=1 + int(np.count_nonzero(np.diff(served))),
        )

    def check(self) -> None:
        """Refuse a size too small for one entry.

        Raises:
            ValueError: If it is.
        """
        one = np.eye(1, sum(self.fields), dtype=int)[0]
        least = self._of_prefixes(one, 1).bytes
        if self.bytes is not None and self.bytes < least:
            raise ValueError(
                "A table must have room for an entry. Found: max_bytes="
                f"{self.bytes:,}. Expected: at least {least:,}."
            )

    def largest(
        self, scores: np.ndarray, *, prefixes: bool = True
    ) -> np.ndarray:
        """The entries with the largest scores, as many as fit: a mask.

        Args:
            scores: Of the entries of a table; 0: never.
            prefixes: Whether they fall within each row, as norms of what
                follows do.
        """
        falling = np.sort(scores[scores > 0])[::-1]

        def too_large(count: int) -> bool:
            mask = scores >= falling[count - 1]
            if self.row_bytes or not prefixes:  # by a scale for each row
                return not self.holds(SparseTable.from_dense(scores, mask))
            return not self.holds_prefixes(mask.sum(axis=1), scores.shape[1])

        counts = range(1, 1 + falling.size)
        most = bisect.bisect_left(counts, True, key=too_large)
        mask: np.ndarray = scores >= (falling[most - 1] if most else np.inf)
        return mask

    def columns(self, rows: int) -> int:
        """How many columns a uniform table may have."""
        if self.entries is not None:
            return self.entries // rows
        assert self.bytes is not None
        # 4 of the scale of the table.
        found = max(self.bytes - 4, 0) // (rows + self.more_rows)
        return max(found - self.row_bytes, min(found, 1))

    def per_row(self, rows: int) -> float:
        """Entries of a row in the mean, or bytes, which hold one each."""
        return self.most / rows

    def dims(self, dim: int) -> tuple[int, ...] | None:
        """Widths of fields by their popularity; None if none fit.

        Args:
            dim: What they are projected to.
        """
        sizes = np.add(self.fields, self.more).tolist()
        allowed = budget = self.most
        try:
            while True:
                dims = mixed_dimensions(sizes, dim, budget)
                # Of projections, which stay in float32, and scales.
                more = sum(4 * d * dim for d in dims if d < dim) + 4 * len(dims)
                excess = sum(map(operator.mul, sizes, dims)) + more - allowed
                if self.entries is not None or excess <= 0:
                    return dims
                budget = parameters_of_mixed(sizes, dims, dim) - 1
        except BudgetTooSmallError:
            return None

    def budget_of(
        self, method: str, rows: int, columns: int, widest: int
    ) -> int:
        """How many parameters a method may use; 0 if there is no room.

        Args:
            method: One of `RIVALS`.
            rows: Of the table.
            columns: Of the dense table.
            widest: Columns that mixed dimensions are projected to.
        """
        if method == "uniform":
            return min(self.columns(rows), columns) * rows
        if method == "mixed-dimension":
            dims = self.dims(widest)
            return parameters_of_mixed(self.fields, dims, widest) if dims else 0
        if kind := (COMPRESSED | OF_FIELDS).get(method):
            most = self.most
            if self.entries is None:
                most -= _SCALES + kind.pointer_bytes * rows
            return max(min(most, rows * columns), 0)
        if method == "bet" and self.bytes is not None:
            # Rows in order of their sizes, of as many sizes as there are.
            served, runs = rows + self.more_rows, len(self.fields) * columns
            whole = Layout(
                *(served, columns, served * columns, served),
                storage=PREFIX,
                quantize=_QUANTIZED,
                num_runs=runs + len(self.fields),
            )
            more = whole.bytes - whole.num_values
            return max(0, min(self.bytes - more, rows * columns - 1))
        return self.searched(rows, columns)

    def searched(self, rows: int, columns: int) -> int:
        """How many entries a search may keep, wherever they are; 0 if none."""
        if self.entries is not None:
            return min(self.entries, rows * columns - 1)
        try:
            served = rows + self.more_rows
            allowed = (self.bytes or 0) - self.row_bytes * served
            found = entries_in_bytes(allowed, [(served, columns)], _QUANTIZED)
        except ValueError:
            return 0
        return min(found, rows * columns - 1)


def clip(layer: Any) -> None:
    """Clip few values, if rows needed scales of their own for their sake.

    Args:
        layer: A pruned table or a full one; others stay.
    """
    if isinstance(layer, PEPEmbedding):
        table = layer.sparse()
        layer.assign_sparse(clipped(table, fits_prefixes(table, None)))
    elif isinstance(layer, RowEmbedding):
        table = SparseTable.from_dense(variables.values_of(layer.embeddings))
        variables.assign(layer.embeddings, clipped(table).to_dense())
