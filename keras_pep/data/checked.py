"""The well-formed rows of files, and what is said of the others.

Every pass over the files reads the same rows, and those of which a value is
malformed are left out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from keras_pep.data import rows as raw
from keras_pep.data.fields import Field
from keras_pep.data.labels import expected_labels, read_labels
from keras_pep.data.rows import Block, Column, Malformed
from keras_pep.data.source import OWN, Source
from keras_pep.data.stored import SPLITS
from keras_pep.data.times import FORMS, numbers

A_WEIGHT = "a weight: a number of 0 or more"
FEWER_LINES = "fewer lines: is a quote missing?"
_ADVICE = {
    "number": "; the kind category takes values as they are",
    "hour": "; for others --fields takes a format, as in "
    "when:time(%m/%d/%Y %H:%M)",
}
_ADVICE["weekday"] = _ADVICE["hour"]
_LOOKED_AT = 1000  # values of a block among which one is an example


@dataclass
class Counted:
    """Sizes and findings of the counting pass.

    Attributes:
        sizes: Rows of each split.
        malformed: Those that are none.
        marks: The rows of texts that stand for no value, by column.
        examples: A value of each column.
    """

    sizes: np.ndarray = field(
        default_factory=lambda: np.zeros(len(SPLITS), dtype=np.int64)
    )
    malformed: Malformed = field(default_factory=Malformed)
    marks: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Counted") -> None:
        """Add what the files after these have."""
        self.sizes += other.sizes
        self.malformed.rows += other.malformed.rows
        self.malformed.first = self.malformed.first or other.malformed.first
        for column, found in other.marks.items():
            self.marks.setdefault(column, Counter()).update(found)
        for column, example in other.examples.items():
            self.examples[column] = self.examples.get(column) or example


class Checked(NamedTuple):
    """Well-formed rows of a block.

    Attributes:
        split: Places in `SPLITS`, int8.
        labels: bool.
        weights: float32, if there are weights.
        columns: Every field.
    """

    split: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    columns: list[Column]


def checked_rows(
    source: Source,
    random: np.random.Generator,
    counted: Counted | None,
    only: int | None,
) -> Iterator[Checked]:
    """Read the well-formed rows of every block, the same in every pass.

    Args:
        source: Files and fields.
        random: What rows are split by at random.
        counted: Where all but the sizes is left, in the first pass.
        only: Place of the one file to read.
    """
    malformed = counted.malformed if counted else Malformed()
    for block in raw.blocks(source.files, source.columns, malformed, only):
        split, misplaced = source.split.split(block, random)
        label = block.columns[source.label]
        positive, bad = read_labels(label.values, source.positive)
        labels = positive[label.codes]
        wrong = np.zeros(len(block), dtype=bool)
        if bad.any():
            own = source.features == OWN
            wanted = expected_labels(label, source.positive, own=own)
            wrong |= wrong_rows(block, source.label, bad, wanted, malformed)
        weights = None
        if source.weight:
            weights, bad = read_weights(block.columns[source.weight])
            wrong |= wrong_rows(block, source.weight, bad, A_WEIGHT, malformed)
        if misplaced is not None:
            wanted = source.split.expected
            name = source.split.column
            wrong |= wrong_rows(block, name, misplaced, wanted, malformed)
        for name, column in block.columns.items():
            if counted and not counted.examples.get(name):
                first = column.values.slice(0, _LOOKED_AT).to_pylist()
                counted.examples[name] = next(filter(None, first), "")
        wrong |= torn_rows(block, malformed)
        made: list[Column] = []
        parsed: dict[Any, Any] = {}
        marked = set()  # columns, of which there may be several fields
        for each in source.fields:
            column = block.columns[each.column]
            if each.kind in ("category", "text"):
                made.append(column)
                continue
            new = each.made(column.values, parsed)
            wanted = expected(each)
            if not each.time_format:
                wanted += _ADVICE.get(each.kind, "")
            bad = new.malformed
            wrong |= wrong_rows(block, each.column, bad, wanted, malformed)
            if counted and each.column not in marked:
                marked.add(each.column)
                times = np.bincount(column.codes, minlength=bad.size)
                for place in np.flatnonzero(new.missing).tolist():
                    if text := column.values[place].as_py():
                        counter = counted.marks.setdefault(
                            each.column, Counter()
                        )
                        counter[text] += int(times[place])
            made.append(Column(new.values, new.places[column.codes]))
        if wrong.any():
            malformed.rows += int(wrong.sum())
            split, labels = split[~wrong], labels[~wrong]
            weights = None if weights is None else weights[~wrong]
            made = [Column(each.values, each.codes[~wrong]) for each in made]
        yield Checked(split, labels, weights, made)


def expected(field: Field) -> str:
    """Say what raw values of a field have to be, for an error."""
    if field.kind == "log":
        return "an integer"
    if field.kind == "number":
        return "a number"
    if field.time_format:
        return f"a time as {field.time_format} has it"
    return f"a time: {FORMS}"


def read_weights(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Read the weight of each row, and say which values are none."""
    with np.errstate(over="ignore"):
        found = numbers(column.values).astype(np.float32)
    return found[column.codes], ~np.isfinite(found) | (found < 0)


def torn_rows(block: Block, malformed: Malformed) -> np.ndarray:
    """Tell which rows have swallowed others for want of a quote."""
    torn = np.zeros(len(block), dtype=bool)
    for name, column in block.columns.items():
        lines = block.lines(name)
        bad = lines > 0
        malformed.rows += int(lines[column.codes[bad[column.codes]]].sum())
        torn |= wrong_rows(block, name, bad, FEWER_LINES, malformed)
    return torn


def wrong_rows(
    block: Block,
    name: str,
    bad: np.ndarray,
    expected: str,
    malformed: Malformed,
) -> np.ndarray | bool:
    """Tell which rows have a malformed value, and keep the first."""
    if not bad.any():
        return False
    column = block.columns[name]
    rows = np.asarray(bad[column.codes])
    row = int(rows.argmax())
    found = column.values[int(column.codes[row])].as_py()[:80]
    malformed.add(
        0,
        lambda: (
            f"{block.path}, row {block.first + row + 1}: found {found!r} in "
            f"column {name!r}, expected {expected}"
        ),
    )
    return rows


def texts_of(values: Any) -> Any:
    """Flatten the values of a block into a PyArrow array."""
    if isinstance(values, np.ndarray):
        values = pa.array(values.ravel(), pa.string())
    return values
