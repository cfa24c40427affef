"""Which rows are positive: labels of 0 and 1, or those that a rule takes."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from keras_pep.data.dataset import DataError
from keras_pep.data.rows import Column, listed
from keras_pep.data.spelling import spelled
from keras_pep.data.times import as_texts, numbers

_ORDERS: dict[str, Any] = {
    ">=": np.greater_equal,
    "<=": np.less_equal,
    ">": np.greater,
    "<": np.less,
}
_RULE = re.compile(r"\s*(>=|<=|==|>|<|in\s)\s*(.*\S)\s*")


def parsed(rule: str) -> tuple[str, Any]:
    """Read a rule such as `">=4"`, `"==click"` or `"in yes,true"`.

    Returns:
        The operator, and a number, or all values that are positive.

    Raises:
        DataError: If it is none.
    """
    found = _RULE.fullmatch(rule)
    if found:
        operator, value = found[1].strip(), found[2]
        if operator not in _ORDERS:
            values = value.split(",") if operator == "in" else [value]
            return operator, [each.strip() for each in values]
        (number,) = numbers(as_texts([value]))
        if not np.isnan(number):
            return operator, number
    raise DataError(
        f"found the rule {rule!r} for positive labels, expected a comparison "
        "with a number, such as '>=4', or values, as in '==click' or "
        "'in yes,true'."
    )


def read_labels(texts: Any, rule: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Tell which labels are positive, and which are malformed.

    Args:
        texts: Labels, a PyArrow array of text.
        rule: As `parsed` takes it; `""`: labels are 0 and 1, or words for them.
    """
    if not rule:
        lower = pa.compute.utf8_lower(texts)
        for word, digit in (("true", "1"), ("false", "0")):
            lower = pa.compute.replace_substring_regex(
                lower, f"^{word}$", digit
            )
        found = numbers(lower)
        return found == 1, (found != 0) & (found != 1)
    operator, wanted = parsed(rule)
    if operator in _ORDERS:
        found = numbers(texts)
        return _ORDERS[operator](found, wanted), np.isnan(found)
    made = spelled(texts)
    positive = pa.compute.is_in(made, spelled(as_texts(wanted)).cast(made.type))
    missing = pa.compute.equal(made, "")
    return positive.to_numpy(False), missing.to_numpy(False)


def expected_labels(column: Column, rule: str, *, own: bool) -> str:
    """Say what labels have to be, for an error, and which rule may be meant.

    Args:
        column: Some labels.
        rule: As `read_labels` takes it.
        own: Whether a rule can be given.
    """
    if rule:
        operator, _ = parsed(rule)
        what = "a number" if operator in _ORDERS else "a value"
        return f"{what}, as the rule {rule!r} needs one"
    wanted = "0 or 1 (or false or true)"
    texts = column.values.to_numpy(False)
    times = np.bincount(column.codes, minlength=len(texts))
    found = {text: n for text, n in zip(texts, times, strict=True) if text}
    if not own or not found:
        return wanted
    values = numbers(as_texts([*found]))
    if np.isnan(values).any():
        shown = sorted(found)
        rule = f"=={min(shown, key=lambda text: found[text])}"
    else:
        shown = [[*found][place] for place in values.argsort()]
        rule = f">={shown[min((len(shown) + 1) // 2, len(shown) - 1)]}"
    return (
        f"{wanted}. Labels are {listed(shown)}: --positive says which are "
        f"positive, --positive {rule!r} for example (in Python: positive=)"
    )
