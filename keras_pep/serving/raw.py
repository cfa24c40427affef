"""Raw values to ids inside of a TensorFlow graph, as the readers do it.

For every kind of field the same as `keras_pep.data.fields` does with NumPy and
pandas, by standard ops alone.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_pep.data.fields import (
    DAYS,
    EXACT,
    FIRST_SECOND,
    ISO,
    ISO_PARTS,
    LAST_SECOND,
    MISSING,
    SEPARATOR,
    THURSDAY,
    Field,
    Vocabulary,
)

_MALFORMED = "\n"  # in no vocabulary: a line end is escaped there
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))


def input_of(vocabulary: Vocabulary) -> tf.DType:
    """Type of a field's raw values: string, int64 or float64."""
    if vocabulary.field.kind in ("number", "log"):
        return tf.float64
    if vocabulary.values.dtype.kind in "iu":
        return tf.int64
    return tf.string


def write_vocabulary(
    vocabulary: Vocabulary, path: Path, gone: np.ndarray
) -> int:
    r"""Writes a line for each value: itself, a tabulator, and its id.

    In a value `\n`, `\r`, `\t` and `\\` stand for what would divide lines.

    Args:
        vocabulary: The values of a field.
        path: Where to.
        gone: Of each id, whether it is left out.

    Returns:
        Bytes of the file.
    """
    lines = []
    for place, value in enumerate(vocabulary.values):
        number = place + vocabulary.unknown
        if not gone[number]:
            text = str(value)
            for raw, escaped in _ESCAPES:
                text = text.replace(raw, escaped)
            lines.append(f"{text}\t{number}\n")
    path.write_bytes("".join(lines).encode())
    return path.stat().st_size


