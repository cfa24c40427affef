"""The search by magnitude: a baseline that learns no thresholds."""

from typing import Any

from keras_pep.pruning.collector import TimedCollector


class LargestEntries(TimedCollector):
    """Trains the full table, then keeps its largest entries.

    Thresholds are off until the last step; then every budget gets a ticket.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: How long to train.

    Reference:
        - [Han et al., 2015](https://arxiv.org/abs/1506.02626)
        - [Frankle & Carbin, 2019](https://arxiv.org/abs/1803.03635), on
          starting over from initial values
    """

    learns_thresholds = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Take the tickets, all in the last step."""
        super().on_train_batch_end(batch, logs)
        while self.step >= self.end and self.missing:
            self.prune_to(self.missing[0])
            self.take_ticket()
