"""Times that are written as text or as numbers: minutes since 1970, in UTC."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

# Year first, an hour of one digit or two, the zone if there is one. The groups
# are named by ISO_PARTS: a letter of `strptime`, or sign and zone.
ISO = (
    "(?:([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    "|([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})"
    "|([0-9]{4})([0-9]{2})([0-9]{2}))"
    "(?:[ T](?:([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.][0-9]+)?)?"
    "|([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.][0-9]+)?)?)"
    "(?: ?(?:Z|UTC|([+-])([0-9]{2})(?::?([0-9]{2}))?))?)?"
)
ISO_PARTS = "YmdYmdYmdHMSHMS+zZ"
FORMS = (
    "2026-11-22, 2026-11-22 9:30, 2026-11-22T09:30:00+01:00, or seconds (to "
    "nanoseconds) since 1970"
)

# Of numbers: seconds, and what is in thousands of thousandths of them.
UNITS = (1, 1000, 1_000_000, 1_000_000_000)
FIRST_SECOND = 100_000_000  # March 1973
LAST_SECOND = 4_102_444_800  # 2100

EPOCH = 719_468  # days from the first of March of the year 0 to 1970
MONTHS = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)

NUMBER = (
    "^[ \t]*(?:[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)(?:[eE][+-]?[0-9]+)?"
    "|(?i:[+-]?(?:inf|infinity)|nan))[ \t]*$"
)
# Digits that fit an int64.
INTEGER = "^-?[0-9]{1,18}$"

# What a directive of a format is, as `datetime.strptime` has it.
_DIRECTIVES = {
    "Y": r"([0-9]{4})",
    "y": r"([0-9]{2})",
    "m": "(1[0-2]|0[1-9]|[1-9])",
    "d": "(3[0-1]|[1-2][0-9]|0[1-9]|[1-9])",
    "H": "(2[0-3]|[0-1][0-9]|[0-9])",
    "I": "(1[0-2]|0[1-9]|[1-9])",
    "M": "([0-5][0-9]|[0-9])",
    "S": "([0-5][0-9]|[0-9])",
    "f": "[0-9]{1,9}",
    "p": "([AaPp][Mm])",
    "b": "((?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))",
    "B": "((?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?"
    "|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?))",
    "a": "(?i:mon|tue|wed|thu|fri|sat|sun)",
    "A": "(?i:(?:mon|tues|wednes|thurs|fri|satur|sun)day)",
    "z": "(?:Z|([+-])([0-9]{2}):?([0-9]{2}))",
    "%": "%",
}
GROUP = re.compile(r"(?<!\\)\((?!\?)")  # where a group begins
_GROUPS = {"z": "+zZ", "B": "b", "f": "", "a": "", "A": "", "%": ""}


def pattern_of(time_format: str) -> tuple[str, str]:
    """Make the regular expression of a format, and say what its groups are.

    Args:
        time_format: As `datetime.strptime` takes it; `""` is `ISO`.

    Raises:
        ValueError: If it has a directive that is not known, or one twice, or
            none.
    """
    if not time_format:
        return ISO, ISO_PARTS
    pattern, parts = "", ""
    for piece in re.findall(r"%.?|\s+|[^%\s]", time_format):
        if piece.isspace():
            pattern += "[ \t]+"
        elif not piece.startswith("%"):
            pattern += re.escape(piece)
        elif piece[1:] in _DIRECTIVES and piece != "%":
            pattern += _DIRECTIVES[piece[1]]
            parts += _GROUPS.get(piece[1], piece[1])
        else:
            known = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise ValueError(
                f"found {piece} in the time format {time_format!r}, expected "
                f"only {known}"
            )
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(
            f"found the time format {time_format!r}, expected parts of a time, "
            "each once, as in %Y-%m-%d %H:%M"
        )
    return pattern, parts


def matches(texts: Any, pattern: str) -> np.ndarray:
    """Say of each text whether a pattern matches the whole of it: bool."""
    found = pa.compute.match_substring_regex(texts, f"^(?:{pattern})$")
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def numbers(texts: Any) -> np.ndarray:
    """Read numbers that are written as text: float64, NaN if it is none."""
    texts = as_texts(texts)
    try:
        return np.asarray(texts.cast(pa.float64()))
    except pa.ArrowInvalid:
        pass
    found = np.full(len(texts), np.nan)
    are = matches(texts, NUMBER[1:-1])
    plain = pa.compute.utf8_ltrim(texts.filter(pa.array(are)), " \t+")
    plain = pa.compute.utf8_rtrim(plain, " \t")
    found[are] = np.asarray(plain.cast(pa.float64()))
    return found


def as_texts(texts: Any) -> Any:
    """Make text an array of PyArrow."""
    if isinstance(texts, (pa.Array, pa.ChunkedArray)):
        return texts
    return pa.array(texts, pa.string())


def minutes(texts: Any, time_format: str) -> tuple[np.ndarray, np.ndarray]:
    """Read times as minutes since 1970, in UTC.

    Args:
        texts: A PyArrow array of text, `(n,)`.
        time_format: As `datetime.strptime` takes it; `""`: see `Field`.

    Returns:
        int64 `(n,)`, and whether each is a time.
    """
    if time_format:
        return _by_pattern(texts, *pattern_of(time_format))
    found, valid = _since_1970(texts)
    if valid.all():
        return found, valid
    left = ~valid
    some = texts.filter(pa.array(left))
    found[left], valid[left] = _of_fixed_width(some)
    if not valid.all():
        left = ~valid
        some = texts.filter(pa.array(left))
        found[left], valid[left] = _by_pattern(some, ISO, ISO_PARTS)
    return found, valid


def _since_1970(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read times that are numbers; integers stay integers, for nanoseconds."""
    try:
        texts.slice(0, 1).cast(pa.int64())  # errors of all take long to make
        return of_numbers(np.array(texts.cast(pa.int64())), np.where)
    except pa.ArrowInvalid:
        pass
    whole = np.zeros(len(texts), dtype=np.int64)
    are = matches(texts, NUMBER[1:-1])
    if not are.any():
        return whole, are
    some = texts.filter(pa.array(are))
    floats = numbers(some)
    fits = np.abs(floats) < 2.0**63  # and is a number
    values = np.floor(np.where(fits, floats, 0)).astype(np.int64)
    exact = matches(some, INTEGER[1:-1])
    values[exact] = np.asarray(some.filter(pa.array(exact)).cast(pa.int64()))
    whole[are] = values
    return of_numbers(whole, np.where)


