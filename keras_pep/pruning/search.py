"""The first half of the method: find out which entries are worth keeping."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_pep._keras_compat import layers_within
from keras_pep.layers.pep_embedding import PEPEmbeddingMixin
from keras_pep.pruning.budget import BudgetSchedule, Schedule
from keras_pep.pruning.convert import convert
from keras_pep.pruning.fitting import fit
from keras_pep.pruning.magnitude import LargestEntries
from keras_pep.pruning.paper import RisingThresholds
from keras_pep.pruning.retraining import refuse_constraints, retrain
from keras_pep.pruning.sizes import entries_of
from keras_pep.pruning.ticket import Ticket, pep_layers
from keras_pep.runtime import refuse_legacy

if TYPE_CHECKING:
    from keras_pep.pruning.collector import TicketCollector

METHODS = ("budget", "paper", "magnitude")


class BudgetNotReachedWarning(UserWarning):
    """A search ended before as many entries were pruned as asked for.

    Example:

    ```python
    import warnings

    warnings.simplefilter(
        "error", keras_pep.pruning.BudgetNotReachedWarning
    )
    ```
    """


def search(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    budgets: Sequence[int] = (),
    *,
    sparsity: Any = None,
    max_bytes: Any = None,
    quantize: str | None = None,
    method: str = "budget",
    schedule: Schedule | None = None,
    epochs: int = 20,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> "list[Ticket]":
    """Train a model, pruning its tables, and take a ticket for each budget.

    The first half of Algorithm 1 of the paper, for many budgets in one run:
    on its way down the number of non-zero embedding parameters passes every
    budget, and each time the mask is saved.

    With the defaults, one threshold for all entries, the method `"budget"` is
    gradual pruning by a soft threshold: it is set to the size of the k-th
    largest entry, and nothing is learned by it. Thresholds that are learned
    are those of finer granularities, and of `"paper"`.

    Args:
        model: A compiled model with one or more `PEPEmbedding` layers, not
            trained yet. Its weights are changed.
        train: Arrays `(x, y)` or `(x, y, sample_weight)`, a
            `keras_pep.data.Split` in memory, or what `model.fit` takes as `x`:
            batches of the same, such as a `tf.data.Dataset`.
        validation: A `Split`, or what `model.fit` takes as `validation_data`,
            if anything.
        budgets: How many embedding parameters may stay: one ticket for each.
        sparsity: Or the share of them to prune, a number or several.
        max_bytes: Or the bytes that the tables may take when exported, such as
            `"100kB"`, one or several; see `keras_pep.pruning.entries_of`.
        quantize: The type of values that `max_bytes` is for.
        method: `"budget"`: every budget is reached, on a schedule, and the
            last one at the end; see `BudgetSchedule`. `"paper"`: thresholds
            rise by the L2 regularization of `AdamL2` alone, as in the paper;
            see `RisingThresholds`. `threshold_init` says when they take effect,
            and where the loss resists, a small budget may never be reached.
            `"magnitude"`: no thresholds, the largest entries at the end; a
            baseline.
        schedule: How the number of entries falls by `"budget"`, a `Schedule`.
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
    refuse_legacy(model)
    sizes = entries_of(
        pep_layers(model),
        budget=budgets,
        sparsity=sparsity,
        max_bytes=max_bytes,
        quantize=quantize,
    )
    collector = make_collector(method, sizes, epochs, schedule)
    return collect(
        model,
        collector,
        train,
        validation,
        epochs=epochs,
        callbacks=callbacks,
        **fit_arguments,
    )


def prune(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    *,
    budget: int | None = None,
    sparsity: float | None = None,
    max_bytes: int | str | None = None,
    quantize: str | None = None,
    epochs: int = 20,
    retrain_epochs: int | None = None,
    start: str = "rewind",
    optimizer: keras.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> keras.Model:
    """Search a model and retrain what is kept: all in one call.

    A model without `PEPEmbedding` is converted first: see `convert`. Its
    trained tables are what the search and retraining start from.

    Args:
        model: A compiled and built model. It is left as it is if it has to be
            converted; otherwise the search changes it.
        train: See `search`.
        validation: See `search`.
        budget: How many embedding parameters may stay.
        sparsity: Or the share of them to prune.
        max_bytes: Or the bytes that the tables may take when exported.
        quantize: The type of values that `max_bytes` is for.
        epochs: Length of the search.
        retrain_epochs: Length of retraining, by default the same. With
            validation data the weights of its best epoch are kept.
        start: Where retraining starts; see `pruned_model`.
        optimizer: What to retrain with; see `retrain`.
        callbacks: Further callbacks of retraining.
        **fit_arguments: Further arguments for `model.fit`, in both.

    Returns:
        A new compiled model with a `PrunedEmbedding` for every table but those
        that `convert` has left alone.

    Raises:
        ValueError: As `convert`, `search` and `retrain` do, or if the search
            does not reach the size.

    Example:

    ```python
    small = keras_pep.prune(model, train, validation, sparsity=0.95, epochs=5)
    small.save("small.keras")
    ```
    """
    refuse_legacy(model)
    if not any(
        isinstance(layer, PEPEmbeddingMixin) for layer in layers_within(model)
    ):
        model = convert(model)
    refuse_constraints(model)
    tickets = search(
        model,
        train,
        validation,
        () if budget is None else [budget],
        sparsity=sparsity,
        max_bytes=max_bytes,
        quantize=quantize,
        epochs=epochs,
        **fit_arguments,
    )
    if not tickets:
        raise ValueError(
            "The search has not reached the size. Expected: more `epochs`. "
            f"Received: epochs={epochs}"
        )
    best = keras.callbacks.EarlyStopping(
        "val_loss", patience=epochs, restore_best_weights=True
    )
    return retrain(
        model,
        tickets[0],
        train,
        validation,
        start=start,
        optimizer=optimizer,
        epochs=epochs if retrain_epochs is None else retrain_epochs,
        callbacks=[*([] if validation is None else [best]), *callbacks],
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
    """Do what `search` does, by a collector that `make_collector` has made.

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
            f"No ticket for the budgets {collector.missing}: "
            f"{collector.count():,} embedding parameters are left after "
            f"{collector.step:,} steps. Search for more epochs.",
            BudgetNotReachedWarning,
            stacklevel=2,
        )
    return collector.tickets


def make_collector(
    method: str,
    budgets: Sequence[int],
    epochs: int,
    schedule: Schedule | None = None,
) -> "TicketCollector":
    """Make the callback that takes tickets by a method; see `search`."""
    if schedule is not None and method != "budget":
        raise ValueError(
            "Only the method 'budget' follows a `schedule`. "
            f"Received: method={method!r}"
        )
    if method == "budget":
        return BudgetSchedule(budgets, epochs, schedule or Schedule())
    if method == "paper":
        return RisingThresholds(budgets)
    if method == "magnitude":
        return LargestEntries(budgets, epochs)
    raise ValueError(
        f"`method` must be one of {', '.join(METHODS)}. "
        f"Received: method={method!r}"
    )
