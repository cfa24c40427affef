"""One spelling for each value, whatever wrote it.

A value of a category is its text, and the same value is written in several
ways: 107 by a column of integers, 107.0 by pandas where one of them is missing,
1.07E2 by Java. The rules below give each of them one spelling. They look at the
text of the value alone, never at its neighbours or its file, and both readers
and exported graphs apply them, by the same regular expressions of RE2.

- Numbers lose blanks around them, zeros that end a fraction, and the sign of
  zero: `107.0` is `107`, `1.50` is `1.5`, `-0` is `0`. An exponent is written
  out if a sign or a fraction shows that it is one: `1e+16`, `1.07E2`; `1e3`
  might as well be a hash, and stays. No number passes through a float.
- Leading zeros are part of a value: `007` is not `7`.
- Truth values are `true` and `false`.
- Times of ISO 8601 have a blank before the hour, seconds, and no zeros at the
  end of a fraction. With a zone they are in UTC, `Z`; without one midnight is
  the day alone.
- `nan` and `NaN`, which only floats are called, are missing.
"""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data.times import minutes

_WHOLE = "(?:0|[1-9][0-9]*)"
_PLAIN = f"-?(?:{_WHOLE}(?:[.][0-9]+)?|[.][0-9]+)"
# A sign or a fraction: hashes of hexadecimal digits have neither. Sign, whole
# part, fraction, exponent or exponent.
EXPONENT = (
    "^(-?)(0|[1-9][0-9]*)(?:[.]([0-9]+)[eE]([+-]?[0-9]{1,3})"
    "|[eE]([+-][0-9]{1,3}))$"
)
_OF_YEAR = "-[0-9]{2}-[0-9]{2}"
_HOUR = "[0-9]{2}:[0-9]{2}"
_DAY = f"[0-9]{{4}}{_OF_YEAR}"
_MINUTE = f"{_DAY} {_HOUR}"
_FRACTION = "(?:[.][0-9]+)?"
_ZONE = "(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?"

# Texts that the rules may change; only they are looked at more closely.
ODD = (
    f"^(?:[ \t]*-?(?:{_WHOLE}?[.][0-9]+|{_WHOLE}(?:[.][0-9]+)?"
    "[eE][+-]?[0-9]{1,3}|0)[ \t]*"
    f"|[ \t]+-?{_WHOLE}[ \t]*|-?{_WHOLE}[ \t]+"
    "|(?i:true|false)|nan|NaN"
    f"|{_DAY}[ T]{_HOUR}[-+:. 0-9UTCZ]*)$"
)
BLANKS = (f"^[ \t]*({_PLAIN}(?:[eE][+-]?[0-9]{{1,3}})?)[ \t]*$", r"\1")
# Applied one after another, exponents written out.
RULES = (
    ("^(-?)0+([0-9]+[.][0-9]+)$", r"\1\2"),  # of an exponent written out
    ("^(-?)[.]([0-9]+)$", r"\10.\2"),
    (f"^(-?{_WHOLE})[.]0+$", r"\1"),
    (f"^(-?{_WHOLE}[.][0-9]*[1-9])0+$", r"\1"),
    ("^-0$", "0"),
    ("^(?i:true)$", "true"),
    ("^(?i:false)$", "false"),
    ("^(?:nan|NaN)$", ""),
    (
        f"^({_DAY})[ T]({_HOUR}(?::[0-9]{{2}}{_FRACTION})?) ?({_ZONE})$",
        r"\1 \2\3",
    ),
    (f"^({_MINUTE})({_ZONE})$", r"\1:00\2"),
    (f"^({_MINUTE}:[0-9]{{2}})[.]0+({_ZONE})$", r"\1\2"),
    (f"^({_MINUTE}:[0-9]{{2}}[.][0-9]*[1-9])0+({_ZONE})$", r"\1\2"),
    (f"^({_MINUTE}:[0-9]{{2}}{_FRACTION})(?:UTC|[+-]00(?::?00)?)$", r"\1Z"),
    (f"^({_DAY}) 00:00:00$", r"\1"),
)
# Times with another zone, after the rules: the minute, seconds and the zone.
ZONED = (
    f"^([1-8][0-9]{{3}}{_OF_YEAR} {_HOUR})(:[0-9]{{2}}{_FRACTION})"
    "([+-][0-9]{2}(?::?[0-9]{2})?)$"
)


def spelled(texts: Any) -> Any:
    """Spell values in the one way that there is.

    Args:
        texts: A PyArrow array of text.

    Returns:
        Another of the same length and type.
    """
    odd = pa.compute.match_substring_regex(texts, ODD)
    if not pa.compute.any(odd).as_py():
        return texts
    made = pa.compute.replace_substring_regex(texts.filter(odd), *BLANKS)
    large = pa.compute.match_substring_regex(made, EXPONENT)
    if pa.compute.any(large).as_py():
        out = [f"{Decimal(t):f}" for t in made.filter(large).to_pylist()]
        made = pa.compute.replace_with_mask(
            made, large, pa.array(out, made.type)
        )
    for pattern, replacement in RULES:
        made = pa.compute.replace_substring_regex(made, pattern, replacement)
    zoned = pa.compute.match_substring_regex(made, ZONED)
    if pa.compute.any(zoned).as_py():
        made = _in_utc(made, zoned)
    return pa.compute.replace_with_mask(texts, odd.fill_null(False), made)


def _in_utc(texts: Any, zoned: Any) -> Any:
    """Write times with a zone in UTC, where they are times."""
    times = texts.filter(zoned).cast(pa.string())
    found, valid = minutes(
        pa.compute.replace_substring_regex(times, ZONED, r"\1\3"), ""
    )
    stamps = np.datetime_as_string(found.astype("datetime64[m]"))
    utc = pa.compute.binary_join_element_wise(
        pa.array(np.char.replace(stamps, "T", " "), pa.string()),
        pa.compute.replace_substring_regex(times, ZONED, r"\2Z"),
        "",
    )
    made = pa.compute.if_else(pa.array(valid), utc, times)
    return pa.compute.replace_with_mask(texts, zoned, made.cast(texts.type))
