"""How raw values become features: what a field is made of, and its ids."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

KINDS = ("category", "log", "number", "hour", "weekday", "list")

SEPARATOR = "|"  # between the values of a list
LONGEST_LIST = 64
_ISO = r"\d{4}-?\d{2}-?\d{2}([ T]\d{2}:?\d{2}(:?\d{2}(\.\d+)?)?.*)?$"
# Of a number or a time, whatever the case.
MISSING = ("", "na", "nan", "nat", "null", "none", r"\n")


@dataclass(frozen=True)
class Field:
    """How a field is made of a column.

    Missing values, which a file has as nothing at all, are the value `""`,
    whatever the kind; so are NaN, NA, NULL and their like of numbers and times.

    Attributes:
        name: Of the field.
        column: The column it is made of.
        kind: What becomes of a raw value, which is text:

            - `"category"`: it is the value.
            - `"log"`: an integer `v`; above 2 the value is the integer part of
              `log(v)**2`, else `v - 2`, as the PEP authors have it.
            - `"number"`: the number of `edges` that are not above it.
            - `"hour"`, `"weekday"`: of a time; Monday is 0.
            - `"list"`: several values, divided by `|`.
        edges: Ascending, of a number.
        time_format: Of a time, as `datetime.strptime` takes it; `""`: ISO
            8601, or seconds or milliseconds since 1970, from 1973 to 2099.
        length: How many values of a list count, up to 64.
    """

    name: str
    column: str
    kind: str = "category"
    edges: tuple[float, ...] = ()
    time_format: str = ""
    length: int = 1

    def values(self, raw: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Values of raw values, all at once.

        Args:
            raw: Text, `(n,)`.

        Returns:
            Text `(n,)`, or `(n, length)` for a list, where `None` is no value
            at all; and for each whether it is malformed, bool `(n,)`.
        """
        text = np.asarray(raw, dtype=object)
        if self.kind == "category":
            return text, np.zeros(text.size, dtype=bool)
        if self.kind == "list":
            return self._list(text), np.zeros(text.size, dtype=bool)
        made, malformed = _MAKERS[self.kind](self, text)
        missing = _missing(text)
        values = made.astype(str).astype(object)
        values[missing] = ""
        return values, malformed & ~missing

    def _list(self, text: np.ndarray) -> np.ndarray:
        values = np.full((text.size, self.length), None, dtype=object)
        for row, raw in enumerate(text):
            parts = _parts(raw)[: self.length]
            values[row, : len(parts)] = parts
        return values


def lengths(raw: Sequence[str]) -> np.ndarray:
    """How many values each of some lists has."""
    return np.array([len(_parts(text)) for text in raw], dtype=np.int64)


def _parts(text: str) -> list[str]:
    """Values of a list, each once; an empty one has the value `""`."""
    return [*dict.fromkeys(p for p in text.split(SEPARATOR) if p)] or [""]


def numbers(text: np.ndarray) -> np.ndarray:
    """Numbers that are written as text: float64, NaN where there is none."""
    return pd.to_numeric(
        pd.Series(text, dtype=object), errors="coerce"
    ).to_numpy(dtype=np.float64, na_value=np.nan)


def _missing(text: np.ndarray) -> np.ndarray:
    lower = pd.Series(text, dtype=object).str.lower()
    return lower.isin(MISSING).to_numpy(bool)


def times(text: np.ndarray, time_format: str) -> "pd.Series[Any]":
    """Times that are written as text; NaT where there is none."""
    series = pd.Series(text, dtype=object)
    if time_format:
        return pd.to_datetime(series, format=time_format, errors="coerce")
    seconds = numbers(text)
    in_thousands = seconds >= 1000 * FIRST_SECOND
    seconds = np.where(in_thousands, seconds / 1000, seconds)
    with np.errstate(invalid="ignore"):
        plausible = (seconds >= FIRST_SECOND) & (seconds < LAST_SECOND)
    since_1970 = pd.to_datetime(
        pd.Series(np.where(plausible, seconds, np.nan)), unit="s", utc=True
    )
    iso = series.where(series.str.match(_ISO).astype(bool))
    written = pd.to_datetime(iso, format="ISO8601", errors="coerce", utc=True)
    return since_1970.dt.as_unit("us").fillna(written.dt.as_unit("us"))


