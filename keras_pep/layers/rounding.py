"""Values of a pruned table in fewer bits: int8 with scales, and float16."""

import numpy as np

from keras_pep.sparse import SparseTable

_LARGEST_INT8 = 127
_LARGEST = float(np.finfo(np.float16).max)
# Rounding errors of int8, by the root mean square of values, up to which one
# scale is enough for a table; one for each row halves the error, or more. With
# 0.03, the largest value is 13 times as large as their root mean square.
_ONE_SCALE = 0.03


def check_float16(values: np.ndarray) -> None:
    """Refuse values that float16 does not hold.

    Raises:
        ValueError: If there are any.
    """
    if (np.abs(values) > _LARGEST).any():
        raise ValueError("float16 holds values up to 65,504 alone.")


def scale_of(values: np.ndarray) -> np.float32:
    """Compute the unit in which the largest value is 127."""
    largest = np.abs(values).max(initial=0)
    return np.float32(largest / _LARGEST_INT8)


def column_scales(table: SparseTable) -> np.ndarray:
    """Compute the units of the columns: float32, `(output_dim,)`."""
    largest = np.zeros(table.output_dim, np.float32)
    np.maximum.at(largest, table.columns, np.abs(table.values))
    return largest / np.float32(_LARGEST_INT8)


def needs_row_scales(table: SparseTable, by_column: bool = False) -> bool:
    """Whether one scale for all values would round them too roughly.

    Args:
        table: What is kept.
        by_column: Whether each column has one.
    """
    values = table.values
    squares = np.square(values, dtype=np.float64).sum()
    if by_column:
        scales = column_scales(table)
        counts = np.bincount(table.columns, minlength=table.output_dim)
    else:
        scales, counts = np.array(scale_of(values)), np.array(values.size)
    errors = np.square(scales, dtype=np.float64) / 12 * counts
    return bool(errors.sum() > _ONE_SCALE**2 * squares)


def clipped(table: SparseTable, by_column: bool = True) -> SparseTable:
    """Clip the few values that make a scale too coarse.

    Args:
        table: What is kept.
        by_column: Whether each column has a scale, or one is for all.
    """
    units = table.columns if by_column else np.zeros_like(table.columns)
    counts = np.maximum(np.bincount(units), 1)
    while needs_row_scales(table, by_column):
        squares = np.square(table.values, dtype=np.float64)
        root = np.sqrt(np.bincount(units, squares) / counts)
        # An error of a scale's twelfth, as `needs_row_scales` has it, and a
        # margin: what is clipped makes the root smaller.
        limits = 0.9 * _LARGEST_INT8 * np.sqrt(12) * _ONE_SCALE * root
        most = limits[units].astype(table.values.dtype)
        table = table.with_values(np.clip(table.values, -most, most))
    return table


def int8_of_rows(
    values: np.ndarray, rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Express values in 127ths of the largest of their row.

    Args:
        values: Float, `(kept,)`.
        rows: The row of each.
        count: How many rows there are.

    Returns:
        The values in these units, and the units, float16 `(count,)`.

    Raises:
        ValueError: If a unit is too large for float16.
    """
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
