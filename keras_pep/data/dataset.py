"""Rows as models take them: one integer per field, numbered from 0."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_pep.data.fields import Field, Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from keras_pep.data.stored import StoredColumns


ENDS = (0.8, 0.9)  # where the shares of train and validation end
_COUNTED = 1 << 20  # rows that are counted at once


class DataError(ValueError):
    """Data that is missing or not as it should be; the message says where.

    Example:

    ```python
    try:
        data = keras_pep.data.load("no-such-file.csv", label="clicked")
    except keras_pep.data.DataError as error:
        print(error)  # names the file, and says what was expected
    ```
    """


@dataclass(frozen=True, eq=False)
class Split:
    """Some rows of a dataset.

    Attributes:
        ids: int32, `(rows, columns)`, each field numbered from 0: one column
            for a field, or for each value of a list, where -1 is none. On
            disk, slices and arrays of rows read it.
        labels: float32, `(rows,)`, 0 or 1.
        weights: How much each counts in losses and figures, float32 `(rows,)`;
            None if all count alike.

    Example:

    ```python
    ids = np.array([[0, 3], [1, 2]], "int32")
    split = keras_pep.data.Split(ids, np.array([1.0, 0.0], "float32"))
    print(len(split), split.labels.mean())
    ```
    """

    ids: "np.ndarray | StoredColumns"
    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the ids are, and not in files."""
        return isinstance(self.ids, np.ndarray)

    def __len__(self) -> int:
        return len(self.labels)


Splits = tuple[Split, Split, Split]


class Unseen(NamedTuple):
    """Values of a field that test has and training has not.

    Attributes:
        distinct: How many there are.
        share: Of all values of the field in test, each as often as it occurs.
    """

    distinct: int
    share: float


class Parsed(NamedTuple):
    """How a column of a file was taken.

    Attributes:
        column: Its name.
        kind: That of the field that is made of it; or label, weight, split or
            left out.
        why: Why so.
        distinct: How many values training has, without a missing one; None if
            they were not counted.
        missing: Share of training rows without a value, likewise.
        unseen: Share of test's values that training has not, likewise.
        example: A value as it is written.
    """

    column: str
    kind: str
    why: str
    distinct: int | None = None
    missing: float | None = None
    unseen: float | None = None
    example: str = ""

    def texts(self) -> tuple[str, ...]:
        """The texts of a table, below `PARSED`."""
        example = self.example
        if not example.isprintable():
            example = repr(example)
        if len(example) > _SHOWN:
            example = f"{example[: _SHOWN - 1]}…"
        return (
            self.column or repr(""),
            self.kind,
            "" if self.distinct is None else f"{self.distinct:,}",
            *(
                "" if share is None else f"{share:.1%}"
                for share in (self.missing, self.unseen)
            ),
            example,
            self.why,
        )


