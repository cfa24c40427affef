"""Common part of the searches: taking tickets while a model is fitted."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_pep.distribution.replicas import agree, build_slots, strategy_of
from keras_pep.layers import PEPEmbedding
from keras_pep.optimizers import catch_up
from keras_pep.pruning.clock import set_clock
from keras_pep.pruning.sizes import check_budgets, whole
from keras_pep.pruning.ticket import (
    Ticket,
    other_weights,
    pep_layers,
    values_of,
)
from keras_pep.runtime import keras_of

_UNBUILT = (
    "The model is not built: call it, or each of its parts, on a batch before "
    "a search. Its initial weights are part of the tickets."
)
_ULPS = 4 * np.finfo(np.float32).eps


class TicketCollector(keras.callbacks.Callback):
    """Base of the callbacks that take a ticket per budget, then stop.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.

    Attributes:
        tickets: Tickets found so far, by falling budget.
        missing: Budgets not reached yet, falling.
        kept: Embedding parameters left at the last count, or estimate.
        kept_error: Standard error of the estimate; 0 if they were counted.
        step: Training steps so far.
    """

    # Whether it is L2 that raises thresholds. Where it is not, thresholds
    # should be what the loss makes of them: see `AdamL2`.
    pulls_thresholds = False
    # Whether thresholds are part of what is learned, or off.
    learns_thresholds = True
    # What it remembers from one epoch to the next, besides the tickets.
    _remembered: tuple[str, ...] = ("missing", "kept", "kept_error", "step")

    def __init__(self, budgets: Sequence[int]) -> None:
        super().__init__()
        self.missing = sorted({whole(b) for b in budgets}, reverse=True)
        self.tickets: list[Ticket] = []
        self.kept = 0
        self.kept_error = 0.0
        self.step = 0
        self._epoch_start = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the budgets and remember the initial weights."""
        layers = self.layers
        # A model of TensorFlow Recommenders need never be called as a whole.
        whole = keras_of(self.model) is keras
        parts = [self.model] if whole else layers
        if not all(part.built for part in parts):
            raise ValueError(_UNBUILT)
        self.size: int = sum(
            layer.input_dim * layer.output_dim for layer in layers
        )
        self.kept = self.size
        check_budgets(self.missing, self.size)
        for layer in layers:
            kind = keras.backend.standardize_dtype(layer.embeddings.dtype)
            if kind in ("float16", "bfloat16"):
                raise ValueError(
                    f"The table of {layer.name!r} is stored in {kind}, where "
                    "many entries are equal, so no threshold meets a budget. "
                    f"Make the model with dtype='mixed_{kind}', which computes "
                    "in it and keeps weights in float32."
                )
            blocks = zip(
                layer.embedding_blocks(), layer.initial_blocks(), strict=True
            )
            # An initializer that XLA has compiled may round another way.
            if not all(np.allclose(*pair, _ULPS, _ULPS) for pair in blocks):
                raise ValueError(
                    f"The table of {layer.name!r} has changed since it was "
                    "initialized, so its entries cannot be rewound: search "
                    "with a new model. To start from your own values, pass "
                    "them as an initializer."
                )
            layer.clock.assign(0.0 if self.learns_thresholds else -np.inf)
            layer.threshold_logits.is_pulled = self.pulls_thresholds
        self._weights = values_of(
            other_weights(self.model, [layer.name for layer in layers])
        )
        build_slots(self.model)

    def state(self) -> dict[str, Any]:
        """The state that an interrupted search resumes from, as JSON.

        Tickets are not part of it, only their budgets.
        """
        return {
            "tickets": [ticket.budget for ticket in self.tickets],
            **{name: getattr(self, name) for name in self._remembered},
        }

    def restore(
        self, state: Mapping[str, Any], tickets: Sequence[Ticket]
    ) -> None:
        """Go on from a `state`, after `on_train_begin`.

        Raises:
            ValueError: If these are not its tickets.
        """
        if [ticket.budget for ticket in tickets] != state["tickets"]:
            raise ValueError(
                "The tickets belong to another search. "
                f"Found: budgets {[ticket.budget for ticket in tickets]}. "
                f"Expected: {state['tickets']}."
            )
        self.tickets = [*tickets]
        for name in self._remembered:
            setattr(self, name, state[name])

    @property
    def layers(self) -> list[PEPEmbedding]:
        """The searched layers, found anew since JAX syncs on `self.model`."""
        return pep_layers(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note at which step the epoch begins."""
        self._epoch_start = self.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the steps."""
        # With `steps_per_execution` Keras counts beyond the end of an epoch.
        done = min(batch + 1, self.params.get("steps") or batch + 1)
        first, self.step = self.step == 0, self._epoch_start + done
        if first:
            others = other_weights(self.model, [x.name for x in self.layers])
            if len(others) != len(self._weights):
                raise ValueError(_UNBUILT)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Count what is left, and add it to the logs."""
        self.count()
        clocks = [layer.clock.numpy() for layer in self.layers]
        what = f"what is left after epoch {epoch + 1}"
        agree(strategy_of(self.model), what, self.kept, *clocks)
        if logs is not None:
            logs["embedding_parameters"] = self.kept

    def on_test_begin(self, logs: Any = None) -> None:
        """Bring rows up to date that the optimizer has left behind."""
        catch_up(self.model.optimizer)

    def count(self) -> int:
        """Count the embedding parameters that are left. Reads the table."""
        catch_up(self.model.optimizer)
        self.kept = sum(layer.nonzero_parameters() for layer in self.layers)
        self.kept_error = 0.0
        return self.kept

    def prune_to(self, budget: int) -> None:
        """Set the clock so that the budget is just met.

        Raises:
            ValueError: If training has diverged, or no clock does that.
        """
        catch_up(self.model.optimizer)
        try:
            self.kept, self.kept_error = set_clock(self.layers, budget), 0.0
        except ValueError as error:
            raise ValueError(f"At step {self.step:,}: {error}") from error

    def take_ticket(self) -> None:
        """Take the ticket of the next budget; the last one ends the search."""
        budget = self.missing.pop(0)
        ticket = Ticket.from_model(
            self.model,
            self._weights,
            budget,
            self.step,
            shrunk=self.learns_thresholds,
        )
        agree(
            strategy_of(self.model),
            f"the ticket of {budget:,}",
            self.step,
            *(
                part
                for table in ticket.tables.values()
                for part in (table.values, table.columns, table.row_splits)
            ),
        )
        self.tickets.append(ticket)
        if not self.missing:
            self.model.stop_training = True


class TimedCollector(TicketCollector):
    """Base of those that know in advance how long they take.

    Args:
        budgets: How many embedding parameters may stay, one ticket for each.
        epochs: Length of the search.

    Attributes:
        end: Its last step, known once it has begun.
    """

    def __init__(self, budgets: Sequence[int], epochs: int) -> None:
        super().__init__(budgets)
        self.epochs = epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """Compute the last step.

        Raises:
            ValueError: If it is not known how long an epoch is.
        """
        super().on_train_begin(logs)
        steps = self.params.get("steps")
        if steps is None:
            raise ValueError(
                "This search needs to know how long an epoch is: pass "
                "`steps_per_epoch`, or data of known length."
            )
        self.end: int = self.epochs * steps
