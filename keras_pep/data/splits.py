"""Which rows are for training, for validation and for test."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data.dataset import ENDS, DataError, first_shares
from keras_pep.data.rows import Block, Files, Malformed, blocks
from keras_pep.data.stored import SPLITS
from keras_pep.data.times import FORMS, instants, pattern_of

_PENDING = 1 << 18  # times that are counted before counts are added up


@dataclass(frozen=True)
class Rule:
    """How rows are split.

    Attributes:
        by: `"random"`, `"time"`, `"order"` (of the rows in one file),
            `"column"` or `"files"`.
        column: Of the times, or of the names of splits.
        time_format: Of times, as a `Field` has it.
        divides: Whether rows of one time may come apart, at random, where a
            share ends. Else they are in the split of the first of them.
        cuts: The first times, or rows, of validation and of test, once they
            are known.
        shares: Of the rows of these times, the share that is still of the split
            before.
        files: How many files each split has, those of training first. A split
            without any is a tenth of the rows of these, drawn at random.
    """

    by: str = "random"
    column: str = ""
    time_format: str = ""
    divides: bool = False
    cuts: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    files: tuple[int, ...] = ()

    @property
    def expected(self) -> str:
        """Say what values of the column have to be, for an error."""
        if self.by == "column":
            return f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
        if self.time_format:
            return f"a time as {self.time_format} has it"
        return (
            f"a number or a time to split by: {FORMS}; for others a format, as "
            f"in --split 'time:{self.column}(%m/%d/%Y %H:%M)'"
        )

    def split(
        self, block: Block, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Split the rows of a block.

        Args:
            block: With the rule's column.
            random: What rows are split by at random.

        Returns:
            For each row a place in `SPLITS`, int8; and for each value of the
            column whether it is malformed, bool, if there is a column.
        """
        places: np.ndarray
        if self.by == "random":
            drawn = random.random(len(block))
            return np.searchsorted(ENDS, drawn, "right").astype(np.int8), None
        if self.by == "files":
            place = np.searchsorted(np.cumsum(self.files), block.file, "right")
            places = np.full(len(block), place, dtype=np.int8)
            if place == 0:
                drawn, share = random.random(len(block)), 1 - ENDS[1]
                _, validation, test = self.files
                places[(drawn < share) & (not validation)] = 1
                places[(drawn >= 1 - share) & (not test)] = 2
            return places, None
        if self.by == "order":
            numbers = block.first + np.arange(len(block))
            places = np.searchsorted(self.cuts, numbers, "right")
            return places.astype(np.int8), None
        column = block.columns[self.column]
        if self.by == "time":
            times, _ = instants(column.values, self.time_format)
            malformed = np.isnan(times)
            times = times[column.codes]
            drawn = random.random(len(block))
            places = np.zeros(len(block), dtype=np.int8)
            for cut, share in zip(self.cuts, self.shares, strict=True):
                places += (times > cut) | ((times == cut) & (drawn >= share))
            return places, malformed
        words = pa.compute.utf8_trim_whitespace(column.values)
        words = pa.compute.utf8_lower(words)
        found = pa.compute.index_in(words, pa.array(SPLITS, words.type))
        places = found.fill_null(-1).to_numpy(zero_copy_only=False)
        malformed = places < 0
        return places.astype(np.int8)[column.codes], malformed

    def fitted(self, files: Files, label: str) -> "Rule":
        """Find the times, or the rows, at which validation and test begin.

        Args:
            files: All rows.
            label: A column that they have.

        Raises:
            DataError: If some times are numbers, and others are not.
        """
        return self.cut(self.times(files, label))

    def times(
        self, files: Files, label: str, only: int | None = None
    ) -> "Times":
        """Count the rows, and those of each time if they are split by it.

        Args:
            files: All rows.
            label: A column that they have.
            only: Place of the one file to read.
        """
        times = Times(self.column)
        name = self.column if self.by == "time" else label
        for block in blocks(files, (name,), Malformed(), only):
            times.every += len(block)
            if self.by != "time":
                continue
            column = block.columns[name]
            found, written = instants(column.values, self.time_format)
            valid = ~np.isnan(found)
            rows = np.bincount(column.codes, minlength=valid.size)
            kinds = {*written[valid].tolist()}
            times.add(found[valid], rows[valid], kinds, block.path)
        return times

    def cut(self, times: "Times") -> "Rule":
        """Complete the rule by all that `times` has found."""
        if self.by == "order":
            rows = (int(end * times.every) for end in ENDS)
            return replace(self, cuts=tuple(rows))
        each, sums = times.sum()
        before = first_shares(sums)
        starts = np.searchsorted(before, ENDS)
        shares = np.zeros(len(ENDS))
        if self.divides and each.size:  # of the times in which a share ends
            starts = np.searchsorted(before, ENDS, "right") - 1
            sizes = sums[starts] / sums.sum()
            shares = (np.asarray(ENDS) - before[starts]) / sizes
        cuts = np.append(each, np.inf)[starts]
        return replace(self, cuts=tuple(cuts), shares=tuple(shares))


@dataclass
class Times:
    """How many rows there are, and how many of each time.

    Attributes:
        column: Of the times.
        every: Rows.
        kinds: Whether times are written out, or numbers.
    """

    column: str
    every: int = 0
    kinds: set[bool] = field(default_factory=set)
    _times: list[np.ndarray] = field(default_factory=list)
    _rows: list[np.ndarray] = field(default_factory=list)

    def add(
        self, times: np.ndarray, rows: np.ndarray, kinds: set[bool], path: Path
    ) -> None:
        """Count some more rows of a file.

        Raises:
            DataError: If some times are numbers, and others are not.
        """
        self.kinds |= kinds
        if len(self.kinds) > 1:
            raise DataError(
                f"{path}: found numbers and written times in column "
                f"{self.column!r}, expected one or the other to split by."
            )
        self._times.append(times)
        self._rows.append(rows)
        if sum(map(len, self._times[1:])) > max(_PENDING, len(self._times[0])):
            each, sums = self.sum()
            self._times, self._rows = [each], [sums]

    def sum(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each time once, ascending, and its rows."""
        return _sum(
            [np.empty(0), *self._times], [np.empty(0, np.int64), *self._rows]
        )


def _sum(
    times: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rows of each time, ascending."""
    each, places = np.unique(np.concatenate(times), return_inverse=True)
    sums = np.zeros(each.size, dtype=np.int64)
    np.add.at(sums, places, np.concatenate(rows))
    return each, sums


def rule_of(
    split: str, columns: Sequence[str], label: str, fields: Sequence[str]
) -> Rule:
    """Read how rows are to be split.

    Args:
        split: `"random"`, `"time:COLUMN"`, `"time:COLUMN(FORMAT)"` or
            `"column:NAME"`.
        columns: Those that there are.
        label: The column of labels.
        fields: The columns that were named to learn from.

    Raises:
        DataError: If the column has another purpose, or there cannot be such
            a format.
    """
    if split == "random":
        return Rule()
    by, _, column = split.partition(":")
    time_format = ""
    written = re.fullmatch(r"(.+?)\((.*%.*)\)", column)
    if by == "time" and column not in columns and written:
        column, time_format = written.groups()
        try:
            pattern_of(time_format)
        except ValueError as error:
            raise DataError(f"{error}.") from error
    if column == label or (by == "column" and column in fields):
        what = "the label" if column == label else "a field"
        raise DataError(
            f"{column!r} is {what}, and cannot say how rows are split as well."
        )
    return Rule(by, column, time_format)