def of_numbers(whole: Any, where: Any) -> tuple[Any, Any]:
    """Make minutes since 1970 of integers, and say which are within range.

    Args:
        whole: int64, of NumPy or TensorFlow.
        where: `np.where` or `tf.where`.
    """
    found, valid = whole * 0, whole != whole
    for unit in UNITS:
        fits = (whole >= FIRST_SECOND * unit) & (whole < LAST_SECOND * unit)
        found = where(fits, whole // (60 * unit), found)
        valid = valid | fits
    return found, valid


def instants(texts: Any, time_format: str) -> tuple[np.ndarray, np.ndarray]:
    """Read numbers, or times to the second, to put rows in order.

    Args:
        texts: A PyArrow array of text, `(n,)`.
        time_format: As `minutes` takes it; with one there are no numbers.

    Returns:
        float64 `(n,)`, of times the seconds since 1970, NaN for neither number
        nor time; and whether each is a time that is no number.
    """
    found = np.full(len(texts), np.nan)
    if not time_format:
        found = np.array(numbers(texts))
        found[np.isinf(found)] = np.nan
    left = np.isnan(found)
    some = texts.filter(pa.array(left))
    whole, valid = minutes(some, time_format)
    seconds = 60.0 * whole + _seconds(some, time_format)
    found[left] = np.where(valid, seconds, np.nan)
    return found, left & ~np.isnan(found)


_SECOND = "[ T](?:[0-9]{1,2}:[0-9]{2}:|[0-9]{4})(?P<g0>[0-9]{2})"


def _seconds(texts: Any, time_format: str) -> np.ndarray:
    """Read what times have beyond whole minutes."""
    named, place = _SECOND, 0
    if time_format:
        pattern, parts = pattern_of(time_format)
        place = parts.find("S")
        if place < 0:
            return np.zeros(len(texts), dtype=np.int64)
        named = f"^(?:{_named(pattern)})$"
    groups = pa.compute.extract_regex(texts, named)
    return _whole("S", pa.compute.fill_null(groups.field(place), ""))


def _named(pattern: str) -> str:
    """Name the groups of a pattern, as PyArrow wants it."""
    names = itertools.count()
    return GROUP.sub(lambda _: f"(?P<g{next(names)}>", pattern)


_FIXED = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}(?::[0-5][0-9]"
    "(?:[.][0-9]+)?)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-5][0-9]))?)?"
)
_SHIFTED = "[+-][0-9]{2}:?[0-9]{2}$"
_WIDTH = len("2026-11-22 10:00")


