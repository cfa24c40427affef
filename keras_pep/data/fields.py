"""How raw values become features: what a field is made of, and its ids."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data.places import Places
from keras_pep.data.spelling import spelled
from keras_pep.data.times import (
    as_texts,
    matches,
    minutes,
    numbers,
    part_of,
    pattern_of,
)

KINDS = (
    *("category", "text", "log", "number", "hour", "weekday", "list", "hash"),
)

SEPARATOR = "|"  # between the values of a list
LONGEST_LIST = 64
_WRITTEN = 65_536  # values of a vocabulary that are made JSON at once
# Texts that stand for no number and no time, in capitals or not, with blanks
# around them or not: those of databases, pandas, R, and spreadsheets.
MISSING = (
    r"[ \t]*(?i:"
    r"|na|n/a|n\.a\.|#n/a|#n/a n/a|#na|<na>|-?nan|nat|null|\(null\)|nil|none"
    r"|#null!|#value!|#ref!|#name\?|#num!|#div/0!"
    r"|undefined|missing|\\n|[.]|-|--|\?|0000-00-00(?: 00:00:00)?"
    r")[ \t]*"
)


@dataclass(frozen=True)
class Field:
    """How a field is made of a column.

    Missing values, which a file has as nothing at all, are the value `""`,
    whatever the kind; so is what `MISSING` matches of numbers and times.

    Attributes:
        name: Of the field.
        column: The column it is made of.
        kind: What becomes of a raw value, which is text:

            - `"category"`: it is the value, spelled as `spelling` has it.
            - `"text"`: it is the value as it is.
            - `"log"`: an integer `v`; above 2 the value is the integer part of
              `log(v)**2`, else `v - 2`, as the PEP authors have it.
            - `"number"`: the number of `edges` that are not above it.
            - `"hour"`, `"weekday"`: of a time; Monday is 0.
            - `"list"`: several values, divided by `|`.
            - `"hash"`: the number of a bucket, the 64 bits of TensorFlow's
              `to_hash_bucket_fast` of the value, spelled as that of a category.
        edges: Ascending, of a number.
        time_format: Of a time, as `datetime.strptime` takes it; `""`: what
            `times.ISO` matches, or seconds, milliseconds, microseconds or
            nanoseconds since 1970, from 1973 to 2099.
        length: How many values of a list count, up to 64.
        buckets: Of a hash: every bucket has an id, seen or not.

    Example:

    ```python
    price = keras_pep.data.Field("price", "price", "number", edges=(5.0, 9.5))
    values, places = price.values(["3", "7.25", "12"])
    ```
    """

    name: str
    column: str
    kind: str = "category"
    edges: tuple[float, ...] = ()
    time_format: str = ""
    length: int = 1
    buckets: int = 0

    def values(self, raw: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Make values of raw values, all at once.

        Args:
            raw: Text, `(n,)`.

        Returns:
            Text `(n,)`, or `(n, length)` for a list, where `None` is no value
            at all; and for each whether it is malformed, bool `(n,)`.
        """
        if self.kind in ("category", "text"):
            text = np.asarray(raw, dtype=object)
            return text, np.zeros(text.size, dtype=bool)
        made = self.made(as_texts(raw), {})
        return made.values[made.places], made.malformed

    def made(self, raw: Any, parsed: dict[Any, Any]) -> "Made":
        """Make values of raw ones, each value once.

        Args:
            raw: Text, a PyArrow array `(n,)`.
            parsed: Keeps the times of the same column for other fields that
                are made of it.
        """
        if self.kind == "list":
            values = np.full((len(raw), self.length), None, dtype=object)
            for row, text in zip(values, raw.to_pylist(), strict=True):
                parts = _parts(text)[: self.length]
                row[: len(parts)] = parts
            nothing = np.zeros(len(raw), dtype=bool)
            return Made(values, np.arange(len(raw)), nothing, nothing)
        found, valid = _numbered(self, raw, parsed)
        missing = np.zeros_like(valid)
        if not valid.all():
            missing[~valid] = is_missing(raw.filter(pa.array(~valid)))
        whole, places = np.unique(found[valid], return_inverse=True)
        every = np.zeros(len(raw), dtype=np.int64)
        every[valid] = places + 1
        values = np.array(["", *whole.astype(str).tolist()], dtype=object)
        return Made(values, every, ~valid & ~missing, missing)


@dataclass(frozen=True, eq=False)
class Made:
    """Values that were made of raw ones.

    Attributes:
        values: Each once, text `(m,)`, or `(m, length)` of lists.
        places: For every raw value its place among them, int64 `(n,)`.
        malformed: Whether it is neither a value nor missing, bool `(n,)`.
        missing: Whether it stands for no number or time, bool `(n,)`.
    """

    values: np.ndarray
    places: np.ndarray
    malformed: np.ndarray
    missing: np.ndarray


