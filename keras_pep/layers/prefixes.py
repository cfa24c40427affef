"""Tables whose rows keep their first columns, stored by runs of rows.

Rows that follow one another and keep as many columns are a run. Row `i` of run
`r` has its values from `run_starts[r] + i * run_sizes[r]` on: that is where row
0 would have them, if it were of the run, in the bits that a place needs.
`run_rows` has the first row of each run but the first.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_pep.layers.rounding import (
    check_float16,
    column_scales,
    needs_row_scales,
)
from keras_pep.sparse import SparseTable, column_dtype, splits_of

if TYPE_CHECKING:
    from keras_pep.layers.storage import Layout


def fits_prefixes(table: SparseTable, quantize: str | None) -> bool:
    """Whether rows keep their first columns, and int8 is fine enough."""
    sizes = np.diff(table.row_splits)
    filled = sizes > 0
    last = table.columns[table.row_splits[1:][filled] - 1]
    # Columns ascend: none is left out before one that is its own number.
    if (last != sizes[filled] - 1).any():
        return False
    return quantize != "int8" or not needs_row_scales(table, by_column=True)


def first_rows(table: SparseTable) -> np.ndarray:
    """Find the first row of each run: int64, `(runs,)`."""
    sizes = np.diff(table.row_splits)
    return np.flatnonzero(np.append(True, sizes[1:] != sizes[:-1]))


def shapes(layout: "Layout") -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of each array, by name."""
    runs = (layout.num_runs,)
    made: dict[str, tuple[tuple[int, ...], str]] = {
        "values": ((layout.num_values,), layout.quantize or "float32"),
        "run_rows": ((layout.num_runs - 1,), _narrow(layout.input_dim)),
        "run_starts": (runs, _narrow(layout.num_values)),
        "run_sizes": (runs, _narrow(layout.output_dim)),
    }
    if layout.quantize == "int8":
        made["scales"] = ((layout.output_dim,), "float32")
    return made


def _narrow(most: int) -> str:
    """Choose the type of numbers from 0 to the most."""
    return str(np.min_scalar_type(most)) if most < 2**16 else "int32"


def pack(layout: "Layout", table: SparseTable) -> dict[str, np.ndarray]:
    """Make the arrays of a table.

    Raises:
        ValueError: If a value is too large for its type.
    """
    rows, values = first_rows(table), table.values
    sizes = np.diff(table.row_splits)[rows]
    made = {
        "run_rows": rows[1:],
        "run_starts": table.row_splits[rows] - rows * sizes,
        "run_sizes": sizes,
    }
    if layout.quantize == "int8":
        made["scales"] = scales = column_scales(table)
        values = np.rint(values / np.where(scales, scales, 1)[table.columns])
    if layout.quantize == "float16":
        check_float16(values)
    made["values"] = values
    return {
        name: made[name].astype(dtype, copy=False)
        for name, (_, dtype) in shapes(layout).items()
    }


def unpack(layout: "Layout", arrays: Mapping[str, np.ndarray]) -> SparseTable:
    """Return the table that the arrays hold, in float32."""
    rows = np.array([0, *arrays["run_rows"], layout.input_dim])
    sizes = np.repeat(arrays["run_sizes"].astype(np.int32), np.diff(rows))
    splits = splits_of(sizes)
    places = np.arange(layout.num_values)
    columns = places - np.repeat(splits[:-1], np.diff(splits))
    values = arrays["values"].astype(np.float32)
    if layout.quantize == "int8":
        values *= arrays["scales"][columns]
    dtype = column_dtype(layout.output_dim)
    return SparseTable(values, columns.astype(dtype), splits, layout.output_dim)
