"""Names that come from data, as a page can show them."""

import unicodedata
from typing import Any

from keras_pep.data.fields import Field, Vocabulary

_LONGEST = 80  # characters
# Controls, halves of characters, and what ends a line or a paragraph.
_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Embeddings, overrides and isolates, and what ends them.
_DIRECTIONS = frozenset(
    {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
)


def printable(value: Any) -> str:
    """Its text, without characters that change how others are shown.

    Controls, line breaks, halves of characters, and marks that change the
    direction of what follows are replaced. All others stay, those that join
    letters or divide words among them. It is not escaped.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if _changes_others(c) else c
        for c in str(value)
    )


def _changes_others(character: str) -> bool:
    return (
        unicodedata.category(character) in _CATEGORIES
        or unicodedata.bidirectional(character) in _DIRECTIONS
    )


def short(value: Any) -> str:
    """The same, without its middle if it is long.

    Long names often begin alike, and differ in the end.
    """
    return printable(cut(str(value), _LONGEST))


def cut(text: str, longest: int) -> str:
    """Leave the middle of a long text out; a quarter is of its end."""
    end = longest // 4
    if len(text) <= longest:
        return text
    return f"{text[: longest - end - 1]}…{text[-end:]}"


def feature_name(vocabulary: Vocabulary, number: int) -> str:
    """Name a feature: its raw value, or the range of a number."""
    value = vocabulary[number]
    if value is None:
        return "(any other value)"
    if vocabulary.field.kind == "hash":
        return f"bucket {number:,}"
    if str(value) == "":
        return "(missing)"
    if vocabulary.field.kind == "number":
        return _range(vocabulary.field, str(value))
    return short(value)


def _range(field: Field, number: str) -> str:
    """Between which edges the numbers of a bin are."""
    edges = field.edges
    if not edges or not number.isdecimal() or int(number) > len(edges):
        return short(number)
    place = int(number)
    if place == 0:
        return short(f"below {edges[0]:g}")
    if place == len(edges):
        return short(f"{edges[-1]:g} or more")
    return short(f"{edges[place - 1]:g} to {edges[place]:g}")
