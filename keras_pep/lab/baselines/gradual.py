"""Gradual magnitude pruning: the smallest entries go while a table trains."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_pep._keras_compat import index_of, moments_of
from keras_pep.layers import PEPEmbedding, variables
from keras_pep.optimizers import catch_up
from keras_pep.pruning.budget import BudgetSchedule, Schedule
from keras_pep.pruning.collector import TimedCollector


class GradualMagnitude(BudgetSchedule):
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
    settings = 100
    _remembered = (*TimedCollector._remembered, "_next")  # it draws nothing

    def __init__(self, budgets: Sequence[int], epochs: int) -> None:
        super().__init__(budgets, epochs, Schedule(shape="cubic"))

    def approach(self, allowed: int) -> None:
        """Keep so many entries."""
        self.prune_to(allowed)

    def prune_to(self, budget: int) -> None:
        """Keep so many entries, the largest."""
        catch_up(self.model.optimizer)
        sizes = [np.abs(variables.values_of(x.embeddings)) for x in self.layers]
        every = np.concatenate([each.ravel() for each in sizes])
        if not np.isfinite(every).all():
            raise ValueError(
                f"Training diverged at step {self.step:,}: the table holds NaN "
                "or infinity. Lower the learning rate."
            )
        smallest = np.partition(every, every.size - budget)[-budget]
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
