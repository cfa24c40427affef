"""The search by budget: the clock is set so that just enough is left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_pep.pruning.clock import approach_clock
from keras_pep.pruning.collector import TimedCollector

_SHAPES = ("exponential", "cubic", "linear")


@dataclass(frozen=True)
class Schedule:
    """How the number of entries falls during a search.

    Args:
        begin: Share of the search before anything is pruned.
        end: Share after which nothing more is.
        shape: `"exponential"`: by the same factor in every step, `"cubic"`:
            fast at first, or `"linear"`: by as many entries in every step.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    ```python
    schedule = keras_pep.pruning.Schedule(shape="cubic")
    tickets = keras_pep.search(
        model, train, budgets=[30_000], schedule=schedule, epochs=2
    )
    ```

    Reference:
        - [Zhu & Gupta, 2017](https://arxiv.org/abs/1710.01878), on the cubic
          shape
    """

    begin: float = 0.2
    end: float = 1.0
    shape: str = "exponential"

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                "A schedule must have 0 <= begin < end <= 1. Received: "
                f"begin={self.begin}, end={self.end}"
            )
        if self.shape not in _SHAPES:
            raise ValueError(
                f"`shape` must be one of {', '.join(_SHAPES)}. "
                f"Received: shape={self.shape!r}"
            )

    def share(self, progress: float, last: float) -> float:
        """Return the share of entries that may stay.

        Args:
            progress: Share of the search that is over.
            last: Share of entries that may stay in the end.
        """
        done = (progress - self.begin) / (self.end - self.begin)
        done = min(max(done, 0.0), 1.0)
        if self.shape == "exponential":
            return math.pow(last, done)
        power = 3 if self.shape == "cubic" else 1
        return last + (1 - last) * (1 - done) ** power


class BudgetSchedule(TimedCollector):
    """Sets the clock so that as many entries are left as a schedule allows.

    First the model learns with thresholds where they start; then the number of
    entries falls from the whole table to the smallest budget. Where thresholds
    have pruned more than that by themselves, the clock is set back. Where
    entries have thresholds of their own, what these learn from the loss decides
    which go before others of the same size; a single one learns nothing.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: Length of the search.
        schedule: How the number of entries falls.
    """

    settings = 500  # how often the clock is set, at most

    def __init__(
        self,
        budgets: Sequence[int],
        epochs: int,
        schedule: Schedule = Schedule(),
    ) -> None:
        super().__init__(budgets, epochs)
        self.schedule = schedule

    _remembered = (*TimedCollector._remembered, "_next", "_draws")

    @property
    def _draws(self) -> dict[str, Any]:
        """Where the random numbers are."""
        return dict(self._random.bit_generator.state)

    @_draws.setter
    def _draws(self, state: dict[str, Any]) -> None:
        self._random.bit_generator.state = state

    def on_train_begin(self, logs: Any = None) -> None:
        """Lay the schedule out."""
        super().on_train_begin(logs)
        self._gap = -(-self.end // self.settings)
        self._next = self._gap
        self._random = np.random.default_rng(0)
        self._smallest = self.missing[-1]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Set the clock, every few steps, and take the tickets due."""
        super().on_train_batch_end(batch, logs)
        if self.step < min(self._next, self.end):
            return
        self._next = self.step + self._gap
        last = self._smallest / self.size
        share = self.schedule.share(self.step / self.end, last)
        allowed = round(self.size * share)
        while self.missing and allowed <= self.missing[0]:
            self.prune_to(self.missing[0])
            self.take_ticket()
        if self.missing and allowed < self.size:
            self.approach(allowed)

    def approach(self, allowed: int) -> None:
        """Leave about so many entries."""
        self.kept, self.kept_error = approach_clock(
            self.layers, allowed, self._random, self.model.optimizer
        )
