"""Rows as models take them: one integer per field, numbered from 0."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class DataError(ValueError):
    """Data that is missing or not as it should be; the message says where."""


@dataclass(frozen=True, eq=False)
class Split:
    """Some rows of a dataset.

    Attributes:
        ids: int32, `(rows, fields)`, each field numbered from 0.
        labels: float32, `(rows,)`, 0 or 1.
    """

    ids: np.ndarray
    labels: np.ndarray

    @property
    def in_memory(self) -> bool:
        """Whether the ids are, and not in files."""
        return isinstance(self.ids, np.ndarray)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset for click-through models, split three ways.

    Attributes:
        name: What it is called in reports, `"movielens-1m"` for example.
        features: Which of the dataset's feature sets it is.
        train: Rows to train on.
        validation: Rows to choose by.
        test: Rows to report.
        vocabularies: For every field, in order, the raw value of each id.
        malformed: How many rows of the source were left out as malformed.
        planted_sizes: For synthetic data, the embedding size each feature was
            generated with, `(features,)`; else None.
    """

    name: str
    features: str
    train: Split
    validation: Split
    test: Split
    vocabularies: Mapping[str, np.ndarray]
    malformed: int = 0
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
        return np.concatenate(
            [
                np.bincount(ids, minlength=size)
                for ids, size in zip(
                    self.train.ids.T, self.field_sizes, strict=True
                )
            ]
        )

    def fingerprint(self) -> str:
        """Changes when an id, a label, a split or a vocabulary does.

        Returns:
            SHA-256, in hexadecimal.
        """
        digest = hashlib.sha256()
        for split in self.splits.values():
            digest.update(np.ascontiguousarray(split.ids).tobytes())
            digest.update(np.ascontiguousarray(split.labels).tobytes())
        for field, values in self.vocabularies.items():
            digest.update(repr((field, values.tolist())).encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        rows = ", ".join(
            f"{name} {len(split):,} ({split.labels.mean():.2%} positive)"
            for name, split in self.splits.items()
        )
        fields = ", ".join(
            f"{field} {size:,}"
            for field, size in zip(self.fields, self.field_sizes, strict=True)
        )
        return (
            f"{self.name}, features {self.features}\n"
            f"rows: {rows}\n"
            f"features: {self.feature_count:,} in {len(self.fields)} fields "
            f"({fields})"
        )


def encode(
    columns: Mapping[str, "pd.Series[Any]"], labels: Any
) -> tuple[Split, dict[str, np.ndarray]]:
    """Numbers the values of every field in sorted order.

    Args:
        columns: Raw values of every field, one entry per row; a categorical
            column's categories are its vocabulary, seen in a row or not.
        labels: 0 or 1 for every row.

    Returns:
        All rows, and the vocabulary of every field.
    """
    ids, vocabularies = [], {}
    for field, column in columns.items():
        categories = column.astype("category").cat
        ids.append(categories.codes.to_numpy(dtype=np.int32))
        vocabularies[field] = categories.categories.to_numpy()
    rows = Split(np.stack(ids, axis=1), np.asarray(labels, dtype=np.float32))
    return rows, vocabularies


def random_split(
    rows: Split, seed: int, shares: Sequence[float] = (0.8, 0.1)
) -> tuple[Split, Split, Split]:
    """Splits rows at random into train, validation and the rest for test.

    Args:
        rows: All rows.
        seed: The same seed gives the same split.
        shares: Share of train and of validation.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    ends = [int(sum(shares[:n]) * len(rows)) for n in (1, 2)]
    train, validation, test = (
        Split(rows.ids[part], rows.labels[part])
        for part in np.split(order, ends)
    )
    return train, validation, test
