"""Raw values to ids inside of a TensorFlow graph, as the readers do it.

For every kind of field the same as `keras_pep.data.fields`, `times` and
`spelling` do with NumPy and PyArrow, by standard ops alone.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_pep.data.fields import (
    EXACT,
    MISSING,
    SEPARATOR,
    Field,
    Vocabulary,
)
from keras_pep.data.spelling import (
    BLANKS,
    EXPONENT,
    ODD,
    RULES,
    ZONED,
    spelled,
)
from keras_pep.data.times import (
    EPOCH,
    GROUP,
    INTEGER,
    ISO,
    ISO_PARTS,
    MONTHS,
    NUMBER,
    civil,
    of_numbers,
    part_of,
    pattern_of,
)

_MALFORMED = "\n"  # in no vocabulary: a line end is escaped there
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))


def input_of(vocabulary: Vocabulary) -> tf.DType:
    """Type of a field's raw values: string, int64 or float64."""
    if vocabulary.field.kind in ("number", "log"):
        return tf.float64
    if vocabulary.integers and not vocabulary.field.buckets:
        return tf.int64
    return tf.string


def write_vocabulary(
    vocabulary: Vocabulary,
    path: Path,
    gone: np.ndarray,
    numbers_now: np.ndarray | None = None,
) -> int:
    r"""Writes a line for each value: itself, a tab, and its id.

    If ids are others now, those follow the tab, and after another tab those
    before.

    In a value `\n`, `\r`, `\t` and `\\` stand for what would divide lines. A
    value that is spelled in another way now, as in a vocabulary that an earlier
    version has written, has a line for that spelling too.

    Args:
        vocabulary: The values of a field.
        path: Where to.
        gone: Of each id, whether it is left out.
        numbers_now: What each id is now, if it is another.

    Returns:
        Bytes of the file.
    """
    lines = []
    known = vocabulary.texts()
    numbers = {
        text: n
        for n, text in enumerate(known.to_pylist(), vocabulary.unknown)
        if text is not None  # of a free id
    }
    if vocabulary.field.kind not in ("text", "hash"):
        now = spelled(known).to_pylist()
        for number, text in enumerate(now, vocabulary.unknown):
            if text is not None:
                numbers.setdefault(text, number)
    for text, number in numbers.items():
        if not gone[number]:
            for raw, escaped in _ESCAPES:
                text = text.replace(raw, escaped)
            ids = f"{number}"
            if numbers_now is not None:
                ids = f"{numbers_now[number]}\t{number}"
            lines.append(f"{text}\t{ids}\n")
    path.write_bytes("".join(lines).encode())
    return path.stat().st_size


def read_vocabulary(path: Path) -> list[str]:
    """Read the values that `write_vocabulary` has written."""
    raw = {escaped: raw for raw, escaped in _ESCAPES}
    lines = path.read_bytes().decode().split("\n")[:-1]
    values = [line.partition("\t")[0] for line in lines]
    return [re.sub(r"\\.", lambda found: raw[found[0]], v) for v in values]