def log_bins(values: np.ndarray) -> np.ndarray:
    """The PEP authors' bins of integers.

    The integer part of the squared logarithm above 2, below it the number
    itself, moved down by 2 to keep the two apart.
    """
    logarithm = np.log(np.maximum(values, 1.0))
    return np.where(values > 2, np.floor(logarithm**2), values - 2).astype(
        np.int64
    )


def _log(_: Field, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = numbers(text)
    exact = np.abs(found) < EXACT  # neither infinite nor no number
    malformed = ~(exact & (found == np.floor(found)))
    return log_bins(np.where(malformed, 0, found)), malformed


def _number(field: Field, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = numbers(text)
    places = np.searchsorted(np.asarray(field.edges), found, side="right")
    return places, np.isnan(found)


def _hour(field: Field, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = times(text, field.time_format)
    return _whole(found.dt.hour), found.isna().to_numpy()


def _weekday(field: Field, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = times(text, field.time_format)
    return _whole(found.dt.day_of_week), found.isna().to_numpy()


def _whole(numbers: "pd.Series[Any]") -> np.ndarray:
    return numbers.fillna(0).to_numpy(np.int64)


EXACT = 2.0**53  # what float64 holds of integers
FIRST_SECOND = 1e8  # March 1973
LAST_SECOND = 4_102_444_800  # 2100

_MAKERS: Mapping[
    str, Callable[[Field, np.ndarray], tuple[np.ndarray, np.ndarray]]
] = {"log": _log, "number": _number, "hour": _hour, "weekday": _weekday}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The values of a field, numbered.

    Attributes:
        field: Of what the values are.
        values: In the order of their ids, `(n,)`.
        unknown: Whether id 0 is for every value that is not among these, which
            begin at 1 then.
    """

    field: Field
    values: np.ndarray
    unknown: bool = False

    def __len__(self) -> int:
        return self.unknown + len(self.values)

    def __getitem__(self, number: int) -> Any:
        """The value of an id; None if it stands for all unknown ones."""
        if not 0 <= number < len(self):
            raise IndexError(f"id {number} of {len(self)}")
        if self.unknown and number == 0:
            return None
        return self.values[number - self.unknown]

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **asdict(self.field),
            "unknown": self.unknown,
            "values": self.values.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Vocabulary":
        """The vocabulary that `to_dict` of one, read back, describes.

        Raises:
            KeyError, TypeError, ValueError: If it describes none.
        """
        rest = dict(content)
        values, unknown = rest.pop("values"), rest.pop("unknown")
        field = Field(**{**rest, "edges": tuple(rest["edges"])})
        if field.kind not in KINDS or not isinstance(unknown, bool):
            raise ValueError(f"no such field: {field}")
        whole = all(type(value) is int for value in values)
        dtype = np.int64 if values and whole else object
        return cls(field, np.array(values, dtype=dtype), unknown)


_LISTS = 0.01  # share of values with a separator that makes a column lists
_SHOWN = 2000  # values of a column that are looked at


def guess(column: str, raw: Sequence[str]) -> tuple[Field, ...]:
    """Fields to make of a column of which some values are known.

    Text and whole numbers are categories, other numbers are binned, times
    become hour and weekday, and text that has `|` in at least 1 % of its values
    is a list.

    Args:
        column: Its name.
        raw: Some of its values, each once.
    """
    text = np.asarray(raw, dtype=object)
    shown = text[~_missing(text)][:_SHOWN]
    if not shown.size:
        return (Field(column, column),)
    found = numbers(shown)
    if not np.isnan(found).any():
        whole = (found == np.floor(found)).all()
        return (Field(column, column, "category" if whole else "number"),)
    if all(re.match(_ISO, value) for value in shown):
        return of_kind(column, "time")
    lists = sum(SEPARATOR in value for value in shown) >= _LISTS * shown.size
    return (Field(column, column, "list" if lists else "category"),)


def of_kind(column: str, kind: str) -> tuple[Field, ...]:
    """Fields of a column whose kind is given.

    Args:
        column: Its name.
        kind: One of `KINDS`, or `"time"`, which is hour and weekday.
    """
    if kind == "time":
        return tuple(
            Field(f"{column}_{part}", column, part)
            for part in ("hour", "weekday")
        )
    return (Field(column, column, kind),)
