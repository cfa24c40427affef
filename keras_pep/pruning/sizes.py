"""The size a pruned model may have: entries, a share of them, or bytes."""

import bisect
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

from keras_pep.layers.storage import STORAGES, WORD, Layout

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30}
_BYTES = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?i?)b?\s*", re.I)


def entries_of(
    layers: Iterable[Any],
    *,
    budget: Any = None,
    sparsity: Any = None,
    max_bytes: Any = None,
    quantize: str | None = None,
) -> list[int]:
    """Convert sizes of one kind to numbers of entries.

    Args:
        layers: The `PEPEmbedding` layers, or others of an `input_dim` and an
            `output_dim`.
        budget: How many entries may stay, a number or several.
        sparsity: Or the share of them to prune, between 0 and 1.
        max_bytes: Or the bytes that the tables may take when they are
            exported, as a number or as text such as `"100kB"` or `"2 MiB"`.
            Several tables share entries by their sizes; first-order weights
            and other layers are not counted.
        quantize: What the bytes are counted for: None for float32,
            `"float16"`, or `"int8"` with one scale for a table.

    Raises:
        ValueError: If not just one of the three is given, or a size is out of
            range.

    Example:

    ```python
    layers = keras_pep.pruning.pep_layers(model)
    keras_pep.pruning.entries_of(layers, sparsity=0.95)
    ```
    """
    name, sizes = only_size(
        budget=budget, sparsity=sparsity, max_bytes=max_bytes
    )
    shapes = [(layer.input_dim, layer.output_dim) for layer in layers]
    total = sum(rows * columns for rows, columns in shapes)
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        sizes = [sizes]
    if name == "sparsity":
        budgets = [_of_sparsity(size, total) for size in sizes]
    elif name == "max_bytes":
        budgets = [entries_in_bytes(size, shapes, quantize) for size in sizes]
        if max(budgets, default=0) >= total:
            raise ValueError(
                f"`max_bytes` has room for all {total:,} entries of the "
                "tables: nothing is to be pruned. Expected: fewer bytes. "
                f"Received: max_bytes={max_bytes!r}"
            )
    else:
        budgets = [whole(size) for size in sizes]
    check_budgets(budgets, total)
    return budgets


def only_size(**sizes: Any) -> tuple[str, Any]:
    """Return the one size that is given, and its name.

    Raises:
        ValueError: If not just one is.
    """
    given = {name: size for name, size in sizes.items() if not _is_none(size)}
    if len(given) != 1:
        raise ValueError(
            "Give the size as one of `budget`, `sparsity` and `max_bytes`. "
            f"Received: {given or 'none of them'}"
        )
    return next(iter(given.items()))


def check_budgets(budgets: Sequence[int], parameters: int) -> None:
    """Refuse budgets that cannot be reached.

    Args:
        budgets: How many embedding parameters may stay.
        parameters: How many there are.

    Raises:
        ValueError: If there is no budget, or one is out of range.

    Example:

    ```python
    keras_pep.pruning.check_budgets([9_000, 3_000], parameters=96_000)
    ```
    """
    if not budgets:
        raise ValueError("A search needs at least one budget.")
    for budget in budgets:
        if not 1 <= budget < parameters:
            raise ValueError(
                "A budget must be at least 1 and less than the "
                f"{parameters:,} embedding parameters of the model. "
                f"Received: {budget:,}"
            )


def whole(budget: Any) -> int:
    """Return the budget as an int, if it is a whole number."""
    try:
        return operator.index(budget)
    except TypeError as error:
        raise ValueError(
            "A budget must be a whole number of embedding parameters. "
            f"Received: {budget!r}"
        ) from error


def number_of_bytes(text: int | str) -> int:
    """Read a number of bytes, such as `100_000`, `"100kB"` or `"2 MiB"`.

    Raises:
        ValueError: If it is none.

    Example:

    ```python
    keras_pep.pruning.number_of_bytes("2 MiB")  # 2_097_152
    ```
    """
    if isinstance(text, str):
        found = _BYTES.fullmatch(text)
        if found and (unit := _UNITS.get(found[2].lower())):
            return int(float(found[1]) * unit)
    elif not isinstance(text, bool):
        return int(text)
    raise ValueError(
        "A number of bytes is a number with or without a unit, such as 100kB, "
        f"2 MiB or 50000. Received: {text!r}"
    )


def _is_none(size: Any) -> bool:
    """Tell whether no size is given."""
    return size is None or (isinstance(size, Sequence) and not len(size))


def check_sparsity(sparsity: float) -> None:
    """Refuse a share that is not between 0 and 1.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < sparsity < 1:
        raise ValueError(
            f"`sparsity` must be between 0 and 1. Received: sparsity={sparsity}"
        )


def _of_sparsity(sparsity: float, total: int) -> int:
    check_sparsity(sparsity)
    return round((1 - sparsity) * total)


def entries_in_bytes(
    size: int | str,
    shapes: Sequence[tuple[int, int]],
    quantize: str | None,
) -> int:
    """Find the most entries that take so many bytes, wherever they are.

    Args:
        size: See `number_of_bytes`.
        shapes: Rows and columns of each table.
        quantize: See `entries_of`.

    Raises:
        ValueError: If there is room for none.
    """
    allowed = number_of_bytes(size)
    entries = range(1, 1 + sum(rows * columns for rows, columns in shapes))
    found = bisect.bisect_right(
        entries, allowed, key=lambda n: _bytes_at_most(n, shapes, quantize)
    )
    if not found:
        least = _bytes_at_most(1, shapes, quantize)
        raise ValueError(
            f"No entry fits into {allowed:,} bytes: what a row takes besides "
            f"its entries needs {least:,}. Allow more, or make the model with "
            f"fewer columns. Received: max_bytes={size!r}"
        )
    return found


def _bytes_at_most(
    entries: int, shapes: Sequence[tuple[int, int]], quantize: str | None
) -> int:
    """Return the bytes of tables that share entries by their sizes.

    As many rows keep some as can; where fewer do, tables are smaller.
    """
    size = sum(rows * columns for rows, columns in shapes)
    return sum(
        min(
            _layout(rows, columns, kept, storage, quantize).bytes
            for storage in STORAGES
        )
        for rows, columns in shapes
        for kept in [-(-entries * rows * columns // size)]
    )


def _layout(
    rows: int, columns: int, kept: int, storage: str, quantize: str | None
) -> Layout:
    return Layout(
        *(rows, columns, kept, min(kept, rows), storage, quantize),
        offset_bytes=1 if WORD * columns < 256 else 2,
    )
