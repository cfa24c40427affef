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
    from keras_pep.data.prepare import Source

logger = logging.getLogger(__name__)

_BINS = 32  # of a number, as far as its values allow
_SAMPLED = 1 << 20  # values of a number from which its bins are made


def fitted(source: "Source", seed: int) -> tuple[Field, ...]:
    """Complete fields with the edges of numbers and the lengths of lists.

    Edges are quantiles of the training rows, of a random million of them if
    there are more.
    """
    samples: dict[int, Sample] = {}
    longest, cut = {}, Counter[int]()  # lengths, and how many are too long
    for place, each in enumerate(source.fields):
        if each.kind == "number":
            samples[place] = Sample(np.random.default_rng((seed, place)))
        elif each.kind == "list":
            longest[place] = 1
    random = np.random.default_rng(seed)
    columns = {p: source.fields[p].column for p in (*samples, *longest)}
    names = tuple(dict.fromkeys([*columns.values(), *source.split_columns]))
    for block in raw.blocks(source.files, names, Malformed()):
        training = source.split.split(block, random)[0] == 0
        for place, name in columns.items():
            column = block.columns[name]
            if place in samples:
                found = numbers(column.values)[column.codes[training]]
                samples[place].add(found)
            else:
                long = lengths(column.values.to_pylist())
                longest[place] = max(longest[place], int(long.max()))
                cut[place] += int((long > LONGEST_LIST)[column.codes].sum())
    fitted = list(source.fields)
    for place, sample in samples.items():
        fitted[place] = replace(fitted[place], edges=sample.edges())
    for place, length in longest.items():
        length = min(length, LONGEST_LIST)
        fitted[place] = replace(fitted[place], length=length)
        if cut[place]:
            logger.info(
                f"{source.name}: {cut[place]:,} lists of {fitted[place].name} "
                f"have more than {LONGEST_LIST} values, of which the rest is "
                "left out"
            )
    return tuple(fitted)


@dataclass
class Sample:
    """A uniform sample of numbers: all of them, or about a million."""

    random: np.random.Generator
    share: float = 1.0
    marks: np.ndarray = field(default_factory=lambda: np.empty(0))
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))

    def add(self, more: np.ndarray) -> None:
        """Keeps those whose random mark is below the share."""
        more = more[np.isfinite(more)]
        marks = self.random.random(more.size)
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
