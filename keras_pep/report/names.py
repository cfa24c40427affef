"""Names that come from data, as a page can show them."""

from typing import Any

from keras_pep.data.fields import Field, Vocabulary

_LONGEST = 80  # characters


def printable(value: Any) -> str:
    """Its text, neither endless nor with characters that change others.

    Line breaks, halves of characters, and marks that reverse the direction of
    what follows are replaced. It is not escaped.
    """
    text = str(value)
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def short(value: Any) -> str:
    """The same, cut if it is long."""
    text = printable(str(value)[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def feature_name(vocabulary: Vocabulary, number: int) -> str:
    """What a feature stands for: the raw value, or the range of a number."""
    value = vocabulary[number]
    if value is None:
        return "(any other value)"
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
