"""The ids of rows: values are looked up in vocabularies, and written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data import stored
from keras_pep.data.checked import checked_rows, texts_of
from keras_pep.data.dataset import DataError
from keras_pep.data.fields import Vocabulary
from keras_pep.data.places import Places
from keras_pep.data.source import Source
from keras_pep.data.spelling import spelled
from keras_pep.data.stored import SPLITS, ColumnWriter


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
        text = texts_of(values)
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


def described(source: Source) -> list[dict[str, Any]]:
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
    vocabularies = stored.vocabularies(values, described(source))
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
    for split, label, weight, made_columns in checked_rows(
        source, random, None, only
    ):
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
