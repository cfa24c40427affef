"""A large table in blocks of rows, so that no copy of it is made."""

from collections.abc import Iterator

ENTRIES_AT_ONCE = 2**22  # 16 MiB of float32


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """The rows of a table, about `ENTRIES_AT_ONCE` entries after the other.

    Args:
        rows: How many there are.
        columns: Entries of each.
    """
    step = max(1, ENTRIES_AT_ONCE // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
