"""Files of rows become a folder of numbered columns, in two passes.

The first pass counts the values of the training rows, the second writes the
ids of every row in the narrowest integers that hold them. Where there are
numbers or lists, another comes first, for the edges of their bins and their
lengths. None keeps rows in memory, and counts and values are in files where
there are many.
"""

import itertools
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data import rows as raw
from keras_pep.data import stored
from keras_pep.data.checked import Counted, checked_rows, texts_of
from keras_pep.data.counting import ValueCounter, shrink
from keras_pep.data.dataset import DataError, Parsed, Unseen
from keras_pep.data.fields import Field, Vocabulary, is_missing
from keras_pep.data.fitting import fitted
from keras_pep.data.growth import SeenWriter
from keras_pep.data.numbering import Numbered, described, number_rows
from keras_pep.data.rows import Column
from keras_pep.data.source import Source
from keras_pep.data.splits import Rule
from keras_pep.data.stored import SPLITS
from keras_pep.data.times import numbers
from keras_pep.data.vocabularies import read_values
from keras_pep.files import whole_folder

if TYPE_CHECKING:
    from keras_pep.data.growth import Earlier

logger = logging.getLogger(__name__)

_BY_NAME = "as this dataset has it"
_UNSEEN = 0.95  # share of validation's values from which a field is of no use


class Here:
    """Reads all files in this process; `cluster.Cluster` does it elsewhere."""

    def rule(self, source: Source) -> Rule:
        """Find where splits begin."""
        return source.split.fitted(source.files, source.label)

    def fields(self, source: Source, seed: int) -> tuple[Field, ...]:
        """Find the edges of numbers and the lengths of lists."""
        return fitted(source, seed)

    def counted(
        self, source: Source, seed: int, counters: "Sequence[ValueCounter]"
    ) -> "Counted":
        """Count the values of all rows."""
        return count_rows(source, np.random.default_rng(seed), counters)

    def numbered(
        self, source: Source, seed: int, folder: Path, sizes: np.ndarray
    ) -> "Numbered":
        """Write the columns of all rows, by the values that are there."""
        random = np.random.default_rng(seed)
        return number_rows(source, random, folder, folder, sizes)


