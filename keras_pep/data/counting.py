"""How often each value occurs, where there are more values than memory holds.

Counts are kept in memory until they take too much of it. Then those of the
largest field are sorted by value, added up and written to a file. In the end
the files of a field are merged, a range of values at a time.
"""

import bisect
import itertools
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
_PART = 1 << 14  # counts of a file that are read at once
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
        self.take(pa.table([value, written, *sums], schema=_SCHEMA))

    def take(self, table: Any) -> None:
        """Add counts that another counter has told."""
        self._tables.append(table)
        self.size += table.nbytes + _OF_TABLE

    def told(self) -> Iterator[Any]:
        """Yield all counts, sorted by value, in tables for another to take."""
        runs = [*map(_read, self._files)]
        held = added(self._tables)
        return _merged([*runs, iter([held])] if held.num_rows else runs)

    def shrink(self) -> None:
        """Add up the counts in memory; write them if that is of little use."""
        table = added(self._tables)
        if 2 * table.nbytes < self.size:
            self._tables, self.size = [table], table.nbytes
            return
        self._tables, self.size = [], 0
        self._write([table])
        if len(self._files) == _FILES:
            files, self._files = self._files, []
            self._write(_merged(map(_read, files)))
            for path in files:
                path.unlink()

    def _write(self, tables: Iterable[Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._written}.arrow"
        self._written += 1
        # Python's file says why it cannot be written.
        with path.open("wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            for table in tables:
                writer.write_table(table, _PART)
        self._files.append(path)

    def counts(self) -> Iterator[Any]:
        """Add up the training rows of each value, with those of before.

        Yields:
            PyArrow tables of `value` and `times`, float64, sorted by value: all
            values once, at least one table.
        """
        pairs = tested = 0
        unseen = np.zeros(2, dtype=np.int64)
        empty = _SCHEMA.empty_table()
        told = self.told()
        for table in itertools.chain([next(told, empty)], told):
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


def _merged(runs: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """Add up counts that come in parts, sorted by value; all of a value once.

    Args:
        runs: Of each file, parts that are not empty.

    Yields:
        Tables in which values rise.
    """
    left = [(part, run) for run in runs for part in [next(run)]]
    while left:
        last = min(part["value"][-1].as_py() for part, _ in left)
        taken, going = [], []
        for part, run in left:
            # The next part may go on with the last value.
            while part is not None:
                end = bisect.bisect_right(part["value"], last, key=_as_py)
                taken.append(part.slice(0, end))
                if end < part.num_rows:
                    going.append((part.slice(end), run))
                    break
                part = next(run, None)
        left = going
        yield added(taken) if len(taken) > 1 else taken[0]


def _read(path: Path) -> Iterator[Any]:
    """Read a file by parts: pages of a map would count as memory."""
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for place in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(place)])


def added(tables: Sequence[Any]) -> Any:
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
