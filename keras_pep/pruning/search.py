"""The first half of the method: find out which entries are worth keeping."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_pep.pruning.budget import BudgetSchedule
from keras_pep.pruning.fitting import fit
from keras_pep.pruning.magnitude import LargestEntries
from keras_pep.pruning.paper import RisingThresholds
from keras_pep.runtime import refuse_legacy

if TYPE_CHECKING:
    from keras_pep.pruning.collector import TicketCollector
    from keras_pep.pruning.ticket import Ticket

METHODS = ("budget", "paper", "magnitude")


class BudgetNotReachedWarning(UserWarning):
    """A search ended before as many entries were pruned as asked for."""


def search(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    budgets: Sequence[int] = (),
    *,
    method: str = "budget",
    epochs: int = 20,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> "list[Ticket]":
    """Trains a model with learnable thresholds and takes a ticket per budget.

    The first half of Algorithm 1 of the paper, for many budgets in one run:
    on its way down the number of non-zero embedding parameters passes every
    budget, and each time the mask is saved.

    Args:
        model: A compiled model with one or more `PEPEmbedding` layers, not
            trained yet. Its weights are changed.
        train: Arrays `(x, y)` or `(x, y, sample_weight)`, or what `model.fit`
            takes as `x`: batches of the same, such as a `tf.data.Dataset`.
        validation: What `model.fit` takes as `validation_data`, if anything.
        budgets: How many embedding parameters may stay: one ticket for each.
        method: `"budget"`: every budget is reached, on a schedule, and the
            last one at the end; see `BudgetSchedule`. `"paper"`: thresholds
            rise by the L2 regularization of `AdamL2` alone, as in the paper;
            see `RisingThresholds`. `threshold_init` says when they take effect,
            and where the loss resists, a small budget may never be reached.
            `"magnitude"`: no thresholds, the largest entries at the end; a
            baseline.
        epochs: How long to search; by `"paper"`, at most.
        callbacks: Further callbacks for `model.fit`.
        **fit_arguments: Further arguments for `model.fit`. By default it is
            silent, shuffles arrays, and leaves the order of batches to `train`.

    Returns:
        Tickets by falling budget. A budget that was not reached has none.

    Warns:
        BudgetNotReachedWarning: If a budget was not reached.

    Raises:
        ValueError: If the model has no `PEPEmbedding`, a table is not at its
            initial values, a budget is not between 1 and the number of
            embedding parameters, or training diverges.

    Example:

    ```python
    tickets = keras_pep.search(model, train, budgets=[50_000, 30_000])
    small = keras_pep.retrain(model, tickets[-1], train)
    ```

    Reference:
        - [Liu et al., 2021](https://arxiv.org/abs/2101.07577)
    """
    collector = make_collector(method, budgets, epochs)
    return collect(
        model,
        collector,
        train,
        validation,
        epochs=epochs,
        callbacks=callbacks,
        **fit_arguments,
    )


def collect(
    model: keras.Model,
    collector: "TicketCollector",
    train: Any,
    validation: Any = None,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> "list[Ticket]":
    """Does what `search` does, by a collector that `make_collector` has made.

    Who has the collector can keep its `state`, and go on with it later.
    """
    refuse_legacy(model)
    fit(
        model,
        train,
        validation,
        epochs=epochs,
        callbacks=[collector, *callbacks],
        **fit_arguments,
    )
    if collector.missing:
        warnings.warn(
            f"No ticket for the budgets {collector.missing}: after "
            f"{collector.step:,} steps {collector.count():,} embedding "
            "parameters are left.",
            BudgetNotReachedWarning,
            stacklevel=2,
        )
    return collector.tickets


def make_collector(
    method: str, budgets: Sequence[int], epochs: int
) -> "TicketCollector":
    """The callback that takes tickets by a method; see `search`."""
    if method == "budget":
        return BudgetSchedule(budgets, epochs)
    if method == "paper":
        return RisingThresholds(budgets)
    if method == "magnitude":
        return LargestEntries(budgets, epochs)
    raise ValueError(
        f"`method` must be one of {', '.join(METHODS)}. "
        f"Received: method={method!r}"
    )