def lengths(raw: Sequence[str]) -> np.ndarray:
    """Count the values of each list."""
    return np.array([len(_parts(text)) for text in raw], dtype=np.int64)


def _parts(text: str) -> list[str]:
    """Split a list into its values, each once; an empty one has `""`."""
    return [*dict.fromkeys(p for p in text.split(SEPARATOR) if p)] or [""]


def is_missing(texts: Any) -> np.ndarray:
    """Say which texts stand for no number and no time: bool."""
    return matches(texts, MISSING)


def log_bins(values: np.ndarray) -> np.ndarray:
    """Bin integers as the PEP authors do.

    The integer part of the squared logarithm above 2, below it the number
    itself, moved down by 2 to keep the two apart.
    """
    logarithm = np.log(np.maximum(values, 1.0))
    return np.where(values > 2, np.floor(logarithm**2), values - 2).astype(
        np.int64
    )


EXACT = 2.0**53  # what float64 holds of integers


def _numbered(
    field: Field, raw: Any, parsed: dict[Any, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Make numbers of raw values, and say which are of the field's kind."""
    if field.kind in ("hour", "weekday"):
        key = field.column, field.time_format
        if key not in parsed:
            parsed[key] = minutes(raw, field.time_format)
        found, valid = parsed[key]
        return part_of(field.kind, found), valid
    if field.kind == "hash":
        import tensorflow as tf

        with tf.device("CPU"):
            texts = tf.constant(spelled(raw).to_pylist(), tf.string)
            found = tf.strings.to_hash_bucket_fast(texts, field.buckets)
        return found.numpy(), np.ones(len(raw), dtype=bool)
    found = numbers(raw)
    if field.kind == "number":
        places = np.searchsorted(np.asarray(field.edges), found, side="right")
        return places, ~np.isnan(found)
    exact = np.abs(found) < EXACT  # neither infinite nor no number
    valid = exact & (found == np.floor(found))
    return log_bins(np.where(valid, found, 0)), valid


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The values of a field, numbered.

    Attributes:
        field: The field.
        values: In the order of their ids, `(n,)`; None for a free id, see
            `extended`. An array of NumPy, or text of PyArrow, which may be in a
            file that is mapped.
        unknown: Whether id 0 is for every value that is not among these, which
            begin at 1 then.

    Example:

    ```python
    city = keras_pep.data.Field("city", "city")
    names = np.array(["Oslo", "Paris"], dtype=object)
    vocabulary = keras_pep.data.Vocabulary(city, names, unknown=True)
    print(len(vocabulary), vocabulary[1])  # 3 Oslo
    ```
    """

    field: Field
    values: Any
    unknown: bool = False

    def __len__(self) -> int:
        return self.unknown + len(self.values)

    def __getitem__(self, number: int) -> Any:
        """Return the value of an id; None if it stands for all unknown ones."""
        if not 0 <= number < len(self):
            raise IndexError(f"id {number} of {len(self)}")
        if self.unknown and number == 0:
            return None
        value = self.values[number - self.unknown]
        return value.as_py() if isinstance(value, pa.Scalar) else value

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def texts(self) -> Any:
        """Return the values as a PyArrow array of text; null of a free id."""
        values = self.values
        if isinstance(values, np.ndarray) and values.dtype != object:
            values = values.astype(str)
        return as_texts(values)

    @property
    def integers(self) -> bool:
        """Whether the values are integers, and not text."""
        values = self.values
        return isinstance(values, np.ndarray) and values.dtype.kind in "iu"

    def extended(
        self,
        counts: Mapping[str, float] | Iterable[Any],
        min_count: float = 1.0,
        evict_below: float = 0.0,
        max_values: int | None = None,
    ) -> "Vocabulary":
        """Add new values and let old ones go; the others keep their ids.

        The id of a value that goes is free. In the next version, not in this
        one, a new value may take it; the rest follow the last id.

        Args:
            counts: How often each value was seen, old counts decayed or not;
                or PyArrow tables of `value` and `times`, each value once.
            min_count: A new value needs so many to get an id.
            evict_below: A known value goes if it has fewer.
            max_values: How many values may have an id; the most frequent of
                the new ones get one as long as there is room.

        Example:

        ```python
        field = keras_pep.data.Field("user", "user")
        first = keras_pep.data.Vocabulary(field, np.array(["ann", "bob"]))
        later = first.extended({"ann": 0.2, "bob": 5, "cy": 3}, evict_below=1)
        print(list(later))  # [None, 'bob', 'cy']
        ```
        """
        if isinstance(counts, Mapping):
            values = pa.array([*counts], pa.large_string())
            times = pa.array([*counts.values()], pa.float64())
            parts: Iterable[Any] = [pa.table({"value": values, "times": times})]
        else:
            parts = counts
        known = self.texts().cast(pa.large_string())
        places, seen = Places(known), np.zeros(len(known))
        new = []
        for part in parts:
            found, times = places.of(part["value"]), part["times"].to_numpy()
            seen[found[found >= 0]] = times[found >= 0]
            new.append(
                part.filter(pa.array((found < 0) & (times >= min_count)))
            )
        falling = [("times", "descending"), ("value", "ascending")]
        added = pa.concat_tables(new).sort_by(falling)["value"].combine_chunks()
        kept = pa.compute.if_else(seen < evict_below, None, known)
        if max_values is not None:
            added = added[: max(max_values - len(kept.drop_null()), 0)]
        free = np.flatnonzero(known.is_null())[: len(added)]
        at = np.zeros(len(known), dtype=bool)
        at[free] = True
        kept = pa.compute.replace_with_mask(kept, at, added[: free.size])
        made = pa.concat_arrays([kept, added[free.size :]])
        return Vocabulary(self.field, made, self.unknown)

    def ids_in(self, earlier: "Vocabulary") -> np.ndarray:
        """Find the id that each value had in an earlier version.

        Returns:
            int64, `(len(self),)`; -1 of a new value, -2 of an id that is free.
        """
        places = Places(earlier.texts())
        texts = self.texts()
        ids = np.full(len(texts), -2)
        found = places.of(texts.drop_null())
        found[found >= 0] += earlier.unknown
        ids[texts.is_valid().to_numpy(False)] = found
        return np.pad(ids, (int(self.unknown), 0))

    def to_dict(self) -> dict[str, Any]:
        """Describe the vocabulary, for JSON."""
        hashed = self.field.kind == "hash"
        values = [] if hashed else self.values.tolist()
        return {**self.described, "values": values}

    @property
    def described(self) -> dict[str, Any]:
        """Describe all but the values, for JSON."""
        described = asdict(self.field)
        if self.field.kind != "hash":
            del described["buckets"]
        return {**described, "unknown": self.unknown}

    def json(self) -> Iterator[str]:
        """Write what `to_dict` returns as JSON, in parts, keys sorted."""
        empty = json.dumps({**self.described, "values": []}, sort_keys=True)
        yield empty[:-2]  # up to the values, which come last
        size = 0 if self.field.kind == "hash" else len(self.values)
        for start in range(0, size, _WRITTEN):
            part = self.values[start : start + _WRITTEN].tolist()
            yield ", " * bool(start) + json.dumps(part)[1:-1]
        yield empty[-2:]

    @classmethod
    def of_buckets(cls, field: Field) -> "Vocabulary":
        """Make the vocabulary of a hash: the numbers of its buckets."""
        return cls(field, np.arange(field.buckets))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Vocabulary":
        """Make the vocabulary that `to_dict` describes.

        Raises:
            KeyError, TypeError, ValueError: If it describes none.
        """
        rest = dict(content)
        values, unknown = rest.pop("values"), rest.pop("unknown")
        field = Field(**{**rest, "edges": tuple(rest["edges"])})
        if field.kind not in KINDS or not isinstance(unknown, bool):
            raise ValueError(f"no such field: {field}")
        if field.kind == "hash":
            return cls.of_buckets(field)
        if isinstance(values, list):
            whole = all(type(value) is int for value in values)
            dtype = np.int64 if values and whole else object
            values = np.array(values, dtype=dtype)
        return cls(field, values, unknown)


def of_kind(
    column: str, kind: str, time_format: str = "", buckets: int = 0
) -> tuple[Field, ...]:
    """Fields of a column whose kind is given.

    Args:
        column: Its name.
        kind: One of `KINDS`, or `"time"`, which is hour and weekday, of a
            format without hours or without days the other alone.
        time_format: Of times.
        buckets: Of a hash.
    """
    if kind != "time":
        form = time_format
        return (Field(column, column, kind, time_format=form, buckets=buckets),)
    parts = [
        part
        for part, letters in (("hour", "HI"), ("weekday", "dmb"))
        if not time_format or {*letters} & {*pattern_of(time_format)[1]}
    ]
    return tuple(
        Field(f"{column}_{part}", column, part, time_format=time_format)
        for part in parts
    )
