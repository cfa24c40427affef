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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data import rows as raw
from keras_pep.data import stored
from keras_pep.data.counting import ValueCounter, shrink
from keras_pep.data.dataset import DataError, Parsed, Unseen
from keras_pep.data.fields import (
    Field,
    Vocabulary,
    is_missing,
)
from keras_pep.data.fitting import fitted
from keras_pep.data.growth import SeenWriter
from keras_pep.data.labels import expected_labels, read_labels
from keras_pep.data.places import Places
from keras_pep.data.rows import Block, Column, Files, Malformed
from keras_pep.data.spelling import spelled
from keras_pep.data.splits import Rule
from keras_pep.data.stored import SPLITS, ColumnWriter
from keras_pep.data.times import FORMS, numbers
from keras_pep.data.vocabularies import read_values
from keras_pep.files import whole_folder

if TYPE_CHECKING:
    from keras_pep.data.growth import Earlier

logger = logging.getLogger(__name__)

OWN = "own"  # the feature set of files that have none by name


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files, and what is to be made of them.

    Attributes:
        name: Of the dataset.
        features: Which of its feature sets.
        files: The rows.
        label: The column of labels.
        fields: The fields.
        positive: Which labels are positive; see `labels.parsed`.
        weight: The column of weights, if examples have some.
        min_count: Values that occur in fewer training rows share one id; below
            1 it is a share of these rows.
        max_values: How many values of a field have an id, the most frequent.
        vocabularies: Names of fields, and the files of their values.
        split: Which rows are for training, validation and test.
        guessed: Whether the columns were not named, so that those of no use
            are left out.
        notes: What somebody might not expect of how columns are taken.
        why: Of each field why it is of its kind.
        left_out: Columns that are not read, and why.
        earlier: The data that these go on from.
    """

    name: str
    features: str
    files: Files
    label: str
    fields: tuple[Field, ...]
    positive: str = ""
    weight: str = ""
    min_count: float = 10
    max_values: int | None = None
    vocabularies: tuple[tuple[str, Path], ...] = ()
    split: Rule = field(default_factory=Rule)
    guessed: bool = False
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    earlier: "Earlier | None" = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        names = (self.label, *(field.column for field in self.fields))
        weight = filter(None, [self.weight])
        return tuple(dict.fromkeys((*names, *weight, *self.split_columns)))

    @property
    def split_columns(self) -> tuple[str, ...]:
        """The column that rows are split by, if there is one."""
        return (self.split.column,) if self.split.column else ()


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
    for each in _rows(source, random, counted, only):
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
    texts = _texts(made.values)
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


_BY_NAME = "as this dataset has it"
_LOOKED_AT = 1000  # values of a block among which one is an example


class _Rows(NamedTuple):
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


def _rows(
    source: Source,
    random: np.random.Generator,
    counted: Counted | None,
    only: int | None,
) -> Iterator[_Rows]:
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
        yield _Rows(split, labels, weights, made)


A_WEIGHT = "a weight: a number of 0 or more"

FEWER_LINES = "fewer lines: is a quote missing?"
_ADVICE = {
    "number": "; the kind category takes values as they are",
    "hour": "; for others --fields takes a format, as in "
    "when:time(%m/%d/%Y %H:%M)",
}
_ADVICE["weekday"] = _ADVICE["hour"]


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


def _texts(values: Any) -> Any:
    """Flatten the values of a block into a PyArrow array."""
    if isinstance(values, np.ndarray):
        values = pa.array(values.ravel(), pa.string())
    return values


class Encoder:
    """Numbers the values of a field.

    Args:
        vocabulary: The values.
        unknown: Id of others.
    """

    def __init__(self, vocabulary: Vocabulary, unknown: int = 0) -> None:
        self.length = vocabulary.field.length
        self.dtype = stored.narrowest(
            max(len(vocabulary), unknown + 1), negative=self.length > 1
        )
        self._unknown, self._first = unknown, int(vocabulary.unknown)
        self._by_hash = vocabulary.field.kind == "hash"
        if self._by_hash:
            return
        texts = vocabulary.texts()
        self._places, self._spelled = Places(texts), None
        self._by_text = vocabulary.field.kind == "text"
        # Vocabularies of an earlier version have other spellings.
        if not self._by_text and not (made := spelled(texts)).equals(texts):
            self._spelled = Places(made)

    def ids(self, values: Any) -> np.ndarray:
        """Ids `(n, length)`, -1 where a list has ended."""
        text = _texts(values)
        if self._by_hash:  # "" is a value of no row
            number = pa.compute.if_else(pa.compute.equal(text, ""), "0", text)
            return np.asarray(number.cast(pa.int64()), self.dtype)[:, None]
        ids = np.full(len(text), -1, dtype=np.int64)
        some = text.is_valid().to_numpy(False)
        places = self._found(text.drop_null())
        ids[some] = np.where(places < 0, self._unknown, places + self._first)
        return ids.astype(self.dtype).reshape(-1, self.length)

    def _found(self, texts: Any) -> np.ndarray:
        """Find places of values, also of those that are spelled otherwise."""
        places = self._places.of(texts)
        left = np.flatnonzero(places < 0)
        if self._by_text or not left.size:
            return places
        others = texts.take(pa.array(left))
        made = spelled(others)
        if made is not others:
            places[left] = self._places.of(made)
        if self._spelled:
            other = self._spelled.of(made)
            places[left] = np.where(places[left] < 0, other, places[left])
        return places


@dataclass
class Numbered:
    """Findings of the numbering pass.

    Attributes:
        unknown: In each split, how many values of each field have the id of
            unknown ones, `(splits, fields)`.
        known: How many have one of their own, likewise.
        first: Values of the first block, by field.
    """

    unknown: np.ndarray
    known: np.ndarray
    first: list[Any]

    def add(self, other: "Numbered") -> None:
        """Add what was found in the files after these."""
        self.unknown += other.unknown
        self.known += other.known
        self.first = self.first or other.first


def _described(source: Source) -> list[dict[str, Any]]:
    """Describe all vocabularies but for their values, which are in a file."""
    return [
        {
            **Vocabulary(each, [], unknown=each.kind != "hash").described,
            "values": place,
        }
        for place, each in enumerate(source.fields)
    ]


def number_rows(
    source: Source,
    random: np.random.Generator,
    values: Path,
    folder: Path,
    sizes: np.ndarray,
    only: int | None = None,
) -> Numbered:
    """Write a file for every column of every split.

    Args:
        source: Files and fields.
        random: What rows are split by at random.
        values: Folder with the values of fields.
        folder: Where to.
        sizes: Rows of each split.
        only: Place of the one file to read.
    """
    vocabularies = stored.vocabularies(values, _described(source))
    encoders = [Encoder(vocabulary) for vocabulary in vocabularies]
    unknown = np.zeros((len(SPLITS), len(encoders)), dtype=np.int64)
    known = np.zeros_like(unknown)
    labels = ColumnWriter(folder, "label", np.dtype(np.uint8), sizes)
    weights = None
    if source.weight:
        weights = ColumnWriter(folder, "weight", np.dtype(np.float32), sizes)
    writers = [
        ColumnWriter(folder, f"{place}", each.dtype, sizes, each.length)
        for place, each in enumerate(encoders)
    ]
    first: list[Any] = []
    for split, label, weight, made_columns in _rows(source, random, None, only):
        first = first or [made.values for made in made_columns]
        parts = [split == n for n in range(len(SPLITS))]
        labels.write([label[part] for part in parts])
        if weights is not None and weight is not None:
            weights.write([weight[part] for part in parts])
        for place, made in enumerate(made_columns):
            ids = encoders[place].ids(made.values)
            rows = [ids[made.codes[part]] for part in parts]
            writers[place].write(rows)
            least = int(vocabularies[place].unknown)
            some = [np.count_nonzero(each >= 0) for each in rows]
            seen = [np.count_nonzero(each >= least) for each in rows]
            unknown[:, place] += np.subtract(some, seen)
            known[:, place] += seen
    every = (labels, *writers, *filter(None, [weights]))
    if not all(writer.complete for writer in every):
        raise DataError(f"{source.name}: a file has changed while it was read.")
    return Numbered(unknown, known, first)


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
    described = _described(source)
    vocabularies = stored.vocabularies(folder, described)
    unknown, known = numbered.unknown, numbered.known
    shares = unknown / np.maximum(unknown + known, 1)
    useless = _useless(source, vocabularies, shares)
    leave_out = source.guessed and len(useless) < len(described)
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
        for place in range(len(described))
        if not (leave_out and place in useless)
    ]
    stored.keep_fields(folder, kept, len(described))
    stored.write_description(
        folder,
        {
            "name": source.name,
            "features": source.features,
            **({"weighted": True} if source.weight else {}),
            "malformed": malformed,
            "rows": dict(zip(SPLITS, sizes.tolist(), strict=True)),
            "unknown": dict(zip(SPLITS, shares[:, kept].tolist(), strict=True)),
            "fields": [described[place] for place in kept],
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


_UNSEEN = 0.95  # share of validation's values from which a field is of no use


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
