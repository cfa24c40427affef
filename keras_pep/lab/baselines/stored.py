"""Values of a table as integers of few bits, and the bytes that they take."""

import numpy as np

from keras_pep.layers.rounding import scale_of


def rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers of 8 bits, one scale for all, or 4, one for each row.

    Args:
        rows: float32 `(rows, columns)`.
        bits: 8 or 4. The scales of 4 bits are stored in float16.

    Returns:
        float32 of the same shape.
    """
    scale, most = np.array(scale_of(rows)), 2 ** (bits - 1) - 1
    if bits == 4:
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        scale = (largest / most).astype(np.float16).astype(np.float32)
    units = np.rint(rows / np.where(scale > 0, scale, 1))
    found: np.ndarray = np.clip(units, -most, most) * scale
    return found


def bytes_in(size: int, rows: int, bits: int | None) -> int:
    """Bytes of so many values of so many rows as `rounded` has them."""
    if bits is None:
        return 4 * size
    return size + 4 if bits == 8 else -(-size // 2) + 2 * rows
