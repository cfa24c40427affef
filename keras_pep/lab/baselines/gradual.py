"""Gradual magnitude pruning: the smallest entries go while a table trains."""

from typing import Any

import numpy as np
from keras import ops

from keras_pep._keras_compat import index_of, moments_of
from keras_pep.layers import PEPEmbedding, variables
from keras_pep.optimizers import catch_up
from keras_pep.pruning.budget import Schedule
from keras_pep.pruning.collector import TimedCollector

_SETTINGS = 100  # how often entries are pruned, at most


class GradualMagnitude(TimedCollector):
    """Prunes the smallest entries of a table on a cubic schedule.

    What is pruned stays so; a ticket for each budget has what was trained. It
    is the polynomial schedule of the TensorFlow Model Optimization Toolkit,
    with power 3.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: Length of the training.

    Reference:
        - [Zhu & Gupta, 2017](https://arxiv.org/abs/1710.01878)
    """

    learns_thresholds = False
    _remembered = (*TimedCollector._remembered, "_next")

    def on_train_begin(self, logs: Any = None) -> None:
        """Turns thresholds off, and lays the schedule out."""
        super().on_train_begin(logs)
        for layer in self.layers:
            layer.clock.assign(-np.inf)
        self._schedule = Schedule(shape="cubic")
        self._gap = -(-self.end // _SETTINGS)
        self._next = self._gap
        self._last = self.missing[-1] / self.size

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Prunes every few steps, and takes the tickets due."""
        super().on_train_batch_end(batch, logs)
        if self.step < min(self._next, self.end):
            return
        self._next = self.step + self._gap
        share = self._schedule.share(self.step / self.end, self._last)
        allowed = round(self.size * share)
        while self.missing and allowed <= self.missing[0]:
            self._keep(self.missing[0])
            self.take_ticket()
        if self.missing and allowed < self.size:
            self._keep(allowed)

    def _keep(self, count: int) -> None:
        """Keep so many entries, the largest."""
        catch_up(self.model.optimizer)
        sizes = [np.abs(variables.values_of(x.embeddings)) for x in self.layers]
        every = np.concatenate([each.ravel() for each in sizes])
        if not np.isfinite(every).all():
            raise ValueError(
                f"Training diverged at step {self.step:,}: the table holds NaN "
                "or infinity. Lower the learning rate."
            )
        smallest = np.partition(every, every.size - count)[-count]
        self.kept = 0
        for layer, size in zip(self.layers, sizes, strict=True):
            kept = size >= max(smallest, np.finfo(np.float32).tiny)
            self._zero(layer, ~kept)
            self.kept += int(np.count_nonzero(kept))

    def _zero(self, layer: PEPEmbedding, pruned: np.ndarray) -> None:
        """Make entries zero, and what would move them from there."""
        optimizer, table = self.model.optimizer, layer.embeddings
        place = index_of(optimizer, table)
        for variable in (table, *moments_of(optimizer)[0][place:][:1]):
            # `LazyAdam` has the velocity beside the momentum.
            more = variable.shape[1] - pruned.shape[1]
            zero = np.pad(pruned, [(0, 0), (0, more)])
            values = ops.where(zero, 0.0, ops.convert_to_tensor(variable))
            variable.assign(values)
