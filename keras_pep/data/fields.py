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
# Written with marks between digits or without, whatever the zone.
ISO = (
    "(?:([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{4})([0-9]{2})([0-9]{2}))"
    "(?:[ T](?:([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.][0-9]+)?)?"
    "|([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.][0-9]+)?)?)"
    "(?: ?(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?))?)?"
)
# What its groups are: year, month, day, hour, minute, second, sign and zone.
ISO_PARTS = "YmdYmdHMSHMS+zZ"
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
        time_format: Of a time, as `datetime.strptime` takes it; `""`: what
            `ISO` matches, or seconds or milliseconds since 1970, from 1973 to
            2099.
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


def times(text: np.ndarray, time_format: str) -> np.ndarray:
    """Minutes since 1970, of UTC, of times that are written as text.

    Args:
        text: `(n,)`.
        time_format: See `Field`.

    Returns:
        float64 `(n,)`, NaN where there is no time.
    """
    series = pd.Series(text, dtype=object)
    if time_format:
        found = pd.to_datetime(series, format=time_format, errors="coerce")
        return ((found - pd.Timestamp(0)) // pd.Timedelta(minutes=1)).to_numpy(
            dtype=np.float64, na_value=np.nan
        )
    seconds = numbers(text)
    in_thousands = seconds >= 1000 * FIRST_SECOND
    seconds = np.where(in_thousands, seconds / 1000, seconds)
    with np.errstate(invalid="ignore"):
        plausible = (seconds >= FIRST_SECOND) & (seconds < LAST_SECOND)
    return np.where(plausible, np.floor(seconds / 60), _written(series))


def _written(series: "pd.Series[Any]") -> np.ndarray:
    """Minutes of what is written as `ISO` has it."""
    groups = series.str.extract(rf"\A{ISO}\Z")
    parts = dict.fromkeys(ISO_PARTS, pd.Series("", groups.index))
    for place, part in enumerate(ISO_PARTS):
        parts[part] = parts[part] + groups[place].fillna("")
    found = {
        part: pd.to_numeric("0" + texts).to_numpy(np.int64)
        for part, texts in parts.items()
        if part != "+"
    }
    leap = (found["Y"] % 4 == 0) & (
        (found["Y"] % 100 != 0) | (found["Y"] % 400 == 0)
    )
    in_month = np.array(DAYS)[found["m"].clip(0, 13)]
    in_month = in_month + (leap & (found["m"] == 2))
    # What does not match has a day of 0.
    valid = (found["d"] >= 1) & (found["d"] <= in_month) & (found["H"] < 24)
    for part in "MSZ":
        valid = valid & (found[part] < 60)
    # Days since 1970 by the calendar of years that begin in March.
    year = found["Y"] - (found["m"] <= 2)
    in_year = (153 * ((found["m"] + 9) % 12) + 2) // 5 + found["d"] - 1
    days = 365 * year + year // 4 - year // 100 + year // 400 + in_year - _1970
    minutes = (days * 24 + found["H"]) * 60 + found["M"]
    offset = found["z"] * 60 + found["Z"]  # local time is ahead of UTC
    minutes = minutes - np.where(parts["+"] == "-", -offset, offset)
    return np.where(valid, minutes, np.nan)


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
    minutes = times(text, field.time_format)
    return _whole(minutes // 60 % 24), np.isnan(minutes)


def _weekday(field: Field, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    minutes = times(text, field.time_format)
    days = minutes // (24 * 60)
    return _whole((days + THURSDAY) % 7), np.isnan(minutes)


def _whole(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(numbers), dtype=np.int64)


THURSDAY = 3  # on which 1970 began
_1970 = 719_468  # days from the first of March of the year 0
DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0)

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
