"""How a pruned table is stored: the arrays, their types, and their bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_pep.blocks import row_blocks
from keras_pep.sparse import SparseTable, column_dtype, splits_of

STORAGES = ("csr", "bitmask", "dense")
QUANTIZED = ("float16", "int8")

WORD = 32  # rows whose presence one integer tells
# Share of its bytes that a table must come down to by an index of its rows,
# which makes a look-up slower: see benchmarks/lookups.py.
_WORTH = 2 / 3
_LARGEST_INT8 = 127
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Layout:
    """The arrays that hold a pruned table.

    What is kept of a row is a run of `values`; where it begins and ends,
    `row_splits` tell. Rows of which nothing is kept are not stored if that
    saves a third of the bytes: `present` has a bit for each row of the table,
    and `rank` says how many rows before each 32 are stored.

    Args:
        input_dim: Rows of the table.
        output_dim: Its columns.
        num_values: Kept entries.
        num_rows: Rows that have any.
        storage: `"csr"`: a column number for each value; `"bitmask"`: a bit
            for each column of a kept row; `"dense"`: values for all
            columns of a row, `(stored_rows, output_dim)`, and no splits.
        quantize: None: values are float32; `"float16"`; or `"int8"`, with a
            float16 scale for each row.

    Raises:
        ValueError: If an argument is not as described.
    """

    input_dim: int
    output_dim: int
    num_values: int
    num_rows: int
    storage: str = "csr"
    quantize: str | None = None

    def __post_init__(self) -> None:
        rows, values = self.num_rows, self.num_values
        for name, value, allowed in (
            ("storage", self.storage, STORAGES),
            ("quantize", self.quantize, (None, *QUANTIZED)),
        ):
            if value not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. "
                    f"Received: {name}={value!r}"
                )
        fits = 0 <= rows <= self.input_dim
        if not fits or not rows <= values <= rows * self.output_dim:
            raise ValueError(
                "`num_rows` must be from 0 to `input_dim`, and `num_values` "
                "from `num_rows` to `num_rows` * `output_dim`. Received: "
                f"num_values={values}, num_rows={rows}, "
                f"input_dim={self.input_dim}, output_dim={self.output_dim}"
            )

    @classmethod
    def smallest(
        cls,
        table: SparseTable,
        storages: Sequence[str] = STORAGES,
        quantize: str | None = None,
    ) -> "Layout":
        """That of the fewest bytes for a table.

        Args:
            table: What is kept.
            storages: Those to choose from; the first of equals is taken.
            quantize: See the class.
        """
        rows = int(np.count_nonzero(table.has_kept()))
        layouts = [
            cls(*table.shape, table.values.size, rows, storage, quantize)
            for storage in storages
        ]
        return min(layouts, key=lambda layout: layout.bytes)

    @property
    def indexed(self) -> bool:
        """Whether only rows of which something is kept are stored."""
        entries = self.num_values * self._entry_bytes
        without = entries + self._row_bytes * self.input_dim
        index = 8 * self._words
        return entries + self._row_bytes * self.num_rows + index <= (
            _WORTH * without
        )

    @property
    def stored_rows(self) -> int:
        """Rows that are stored."""
        return self.num_rows if self.indexed else self.input_dim

    @property
    def exact(self) -> bool:
        """Whether there is a value for what is kept and nothing else."""
        entries = self.stored_rows * self.output_dim
        return self.storage != "dense" or self.num_values == entries

    @property
    def _words(self) -> int:
        return -(-self.input_dim // WORD)

    @property
    def _octets(self) -> int:
        return -(-self.output_dim // 8)

    @property
    def _itemsize(self) -> int:
        return np.dtype(self.quantize or np.float32).itemsize

    @property
    def _entry_bytes(self) -> int:
        """What a kept entry takes."""
        column = np.dtype(column_dtype(self.output_dim)).itemsize
        return {
            "csr": self._itemsize + column,
            "bitmask": self._itemsize,
            "dense": 0,
        }[self.storage]

    @property
    def _row_bytes(self) -> int:
        """What a stored row takes besides its kept entries."""
        unit = 2 if self.quantize == "int8" else 0
        split = 4
        return (
            unit
            + {
                "csr": split,
                "bitmask": split + self._octets,
                "dense": self.output_dim * self._itemsize,
            }[self.storage]
        )

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each array, by name."""
        values: tuple[int, ...] = (self.num_values,)
        if self.storage == "dense":
            values = (self.stored_rows, self.output_dim)
        made = {"values": (values, self.quantize or "float32")}
        if self.quantize == "int8":
            made["scales"] = ((self.stored_rows,), "float16")
        if self.storage == "csr":
            made["columns"] = (values, column_dtype(self.output_dim))
        elif self.storage == "bitmask":
            made["bits"] = ((self.stored_rows, self._octets), "uint8")
        if self.storage != "dense":
            made["row_splits"] = ((self.stored_rows + 1,), "int32")
        if self.indexed:
            made["present"] = ((self._words,), "int32")
            made["rank"] = ((self._words,), "int32")
        return made

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return sum(
            int(np.prod(shape)) * np.dtype(dtype).itemsize
            for shape, dtype in self.arrays.values()
        )

    def bytes_of(self, sizes: np.ndarray) -> int:
        """Of some rows.

        Args:
            sizes: Kept entries of each.
        """
        rows = len(sizes)
        stored = int((sizes > 0).sum()) if self.indexed else rows
        index = rows // 4 if self.indexed else 0
        entries = int(sizes.sum()) * self._entry_bytes
        return entries + stored * self._row_bytes + index

    def pack(self, table: SparseTable) -> dict[str, np.ndarray]:
        """The arrays of a table of this size.

        Raises:
            ValueError: If a value is too large for its type.
        """
        whole = {}
        if self._as_it_is:
            whole = {"values": table.values, "columns": table.columns}
            if not self.indexed:
                whole["row_splits"] = table.row_splits
        made = {
            name: whole[name].astype(dtype, copy=False)
            if name in whole
            else np.zeros(shape, dtype)
            for name, (shape, dtype) in self.arrays.items()
        }
        if len(whole) == len(made):
            return made
        stored, kept = 0, table.has_kept()
        for rows in row_blocks(*table.shape):
            first, stored = stored, stored + self._count(kept[rows])
            self._pack_rows(table, rows, slice(first, stored), made)
        if self.indexed:
            # Rows beyond the last are marked: they are out of range, not empty.
            marks = np.ones((self._words, WORD), dtype=bool)
            marks.reshape(-1)[: self.input_dim] = kept
            octets = np.packbits(marks, axis=1, bitorder="little")
            made["present"][:] = octets.view("<i4")[:, 0]
            in_word = marks.sum(axis=1, dtype=np.int32)
            np.cumsum(in_word, dtype=np.int32, out=made["rank"])
            made["rank"] -= in_word
        return made

    def _pack_rows(
        self,
        table: SparseTable,
        rows: slice,
        stored: slice,
        made: Mapping[str, np.ndarray],
    ) -> None:
        """Fills in what there is of some rows, which are stored as others."""
        kept = table.kept(rows)
        values, columns = table.values[kept], table.columns[kept]
        sizes = np.diff(table.row_splits[rows.start : rows.stop + 1])
        if self.indexed:
            sizes = sizes[sizes > 0]
        if self.storage != "dense":
            # What comes before the first is there already.
            ends = np.cumsum(sizes) + table.row_splits[rows.start]
            made["row_splits"][stored.start + 1 : stored.stop + 1] = ends
        if self._as_it_is:
            return
        row_of_value = np.repeat(np.arange(sizes.size), sizes)
        if self.quantize == "int8":
            values, made["scales"][stored] = _int8(
                values, row_of_value, sizes.size
            )
        if self.quantize == "float16" and (np.abs(values) > _LARGEST).any():
            raise ValueError("float16 holds values up to 65,504 alone.")
        if self.storage == "dense":
            made["values"][stored][row_of_value, columns] = values
            return
        made["values"][kept] = values
        if self.storage == "csr":
            made["columns"][kept] = columns
        else:
            mask = np.zeros((sizes.size, self.output_dim), dtype=bool)
            mask[row_of_value, columns] = True
            made["bits"][stored] = np.packbits(mask, axis=1, bitorder="little")

    @property
    def _as_it_is(self) -> bool:
        """Whether values and columns are those of a `SparseTable`."""
        return self.storage == "csr" and self.quantize is None

    def _count(self, kept: np.ndarray) -> int:
        """How many of some rows are stored.

        Args:
            kept: Of each, whether anything is.
        """
        return int(kept.sum()) if self.indexed else kept.size

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> SparseTable:
        """The table that the arrays hold, in float32.

        Raises:
            ValueError: If they hold none.
        """
        if not self._as_it_is:
            shape = self.input_dim, self.output_dim
            return SparseTable.from_parts(self._parts(arrays), shape)
        row_splits = arrays["row_splits"]
        if self.indexed:
            sizes = np.zeros(self.input_dim, dtype=np.int32)
            sizes[self._stored(arrays)] = np.diff(row_splits)
            row_splits = splits_of(sizes)
        return SparseTable(
            values=arrays["values"].astype(np.float32, copy=False),
            columns=arrays["columns"],
            row_splits=row_splits,
            output_dim=self.output_dim,
        )

    def _parts(
        self, arrays: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Values, columns and sizes of one block of rows after the other."""
        there, stored = self._stored(arrays), 0
        for rows in row_blocks(self.input_dim, self.output_dim):
            first, stored = stored, stored + int(there[rows].sum())
            values, columns, of_stored = self._part(
                arrays, slice(first, stored)
            )
            sizes = np.zeros(rows.stop - rows.start, dtype=np.int32)
            sizes[there[rows]] = of_stored
            yield values, columns, sizes

    def _part(
        self, arrays: Mapping[str, np.ndarray], stored: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, columns and sizes of some of the stored rows."""
        dense = self.storage == "dense"
        if dense:
            count = stored.stop - stored.start
            sizes = np.full(count, self.output_dim)
            values = arrays["values"][stored].astype(np.float32).reshape(-1)
        else:
            splits = arrays["row_splits"][stored.start : stored.stop + 1]
            sizes, kept = np.diff(splits), slice(splits[0], splits[-1])
            values = arrays["values"][kept].astype(np.float32)
        if self.quantize == "int8":
            scales = arrays["scales"][stored].astype(np.float32)
            values = values * np.repeat(scales, sizes)
        if self.storage == "csr":
            return values, arrays["columns"][kept], sizes
        if dense:
            shape = count, self.output_dim
            mask = (
                np.ones(shape, dtype=bool)
                if self.exact
                else values.reshape(shape) != 0
            )
            values, sizes = values[mask.reshape(-1)], mask.sum(axis=1)
        else:
            bits = arrays["bits"][stored]
            mask = np.unpackbits(bits, axis=1, bitorder="little")
        return values, np.nonzero(mask)[1], sizes

    def _stored(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which rows of the table are stored.

        Raises:
            ValueError: If they are not as many as there should be.
        """
        if not self.indexed:
            return np.ones(self.input_dim, dtype=bool)
        octets = arrays["present"].astype("<i4")[:, None].view(np.uint8)
        marks = np.unpackbits(octets, axis=1, bitorder="little")
        there = marks.reshape(-1)[: self.input_dim].astype(bool)
        if there.sum() != self.num_rows:
            raise ValueError("`present` marks other than the stored rows.")
        return there

    def __str__(self) -> str:
        return (
            f"{self.storage}{f' of {self.quantize}' if self.quantize else ''}: "
            f"{self.num_values:,} of {self.input_dim * self.output_dim:,} "
            f"entries, in {self.num_rows:,} of {self.input_dim:,} rows, "
            f"{self.bytes:,} bytes"
        )


def _int8(
    values: np.ndarray, rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values in 127ths of the largest of their row, and what these are."""
    largest = np.zeros(count, dtype=np.float32)
    np.maximum.at(largest, rows, np.abs(values))
    exact = largest / _LARGEST_INT8
    with np.errstate(over="ignore"):
        scales = exact.astype(np.float16)
        short = scales < exact  # then the largest value would not fit
        scales[short] = np.nextafter(scales[short], np.float16(np.inf))
    if np.isinf(scales).any():
        raise ValueError(
            "int8 with a float16 scale holds values up to "
            f"{int(_LARGEST_INT8 * _LARGEST):,} alone."
        )
    divisors = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(values / divisors[rows]), scales
