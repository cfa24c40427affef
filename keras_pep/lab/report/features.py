"""Which features keep how much: what is drawn, and what is a mean of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from keras_pep.data.fields import Vocabulary
from keras_pep.lab.report.names import feature_name, short

_TOP = 20  # features that keep the most, of a field and of all
_NAMES = 20_000  # of these, of all budgets and fields together


@dataclass(frozen=True)
class FeatureContent:
    """Embedding sizes of features, by budget.

    A table may have millions of rows. Sums and means are of all of them; drawn
    are some, those that keep the most among them.

    Attributes:
        fields: `key`, `name`, `features` and `occurrences` (None if not
            counted) of every field. Keys tell fields apart, as names, which
            are shortened, may not.
        budgets: For each ticket its `target`; for every field the number of
            features of which something is `left`, and of parameters `kept`;
            `trends`, of all fields and of each, the mean size of features of
            about the same frequency; and `top`, likewise, the places among
            the drawn features of those that keep the most.
        drawn: `field`, `name`, `count` and, of every budget, `sizes` of the
            features that are drawn.
        count: How many features there are.
        unseen: How many of them training never has; None if not counted.
    """

    fields: list[dict[str, Any]]
    budgets: list[dict[str, Any]]
    drawn: dict[str, Any]
    count: int
    unseen: int | None


def feature_content(
    vocabularies: Mapping[str, Vocabulary],
    counts: np.ndarray | None,
    sizes: Mapping[int, np.ndarray],
    drawn: int,
) -> FeatureContent:
    """Sums, means and a selection of features.

    Args:
        vocabularies: Of every field, in order.
        counts: How often training has each feature, `(features,)`.
        sizes: Embedding sizes by budget, each `(features,)`.
        drawn: How many features to draw, besides those that keep the most.
    """
    ends = [*accumulate(map(len, vocabularies.values()), initial=0)]
    parts = [slice(*pair) for pair in pairwise(ends)]
    known = np.zeros(ends[-1], np.int64) if counts is None else counts
    limit = max(1, min(_TOP, _NAMES // max(1, len(sizes) * len(parts))))
    tops = {
        budget: [_top(of, known, part, limit) for part in parts]
        for budget, of in sizes.items()
    }
    spread = [
        _spread(known, part, quota)
        for part, quota in zip(parts, _quotas(parts, drawn), strict=True)
    ]
    kept = [top for of_budget in tops.values() for top in of_budget]
    places = np.unique(np.concatenate([*spread, *kept]))
    return FeatureContent(
        fields=[
            {
                "key": name,
                "name": short(name),
                "features": part.stop - part.start,
                "occurrences": None
                if counts is None
                else int(counts[part].sum()),
            }
            for name, part in zip(vocabularies, parts, strict=True)
        ],
        budgets=[
            {
                "target": budget,
                "left": [int((of[part] > 0).sum()) for part in parts],
                "kept": [int(of[part].sum()) for part in parts],
                "trends": []
                if counts is None
                else [
                    _trend(counts[part], of[part])
                    for part in (slice(None), *parts)
                ],
                "top": [
                    np.searchsorted(places, top).tolist()
                    for top in (_best(of, known, tops[budget]), *tops[budget])
                ],
            }
            for budget, of in sizes.items()
        ],
        drawn=_drawn(vocabularies, ends, places, counts, sizes),
        count=ends[-1],
        unseen=None if counts is None else int((counts == 0).sum()),
    )


def _top(
    sizes: np.ndarray, counts: np.ndarray, part: slice, limit: int
) -> np.ndarray:
    """Places of the features of a field that keep the most, frequent first."""
    places = np.arange(part.start, part.stop)
    places = places[sizes[part] > 0]
    return _sorted(places, sizes, counts)[:limit]


def _best(
    sizes: np.ndarray, counts: np.ndarray, tops: list[np.ndarray]
) -> np.ndarray:
    """Return the values of all fields."""
    return _sorted(np.concatenate(tops), sizes, counts)[:_TOP]


def _sorted(
    places: np.ndarray, sizes: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    order = np.lexsort((-counts[places], -sizes[places]))
    found: np.ndarray = places[order]
    return found


def _quotas(parts: Sequence[slice], drawn: int) -> list[int]:
    """How many of each field: the same, unless there are fewer."""
    sizes = [part.stop - part.start for part in parts]
    quotas = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for left, place in zip(range(len(sizes), 0, -1), order, strict=True):
        share = (drawn - sum(quotas)) // left
        quotas[place] = min(sizes[place], share)
    return quotas


def _spread(counts: np.ndarray, part: slice, number: int) -> np.ndarray:
    """Places of some features of a field, frequent ones more densely.

    Frequent features are few, and what is of interest.
    """
    order: np.ndarray = np.argsort(-counts[part], kind="stable")
    order = order + part.start
    number = max(number, 1)
    if order.size <= number:
        return order
    ranks = order.size * (np.arange(number) / number) ** 2
    found: np.ndarray = order[np.unique(ranks.astype(np.int64))]
    return found


def _trend(counts: np.ndarray, sizes: np.ndarray) -> dict[str, list[Any]]:
    """Means of features whose counts have the same number of binary digits."""
    digits = np.frexp(counts.astype(np.float64))[1]  # 0 of a count of 0
    number = np.bincount(digits, minlength=1)
    found = np.flatnonzero(number[1:]) + 1
    logs = np.bincount(digits, np.log(np.maximum(counts, 1)))[found]
    means = np.bincount(digits, sizes)[found] / number[found]
    return {
        "count": np.exp(logs / number[found]).round(3).tolist(),
        "size": means.round(3).tolist(),
        "features": number[found].tolist(),
    }


def _drawn(
    vocabularies: Mapping[str, Vocabulary],
    ends: Sequence[int],
    places: np.ndarray,
    counts: np.ndarray | None,
    sizes: Mapping[int, np.ndarray],
) -> dict[str, Any]:
    fields = np.searchsorted(ends, places, side="right") - 1
    values = list(vocabularies.values())
    return {
        "field": fields.tolist(),
        "name": [
            feature_name(values[field], int(place - ends[field]))
            for field, place in zip(fields, places, strict=True)
        ],
        "count": None if counts is None else counts[places].tolist(),
        "sizes": [of[places].tolist() for of in sizes.values()],
    }
