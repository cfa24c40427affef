"""How often each value occurs, where there are more values than memory holds.

Counts are kept in memory until they take too much of it. Then those of the
largest field are sorted by value, added up and written to a file. In the end
the files of a field are merged, a range of values at a time.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from keras_pep.data.dataset import Unseen
from keras_pep.data.spelling import spelled

_IN_MEMORY = 128 << 20  # bytes of the counts of all fields
_OF_TABLE = 4 << 10  # bytes that a table takes beside its counts
_AT_ONCE = 1 << 19  # counts that are merged
_FILES = 64  # of a field

_SUMS = ("times", "tested", "before")
# A value, and how it was written if that is another text.
_SCHEMA = pa.schema(
    {
        "value": pa.large_string(),
        "written": pa.large_string(),
        "times": pa.int64(),
        "tested": pa.int64(),
        "before": pa.float64(),
    }
)


class ValueCounter:
    """Counts the rows of each value of a field.

    Args:
        folder: Of files, for what memory does not hold; of this field alone.
        spell: Whether values are spelled in one way.

    Attributes:
        size: Bytes of memory that it takes.
        merged: Says which values were written in several ways, once `counts`
            has been read to its end.
        unseen: What test has and training has not, then too.
        different: How many values training has, and `missing`: in how many of
            its rows there is none.
    """

    def __init__(self, folder: Path, spell: bool = True) -> None:
        self.size = 0
        self.merged = ""
        self.unseen = Unseen(0, 0.0)
        self.different = self.missing = 0
        self._folder, self._spell = folder, spell
        self._tables: list[Any] = []
        self._files: list[Path] = []
        self._written = 0

    def add(
        self,
        values: Any,
        times: np.ndarray | int = 0,
        tested: np.ndarray | int = 0,
        before: np.ndarray | float = 0.0,
    ) -> None:
        """Count some more rows.

        Args:
            values: A PyArrow array of text, `(n,)`; nulls do not count.
            times: In how many rows of training each is.
            tested: In how many of test.
            before: In how many of earlier data, more or less.
        """
        some = np.broadcast_to((times + tested + before) > 0, len(values))
        some = some & values.is_valid().to_numpy(False)
        sums = [
            np.broadcast_to(sums, len(values))[some]
            for sums in (times, tested, before)
        ]
        written = values.filter(pa.array(some)).cast(pa.large_string())
        value = spelled(written) if self._spell else written
        same = pa.compute.equal(value, written)
        written = pa.compute.if_else(same, "", written)
        table = pa.table([value, written, *sums], schema=_SCHEMA)
        self._tables.append(table)
        self.size += table.nbytes + _OF_TABLE

    def shrink(self) -> None:
        """Add up the counts in memory; write them if that is of little use."""
        table = _sum(self._tables)
        if 2 * table.nbytes < self.size:
            self._tables, self.size = [table], table.nbytes
            return
        self._tables, self.size = [], 0
        self._write([table])
        if len(self._files) == _FILES:
            files, self._files = self._files, []
            self._write(_merged(map(_mapped, files)))
            for path in files:
                path.unlink()

    def _write(self, tables: Iterable[Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._written}.arrow"
        self._written += 1
        # Python's file says why it cannot be written.
        with path.open("wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)
        self._files.append(path)

    def counts(self) -> Iterator[Any]:
        """Add up the training rows of each value, with those of before.

        Yields:
            PyArrow tables of `value` and `times`, float64, sorted by value: all
            values once, at least one table.
        """
        pairs = tested = 0
        unseen = np.zeros(2, dtype=np.int64)
        tables = [*map(_mapped, self._files), _sum(self._tables)]
        for table in _merged(tables):
            starts = _starts([table["value"]])
            value = table["value"].take(pa.array(starts)).combine_chunks()
            trained = table["times"].to_numpy() > 0
            ways = np.add.reduceat(trained.astype(np.int64), starts)
            times, test, before = (
                np.add.reduceat(table[name].to_numpy(), starts)
                for name in _SUMS
            )
            several = np.flatnonzero(ways > 1)
            if several.size and not pairs:  # the missing value comes first
                self.merged = _pair(table.slice(starts[several[-1]]))
            pairs += several.size
            tested += int(test.sum())
            new = (times == 0) & (test > 0)
            unseen += [np.count_nonzero(new), test[new].sum()]
            self.different += int(np.count_nonzero(times))
            if len(value) and value[0].as_py() == "":  # is the first of all
                self.missing = int(times[0])
            sums = times + before
            counted = pa.table({"value": value, "times": sums})
            yield counted.filter(pa.array(sums > 0))
        self.merged += f", and so do {pairs - 1:,} pairs more" * (pairs > 1)
        self.different -= bool(self.missing)
        self.unseen = Unseen(int(unseen[0]), float(unseen[1] / (tested or 1)))


def shrink(counters: Sequence[ValueCounter]) -> None:
    """Keep the counts of all fields small enough for memory."""
    while sum(each.size for each in counters) > _IN_MEMORY:
        max(counters, key=lambda each: each.size).shrink()


def _merged(tables: Iterable[Any]) -> Iterator[Any]:
    """Add up sorted counts, a range of values at a time."""
    left = [table for table in tables if table.num_rows]
    if not left:
        yield _SCHEMA.empty_table()
    while left:
        rows = max(_AT_ONCE // len(left), 1)
        last = min(
            table["value"][min(rows, table.num_rows) - 1].as_py()
            for table in left
        )
        ends = [
            bisect.bisect_right(table["value"], last, key=_as_py)
            for table in left
        ]
        parts = [
            table.slice(0, end) for table, end in zip(left, ends, strict=True)
        ]
        yield _sum(parts) if len(parts) > 1 else parts[0]
        left = [
            table.slice(end)
            for table, end in zip(left, ends, strict=True)
            if end < table.num_rows
        ]


def _sum(tables: Sequence[Any]) -> Any:
    """Sort counts by value, and add up those of the same."""
    table = pa.concat_tables([_SCHEMA.empty_table(), *tables]).combine_chunks()
    keys = ["value", "written"]
    if not pa.compute.max(pa.compute.binary_length(table["written"])).as_py():
        keys = keys[:1]  # twice as fast
    order = [(key, "ascending") for key in keys]
    table = table.take(pa.compute.sort_indices(table, order)).combine_chunks()
    starts = _starts([table[key] for key in keys])
    if starts.size == table.num_rows:
        return table
    texts = table.select(["value", "written"]).take(pa.array(starts))
    sums = [np.add.reduceat(table[name].to_numpy(), starts) for name in _SUMS]
    return pa.table([*texts.columns, *sums], schema=_SCHEMA)


def _starts(keys: Sequence[Any]) -> np.ndarray:
    """Find the rows whose keys differ from those of the row before."""
    new = np.arange(len(keys[0])) == 0
    for key in keys:
        differs = pa.compute.not_equal(key.slice(1), key.slice(0, len(key) - 1))
        new[1:] |= differs.to_numpy()
    return np.flatnonzero(new)


def _mapped(path: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _as_py(value: Any) -> Any:
    return value.as_py()


def _pair(table: Any) -> str:
    """Say how the first value of a table was written, in the first of ways."""
    ways = table.filter(
        pa.compute.and_(
            pa.compute.equal(table["value"], table["value"][0]),
            pa.compute.greater(table["times"], 0),
        )
    )
    first = table["value"][0].as_py()
    texts = sorted(text or first for text in ways["written"].to_pylist())
    return f"{texts[0]!r} and {texts[-1]!r} count as one value"
