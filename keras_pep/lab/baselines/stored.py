"""Values of a table as integers of few bits, and the bytes that they take."""

import numpy as np


def rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers of 8 bits, one scale for all, or 4, one for each row.

    Args:
        rows: float32 `(rows, columns)`.
        bits: 8 or 4. The scales of 4 bits are stored in float16.

    Returns:
        float32 of the same shape.
    """
    axis = None if bits == 8 else 1
    largest = np.abs(rows).max(axis=axis, keepdims=True, initial=0)
    scale = largest / (2 ** (bits - 1) - 1)
    if bits == 4:
        scale = scale.astype(np.float16).astype(np.float32)
    divided = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    most = 2 ** (bits - 1) - 1
    found: np.ndarray = np.clip(np.rint(divided), -most, most) * scale
    return found


def bytes_in(size: int, rows: int, bits: int | None) -> int:
    """Bytes of so many values of so many rows as `rounded` has them."""
    if bits is None:
        return 4 * size
    return size + 4 if bits == 8 else -(-size // 2) + 2 * rows
