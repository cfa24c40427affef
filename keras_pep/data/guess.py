"""Guesses of what a column holds, from its first values, with notes."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from keras_pep.data.dataset import DataError
from keras_pep.data.fields import SEPARATOR, Field, is_missing, of_kind
from keras_pep.data.times import UNITS, as_texts, matches, minutes, numbers

_LISTS = 0.01  # share of values with a separator that makes a column lists
_SHOWN = 2000  # values of a column that are looked at
_MOST = 0.8  # share of values of a kind from which the others look like slips

_SECONDS = (631_152_000, 2_208_988_800)  # 1990 to 2040
_FEW = 4  # numbers that look like digits of a calendar by chance
_TIMES = 20  # different numbers, at least, that are taken for times
_SPAN = (86_400, 20 * 365 * 86_400)  # of a log, in seconds: a day to 20 years
_ROUND = 1e-3  # how close above a power of ten numbers are counted from it
_UNIT_NAMES = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_OF_TIMES = {
    *("at", "created", "date", "dates", "datetime", "day", "end", "epoch"),
    *("micros", "millis", "modified", "ms", "nanos", "since", "start", "time"),
    *("times", "timestamp", "timestamps", "ts", "unix", "until", "updated"),
    *("utc", "when"),
}
_OF_IDS = {
    *("asin", "code", "ean", "gtin", "guid", "hash", "id", "ids", "isbn"),
    *("key", "phone", "sku", "tel", "upc", "uuid", "zip"),
}
_OF_THINGS = {
    *("account", "ad", "app", "article", "campaign", "category", "customer"),
    *("device", "item", "member", "merchant", "movie", "order", "product"),
    *("query", "session", "shop", "site", "song", "store", "user", "video"),
}
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")

_DAYS = r"[0-9]{1,2}([/.-])[0-9]{1,2}\1(?:[0-9]{4}|[0-9]{2})(?![0-9/.-])"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_LIKE_A_TIME = (
    r"(?:.*[^0-9.])?(?:[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{2,4}"
    rf"|[0-9]{{1,2}}:[0-9]{{2}})(?:[^0-9.].*)?|.*[0-9].*(?i:{_MONTHS}).*"
    rf"|.*(?i:{_MONTHS})[a-z]*[ .,-]+[0-9].*"
)
_CURRENCY = "[$\u20ac\u00a3\u00a5]?"
_LIKE_A_NUMBER = (
    f"[ \t]*[-+]?{_CURRENCY} ?[-+]?"
    "(?:[0-9]+(?:[,'\u2019 \u00a0\u202f][0-9]{3})*(?:[.][0-9]+)?"
    "|[0-9]+(?:[. \u00a0\u202f][0-9]{3})*,[0-9]+)"
    f"[ \u00a0\u202f]?(?:%|{_CURRENCY})[ \t]*"
)
_LIKE_A_LIST = r"\[\]|\[.*[,'\"].*\]"
_YEAR = "(?:19[5-9][0-9]|20[0-4][0-9])"
_DAY = "(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_HOUR = "(?:[01][0-9]|2[0-3])"
# Times of digits alone, which could be numbers as well.
_COMPACT = {
    "%Y%m%d": _YEAR + _DAY,
    "%Y%m%d%H": _YEAR + _DAY + _HOUR,
    "%Y%m%d%H%M": f"{_YEAR}{_DAY}{_HOUR}[0-5][0-9]",
    "%Y%m%d%H%M%S": f"{_YEAR}{_DAY}{_HOUR}[0-5][0-9][0-5][0-9]",
    "%y%m%d%H%M": f"[0-4][0-9]{_DAY}{_HOUR}[0-5][0-9]",
}


_WHY = {
    "category": "text or whole numbers",
    "number": "numbers with fractions",
    "hour": "times",
    "weekday": "times",
    "list": f"text divided by {SEPARATOR}",
}


class Guess(NamedTuple):
    """Fields of a column, and a note for the user.

    Attributes:
        fields: Made of it.
        note: What somebody might not expect, and how to say otherwise; `""`
            if nothing.
    """

    fields: tuple[Field, ...]
    note: str = ""

    @property
    def why(self) -> str:
        """Why the fields are of their kind, in few words."""
        reason = _WHY[self.fields[0].kind]
        return f"{reason}; see below" if self.note else reason


def guess(
    column: str,
    raw: Sequence[str],
    where: Callable[[str], str] = lambda _: "",
) -> Guess:
    """Guess fields to make of a column of which some values are known.

    Text and whole numbers are categories, other numbers are binned, times
    become hour and weekday, and text that has `|` in at least 1 % of its values
    is a list. Numbers that look like seconds since 1970, or their thousandths,
    are times.

    Args:
        column: Its name.
        raw: Some of its values, each once.
        where: Says in which row a value is, `" (row 7)"`.
    """
    every = as_texts(raw)
    every = every.filter(pa.array(~is_missing(every)))
    shown = every.slice(0, _SHOWN)
    as_it_is = of_kind(column, "category")
    if not len(shown):
        return Guess(as_it_is)
    are_numbers = ~np.isnan(numbers(shown))
    if are_numbers.all():
        return _of_numbers(column, every, numbers(every), where)
    are_times = minutes(shown, "")[1]
    if are_times.all():
        return Guess(of_kind(column, "time"))
    if (by_format := _by_format(column, every, shown)) is not None:
        return by_format
    if are_numbers.mean() >= _MOST:
        of_numbers = _of_numbers(column, every, numbers(every), where)
        if of_numbers.fields == as_it_is:  # as they would be by themselves
            return of_numbers
        if of_numbers.fields == of_kind(column, "time"):
            are_times = are_numbers
            are_numbers = np.zeros_like(are_times)
    texts = shown.to_pylist()
    if sum(SEPARATOR in text for text in texts) >= _LISTS * len(texts):
        return Guess(of_kind(column, "list"))
    for kind, are in (("number", are_numbers), ("time", are_times)):
        if are.mean() >= _MOST:
            other = texts[int(are.argmin())]
            return Guess(
                as_it_is,
                f"{column}: taken as categories, because of {other[:80]!r}"
                f"{where(other)}, which is no {kind}. {column}:{kind} in "
                f"--fields reads {kind}s, and counts such rows as malformed.",
            )
    for pattern, advice in _ADVICE.items():
        are = matches(shown, pattern)
        if are.mean() >= _MOST:
            one = texts[int(are.argmax())]
            return Guess(
                as_it_is,
                f"{column}: taken as categories. Values such as {one[:80]!r}"
                f"{where(one)} look like {advice.format(column)}",
            )
    return Guess(as_it_is)


_ADVICE = {
    _LIKE_A_NUMBER: "numbers, but numbers are read without signs of currency, "
    "without marks between thousands, and with a point before decimals.",
    _LIKE_A_TIME: "times; their format in --fields would tell how to read "
    "them, as in {}:time(%d %b %Y %H:%M).",
    _LIKE_A_LIST: f"lists, but lists are read as text divided by {SEPARATOR}.",
}


def _of_numbers(
    column: str, texts: Any, found: np.ndarray, where: Callable[[str], str]
) -> Guess:
    """Guess fields of a column of numbers, as far as it was looked at."""
    are = ~np.isnan(found)
    texts, found = texts.filter(pa.array(are)), found[are]
    whole = bool((found == np.floor(found)).all())
    kind = "category" if whole else "number"
    plain = Guess(of_kind(column, kind))
    taken = "categories" if whole else "numbers"
    if found.size < _TIMES:
        return plain
    if whole and (time_format := _compact(texts)):
        return Guess(
            plain.fields,
            f"{column}: taken as {taken}, though its numbers could be times, "
            f"such as {texts[0].as_py()!r}. {column}:time({time_format}) in "
            "--fields reads times.",
        )
    for unit, name in zip(UNITS, _UNIT_NAMES, strict=True):
        seconds = found / unit
        inside = (seconds >= _SECONDS[0]) & (seconds < _SECONDS[1])
        if inside.mean() < _MOST:
            continue
        like = f"{name} since 1970 ({_days(seconds[inside])})"
        as_times = f"{like}. {column}:time in --fields reads times"
        if not inside.all():
            other = texts[int(inside.argmin())].as_py()
            note = (
                f"because of {other!r}{where(other)}, though its other numbers "
                f"could be {as_times}, and counts such rows as malformed."
            )
        elif _are_times(column, found, unit):
            return Guess(
                of_kind(column, "time"),
                f"{column}: taken as times, because its numbers look like "
                f"{like}. {column}:{kind} in --fields takes them as {taken}.",
            )
        else:
            note = f"though its numbers could be {as_times}."
        return Guess(plain.fields, f"{column}: taken as {taken}, {note}")
    return plain


def check_times(column: str, raw: Any) -> str:
    """Look at what is read as times without a format, as `--fields` asks for.

    Returns:
        What somebody might not expect, or `""`.

    Raises:
        DataError: If its digits are those of a calendar, which would be read
            as seconds since 1970, or their thousandths.
    """
    texts = raw.filter(pa.array(~np.isnan(numbers(raw))))
    if (time_format := _compact(texts)) not in ("", "%Y%m%d"):
        raise DataError(
            f"found {texts[0].as_py()!r} in column {column!r}, expected a time "
            "that is not digits alone, which would be read as a number since "
            f"1970. {column}:time({time_format}) says how it is written."
        )
    found, valid = minutes(texts, "")
    seconds = found[valid] * 60
    if not seconds.size or (
        seconds.min() >= _SECONDS[0] and seconds.max() < _SECONDS[1]
    ):
        return ""
    return (
        f"{column}: numbers are read as times since 1970, {_days(seconds)}. "
        f"{column}:category in --fields takes them as categories."
    )


def _days(seconds: np.ndarray) -> str:
    """Name the first and the last day of times."""
    return " to ".join(
        str(np.datetime64(int(t), "s"))[:10]
        for t in (seconds.min(), seconds.max())
    )


def _compact(texts: Any) -> str:
    """Find the format of times that are digits alone; `""` if they are none."""
    if len(texts) < _FEW:
        return ""
    return next((f for f, p in _COMPACT.items() if matches(texts, p).all()), "")


def _are_times(column: str, found: np.ndarray, unit: int) -> bool:
    """Decide whether numbers within range are times, not ids by chance.

    A name says most. Without one, ids are often counted from a power of ten,
    lie side by side, or all over the range; and ids of 19 digits are as common
    as nanoseconds, of which clocks know thousands at best.
    """
    words = {word.lower() for word in _WORD.findall(column)}
    words |= {word.removesuffix("s") for word in words}
    if words & _OF_IDS or column.lower().endswith("id"):
        return False
    if words & _OF_TIMES or any(
        word.endswith(("time", "timestamp")) for word in words
    ):
        return True
    if words & _OF_THINGS:
        return False
    low, span = found.min(), found.max() - found.min()
    power = 10.0 ** np.floor(np.log10(low))
    return bool(
        low >= power * (1 + _ROUND)
        and _SPAN[0] * unit <= span <= _SPAN[1] * unit
        and found.size < span / 2
        and (unit < UNITS[-1] or (found % 1000 == 0).all())
    )


def _by_format(column: str, every: Any, shown: Any) -> Guess | None:
    """Guess fields of times that one format reads, if the values tell which.

    Day and month are told apart by a day after the 12th; where there is none,
    the column is not taken for times.
    """
    text = shown[0].as_py().strip()
    fits = [
        time_format
        for time_format in _formats(text)
        if minutes(shown, time_format)[1].all()
        and minutes(every, time_format)[1].all()
    ]
    if not fits:
        return None
    options = " or ".join(f"{column}:time({each})" for each in fits)
    if len(fits) > 1 and "%m" in fits[0]:
        return Guess(
            of_kind(column, "category"),
            f"{column}: taken as categories. Its values, such as {text!r}, "
            "look like times, but do not tell which number is the day, and "
            f"which the month. Say it in --fields: {options}.",
        )
    return Guess(
        of_kind(column, "time", fits[0]),
        f"{column}: taken as times by the format {fits[0]}, such as {text!r}. "
        f"{column}:category in --fields takes them as categories.",
    )


def _formats(text: str) -> Iterator[str]:
    """List formats in which a time may be written."""
    hours = ["%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p"]
    if re.match("[0-9]{1,2}:[0-9]{2}", text):
        yield from hours
        return
    dates: list[str] = []
    if found := re.match(_DAYS, text):
        mark = found[1]
        year = "%y" if len(found[0].split(mark)[2]) == 2 else "%Y"
        orders = [f"%m{mark}%d{mark}{year}", f"%d{mark}%m{mark}{year}"]
        dates = orders + [f"%y{mark}%m{mark}%d"] * (year == "%y")
    elif re.search(f"(?i){_MONTHS}", text):
        for month in ("%b", "%B"):
            dates += [f"%d {month} %Y", f"%d-{month}-%Y", f"%d/{month}/%Y"]
            dates += [f"{month} %d, %Y", f"{month} %d %Y", f"%d-{month}-%y"]
    elif not re.match("[0-9]{4}[-/]", text):
        return
    else:
        dates = [f"%Y{text[4]}%m{text[4]}%d"]
    if len(dates) > 3 and ":" in text:
        yield "%d/%b/%Y:%H:%M:%S %z"
    for date in dates:
        if ":" not in text:
            yield date
        for hour in hours if ":" in text else ():
            yield f"{date} {hour}"