PARSED = ("column", "kind", "values", "missing", "unseen", "example", "why")
_SHOWN = 16  # characters of an example
_LISTED = 40  # columns of a table


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset for click-through models, split three ways.

    Attributes:
        name: What it is called in reports, `"movielens-1m"` for example.
        features: Which of the dataset's feature sets it is.
        train: Rows to train on.
        validation: Rows to choose by.
        test: Rows to report.
        vocabularies: For every field, in order, the value of each id.
        malformed: How many rows of the source were left out as malformed.
        unknown: For every split and field, the share of values that have no
            id of their own; of all 0 if not given.
        unseen: For every field, how many values of test training has not
            seen, and their share of test's values, however often one occurs.
        notes: A line for each column that was taken in a way that somebody
            might not expect, or left out, and how to say otherwise.
        columns: How each column of a file was taken.
        seen: File that says how often training has seen each value of each
            field, with those that have no id: `field`, `value` and `times`. Of
            files alone.
        stored_fingerprint: What `fingerprint` returns, where it is known.
        planted_sizes: For synthetic data, the embedding size each feature was
            generated with, `(features,)`; else None.

    Example:

    ```python
    data = keras_pep.data.load("synthetic")
    print(data)  # rows, features and fields
    print(dict(zip(data.fields, data.field_sizes)))
    ```
    """

    name: str
    features: str
    train: Split
    validation: Split
    test: Split
    vocabularies: Mapping[str, Vocabulary]
    malformed: int = 0
    unknown: Mapping[str, np.ndarray] = field(default_factory=dict)
    unseen: Mapping[str, "Unseen"] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    columns: tuple[Parsed, ...] = ()
    seen: Path | None = None
    stored_fingerprint: str | None = None
    planted_sizes: np.ndarray | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.vocabularies)

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """Number of features of each field."""
        return tuple(len(values) for values in self.vocabularies.values())

    @property
    def field_lengths(self) -> tuple[int, ...]:
        """Number of columns of each field: more than one for lists."""
        return tuple(v.field.length for v in self.vocabularies.values())

    @property
    def feature_count(self) -> int:
        """Number of features of all fields, the rows of a shared table."""
        return sum(self.field_sizes)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }

    def counts(self) -> np.ndarray:
        """How often each feature occurs in training: int64, `(features,)`."""
        counts = [np.zeros(size, dtype=np.int64) for size in self.field_sizes]
        places = np.repeat(np.arange(len(counts)), self.field_lengths)
        for start in range(0, len(self.train), _COUNTED):
            ids = self.train.ids[start : start + _COUNTED]
            for column, place in zip(ids.T, places, strict=True):
                seen = column[column >= 0]
                counts[place] += np.bincount(seen, minlength=len(counts[place]))
        return np.concatenate(counts)

    def fingerprint(self) -> str:
        """Changes when an id, a label, a split or a vocabulary does.

        Returns:
            SHA-256, in hexadecimal.
        """
        if self.stored_fingerprint is not None:
            return self.stored_fingerprint
        digest = hashlib.sha256()
        for split in self.splits.values():
            digest.update(np.ascontiguousarray(split.ids).tobytes())
            digest.update(np.ascontiguousarray(split.labels).tobytes())
            if split.weights is not None:
                digest.update(np.ascontiguousarray(split.weights).tobytes())
        for name, vocabulary in self.vocabularies.items():
            values = list(vocabulary)
            digest.update(repr((name, values)).encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        rows = ", ".join(
            f"{name} {len(split):,} ({split.labels.mean():.2%} positive)"
            for name, split in self.splits.items()
        )
        fields = ", ".join(
            f"{name} {size:,}"
            for name, size in zip(self.fields, self.field_sizes, strict=True)
        )
        lines = [
            f"{self.name}, features {self.features}",
            f"rows: {rows}",
            f"features: {self.feature_count:,} in {len(self.fields)} fields "
            f"({fields})",
        ]
        if self.unknown:
            shares = ", ".join(
                f"{name} {share.mean():.2%}"
                for name, share in self.unknown.items()
            )
            lines.append(f"values without an id of their own: {shares}")
        if self.unseen:
            unseen = ", ".join(
                f"{name} {found.distinct:,} ({found.share:.2%} of its values)"
                for name, found in self.unseen.items()
                if found.distinct
            )
            lines.append(
                f"test values that training has not seen: {unseen or 'none'}"
            )
        return "\n".join(lines)

    def parsed(self) -> str:
        """Describe in a line how each column was taken; `""` if by no file."""
        if not self.columns:
            return ""
        rows = [PARSED, *(each.texts() for each in self.columns[:_LISTED])]
        widths = [max(map(len, texts)) for texts in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = zip(row, widths, "<<>>><<", strict=True)
            line = "  ".join(f"{t:{side}{width}}" for t, width, side in cells)
            lines.append(line.rstrip())
        if (more := len(self.columns) - _LISTED) > 0:
            lines.append(f"and {more:,} columns more, in metrics.json")
        return "\n".join(lines)

    def table(self) -> str:
        """Describe every field in a line: its features and unknown values."""
        nothing = np.zeros(len(self.fields))
        shares = {name: self.unknown.get(name, nothing) for name in self.splits}
        width = max(len("field"), *(len(name) for name in self.fields))
        lines = [
            f"{'field':{width}}  kind      features  without an id: "
            + "  ".join(f"{name:>10}" for name in shares)
        ]
        for place, (name, vocabulary) in enumerate(self.vocabularies.items()):
            unknown = "  ".join(
                f"{share[place]:10.2%}" for share in shares.values()
            )
            lines.append(
                f"{name:{width}}  {vocabulary.field.kind:8}  "
                f"{len(vocabulary):8,}  {'':15}{unknown}"
            )
        return "\n".join(lines)


def features_of(name: str, features: str | None, known: tuple[str, ...]) -> str:
    """Return the requested feature set, by default the last.

    Raises:
        DataError: If there is no such set.
    """
    if features is not None and features not in known:
        raise DataError(
            f"{name} has the feature sets {', '.join(known)}, not {features!r}."
        )
    return features or known[-1]


def encode(
    columns: Mapping[str, "pd.Series[Any]"], labels: Any
) -> tuple[Split, dict[str, Vocabulary]]:
    """Numbers the values of every field in sorted order.

    Args:
        columns: Raw values of every field, one entry per row; a categorical
            column's categories are its vocabulary, seen in a row or not.
        labels: 0 or 1 for every row.

    Returns:
        All rows, and the vocabulary of every field.
    """
    ids, vocabularies = [], {}
    for name, column in columns.items():
        categories = column.astype("category").cat
        ids.append(categories.codes.to_numpy(dtype=np.int32))
        vocabularies[name] = Vocabulary(
            Field(name, name), categories.categories.to_numpy()
        )
    rows = Split(np.stack(ids, axis=1), np.asarray(labels, dtype=np.float32))
    return rows, vocabularies


def first_shares(rows: np.ndarray) -> np.ndarray:
    """Compute for each of some groups the share of rows before it.

    Args:
        rows: Of every group, in order.
    """
    return np.asarray((rows.cumsum() - rows) / max(rows.sum(), 1))


def parted(rows: Split, parts: Iterable[np.ndarray]) -> Splits:
    """Divide rows into train, validation and test, by masks or places."""
    train, validation, test = (
        Split(rows.ids[part], rows.labels[part]) for part in parts
    )
    return train, validation, test


def time_split(rows: Split, times: np.ndarray) -> Splits:
    """Splits rows by time: the first are for training, the last for test.

    Args:
        rows: All rows.
        times: Of each. Rows of one time stay together, in the split of the
            first of them.
    """
    _, groups, sizes = np.unique(times, return_inverse=True, return_counts=True)
    places = np.searchsorted(ENDS, first_shares(sizes), "right")[groups]
    return parted(rows, (places == n for n in range(3)))


def unseen_ids(
    train: Split, test: Split, fields: Sequence[str]
) -> dict[str, Unseen]:
    """Find what training has not seen, where every value has an id."""
    found = {}
    for place, name in enumerate(fields):
        ids = test.ids[:][:, place]
        new = ids[~np.isin(ids, train.ids[:][:, place])]
        found[name] = Unseen(np.unique(new).size, new.size / max(len(ids), 1))
    return found


def of_training(
    splits: Splits, vocabularies: Mapping[str, Vocabulary]
) -> tuple[Splits, dict[str, Vocabulary]]:
    """Number the values of training rows alone; 0 is for all others.

    Args:
        splits: Of which the first is for training.
        vocabularies: Of every field, with an id for each value.
    """
    made = [np.empty_like(split.ids) for split in splits]
    kept = {}
    for place, (name, vocabulary) in enumerate(vocabularies.items()):
        seen = np.unique(splits[0].ids[:][:, place])
        numbers = np.zeros(len(vocabulary), dtype=np.int32)
        numbers[seen] = np.arange(1, seen.size + 1)
        for ids, split in zip(made, splits, strict=True):
            ids[:, place] = numbers[split.ids[:][:, place]]
        values = vocabulary.values[seen]  # noqa: PD011 (not of pandas)
        kept[name] = Vocabulary(vocabulary.field, values, unknown=True)
    train, validation, test = (
        Split(ids, split.labels)
        for ids, split in zip(made, splits, strict=True)
    )
    return (train, validation, test), kept


def random_split(
    rows: Split, seed: int, shares: Sequence[float] = (0.8, 0.1)
) -> Splits:
    """Splits rows at random into train, validation and the rest for test.

    Args:
        rows: All rows.
        seed: The same seed gives the same split.
        shares: Share of train and of validation.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    ends = [int(sum(shares[:n]) * len(rows)) for n in (1, 2)]
    return parted(rows, np.split(order, ends))
