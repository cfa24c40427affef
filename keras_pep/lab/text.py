"""Figures and tables as text."""

import math
from collections.abc import Sequence

UNKNOWN = "–"  # noqa: RUF001


def figure(value: float | None, digits: int = 4) -> str:
    """An AUC or log-loss as text; unknown if there is none."""
    known = value is not None and math.isfinite(value)
    return f"{value:.{digits}f}" if known else UNKNOWN


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, numbers to the right, names to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, numbers to the right, names to the left."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *rows))
