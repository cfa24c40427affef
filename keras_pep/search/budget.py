"""The search by budget: the clock is set so that just enough is left."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pep.search.collector import TicketCollector

_LEARNING = 0.3  # share of the search before anything is pruned
_SETTINGS = 500  # how often the clock is set, at most


class BudgetSchedule(TicketCollector):
    """Sets the clock so that as many entries are left as a schedule allows.

    An entry survives while `clock < log(|v| / sigmoid(s))`, its lifetime. The
    clock that leaves exactly B entries is therefore an order statistic, and
    any budget can be had at any time. First the model learns with thresholds
    where they start; then B falls from the whole table to the smallest budget,
    by the same factor in every step. Where thresholds have pruned more than
    that by themselves, the clock is set back. What a threshold learns from the
    loss decides which entries go before others of the same size.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: Length of the search.
    """

    def __init__(self, budgets: Sequence[int], epochs: int) -> None:
        super().__init__(budgets)
        self.epochs = epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """Lays the schedule out."""
        super().on_train_begin(logs)
        if self.params.get("steps") is None:
            raise ValueError(
                "The search by budget needs to know how long an epoch is: "
                "pass `steps_per_epoch`, or data of known length."
            )
        self._end: int = self.epochs * self.params["steps"]
        self._start = int(_LEARNING * self._end)
        self._gap = -(-self._end // _SETTINGS)
        self._smallest = self.missing[-1]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Sets the clock, every few steps, and takes the tickets due."""
        super().on_train_batch_end(batch, logs)
        if self.step % self._gap and self.step < self._end:
            return
        allowed = self._allowed()
        while self.missing and allowed <= self.missing[0]:
            self._keep(self.missing[0])
            self.take_ticket()
        if self.missing and allowed < self.size:
            self._keep(allowed)

    def _allowed(self) -> int:
        """How many entries the schedule leaves at this step."""
        progress = (self.step - self._start) / (self._end - self._start)
        share = self._smallest / self.size
        return round(self.size * math.pow(share, min(max(progress, 0.0), 1.0)))

    def _keep(self, allowed: int) -> None:
        """Sets the clock to leave `allowed` entries, or just fewer."""
        layers = self.layers
        lifetimes = np.concatenate(
            [layer.lifetimes().ravel() for layer in layers]
        )
        if np.isnan(lifetimes).any():
            raise ValueError(
                f"Training diverged before step {self.step:,}: the table holds "
                "NaN. Lower the learning rate."
            )
        target = allowed
        while target > 0:
            # Between the last that goes and the first that stays.
            place = lifetimes.size - target
            parted = np.partition(lifetimes, (place - 1, place))
            clock = parted[place - 1 : place + 1].mean()
            for layer in layers:
                layer.clock.assign(clock)
            excess = self.count() - allowed  # rounding, or equal lifetimes
            if excess <= 0:
                break
            target -= excess
        if not 0.9 * allowed - 1 <= self.kept <= allowed:
            raise ValueError(
                f"No clock leaves close to {allowed:,} embedding parameters: "
                "too many entries have the same size. Is the table "
                "initialized at random?"
            )