def _of_fixed_width(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read times as computers write them, which PyArrow parses fastest."""
    found = np.zeros(len(texts), dtype=np.int64)
    valid = matches(texts, _FIXED)
    texts = texts.filter(pa.array(valid))
    to_minutes = pa.compute.utf8_slice_codeunits(texts, 0, _WIDTH)
    try:
        seconds = to_minutes.cast(pa.timestamp("s")).cast(pa.int64())
    except pa.ArrowInvalid:  # the 30th of February, say
        return found, np.zeros_like(valid)
    made = np.asarray(seconds) // 60
    longer = pa.compute.binary_length(texts).to_numpy() > _WIDTH
    tails = pa.compute.utf8_slice_codeunits(texts, _WIDTH)
    shifted = pa.compute.match_substring_regex(tails, _SHIFTED)
    if longer.any() and pa.compute.any(shifted).as_py():
        zones = pa.compute.replace_substring_regex(
            tails, f"^.*?({_SHIFTED[:-1]}|)$", r"\1"
        ).dictionary_encode()
        ahead = [
            int(f"{z[0]}1") * (int(z[1:3]) * 60 + int(z[-2:])) if z else 0
            for z in zones.dictionary.to_pylist()
        ]
        made = made - np.array(ahead)[zones.indices.to_numpy()]
    found[valid] = made
    return found, valid


def _by_pattern(
    texts: Any, pattern: str, parts: str
) -> tuple[np.ndarray, np.ndarray]:
    groups = pa.compute.extract_regex(texts, f"^(?:{_named(pattern)})$")
    found: dict[str, Any] = {}
    for place, part in enumerate(parts):
        group = pa.compute.fill_null(groups.field(place), "")
        if part in found:  # of one of several forms; the others are empty
            group = pa.compute.binary_join_element_wise(found[part], group, "")
        found[part] = group
    minutes, valid = civil(
        {part: _whole(part, group) for part, group in found.items()},
        np.zeros(len(texts), dtype=np.int64),
    )
    valid &= np.asarray(groups.is_valid())
    return np.where(valid, minutes, 0), valid


def _whole(part: str, texts: Any) -> np.ndarray:
    """Read a part of times as integers, as `civil` takes it."""
    lower = pa.compute.utf8_lower(texts)
    if part == "p":
        return np.asarray(pa.compute.equal(lower, "pm")).astype(np.int64)
    if part == "+":
        return 1 - 2 * np.asarray(pa.compute.equal(texts, "-"))
    if part == "b":
        first = pa.compute.utf8_slice_codeunits(lower, 0, 3)
        place = pa.compute.index_in(first, pa.array(MONTHS)).fill_null(0)
        return np.asarray(place).astype(np.int64) + 1
    empty = pa.compute.equal(texts, "")
    return np.asarray(pa.compute.if_else(empty, "0", texts).cast(pa.int64()))


def civil(found: Mapping[str, Any], nothing: Any) -> tuple[Any, Any]:
    """Make minutes since 1970 of the parts of times, and say which are times.

    By operators alone, which NumPy and TensorFlow share.

    Args:
        found: int64 by their letters: `b` the number of the month, `p` 1 for
            PM, and `+` the sign of the zone, 1 or -1.
        nothing: Zeros of the same shape.
    """
    year, month = found.get("Y", nothing), found.get("m", nothing + 1)
    if "y" in found:  # 1969 to 2068
        year = found["y"] + 1900 + 100 * ((168 - found["y"]) // 100)
    month = found.get("b", month)
    day, hour = found.get("d", nothing + 1), found.get("H", nothing)
    if "I" in found:
        hour = found["I"] % 12
    if "p" in found:
        hour = hour % 12 + 12 * found["p"]
    first = _first_day(year, month)
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24)
    valid = valid & (day <= _first_day(year, month + 1) - first)
    for part in "MSZ":
        valid = valid & (found.get(part, nothing) < 60)
    minutes = ((first + day - 1) * 24 + hour) * 60 + found.get("M", nothing)
    if "+" in found:  # local time is ahead of UTC
        minutes = minutes - found["+"] * (found["z"] * 60 + found["Z"])
    return minutes, valid


def _first_day(year: Any, month: Any) -> Any:
    """Count the days from 1970 to a month; the 13th is the next January."""
    # By the calendar of years that begin in March.
    shifted = year - (14 - month) // 12
    leaps = shifted // 4 - shifted // 100 + shifted // 400
    in_year = (153 * ((month + 9) % 12) + 2) // 5
    return 365 * shifted + leaps + in_year - EPOCH


def part_of(kind: str, minutes: Any) -> Any:
    """Return the `"hour"` or `"weekday"` of minutes since 1970; Monday is 0."""
    if kind == "hour":
        return minutes // 60 % 24
    return (minutes // (24 * 60) + 3) % 7  # 1970 began on a Thursday
