"""The search of the paper: thresholds rise by themselves."""

from collections.abc import Sequence
from typing import Any

from keras_pep.pruning.collector import TicketCollector

_LONGEST_GAP = 20  # steps


class RisingThresholds(TicketCollector):
    """Watches thresholds rise and takes a ticket when a budget is passed.

    What makes them rise is the L2 regularization of `AdamL2`; how long it
    takes is set by `threshold_init`, and whether it suffices by the loss.

    Counting reads the whole table, so it is done seldom while a budget is far
    and in every step when it is near: the next count comes when half the
    distance is gone, at the fastest pace seen so far.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
    """

    pulls_thresholds = True
    _remembered = (
        *TicketCollector._remembered,
        *("_pace", "_counted", "_next_count"),
    )

    def __init__(self, budgets: Sequence[int]) -> None:
        super().__init__(budgets)
        self._pace = 0.0
        self._counted: tuple[int, int] | None = None  # at a step, how many
        self._next_count = _LONGEST_GAP

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts, when it is time to, and takes the tickets that are due."""
        super().on_train_batch_end(batch, logs)
        if self.step < self._next_count:
            return
        step, before = self._counted or (0, self.size)
        pace = (before - self.count()) / (self.step - step)
        self._pace = max(self._pace, pace)
        self._counted = self.step, self.kept
        while self.missing and self.kept <= self.missing[0]:
            self.take_ticket()
        gap = _LONGEST_GAP
        if self.missing and self._pace > 0:
            distance = self.kept - self.missing[0]
            gap = min(gap, int(0.5 * distance / self._pace))
        self._next_count = self.step + max(1, gap)