def prepare(
    source: Source,
    folder: Path,
    seed: int,
    max_bad_rows: float,
    where: Here | None = None,
) -> None:
    """Writes a folder that `stored.open_folder` reads.

    The folder appears when it is complete. Rows that are split at random are
    split each by its own, 80/10/10.

    Args:
        source: What to prepare.
        folder: Where to; must not exist.
        seed: Of the random split.
        max_bad_rows: Share of malformed rows that is tolerated.
        where: Where rows are read; by default here.

    Raises:
        DataError: If a file cannot be read, has no rows, too many rows are
            malformed, or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as partial:
            before = source.files.states()
            _write(source, partial, seed, max_bad_rows, where or Here())
            if source.files.states() != before:
                raise DataError(
                    f"{source.files.paths[0].parent}: a file of "
                    f"{source.name} has changed while it was read."
                )
    except OSError as error:
        if folder.is_dir():  # another process was faster
            return
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}."
        ) from error


def _write(
    source: Source, folder: Path, seed: int, max_bad_rows: float, where: Here
) -> None:
    if source.split.by in ("time", "order"):
        logger.info(f"{source.name}: looking at times")
        source = replace(source, split=where.rule(source))
    earlier = source.earlier
    if not earlier and any(
        field.kind in ("number", "list") for field in source.fields
    ):
        logger.info(f"{source.name}: looking at numbers and lists")
        source = replace(source, fields=where.fields(source, seed))
    logger.info(f"{source.name}: counting values")
    spilled = folder / "counts"
    counters = counters_of(source.fields, spilled)
    if earlier:
        _add_earlier(counters, source.fields, earlier)
    counted = where.counted(source, seed, counters)
    sizes, malformed = counted.sizes, counted.malformed
    rows = int(sizes.sum())
    malformed.check(rows, max_bad_rows)
    if not rows:
        raise raw.no_rows(source.files, malformed)
    notes = [*source.notes]
    if malformed.first:
        notes.append(f"Left out, the first malformed row: {malformed.first()}.")
    for column, found in counted.marks.items():
        shown = ", ".join(map(repr, itertools.islice(found, 5)))
        notes.append(
            f"{column}: {shown} {'is' if len(found) == 1 else 'are'} taken "
            f"as missing, in {found.total():,} rows."
        )
    if source.min_count < 1:  # of as many rows as there are
        least = math.ceil(round(source.min_count * int(sizes[0]), 6))
        source = replace(source, min_count=least)
    stored.write_values(folder, _values(source, counters, folder))
    for of, counter in zip(source.fields, counters, strict=True):
        if counter.merged:
            as_text = f" {of.column}:text in --fields takes values as they are"
            notes.append(
                f"{of.name}: {counter.merged}."
                + f"{as_text} written." * (of.kind == "category")
            )
    source = replace(source, notes=tuple(notes))
    unseen = [counter.unseen for counter in counters]
    columns = _columns(source, counters, counted.examples, int(sizes[0]))
    del counters
    shutil.rmtree(spilled, ignore_errors=True)
    logger.info(f"{source.name}: numbering {rows:,} rows")
    numbered = where.numbered(source, seed, folder, sizes)
    _describe(source, folder, numbered, unseen, columns, sizes, malformed.rows)


def counters_of(fields: Sequence[Field], folder: Path) -> list[ValueCounter]:
    """Make a counter for each field, with files in a folder."""
    return [
        ValueCounter(folder / str(place), each.kind != "text")
        for place, each in enumerate(fields)
    ]


def count_rows(
    source: Source,
    random: np.random.Generator,
    counters: Sequence[ValueCounter],
    only: int | None = None,
) -> Counted:
    """Count the values of rows.

    Args:
        source: Files and fields.
        random: What rows are split by at random.
        counters: Of each field.
        only: Place of the one file to read.
    """
    counted = Counted()
    for each in checked_rows(source, random, counted, only):
        counted.sizes += np.bincount(each.split, minlength=len(SPLITS))
        for counter, made in zip(counters, each.columns, strict=True):
            _count(counter, made, each.split)
        shrink(counters)
    return counted


def _add_earlier(
    counters: Sequence[ValueCounter],
    fields: Sequence[Field],
    earlier: "Earlier",
) -> None:
    """Count the rows of earlier data."""
    for counter, each in zip(counters, fields, strict=True):
        if each.kind != "hash":
            for values, times in earlier.counts(each.name):
                counter.add(values, before=times)
                shrink(counters)


def _count(counter: ValueCounter, made: Column, split: np.ndarray) -> None:
    """Count the rows of a block."""
    texts = texts_of(made.values)
    size = len(made.values)
    times, tested = (
        np.bincount(
            made.codes[split == SPLITS.index(name)], minlength=size
        ).repeat(len(texts) // max(size, 1))
        for name in ("train", "test")
    )
    counter.add(texts, times, tested)


def _values(
    source: Source, counters: Sequence[ValueCounter], folder: Path
) -> Iterator[Any]:
    """Choose the values of each field, and write how often all were seen."""
    known, earlier = dict(source.vocabularies), source.earlier
    least, most = source.min_count, source.max_values
    with SeenWriter(folder) as seen:
        for of, counter in zip(source.fields, counters, strict=True):
            counts = seen.written(of.name, counter.counts())
            if earlier and of.kind != "hash":
                before = earlier.vocabularies[of.name]
                evict_below = earlier.evict_below
                yield before.extended(counts, least, evict_below, most).texts()
                continue
            values = _often(counts, least, most)
            if of.name in known:
                values = read_values(known[of.name], of)[:most]
            yield values.slice(0, 0) if of.kind == "hash" else values


def _often(counts: Iterable[Any], min_count: float, most: int | None) -> Any:
    """Return the values that occur often enough, sorted.

    Args:
        counts: The `times` of each `value`, sorted by value, in parts.
        min_count: In how many rows, at least.
        most: How many of them, the most frequent; of those in as many rows the
            first.
    """
    found = pa.concat_tables(
        part.filter(pa.compute.greater_equal(part["times"], min_count))
        for part in counts
    )
    if most is not None:
        falling = [("times", "descending"), ("value", "ascending")]
        found = found.sort_by(falling).slice(0, most).sort_by("value")
    return found["value"].combine_chunks()


def _columns(
    source: Source,
    counters: Sequence[ValueCounter],
    examples: Mapping[str, str],
    rows: int,
) -> list[Parsed]:
    """Say of each field, and then of other columns, how it was taken."""
    of_label = source.positive and f"positive if {source.positive}"
    others = [(source.label, "label", of_label or "0 or 1")]
    if source.weight:
        others.append((source.weight, "weight", "by --weight"))
    if source.split.column:
        others.append((source.split.column, "split", "by --split"))
    others += [(name, "left out", why) for name, why in source.left_out]
    found = [
        Parsed(
            *(of.column, of.kind, why, counter.different),
            None if of.kind == "hash" else counter.missing / max(rows, 1),
            counter.unseen.share,
            examples.get(of.column, ""),
        )
        for of, why, counter in zip(
            source.fields,
            source.why or [_BY_NAME] * len(counters),
            counters,
            strict=True,
        )
    ]
    return found + [
        Parsed(name, kind, why, example=examples.get(name, ""))
        for name, kind, why in others
    ]


def _describe(
    source: Source,
    folder: Path,
    numbered: Numbered,
    unseen: Sequence[Unseen],
    columns: list[Parsed],
    sizes: np.ndarray,
    malformed: int,
) -> None:
    """Leave out fields of no use, and write what the columns hold."""
    fields = described(source)
    vocabularies = stored.vocabularies(folder, fields)
    unknown, known = numbered.unknown, numbered.known
    shares = unknown / np.maximum(unknown + known, 1)
    useless = _useless(source, vocabularies, shares)
    leave_out = source.guessed and len(useless) < len(fields)
    notes = [*source.notes]
    for place, why in useless.items():
        of = source.fields[place]
        what = "is kept" + ", as --fields names it" * (not source.guessed)
        if leave_out:
            what = f"is left out; {of.column}:{of.kind} in --fields keeps it"
            if of.kind == "category" and _are_numbers(numbered.first[place]):
                what += f", and {of.column}:number bins its numbers"
            columns[place] = columns[place]._replace(
                kind="left out", why=f"of no use: {why}"
            )
        notes.append(f"{of.name}: of no use, {why}. It {what}.")
    kept = [
        place
        for place in range(len(fields))
        if not (leave_out and place in useless)
    ]
    stored.keep_fields(folder, kept, len(fields))
    stored.write_description(
        folder,
        {
            "name": source.name,
            "features": source.features,
            **({"weighted": True} if source.weight else {}),
            "malformed": malformed,
            "rows": dict(zip(SPLITS, sizes.tolist(), strict=True)),
            "unknown": dict(zip(SPLITS, shares[:, kept].tolist(), strict=True)),
            "fields": [fields[place] for place in kept],
            "unseen": {
                source.fields[place].name: unseen[place] for place in kept
            },
            "notes": notes,
            "columns": columns,
        },
    )


def _are_numbers(values: Any) -> bool:
    """Tell whether values are several numbers, some of them missing."""
    found = numbers(values.filter(pa.array(~is_missing(values))))
    return found.size > 1 and not np.isnan(found).any()


def _useless(
    source: Source, vocabularies: Sequence[Vocabulary], shares: np.ndarray
) -> dict[int, str]:
    """Find fields that tell no row from another, and why."""
    useless = {}
    often = f"in {source.min_count} training rows or more"
    for place, vocabulary in enumerate(vocabularies):
        unseen = shares[1, place]
        values = len(vocabulary.values)
        if not values:
            useless[place] = f"no value occurs {often}"
        elif values == 1 and not shares[0, place]:
            value = str(vocabulary[1])
            useless[place] = f"every training row has the same value {value!r}"
        elif unseen >= _UNSEEN:
            useless[place] = (
                f"{unseen:.1%} of its values in validation do not occur {often}"
            )
    return useless