class Numbering(tf.Module):
    """From the raw values of a field to its ids.

    Args:
        vocabulary: The values of the field.
        path: What `write_vocabulary` has written, if that is not empty.
        unknown: Id of what is not there.
        numbers_now: What each id is now, if it is another.

    Attributes:
        input: Type of raw values.
        spelled: Whether they are to be spelled by `spell` before.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        path: Path,
        unknown: int,
        numbers_now: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self._field = vocabulary.field
        self._unknown = unknown
        self.input = input_of(vocabulary)
        known = vocabulary.texts()
        self._escaped = any(
            raw in value
            for value in known.drop_null().to_pylist()
            for raw, _ in _ESCAPES
        )
        # Vocabularies of an earlier version may have several spellings of a
        # value, which come before the one there is now.
        self._several = vocabulary.field.kind != "text" and not spelled(
            known
        ).equals(known)
        self.spelled = (
            vocabulary.field.kind in ("category", "hash")
            and self.input == tf.string
            and not self._several
        )
        key = tf.int64 if self.input == tf.int64 else tf.string
        self._table = None
        if vocabulary.field.kind != "hash":
            self._table = _table(path, key, 0, self._unknown)
        self._renumbered = None
        if numbers_now is not None:
            # Those that are not there keep nothing, as the last one does; or
            # are the unknown.
            self._size, self._has_unknown = len(vocabulary), vocabulary.unknown
            self._renumbered = _table(path, tf.int64, 2, self._size - 1)

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Ids of raw values `(batch,)`: int32 `(batch, length)`.

        What is malformed is unknown.
        """
        field = self._field
        if field.kind == "list":
            return self._list(raw)
        if field.kind == "hash":
            bucket = tf.strings.to_hash_bucket_fast(raw, field.buckets)
            return self.numbers_now(tf.cast(bucket, tf.int32))[:, None]
        if field.kind in ("number", "log"):
            raw = _binned(field, raw)
        elif field.kind in ("hour", "weekday"):
            raw = _time(field, raw)
        return self._ids(raw)[:, None]

    def numbers_now(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids as they are now, for those of before; others stay."""
        if self._renumbered is None:
            return ids
        now = self._renumbered.lookup(tf.cast(ids, tf.int64))
        now = tf.cast(now, ids.dtype)
        if self._has_unknown:
            now = tf.where(ids == 0, self._unknown, now)
        return tf.where((ids >= 0) & (ids < self._size), now, ids)

    def _ids(self, values: tf.Tensor) -> tf.Tensor:
        if self._table is None:
            return tf.fill(tf.shape(values), self._unknown)
        ids = self._known(values)
        if self._several:
            others = self._known(spell([values])[0])
            ids = tf.where(ids == self._unknown, others, ids)
        return ids

    def _known(self, values: tf.Tensor) -> tf.Tensor:
        assert self._table is not None
        if self._escaped:
            for raw, escaped in _ESCAPES:
                values = tf.strings.regex_replace(
                    values, re.escape(raw), escaped.replace("\\", "\\\\")
                )
        return tf.cast(self._table.lookup(values), tf.int32)

    def _list(self, raw: tf.Tensor) -> tf.Tensor:
        """Number the first values of each list, each once; -1 after its end."""
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
        if not self._several:
            text = spell([text])[0]
        lists = tf.RaggedTensor.from_value_rowids(
            self._ids(text), row, nrows=tf.size(raw, tf.int64), validate=False
        )
        length = self._field.length
        ids = lists[:, :length].to_tensor(-1, shape=(None, length))
        nothing = self._ids(tf.constant([""]))  # a list of nothing has ""
        empty = tf.concat([nothing, tf.fill([length - 1], -1)], axis=0)
        return tf.where(lists.row_lengths()[:, None] == 0, empty, ids)


_ZEROS = "0" * 1000  # more than an exponent of three digits asks for


def spell(texts: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Spell values in the one way that there is.

    Few are spelled in another, and only they are worth looking at: those of
    all fields together, because a condition takes its time.

    Args:
        texts: Of each field, `(batch,)`.
    """
    every = tf.concat(texts, axis=0)
    odd = tf.strings.regex_full_match(every, ODD)
    every = tf.cond(
        tf.reduce_any(odd),
        lambda: tf.tensor_scatter_nd_update(
            every, tf.where(odd), _spelled(every[odd])
        ),
        lambda: every,
    )
    return list(tf.split(every, [tf.size(each) for each in texts]))


def _spelled(texts: tf.Tensor) -> tf.Tensor:
    """Spell values that `ODD` matches in the one way that there is."""
    texts = tf.strings.regex_replace(texts, *BLANKS)
    large = tf.strings.regex_full_match(texts, EXPONENT)
    texts = tf.where(large, _written_out(tf.where(large, texts, "0e+0")), texts)
    for pattern, replacement in RULES:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return tf.where(
        tf.strings.regex_full_match(texts, ZONED), _in_utc(texts), texts
    )


def _written_out(texts: tf.Tensor) -> tf.Tensor:
    """Write numbers without their exponents."""
    sign, whole, fraction, exponent = (
        tf.strings.regex_replace(texts, EXPONENT, group)
        for group in (r"\1", r"\2", r"\3", r"\4\5")
    )
    digits = tf.strings.join([whole, fraction])
    point = tf.strings.length(whole) + tf.strings.to_number(
        tf.strings.regex_replace(exponent, "[+]", ""), tf.int32
    )
    before = tf.maximum(1 - point, 0)
    after = tf.maximum(point - tf.strings.length(digits), 0)
    zeros = tf.fill(tf.shape(texts), _ZEROS)
    digits = tf.strings.join(
        [
            tf.strings.substr(zeros, tf.zeros_like(before), before),
            digits,
            tf.strings.substr(zeros, tf.zeros_like(after), after),
        ]
    )
    point += before
    length = tf.strings.length(digits)
    parts = [
        tf.strings.substr(digits, tf.zeros_like(point), point),
        tf.strings.substr(digits, point, length - point),
    ]
    return tf.strings.join([sign, parts[0], ".", parts[1], "0"])


def _in_utc(texts: tf.Tensor) -> tf.Tensor:
    """Write times that `ZONED` matches in UTC, where they are times."""
    minutes, valid = _written(
        tf.strings.regex_replace(texts, ZONED, r"\1\3"), ISO, ISO_PARTS
    )
    since = minutes // (24 * 60) + EPOCH
    # By the calendar of years that begin in March, of which 400 have 146,097
    # days.
    era, of_era = since // 146_097, since % 146_097
    leaps = of_era // 1460 - of_era // 36_524 + of_era // 146_096
    year = (of_era - leaps) // 365
    day = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    month = (month + 2) % 12 + 1
    year += 400 * era + tf.cast(month <= 2, tf.int64)
    parts = [(year, "-"), (month, "-"), (day + 1, " ")]
    parts += [(minutes // 60 % 24, ":"), (minutes % 60, "")]
    written = [
        tf.strings.join([tf.strings.as_string(part, width=2, fill="0"), mark])
        for part, mark in parts
    ]
    seconds = tf.strings.regex_replace(texts, ZONED, r"\2Z")
    utc = tf.strings.join([*written, seconds])
    return tf.where(valid, utc, texts)


def _table(
    path: Path, key: tf.DType, column: int, default: int
) -> tf.lookup.StaticHashTable | None:
    """A vocabulary, by the values of a column; None if it is empty."""
    if not path.stat().st_size:  # TensorFlow takes no file of nothing
        return None
    file = _File(str(path), key, column, tf.int64, 1, delimiter="\t")
    return tf.lookup.StaticHashTable(file, default_value=default)


class _File(tf.lookup.TextFileInitializer):
    """A vocabulary that is known by its content, not by where it was written.

    Tables of the same name are one, in a process that exports twice.
    """

    @property
    def _shared_name(self) -> str:
        content = Path(self._filename_arg).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        return f"vocabulary-{self._key_index}-{self.key_dtype.name}-{digest}"


def _binned(field: Field, raw: tf.Tensor) -> tf.Tensor:
    """Bin of numbers, as text."""
    if field.kind == "number":
        edges = tf.constant(field.edges, tf.float64)
        text = tf.strings.as_string(tf.searchsorted(edges, raw, side="right"))
    else:
        exact = (tf.abs(raw) < EXACT) & (raw == tf.floor(raw))
        number = tf.where(exact, raw, 0.0)
        logarithm = tf.math.log(tf.maximum(number, 1.0))
        bins = tf.where(number > 2, tf.floor(logarithm**2), number - 2)
        text = tf.strings.as_string(tf.cast(bins, tf.int64))
        text = tf.where(exact, text, _MALFORMED)
    return tf.where(tf.math.is_nan(raw), "", text)


def _time(field: Field, raw: tf.Tensor) -> tf.Tensor:
    """Hour or weekday of times that are written as text."""
    minutes, valid = _written(raw, *pattern_of(field.time_format))
    if not field.time_format:
        by_number, is_number = _since_1970(raw)
        minutes = tf.where(is_number, by_number, minutes)
        valid = valid | is_number
    part = tf.strings.as_string(part_of(field.kind, minutes))
    text = tf.where(valid, part, _MALFORMED)
    missing = tf.strings.regex_full_match(raw, MISSING) & ~valid
    return tf.where(missing, "", text)


def _written(
    raw: tf.Tensor, pattern: str, parts: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Minutes since 1970 of times in a format, and whether each is one."""
    matches = tf.strings.regex_full_match(raw, pattern)
    text = tf.where(matches, raw, "")
    found = {}
    for part in dict.fromkeys(parts):
        every = "".join(rf"\{n}" for n in range(1, parts.count(part) + 1))
        only = _capturing(pattern, parts, part)
        group = tf.strings.regex_replace(text, f"^(?:{only})$", every)
        found[part] = _whole(part, group)
    minutes, valid = civil(found, tf.zeros_like(matches, tf.int64))
    return minutes, valid & matches


def _whole(part: str, texts: tf.Tensor) -> tf.Tensor:
    """Read a part of times as integers, as `civil` takes it."""
    if part == "p":
        return tf.cast(tf.strings.lower(texts) == "pm", tf.int64)
    if part == "+":
        return 1 - 2 * tf.cast(texts == "-", tf.int64)
    if part == "b":
        first = tf.strings.lower(tf.strings.substr(texts, 0, 3))
        return 1 + tf.argmax(first[:, None] == tf.constant(MONTHS), axis=1)
    return tf.strings.to_number(tf.strings.join(["0", texts]), tf.int64)


def _capturing(pattern: str, parts: str, part: str) -> str:
    """Keep the groups of one part of a pattern; a rewrite knows nine."""
    before, *groups = GROUP.split(pattern)
    return before + "".join(
        ("(" if name == part else "(?:") + group
        for name, group in zip(parts, groups, strict=True)
    )


def _since_1970(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Minutes of seconds since 1970, or of thousandths, and whether it is one.

    Integers stay integers: no float holds nanoseconds.
    """
    exact = tf.strings.regex_full_match(raw, INTEGER)
    number = tf.strings.regex_full_match(raw, NUMBER) & ~exact
    text = tf.strings.strip(tf.where(number, raw, "0"))
    float_ = tf.strings.to_number(text, tf.float64)
    float_ = tf.where(tf.abs(float_) < 2.0**63, tf.floor(float_), 0.0)
    whole = tf.strings.to_number(tf.where(exact, raw, "0"), tf.int64)
    whole = tf.where(exact, whole, tf.cast(float_, tf.int64))
    return of_numbers(whole, tf.where)
