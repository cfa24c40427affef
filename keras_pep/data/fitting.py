"""Edges of bins and lengths of lists, found before values are counted."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from keras_pep.data import rows as raw
from keras_pep.data.fields import LONGEST_LIST, Field, lengths
from keras_pep.data.rows import Malformed
from keras_pep.data.times import numbers

if TYPE_CHECKING:
    from keras_pep.data.source import Source

logger = logging.getLogger(__name__)

_BINS = 32  # of a number, as far as its values allow
_SAMPLED = 1 << 20  # values of a number from which its bins are made


def fitted(source: "Source", seed: int) -> tuple[Field, ...]:
    """Complete fields with the edges of numbers and the lengths of lists.

    Edges are quantiles of the training rows, of a random million of them if
    there are more.
    """
    return completed(source, look(source, seed, np.random.default_rng(seed)))


@dataclass
class Look:
    """Numbers and lengths of lists, by the place of a field.

    Attributes:
        samples: Of numbers.
        longest: Of lists, the length.
        cut: How many lists are too long.
    """

    samples: "dict[int, Sample]"
    longest: dict[int, int]
    cut: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Look") -> None:
        """Add what was found in other files."""
        for place, sample in other.samples.items():
            self.samples[place].merge(sample)
        for place, length in other.longest.items():
            self.longest[place] = max(self.longest[place], length)
        self.cut += other.cut


def look(
    source: "Source",
    seed: int,
    random: np.random.Generator,
    only: int | None = None,
) -> Look:
    """Look at the numbers of training and at lists.

    Args:
        source: Files and fields.
        seed: Of samples.
        random: What rows are split by at random.
        only: Place of the one file to read.
    """
    kinds = [each.kind for each in source.fields]
    made = Look(
        {p: Sample() for p, kind in enumerate(kinds) if kind == "number"},
        {p: 1 for p, kind in enumerate(kinds) if kind == "list"},
    )
    columns = {
        p: source.fields[p].column for p in (*made.samples, *made.longest)
    }
    names = tuple(dict.fromkeys([*columns.values(), *source.split_columns]))
    for block in raw.blocks(source.files, names, Malformed(), only):
        training = source.split.split(block, random)[0] == 0
        for place, name in columns.items():
            column = block.columns[name]
            if place in made.samples:
                if block.first == 0:  # of a file: each has its own marks
                    made.samples[place].random = np.random.default_rng(
                        (seed, place, block.file)
                    )
                found = numbers(column.values)[column.codes[training]]
                made.samples[place].add(found)
            else:
                long = lengths(column.values.to_pylist())
                made.longest[place] = max(made.longest[place], int(long.max()))
                too_long = (long > LONGEST_LIST)[column.codes].sum()
                made.cut[place] += int(too_long)
    return made


def completed(source: "Source", look: Look) -> tuple[Field, ...]:
    """Complete fields by what was found in all files."""
    fitted = list(source.fields)
    for place, sample in look.samples.items():
        fitted[place] = replace(fitted[place], edges=sample.edges())
    for place, length in look.longest.items():
        length = min(length, LONGEST_LIST)
        fitted[place] = replace(fitted[place], length=length)
        if look.cut[place]:
            logger.info(
                f"{source.name}: {look.cut[place]:,} lists of "
                f"{fitted[place].name} "
                f"have more than {LONGEST_LIST} values, of which the rest is "
                "left out"
            )
    return tuple(fitted)


@dataclass
class Sample:
    """A uniform sample of numbers: all of them, or about a million."""

    random: np.random.Generator = field(default_factory=np.random.default_rng)
    share: float = 1.0
    marks: np.ndarray = field(default_factory=lambda: np.empty(0))
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))

    def add(self, more: np.ndarray) -> None:
        """Keeps those whose random mark is below the share."""
        more = more[np.isfinite(more)]
        self._keep(self.random.random(more.size), more)

    def merge(self, other: "Sample") -> None:
        """Add a sample of other numbers."""
        self.share = min(self.share, other.share)
        self._keep(other.marks, other.numbers)

    def _keep(self, marks: np.ndarray, more: np.ndarray) -> None:
        self.marks = np.concatenate([self.marks, marks])
        self.numbers = np.concatenate([self.numbers, more])
        while (kept := self.marks < self.share).sum() > _SAMPLED:
            self.share /= 2
        self.marks, self.numbers = self.marks[kept], self.numbers[kept]

    def edges(self) -> tuple[float, ...]:
        """Quantiles that divide them into bins of about the same size."""
        if not self.numbers.size:
            return ()
        shares = np.arange(1, _BINS) / _BINS
        quantiles = np.quantile(self.numbers, shares, method="higher")
        return tuple(np.unique(quantiles).tolist())
