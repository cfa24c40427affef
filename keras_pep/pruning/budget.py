"""The search by budget: the clock is set so that just enough is left."""

import math
from typing import Any

import numpy as np

from keras_pep.pruning.clock import approach_clock
from keras_pep.pruning.collector import TimedCollector

_LEARNING = 0.2  # share of the search before anything is pruned
_SETTINGS = 500  # how often the clock is set, at most


class BudgetSchedule(TimedCollector):
    """Sets the clock so that as many entries are left as a schedule allows.

    First the model learns with thresholds
    where they start; then B falls from the whole table to the smallest budget,
    by the same factor in every step. Where thresholds have pruned more than
    that by themselves, the clock is set back. What a threshold learns from the
    loss decides which entries go before others of the same size.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: Length of the search.
    """

    _remembered = (*TimedCollector._remembered, "_next", "_draws")

    @property
    def _draws(self) -> dict[str, Any]:
        """Where the random numbers are."""
        return dict(self._random.bit_generator.state)

    @_draws.setter
    def _draws(self, state: dict[str, Any]) -> None:
        self._random.bit_generator.state = state

    def on_train_begin(self, logs: Any = None) -> None:
        """Lays the schedule out."""
        super().on_train_begin(logs)
        self._start = int(_LEARNING * self.end)
        self._gap = -(-self.end // _SETTINGS)
        self._next = self._gap
        self._random = np.random.default_rng(0)
        self._smallest = self.missing[-1]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Sets the clock, every few steps, and takes the tickets due."""
        super().on_train_batch_end(batch, logs)
        if self.step < min(self._next, self.end):
            return
        self._next = self.step + self._gap
        allowed = self._allowed()
        while self.missing and allowed <= self.missing[0]:
            self.prune_to(self.missing[0])
            self.take_ticket()
        if self.missing and allowed < self.size:
            self.kept, self.kept_error = approach_clock(
                self.layers, allowed, self._random, self.model.optimizer
            )

    def _allowed(self) -> int:
        """How many entries the schedule leaves at this step."""
        progress = (self.step - self._start) / (self.end - self._start)
        share = self._smallest / self.size
        return round(self.size * math.pow(share, min(max(progress, 0.0), 1.0)))
