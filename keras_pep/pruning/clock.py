"""Setting the clock so that a given number of entries survives."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_pep.layers import PEPEmbedding, variables
from keras_pep.optimizers import catch_up, taken_by

# More entries are not sorted at once.
_ENTRIES_AT_ONCE = 2**22
# Between tickets a sample of so many says where the clock should be, and
# another, of a quarter, what that leaves.
_ENTRIES_TO_SAMPLE = 2**18
_SHARE_TO_COUNT = 0.25
_BINS = 4096  # of about as many entries each


def set_clock(layers: Sequence[PEPEmbedding], allowed: int) -> int:
    """Leave `allowed` entries, or just fewer where some are equal.

    An entry survives while `clock < log(|v| / sigmoid(s))`, its lifetime. The
    clock that leaves exactly so many is therefore an order statistic.

    Args:
        layers: Whose entries compete; they get the same clock.
        allowed: How many may survive, less than there are.

    Returns:
        How many do.

    Raises:
        ValueError: If an entry is NaN, or equal entries leave no clock that
            comes close.
    """
    kept, target, order = 0, allowed, _Order(layers)
    while target > 0:
        clock = order.below(target)
        for layer in layers:
            layer.clock.assign(clock)
        kept = sum(layer.nonzero_parameters() for layer in layers)
        excess = kept - allowed  # rounding, or equal lifetimes
        if excess <= 0:
            break
        target -= excess
    if not 0.9 * allowed - 1 <= kept <= allowed:
        raise ValueError(
            f"No threshold leaves close to {allowed:,} embedding parameters: "
            "too many entries have the same magnitude. Initialize the table "
            "at random."
        )
    return kept


def approach_clock(
    layers: Sequence[PEPEmbedding],
    allowed: int,
    random: np.random.Generator,
    optimizer: Any = None,
) -> tuple[int, float]:
    """Leave about `allowed` entries, judged by a sample of the rows.

    With tables small enough to be sampled whole, it is `set_clock`.

    Args:
        layers: Whose entries compete; they get the same clock.
        allowed: How many may survive, less than there are.
        random: Draws the samples.
        optimizer: That of the layers. If it leaves rows behind (`LazyAdam`),
            they are judged by what it would make of them.

    Returns:
        How many do, and the standard error of this number: 0 if they were
        counted. Otherwise it is an estimate, by rows that had no part in
        setting the clock.
    """
    size = _size(layers)
    if size <= _ENTRIES_TO_SAMPLE:
        catch_up(optimizer)
        return set_clock(layers, allowed), 0.0
    take = taken_by(optimizer)
    sampled = _sample(layers, random, _ENTRIES_TO_SAMPLE, take)
    sample = np.concatenate([x.ravel() for x in sampled])
    clock = np.quantile(sample, 1 - allowed / size, method="nearest")
    for layer in layers:
        layer.clock.assign(clock)
    kept, variance = 0.0, 0.0
    fewer = round(_SHARE_TO_COUNT * _ENTRIES_TO_SAMPLE)
    for layer, lifetimes in zip(
        layers, _sample(layers, random, fewer, take), strict=True
    ):
        of_rows = np.count_nonzero(lifetimes > clock, axis=1)
        kept += layer.input_dim * of_rows.mean()
        variance += layer.input_dim**2 * of_rows.var() / of_rows.size
    return round(kept), math.sqrt(variance)


class _Order:
    """Lifetimes by size, of which those of one short interval are kept.

    Args:
        layers: Whose they are; they do not change meanwhile.
    """

    def __init__(self, layers: Sequence[PEPEmbedding]) -> None:
        self._layers = layers
        self._chosen: int | None = None
        self._edges = np.array([-np.inf, np.inf])
        self._larger = np.zeros(1, dtype=np.int64)
        if _size(layers) > _ENTRIES_AT_ONCE:
            random = np.random.default_rng(0)
            sampled = _sample(layers, random, _ENTRIES_AT_ONCE)
            sample = np.concatenate([x.ravel() for x in sampled])
            shares = np.linspace(0, 1, _BINS + 1)[1:-1]
            inner = np.quantile(sample, shares, method="nearest")
            self._edges = np.unique([-np.inf, *inner, np.inf])
            self._larger = self._count()

    def below(self, n: int) -> float:
        """A clock between the n-th largest lifetime and the next."""
        # The first interval with fewer than n lifetimes above it has the n-th.
        chosen = int(np.flatnonzero(self._larger < n)[0])
        if chosen != self._chosen:
            self._chosen, self._lifetimes = chosen, self._of(chosen)
        lifetimes = self._lifetimes
        place = lifetimes.size - (n - int(self._larger[chosen]))
        if place == 0:
            return float(np.nextafter(lifetimes.min(), -np.inf))
        parted = np.partition(lifetimes, (place - 1, place))
        # Between the last that goes and the first that stays.
        return float(parted[place - 1 : place + 1].mean())

    def _count(self) -> np.ndarray:
        """How many lifetimes are above each interval."""
        counts = np.zeros(self._edges.size - 1, dtype=np.int64)
        for lifetimes in _blocks(self._layers):
            places = np.searchsorted(self._edges, lifetimes, side="right") - 1
            counts += np.bincount(places, minlength=counts.size)
        return np.cumsum(counts[::-1])[::-1] - counts

    def _of(self, chosen: int) -> np.ndarray:
        """The lifetimes of an interval."""
        low, high = self._edges[chosen : chosen + 2]
        return np.concatenate(
            [x[(low <= x) & (x < high)] for x in _blocks(self._layers)]
        )


def _sample(
    layers: Sequence[PEPEmbedding],
    random: np.random.Generator,
    entries: int,
    take: Callable[[Any, Any], Any] = variables.take,
) -> Iterator[np.ndarray]:
    """Lifetimes of some rows, as many of each table as its share.

    Args:
        layers: Whose they are.
        random: Draws the rows.
        entries: How many entries, about.
        take: Reads rows of a table.

    Yields:
        Arrays of shape `(rows, output_dim)`, one for each layer.
    """
    share = entries / _size(layers)
    for layer in layers:
        rows = max(1, round(share * layer.input_dim))
        drawn = random.integers(layer.input_dim, size=rows)
        yield _checked(layer.lifetimes(drawn, take))


def _blocks(layers: Sequence[PEPEmbedding]) -> Iterator[np.ndarray]:
    """All lifetimes, block by block."""
    for layer in layers:
        for rows in layer.row_blocks():
            yield _checked(layer.lifetimes(rows).ravel())


def _size(layers: Sequence[PEPEmbedding]) -> int:
    return sum(layer.input_dim * layer.output_dim for layer in layers)


def _checked(lifetimes: np.ndarray) -> np.ndarray:
    if not (lifetimes < np.inf).all():
        raise ValueError(
            "Training diverged: the table holds NaN or infinity. Lower the "
            "learning rate."
        )
    return lifetimes
