"""A large table in blocks of rows, so that no copy of it is made."""

from collections.abc import Iterable, Iterator

import numpy as np

ENTRIES_AT_ONCE = 2**20  # 4 MiB of float32
# Entries; of tables with no more there may be copies. Initial values depend on
# it, too: see `layers/initial.py`.
LARGE = 2**24


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Divide the rows of a table into blocks of `ENTRIES_AT_ONCE` entries.

    Args:
        rows: How many there are.
        columns: Entries of each.
    """
    step = rows_at_once(columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def rows_at_once(columns: int) -> int:
    """Count the rows of a block, except the last."""
    return max(1, ENTRIES_AT_ONCE // columns)


def joined(blocks: Iterable[np.ndarray], rows: int) -> np.ndarray:
    """Join blocks without holding them twice.

    Args:
        blocks: At least one array of shape `(some, ...)`.
        rows: How many there are in all.
    """
    start, made = 0, np.empty(0)
    for block in blocks:
        if not start:
            made = np.empty((rows, *block.shape[1:]), block.dtype)
        made[start : start + len(block)] = block
        start += len(block)
    return made
