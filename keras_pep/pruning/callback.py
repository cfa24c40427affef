"""Search and retraining inside one `model.fit`."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_pep._keras_compat import rate_of
from keras_pep.layers import variables
from keras_pep.optimizers import catch_up, parts
from keras_pep.pruning.budget import Schedule
from keras_pep.pruning.search import BudgetNotReachedWarning, make_collector
from keras_pep.pruning.sizes import (
    check_sparsity,
    entries_of,
    number_of_bytes,
    only_size,
)
from keras_pep.pruning.ticket import (
    Ticket,
    other_weights,
    pep_layers,
    values_of,
)
from keras_pep.runtime import EitherKeras, refuse_model
from keras_pep.sparse import SparseTable

if TYPE_CHECKING:
    from keras_pep.pruning.collector import TicketCollector

_FROM = {
    "rewind": "the model began with",
    "finetune": "the search has left",
}
# Words in the names of figures that should be large, or small.
_LARGE = {"auc", "acc", "accuracy", "recall", "precision", "f", "ndcg"} | {
    *("mrr", "map", "hit", "hits", "hr")
}
_SMALL = {"loss", "logloss", "error", "crossentropy", "mse", "mae"} | {
    *("rmse", "mape", "msle", "hinge")
}


class PEPRetrainingMixin(EitherKeras):
    """Searches until a budget is met, then retrains what is left, in one `fit`.

    The first epochs of `model.fit` search. When just so many entries of the
    model's `PEPEmbedding` tables are left as the budget allows, the ticket is
    taken, weights go back to their initial values, what was pruned stays zero,
    the optimizer starts afresh, and the remaining epochs train that model. In
    the end the weights are those of the retraining epoch with the best
    validation result.

    Other callbacks see one training: a `ModelCheckpoint` of the best epoch may
    keep one of the search, an `EarlyStopping` may end `fit` before retraining
    is through, and a learning rate that was lowered stays low.

    Any model will do, subclassed ones included: it is changed in place. Its
    tables have their full size in memory, with zeros; files that it is saved
    to hold only what is kept. `keras_pep.pruned_model` makes a model with
    compact tables of it.

    Args:
        budget: Integer. How many embedding parameters may stay.
        sparsity: Float, instead of a budget: the share of them to prune.
        max_bytes: Or the bytes that the tables may take when exported, such as
            `"100kB"`; see `keras_pep.pruning.entries_of`.
        quantize: The type of values that `max_bytes` is for.
        method: `"budget"`, `"paper"` or `"magnitude"`; see `keras_pep.search`.
        schedule: How the number of entries falls by `"budget"`, a
            `keras_pep.pruning.Schedule`.
        search_epochs: Integer. Length of the search; by `"paper"`, at most.
            By default half of the epochs of `fit`.
        start: What to retrain from: `"rewind"`, every weight at its initial
            value, or `"finetune"`, at the value the search has left.
        monitor: Figure of the logs by which an epoch is best. Only epochs that
            were retraining from their first step count. Without validation
            data, pass `"loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which knows it by what figures are
            usually called.
        patience: Integer. How many epochs of retraining without a better
            figure end `fit`. By default all epochs are run.
        ticket_path: Where to save the ticket, an `.npz` file; if anywhere.
        verbose: 1 prints a line when retraining begins and when it ends.

    Attributes:
        ticket: The `Ticket`, or None as long as the budget is not met.
        best: The best figure of the retraining so far, or None.

    Warns:
        BudgetNotReachedWarning: If the search ended before the budget was met.
            The model is as the search has left it, and `fit` is over.
        UserWarning: If `fit` ended before retraining began, or no epoch of it
            had the figure to be monitored.

    Raises:
        ValueError: If an argument is not as described, a budget is out of
            range, the model is not built or not at its initial values, its
            optimizer has been used before, or `fit` leaves no epoch for
            retraining.

    Example:

    ```python
    retraining = keras_pep.callbacks.PEPRetraining(budget=50_000, patience=2)
    model.fit(*train, validation_data=validation, epochs=40,
              callbacks=[retraining])
    keras_pep.pruned_model(model).save("small.keras")
    ```

    Reference:
        - [Liu et al., 2021](https://arxiv.org/abs/2101.07577), algorithm 1
    """

    def __init__(
        self,
        budget: int | None = None,
        *,
        sparsity: float | None = None,
        max_bytes: int | str | None = None,
        quantize: str | None = None,
        method: str = "budget",
        schedule: Schedule | None = None,
        search_epochs: int | None = None,
        start: str = "rewind",
        monitor: str = "val_loss",
        mode: str = "auto",
        patience: int | None = None,
        ticket_path: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self._size = {
            "budget": budget,
            "sparsity": sparsity,
            "max_bytes": max_bytes,
        }
        only_size(**self._size)
        if sparsity is not None:
            check_sparsity(sparsity)
        if max_bytes is not None:
            number_of_bytes(max_bytes)
        if start not in _FROM:
            raise ValueError(
                f"`start` must be one of {', '.join(_FROM)}; to draw weights "
                "anew there is `keras_pep.retrain`, which makes a new model. "
                f"Received: start={start!r}"
            )
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                "`mode` must be 'auto', 'min' or 'max'. "
                f"Received: mode={mode!r}"
            )
        for name, value in (
            ("search_epochs", search_epochs),
            ("patience", patience),
        ):
            if value is not None and value < 1:
                raise ValueError(
                    f"`{name}` must be at least 1. Received: {name}={value}"
                )
        # Refuses an unknown method now.
        make_collector(method, [1], 1, schedule)
        self.budget = budget
        self.sparsity = sparsity
        self.max_bytes = max_bytes
        self.quantize = quantize
        self.method = method
        self.schedule = schedule
        self.verbose = verbose
        self.search_epochs = search_epochs
        self.start = start
        self.monitor = monitor
        self.mode = _direction(monitor) if mode == "auto" else mode
        self.patience = patience
        self.ticket_path = ticket_path
        self.ticket: Ticket | None = None
        self.best: float | None = None

    def set_model(self, model: Any) -> None:
        """Refuse a model of the other Keras."""
        refuse_model(self, model)
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget what an earlier `fit` has found."""
        self._search: TicketCollector | None = None
        self.ticket, self.best = None, None
        self._retraining = self._whole_epoch = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin the search, in the first epoch."""
        if self._search is None:
            self._begin_search(epoch)
        assert self._search is not None
        if self.ticket is None:
            self._search.on_epoch_begin(epoch, logs)
        self._whole_epoch = self.ticket is not None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Change over to retraining, once the ticket is there."""
        if self.ticket is not None and not self._retraining:
            self._begin_retraining(self.ticket)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Let the search look at the tables."""
        if self.ticket is not None:
            return
        assert self._search is not None
        self._search.on_train_batch_end(batch, logs)
        if self._search.tickets:
            (self.ticket,) = self._search.tickets
            self.model.stop_training = False  # the search alone is over
            if self.ticket_path is not None:
                self.ticket.save(self.ticket_path)
            self._say(
                f"The search is over: {self.ticket.embedding_parameters:,} of "
                f"{self._search.size:,} embedding parameters are kept "
                f"({self.ticket.sparsity:.1%} pruned). Retraining begins, from "
                f"the weights that {_FROM[self.start]}."
            )

    def on_test_begin(self, logs: Any = None) -> None:
        """Bring rows up to date that the optimizer has left behind."""
        catch_up(self.model.optimizer)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Add what is left to the logs; remember the best of retraining."""
        assert self._search is not None
        logs = {} if logs is None else logs
        self._search.on_epoch_end(epoch, logs)
        if self.ticket is None and epoch == self._last_of_search:
            self.model.stop_training = True  # on_train_end warns
        if self._whole_epoch and self.monitor in logs:
            self._compare(epoch, float(logs[self.monitor]))

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the best weights of the retraining."""
        if self.best is not None:
            self._assign(self._best_tables, self._best_weights)
            self._say(
                f"Retraining is over: the weights are those of epoch "
                f"{self._best_epoch + 1}, {self.monitor} {self.best:.4f}."
            )
        elif self._retraining:
            warnings.warn(
                f"No epoch of retraining had a value of {self.monitor!r}, so "
                "the weights are those of the last one. Pass validation data "
                "to `fit`, or another `monitor`.",
                stacklevel=2,
            )
        elif self.ticket is not None:
            warnings.warn(
                "`fit` ended before retraining began: the weights are those of "
                "the search. Train for more epochs, or retrain the `ticket`.",
                stacklevel=2,
            )
        elif self._search is not None:
            warnings.warn(
                f"No ticket for the budget {self._search.missing[0]:,}: "
                f"{self._search.count():,} embedding parameters are left after "
                f"{self._search.step:,} steps. Search for more epochs.",
                BudgetNotReachedWarning,
                stacklevel=2,
            )

    def _begin_search(self, epoch: int) -> None:
        epochs = self.params["epochs"] - epoch
        search_epochs = self.search_epochs or max(1, epochs // 2)
        if search_epochs >= epochs:
            raise ValueError(
                "The epochs of `fit` must leave some for retraining. Received: "
                f"epochs={epochs}, search_epochs={search_epochs}"
            )
        layers = pep_layers(self.model)
        budgets = entries_of(layers, **self._size, quantize=self.quantize)
        if not hasattr(self.model.optimizer, "build"):
            raise ValueError(
                "The state of this optimizer cannot be reset: compile the "
                "model with an optimizer of the same Keras, or of keras_pep. "
                f"Received: {type(self.model.optimizer).__name__}"
            )
        if int(self.model.optimizer.iterations.numpy()):
            raise ValueError(
                "The optimizer has been used before, so it cannot start afresh "
                "for retraining: compile the model with a new one."
            )
        self._search = make_collector(
            self.method, budgets, search_epochs, self.schedule
        )
        self._search.set_params(self.params)
        self._search.set_model(self.model)
        self._search.on_train_begin()
        # Every slot of an optimizer begins with one number everywhere.
        self._first = [
            _first_of(variable) for variable in self.model.optimizer.variables
        ]
        self._last_of_search = epoch + search_epochs - 1
        self._tables = [layer.name for layer in layers]

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"\n{line}", flush=True)

    def _compare(self, epoch: int, figure: float) -> None:
        """Remember the weights if they are the best so far."""
        sign = 1 if self.mode == "max" else -1
        if not math.isnan(figure) and (
            self.best is None or sign * figure > sign * self.best
        ):
            self.best, self._best_epoch = figure, epoch
            self._best_tables = {
                layer.name: layer.sparse() for layer in pep_layers(self.model)
            }
            self._best_weights = values_of(
                other_weights(self.model, self._tables)
            )
        elif (
            self.best is not None
            and self.patience
            and epoch - self._best_epoch >= self.patience
        ):
            self.model.stop_training = True

    def _begin_retraining(self, ticket: Ticket) -> None:
        if self.start == "rewind":
            self._assign(ticket.tables, ticket.weights)
        else:
            self._assign(ticket.learned_tables(), ticket.learned_weights)
        optimizer = self.model.optimizer
        # A schedule or another callback decides on the learning rate.
        rates = {id(rate_of(part)) for part in parts(optimizer)}
        for variable, first in zip(
            optimizer.variables, self._first, strict=True
        ):
            if first.size and id(variable) not in rates:
                variables.fill(variable, first[0])
        self._retraining = True

    def _assign(
        self,
        tables: Mapping[str, SparseTable],
        weights: Sequence[np.ndarray],
    ) -> None:
        for layer in pep_layers(self.model):
            layer.assign_sparse(tables[layer.name])
        for weight, value in zip(
            other_weights(self.model, self._tables), weights, strict=True
        ):
            variables.assign(weight, value)


def _first_of(variable: Any) -> np.ndarray:
    """The first number of a variable, if it has any."""
    if len(variable.shape) == 2 and variable.shape[0]:
        variable = variables.take(variable, ops.convert_to_tensor([0]))
    return np.array(ops.convert_to_numpy(variable)).ravel()[:1]


def _direction(monitor: str) -> str:
    """Whether a figure should be large or small, by its name."""
    words = {word for word in re.split(r"[\W_\d]+", monitor.lower()) if word}
    if bool(words & _LARGE) == bool(words & _SMALL):
        raise ValueError(
            "The name of `monitor` does not tell the `mode`: pass 'max' or "
            f"'min'. Received: monitor={monitor!r}"
        )
    return "max" if words & _LARGE else "min"


class PEPRetraining(PEPRetrainingMixin, keras.callbacks.Callback):  # noqa: D101
    __doc__ = PEPRetrainingMixin.__doc__