class Numbering(tf.Module):
    """From the raw values of a field to its ids.

    Args:
        vocabulary: The values of the field.
        path: What `write_vocabulary` has written, if that is not empty.
        unknown: Id of what is not there.
    """

    def __init__(
        self, vocabulary: Vocabulary, path: Path, unknown: int
    ) -> None:
        super().__init__()
        self._field = vocabulary.field
        self._unknown = unknown
        self.input = input_of(vocabulary)
        self._escaped = any(
            raw in str(value)
            for value in vocabulary.values
            for raw, _ in _ESCAPES
        )
        self._table = None
        if path.stat().st_size:  # TensorFlow takes no file of nothing
            key = tf.int64 if self.input == tf.int64 else tf.string
            self._table = tf.lookup.StaticHashTable(
                _File(str(path), key, 0, tf.int64, 1, delimiter="\t"),
                default_value=unknown,
            )

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Ids of raw values `(batch,)`: int32 `(batch, length)`.

        What is malformed is unknown.
        """
        field = self._field
        if field.kind == "list":
            return self._list(raw)
        if field.kind == "number":
            raw = _number(field, raw)
        elif field.kind == "log":
            raw = _log(raw)
        elif field.kind in ("hour", "weekday"):
            raw = _time(field, raw)
        return self._ids(raw)[:, None]

    def _ids(self, values: tf.Tensor) -> tf.Tensor:
        if self._table is None:
            return tf.fill(tf.shape(values), self._unknown)
        if self._escaped:
            for raw, escaped in _ESCAPES:
                values = tf.strings.regex_replace(
                    values, re.escape(raw), escaped.replace("\\", "\\\\")
                )
        return tf.cast(self._table.lookup(values), tf.int32)

    def _list(self, raw: tf.Tensor) -> tf.Tensor:
        """Of each list the first values, each once; -1 where it has ended."""
        parts = tf.strings.split(raw, SEPARATOR)
        row, text = parts.value_rowids(), parts.flat_values
        full = text != ""
        row, text = row[full], text[full]
        keys = tf.strings.join([tf.strings.as_string(row), text], SEPARATOR)
        distinct, group = tf.unique(keys)
        first = tf.math.unsorted_segment_min(
            tf.range(tf.size(keys)), group, tf.size(distinct)
        )
        row, text = tf.gather(row, first), tf.gather(text, first)
        lists = tf.RaggedTensor.from_value_rowids(
            self._ids(text), row, nrows=tf.size(raw, tf.int64), validate=False
        )
        length = self._field.length
        ids = lists[:, :length].to_tensor(-1, shape=(None, length))
        nothing = self._ids(tf.constant([""]))  # a list of nothing has ""
        empty = tf.concat([nothing, tf.fill([length - 1], -1)], axis=0)
        return tf.where(lists.row_lengths()[:, None] == 0, empty, ids)


class _File(tf.lookup.TextFileInitializer):
    """A vocabulary that is known by its content, not by where it was written.

    Tables of the same name are one, in a process that exports twice.
    """

    @property
    def _shared_name(self) -> str:
        content = Path(self._filename_arg).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        return f"vocabulary-{self.key_dtype.name}-{digest}"


def _number(field: Field, raw: tf.Tensor) -> tf.Tensor:
    places = tf.searchsorted(
        tf.constant(field.edges, tf.float64), raw, side="right"
    )
    return tf.where(tf.math.is_nan(raw), "", tf.strings.as_string(places))


def _log(raw: tf.Tensor) -> tf.Tensor:
    exact = (tf.abs(raw) < EXACT) & (raw == tf.floor(raw))
    number = tf.where(exact, raw, 0.0)
    logarithm = tf.math.log(tf.maximum(number, 1.0))
    bins = tf.where(number > 2, tf.floor(logarithm**2), number - 2)
    text = tf.strings.as_string(tf.cast(bins, tf.int64))
    text = tf.where(exact, text, _MALFORMED)
    return tf.where(tf.math.is_nan(raw), "", text)


def _time(field: Field, raw: tf.Tensor) -> tf.Tensor:
    """Hour or weekday of times that are written as text."""
    if field.time_format:
        minutes, valid = _written(raw, *_pattern(field.time_format))
    else:
        written, valid = _written(raw, ISO, ISO_PARTS)
        minutes, by_number = _since_1970(raw)
        minutes = tf.where(by_number, minutes, written)
        valid = valid | by_number
    if field.kind == "hour":
        part = minutes // 60 % 24
    else:
        part = (minutes // (24 * 60) + THURSDAY) % 7
    text = tf.where(valid, tf.strings.as_string(part), _MALFORMED)
    lower = tf.strings.lower(raw)  # of ASCII: UTF-8 would end at a zero byte
    missing = tf.reduce_any(lower[:, None] == tf.constant(MISSING), axis=1)
    return tf.where(missing, "", text)


_NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
# As `datetime.strptime` has them.
_DIRECTIVES = {
    "Y": r"(\d{4})",
    "y": r"(\d{2})",
    "m": "(1[0-2]|0[1-9]|[1-9])",
    "d": r"(3[0-1]|[1-2]\d|0[1-9]|[1-9])",
    "H": r"(2[0-3]|[0-1]\d|\d)",
    "M": r"([0-5]\d|\d)",
    "S": r"([0-5]\d|\d)",
}


def _pattern(time_format: str) -> tuple[str, str]:
    """Regular expression of a format, and what its groups are.

    Raises:
        ValueError: If it has a directive other than `%Y %y %m %d %H %M %S`.
    """
    pattern, parts = "", ""
    for piece in re.findall("%.|[^%]", time_format):
        if not piece.startswith("%"):
            pattern += re.escape(piece)
        elif piece[1] in _DIRECTIVES:
            pattern += _DIRECTIVES[piece[1]]
            parts += piece[1]
        else:
            raise ValueError(f"no {piece} in times that are served")
    return pattern, parts


def _written(
    raw: tf.Tensor, pattern: str, parts: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Minutes since 1970 of times in a format, and whether each is one."""
    matches = tf.strings.regex_full_match(raw, pattern)
    text = tf.where(matches, raw, "")
    groups = {}
    for part in dict.fromkeys(parts):
        every = "".join(rf"\{n}" for n in range(1, parts.count(part) + 1))
        only = _capturing(pattern, parts, part)
        groups[part] = tf.strings.regex_replace(text, f"^(?:{only})$", every)
    found = {
        part: tf.strings.to_number(tf.strings.join(["0", group]), tf.int64)
        for part, group in groups.items()
        if part != "+"
    }
    nothing = tf.zeros_like(matches, tf.int64)
    year = found.get("Y", nothing)
    if "y" in found:
        year = found["y"] + tf.where(
            found["y"] < 69, tf.constant(2000, tf.int64), 1900
        )
    month, day = found.get("m", nothing + 1), found.get("d", nothing + 1)
    hour, minute = found.get("H", nothing), found.get("M", nothing)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = tf.constant(DAYS)
    in_month = tf.cast(
        tf.gather(days, tf.clip_by_value(month, 0, 13)), tf.int64
    )
    in_month += tf.cast(leap & (month == 2), tf.int64)
    valid = matches & (day >= 1) & (day <= in_month) & (hour < 24)
    valid &= minute < 60
    for part in "SZ":
        valid &= found.get(part, nothing) < 60
    # Days since 1970 by the calendar of years that begin in March.
    shifted = year - tf.cast(month <= 2, tf.int64)
    in_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    leaps = shifted // 4 - shifted // 100 + shifted // 400
    since = 365 * shifted + leaps + in_year - 719_468
    minutes = (since * 24 + hour) * 60 + minute
    if "+" in groups:  # local time is ahead of UTC
        offset = found["z"] * 60 + found["Z"]
        minutes -= tf.where(groups["+"] == "-", -offset, offset)
    return minutes, valid


def _capturing(pattern: str, parts: str, part: str) -> str:
    """The pattern with the groups of a part alone; a rewrite knows nine."""
    before, *groups = re.split(r"(?<!\\)\((?!\?)", pattern)
    return before + "".join(
        ("(" if name == part else "(?:") + group
        for name, group in zip(parts, groups, strict=True)
    )


def _since_1970(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Minutes of seconds or milliseconds since 1970, and whether it is one."""
    matches = tf.strings.regex_full_match(raw, _NUMBER)
    text = tf.strings.strip(tf.where(matches, raw, "0"))
    seconds = tf.strings.to_number(text, tf.float64)
    in_thousands = seconds >= 1000 * FIRST_SECOND
    seconds = tf.where(in_thousands, seconds / 1000, seconds)
    valid = (seconds >= FIRST_SECOND) & (seconds < LAST_SECOND)
    return tf.cast(tf.where(valid, seconds, 0.0), tf.int64) // 60, valid
