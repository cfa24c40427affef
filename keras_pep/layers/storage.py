"""How a pruned table is stored: the arrays, their types, and their bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_pep.blocks import row_blocks
from keras_pep.sparse import SparseTable, column_dtype, splits_of

STORAGES = ("csr", "bitmask", "dense")
PREFIX = "prefix"  # for tables of some rows alone, and not to be trained
QUANTIZED = ("float16", "int8")

_COUNTED = 8  # rows that share an offset, where bits tell what they keep
WORD = 32  # rows that share a start, and an integer of bits
# Share of its bytes that a table must come down to by an index of its rows,
# which makes a look-up slower: see benchmarks/lookups.py.
_WORTH = 2 / 3
_LARGEST_INT8 = 127
_LARGEST = float(np.finfo(np.float16).max)
# Rounding errors of int8, by the root mean square of values, up to which one
# scale is enough for a table; one for each row halves the error, or more. With
# 0.03, the largest value is 13 times as large as their root mean square.
_ONE_SCALE = 0.03


@dataclass(frozen=True)
class Layout:
    """The arrays that hold a pruned table.

    Kept entries follow one another in `values`, row by row. Of every 32 rows,
    `starts` says where their entries start. Rows of which nothing is kept are
    not stored if that saves a third of the bytes: `present` has a bit for each
    row of the table, and `rank` says how many rows before each 32 are stored.

    Args:
        input_dim: Rows of the table.
        output_dim: Its columns.
        num_values: Kept entries.
        num_rows: Rows that have any.
        storage: `"csr"`: `columns` has a column number for each value, and
            `offsets` the place of each row behind the start of its 32;
            `"bitmask"`: `bits` has a bit for each column of a row, in whole
            bytes; where these are one or two, they lie in int32, and only
            every eighth row has an offset, for their bits tell of the others;
            `"dense"`: values for all columns of a row,
            `(stored_rows, output_dim)`;
            `"prefix"`: rows keep their first columns, and rows that follow one
            another and keep as many are a run, of which `run_rows` has the
            first row, `run_sizes` how many columns each keeps, and `run_starts`
            where their values start: next to nothing, where rows are in order
            of their sizes.
        quantize: None: values are float32; `"float16"`; or `"int8"`.
        offset_bytes: Bytes of an offset: 1, 2 or 4.
        row_scales: Whether each row has a float16 scale for its int8, and not
            the whole table one in float32, or with `"prefix"` each column.
        num_runs: Runs of `"prefix"`.

    Raises:
        ValueError: If an argument is not as described.
    """

    input_dim: int
    output_dim: int
    num_values: int
    num_rows: int
    storage: str = "csr"
    quantize: str | None = None
    offset_bytes: int = 4
    row_scales: bool = False
    num_runs: int = 0

    def __post_init__(self) -> None:
        rows, values = self.num_rows, self.num_values
        for name, value, allowed in (
            ("storage", self.storage, (*STORAGES, PREFIX)),
            ("quantize", self.quantize, (None, *QUANTIZED)),
            ("offset_bytes", self.offset_bytes, (1, 2, 4)),
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
        """Choose the layout of the fewest bytes for a table.

        Args:
            table: What is kept.
            storages: Those to choose from; the first of equals is taken.
                `"prefix"` only where rows keep their first columns, and one
                scale a column does not round their int8 too roughly.
            quantize: See the class.

        Raises:
            ValueError: If none is possible.
        """
        kept = table.has_kept()
        made = cls(
            *table.shape,
            table.values.size,
            int(np.count_nonzero(kept)),
            quantize=quantize,
            row_scales=quantize == "int8"
            and table.output_dim > 1
            and needs_row_scales(table),
        )
        layouts = []
        for storage in storages:
            layout = replace(made, storage=storage)
            if storage == PREFIX:
                if not fits_prefixes(table, quantize):
                    continue
                runs = _run_rows(table).size
                layout = replace(layout, row_scales=False, num_runs=runs)
            elif storage != "dense":
                splits = _stored_splits(table, kept, layout.indexed)
                layout = replace(layout, offset_bytes=_offset_bytes(splits))
            layouts.append(layout)
        if not layouts:
            raise ValueError(
                "Rows of this table do not keep their first columns alone, or "
                "differ too much in size for one scale a column. "
                f"Received: storages={storages}"
            )
        return min(layouts, key=lambda layout: layout.bytes)

    @property
    def indexed(self) -> bool:
        """Whether only rows of which something is kept are stored."""
        if self.storage == PREFIX:
            return False
        row = self._row_bytes
        if self.storage != "dense":  # what offsets take depends on this
            row -= (self.offset_bytes - 1) / self.stride
        entries = self.num_values * self._entry_bytes
        index = 8 * self._words
        return entries + row * self.num_rows + index <= (
            _WORTH * (entries + row * self.input_dim)
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
    def groups(self) -> int:
        """Groups of 32 rows, each with a start."""
        return -(-self._offsets * self.stride // WORD)

    @property
    def _offsets(self) -> int:
        """Rows that have an offset; where each has, also what follows them."""
        if self.stride == 1:
            return self.stored_rows + 1
        return -(-self.stored_rows // self.stride) or 1

    @property
    def octets(self) -> int:
        """Bytes with a bit for each column."""
        return -(-self.output_dim // 8)

    @property
    def narrow(self) -> bool:
        """Whether the bits of 32 rows are quickly counted."""
        return self.storage == "bitmask" and self.octets <= 2

    @property
    def stride(self) -> int:
        """Rows from one that has an offset to the next."""
        return _COUNTED if self.narrow else 1

    @property
    def _itemsize(self) -> int:
        return np.dtype(self.quantize or np.float32).itemsize

    @property
    def _entry_bytes(self) -> int:
        """Bytes that a kept entry takes."""
        column = np.dtype(column_dtype(self.output_dim)).itemsize
        return {
            "csr": self._itemsize + column,
            "bitmask": self._itemsize,
            PREFIX: self._itemsize,
            "dense": 0,
        }[self.storage]

    @property
    def _row_bytes(self) -> float:
        """Mean bytes of a stored row besides its kept entries."""
        scale = 2 if self.row_scales else 0
        if self.storage == PREFIX:
            return 0
        if self.storage == "dense":
            return scale + self.output_dim * self._itemsize
        octets = self.octets if self.storage == "bitmask" else 0
        return scale + 4 / WORD + octets + self.offset_bytes / self.stride

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each array, by name."""
        values: tuple[int, ...] = (self.num_values,)
        if self.storage == "dense":
            values = (self.stored_rows, self.output_dim)
        made = {"values": (values, self.quantize or "float32")}
        if self.storage == PREFIX:
            runs = (self.num_runs,)
            for name, most in (
                ("run_rows", self.input_dim),
                ("run_starts", self.num_values),
                ("run_sizes", self.output_dim),
            ):
                narrow = str(np.min_scalar_type(most))
                made[name] = runs, narrow if most < 2**16 else "int32"
            if self.quantize == "int8":
                made["scales"] = ((self.output_dim,), "float32")
            return made
        if self.row_scales:
            made["scales"] = ((self.stored_rows,), "float16")
        elif self.quantize == "int8":
            made["scales"] = ((1,), "float32")
        if self.storage != "dense":
            made["starts"] = ((self.groups,), "int32")
        if self.storage == "csr":
            made["columns"] = (values, column_dtype(self.output_dim))
        elif self.narrow:
            made["bits"] = ((self.groups * WORD * self.octets // 4,), "int32")
        elif self.storage == "bitmask":
            made["bits"] = ((self.stored_rows, self.octets), "uint8")
        if self.storage != "dense":
            offset = {1: "uint8", 2: "uint16", 4: "int32"}[self.offset_bytes]
            made["offsets"] = ((self._offsets,), offset)
        if self.indexed:
            made["present"] = ((self._words,), "int32")
            made["rank"] = ((self._words,), "int32")
        return made

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(
            int(np.prod(shape)) * np.dtype(dtype).itemsize
            for shape, dtype in self.arrays.values()
        )

    def bytes_of(self, sizes: np.ndarray) -> int:
        """Add up the bytes of some rows, with their part of what is shared.

        Args:
            sizes: Kept entries of each.
        """
        rows = len(sizes)
        stored = int((sizes > 0).sum()) if self.indexed else rows
        index = rows / 4 if self.indexed else 0
        entries = int(sizes.sum()) * self._entry_bytes
        return round(entries + stored * self._row_bytes + index)

    def pack(self, table: SparseTable) -> dict[str, np.ndarray]:
        """The arrays of a table of this size.

        Raises:
            ValueError: If a value is too large for its type.
        """
        if self.storage == PREFIX:
            return self._pack_prefixes(table)
        kept = table.has_kept()
        whole = {}
        if self.quantize is None and self.storage != "dense":
            whole = {"values": table.values, "columns": table.columns}
        made = {
            name: whole[name].astype(dtype, copy=False)
            if name in whole
            else np.zeros(shape, dtype)
            for name, (shape, dtype) in self.arrays.items()
        }
        if self.quantize == "int8" and not self.row_scales:
            made["scales"][:] = _scale(table.values)
        if self.storage != "dense":
            splits = _stored_splits(table, kept, self.indexed)
            made["starts"][:] = splits[: self.groups * WORD : WORD]
            for rows in row_blocks(self._offsets, 1):  # without a copy of all
                numbers = np.arange(rows.start, rows.stop) * self.stride
                offsets = splits[numbers] - made["starts"][numbers // WORD]
                made["offsets"][rows] = offsets
        if len(whole) < 2 or self.storage == "bitmask":
            stored = 0
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

    def _pack_prefixes(self, table: SparseTable) -> dict[str, np.ndarray]:
        rows, values = _run_rows(table), table.values
        made = {
            "run_rows": rows,
            "run_starts": table.row_splits[rows],
            "run_sizes": np.diff(table.row_splits)[rows],
        }
        if self.quantize == "int8":
            made["scales"] = scales = _scales(table, 0)
            values = np.rint(
                values / np.where(scales, scales, 1)[table.columns]
            )
        if self.quantize == "float16" and (np.abs(values) > _LARGEST).any():
            raise ValueError("float16 holds values up to 65,504 alone.")
        made["values"] = values
        return {
            name: made[name].astype(dtype, copy=False)
            for name, (_, dtype) in self.arrays.items()
        }

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
        row_of_value = np.repeat(np.arange(sizes.size), sizes)
        if self.row_scales:
            values, made["scales"][stored] = _int8(
                values, row_of_value, sizes.size
            )
        elif self.quantize == "int8":
            values = np.rint(values / (made["scales"][0] or 1))
        if self.quantize == "float16" and (np.abs(values) > _LARGEST).any():
            raise ValueError("float16 holds values up to 65,504 alone.")
        if self.storage == "dense":
            made["values"][stored][row_of_value, columns] = values
            return
        if self.quantize is not None:
            made["values"][kept] = values
        if self.storage == "csr":
            made["columns"][kept] = columns
            return
        mask = np.zeros((sizes.size, self.output_dim), dtype=bool)
        mask[row_of_value, columns] = True
        octets = np.packbits(mask, axis=1, bitorder="little")
        self._octets_of(made["bits"])[stored] = octets

    def _octets_of(self, bits: np.ndarray) -> np.ndarray:
        """Each row's bytes, a view of the bits."""
        if self.narrow:
            bits = bits.view("<i4").view(np.uint8)
        return bits.reshape(-1, self.octets)

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
        if self.storage == PREFIX:
            return self._unpack_prefixes(arrays)
        if self.storage != "csr" or self.quantize is not None:
            shape = self.input_dim, self.output_dim
            return SparseTable.from_parts(self._parts(arrays), shape)
        row_splits = self._splits(arrays, slice(0, self.stored_rows))
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

    def _unpack_prefixes(self, arrays: Mapping[str, np.ndarray]) -> SparseTable:
        rows = np.diff(arrays["run_rows"], append=np.int32(self.input_dim))
        splits = splits_of(np.repeat(arrays["run_sizes"].astype("i4"), rows))
        places = np.arange(self.num_values)
        columns = places - np.repeat(splits[:-1], np.diff(splits))
        values = arrays["values"].astype(np.float32)
        if self.quantize == "int8":
            values *= arrays["scales"][columns]
        dtype = column_dtype(self.output_dim)
        return SparseTable(
            values, columns.astype(dtype), splits, self.output_dim
        )

    def _splits(
        self, arrays: Mapping[str, np.ndarray], stored: slice
    ) -> np.ndarray:
        """Where some of the stored rows begin, and the last of them ends."""
        rows = np.arange(stored.start, stored.stop + 1)
        splits: np.ndarray = arrays["starts"][rows // WORD]
        return splits + arrays["offsets"][rows].astype(np.int32)

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
        shape = stored.stop - stored.start, self.output_dim
        if self.storage == "dense":
            values = arrays["values"][stored].astype(np.float32)
            mask = np.ones(shape, dtype=bool) if self.exact else values != 0
        elif self.storage == "csr":
            splits = self._splits(arrays, stored)
            kept, sizes = slice(splits[0], splits[-1]), np.diff(splits)
        else:
            first = stored.start // WORD * WORD
            octets = self._octets_of(arrays["bits"])[first : stored.stop]
            marks = np.unpackbits(octets, axis=1, bitorder="little")
            mask = marks[stored.start - first :, : self.output_dim].astype(bool)
            before = int(marks[: stored.start - first].sum())
            start = int(arrays["starts"][first // WORD]) + before
            kept = slice(start, start + int(mask.sum()))
        if self.storage == "dense":
            values = values[mask]
        else:
            values = arrays["values"][kept].astype(np.float32)
        if self.storage == "csr":
            columns = arrays["columns"][kept]
        else:
            columns, sizes = np.nonzero(mask)[1], mask.sum(axis=1)
        if self.row_scales:
            scales = arrays["scales"][stored].astype(np.float32)
            values = values * np.repeat(scales, sizes)
        elif self.quantize == "int8":
            values = values * arrays["scales"]
        return values, columns, sizes

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


def _stored_splits(
    table: SparseTable, kept: np.ndarray, indexed: bool
) -> np.ndarray:
    """Where each stored row begins, and the last one ends."""
    splits = table.row_splits
    return splits[np.append(kept, True)] if indexed else splits


def _offset_bytes(splits: np.ndarray) -> int:
    """Bytes of the largest place of a row behind the start of its 32."""
    last = np.minimum(np.arange(0, len(splits), WORD) + WORD, len(splits)) - 1
    largest = int((splits[last] - splits[::WORD]).max())
    return next(n for n in (1, 2, 4) if largest < 256**n)


def bits_of_rows_before(octets: int) -> np.ndarray:
    """Make masks of the bits of eight rows: those before each row.

    Args:
        octets: Bytes of a row.

    Returns:
        int32 `(8, 2 * octets)`, masks of words.
    """
    before = np.tri(_COUNTED, dtype=bool, k=-1).repeat(octets, axis=1)
    return (before * np.uint8(255)).view("<i4")


def fits_prefixes(table: SparseTable, quantize: str | None) -> bool:
    """Whether rows keep their first columns, and int8 is fine enough."""
    sizes = np.diff(table.row_splits)
    filled = sizes > 0
    last = table.columns[table.row_splits[1:][filled] - 1]
    # Columns ascend: none is left out before one that is its own number.
    if (last != sizes[filled] - 1).any():
        return False
    return quantize != "int8" or not needs_row_scales(table, 0)


def _run_rows(table: SparseTable) -> np.ndarray:
    """The first of the rows that follow one another and keep as many."""
    sizes = np.diff(table.row_splits)
    return np.flatnonzero(np.append(True, sizes[1:] != sizes[:-1]))


def _scale(values: np.ndarray) -> np.float32:
    """The unit in which the largest value is 127."""
    largest = np.abs(values).max(initial=0)
    return np.float32(largest / _LARGEST_INT8)


def _scales(table: SparseTable, axis: int | None) -> np.ndarray:
    """The unit of all values, or with axis 0 of those of each column."""
    if axis is None:
        return np.array([_scale(table.values)])
    largest = np.zeros(table.output_dim, np.float32)
    np.maximum.at(largest, table.columns, np.abs(table.values))
    return largest / np.float32(_LARGEST_INT8)


def needs_row_scales(table: SparseTable, axis: int | None = None) -> bool:
    """Whether one scale for all values would round them too roughly.

    Args:
        table: What is kept.
        axis: 0 for one scale for each column.
    """
    values = table.values
    squares = np.square(values, dtype=np.float64).sum()
    counts = (
        np.array([values.size])
        if axis is None
        else np.bincount(table.columns, minlength=table.output_dim)
    )
    errors = np.square(_scales(table, axis), dtype=np.float64) / 12 * counts
    return bool(errors.sum() > _ONE_SCALE**2 * squares)


def clipped(table: SparseTable) -> SparseTable:
    """Clip the few values for which a scale for each column is too rough."""
    squares, counts = (
        np.bincount(table.columns, weights, table.output_dim)
        for weights in (np.square(table.values, dtype=np.float64), None)
    )
    root = np.sqrt(squares / np.maximum(counts, 1))
    # An error of a scale's twelfth, as `needs_row_scales` has it, and a margin.
    limits = 0.9 * _LARGEST_INT8 * np.sqrt(12) * _ONE_SCALE * root
    most = limits[table.columns].astype(table.values.dtype)
    return table.with_values(np.clip(table.values, -most, most))


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
