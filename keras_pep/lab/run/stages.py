"""The stages of a run: dense baseline, search, retraining, other methods."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_pep.lab.baselines import BudgetTooSmallError, CompressedEmbedding
from keras_pep.lab.presets import preset
from keras_pep.lab.run.automatic import search_for_best
from keras_pep.lab.run.continuing import continue_run
from keras_pep.lab.run.results import (
    in_int4,
    planted_figures,
    results,
    seconds,
)
from keras_pep.lab.run.runner import Run
from keras_pep.lab.run.searching import Searched, search_by_stage
from keras_pep.lab.run.size import clip
from keras_pep.lab.settings import SEARCHED
from keras_pep.pruning import Ticket, retrain, soft_labels

logger = logging.getLogger(__name__)


def do_all(run: Run) -> dict[str, Any]:
    """Do the stages of a run, or those that are left, and finish it.

    What fails after the dense model is noted, and the others are done all the
    same.

    Returns:
        The content of `metrics.json`.

    Raises:
        RunError: If a file cannot be written, or is damaged.
        DivergedError: If the training of the dense model does.
    """
    config, dataset = run.config, run.dataset
    logger.info("\n".join(filter(None, [str(dataset), dataset.parsed()])))
    if dataset.malformed:
        logger.warning(f"left out: {dataset.malformed:,} malformed rows")
    if config.continued is not None:
        found = continue_run(run)
    elif config.search == "auto":
        found = search_for_best(run)
    else:
        found = _search_as_told(run)
    config = run.config  # as it was tuned
    methods = tuple(dict.fromkeys(config.compare))
    baselines = [entry for method in methods for entry in compare(run, method)]
    metrics = {
        "dataset": dataset.name,
        "features": dataset.features,
        "model": config.model,
        "embedding_dim": config.embedding_dim,
        "seed": config.seed,
        "rows": {name: len(rows) for name, rows in dataset.splits.items()},
        "malformed_rows": dataset.malformed,
        "split": "files"
        if config.validation_file or config.test_file
        else config.split,
        "unseen_in_test": {
            name: found._asdict() for name, found in dataset.unseen.items()
        },
        "columns": [column._asdict() for column in dataset.columns],
        "fields": len(dataset.fields),
        "feature_count": dataset.feature_count,
        "schedule": asdict(run.schedule),
        "seconds": seconds(
            [row for stage in run.stages.values() for row in stage.history]
        ),
        **found,
        "baselines": baselines,
        "baselines_failed": {
            method: failed
            for method in methods
            if (failed := _failed(run, method, method))
        },
    }
    run.directory.finish(metrics)
    return metrics


def _search_as_told(run: Run) -> dict[str, Any]:
    """Train the dense model, search by one method, and retrain."""
    config = run.config
    dense = train_dense(run) if config.baseline else None
    model, tickets, result = search(run, "search", config.search)
    reached = {ticket.budget for ticket in tickets}
    missed = [budget for budget in run.budgets if budget not in reached]
    known = ("steps", "seconds", "embedding_parameters")
    return {
        "dense": dense,
        "search": {
            "method": config.search,
            "granularity": config.shared_by(),
            **{name: result.get(name) for name in known},
        },
        "budgets_not_reached": [] if "search" in run.failures else missed,
        "budgets": retrain_all(run, "budget", model, tickets),
        "budgets_failed": _failed(run, "search", "budget"),
    }


def _failed(run: Run, searched: str, kind: str) -> dict[str, str]:
    """Why there is no model of a budget, by the budget."""
    failures = run.failures
    return {
        str(budget): reason
        for budget in run.budgets_of(kind)
        if (reason := failures.get(searched, failures.get(f"{kind}-{budget}")))
    }


def train_dense(run: Run) -> dict[str, Any]:
    """Train the model with the full table, to its best epoch: `dense.keras`.

    Which it is decides how long others train, and labels are mixed with what it
    has learned.
    """
    config = run.config

    def train() -> dict[str, Any]:
        model = run.build(config, "dense")
        run.fit(
            *("dense", model, config.max_epochs),
            kept=run.parameters,
            patience=config.patience,
        )
        return results(run, "dense", model, run.parameters)

    result = run.do("dense", train)
    if share := config.share_of_dense():
        model = run.directory.load_model("dense")
        labels = soft_labels(model, run.rows.ids, run.rows.labels, share)
        run.rows = replace(run.rows, labels=labels)
    run.schedule = config.schedule(result["best_epoch"])
    return result


def search(
    run: Run, stage: str, method: str, budgets: Sequence[int] = ()
) -> Searched:
    """Search for a ticket of each budget: `<kind>-<budget>.ticket.npz`.

    What is not reached is for the caller to report.

    Args:
        run: The run.
        stage: `"search"`, or the name of a baseline.
        method: See `search_by_stage`.
        budgets: By default all of the method.

    Returns:
        A model to retrain, the tickets, and the figures of the search; None,
        and nothing, if it fails.
    """
    config, rows = run.config, run.rows
    rate, epochs = run.schedule.search_rate, run.schedule.search_epochs
    kind = "budget" if stage == "search" else method
    if method == "bet" or method.endswith("magnitude"):
        # It does better at the dense model's rate than at a higher one.
        rate = config.search_rate or config.rate()
    elif stage == "paper":
        config = replace(
            run.told,
            search=method,
            embedding_dim=config.columns(),
            search_dim=None,
            granularity=None,
            optimizer="adam",
        )
        rows, rate = run.dataset.train, config.rate()
        epochs = config.schedule().search_epochs

    optimizer = partial(config.adam, rate)
    part = partial(
        search_by_stage,
        *(run, stage, kind),
        partial(run.build, config, "pep", optimizer=optimizer),
        method,
        *(budgets or [*run.budgets_of(method)], epochs, rows),
    )
    return run.attempt(stage, part) or (None, [], {})


def retrain_all(
    run: Run, kind: str, model: Any, tickets: Sequence[Ticket]
) -> list[dict[str, Any]]:
    """Train small models to their best epochs: `<kind>-<budget>.keras`."""
    # The largest entries stay what they were trained to be, if gradually.
    start = "finetune" if kind == "gradual-magnitude" else run.config.start

    def train(name: str, ticket: Ticket) -> dict[str, Any]:
        kept = ticket.embedding_parameters
        keras.utils.set_random_seed(run.config.seed)
        batches, arguments = run.training(
            *(name, run.rows, run.schedule.retrain_epochs),
            kept=kept,
            patience=_patience(run),
        )
        small = retrain(
            model,
            ticket,
            batches,
            start=start,
            optimizer=_optimizer(run, ticket.budget, "l2_by_share"),
            **arguments,
        )
        return {
            "target": ticket.budget,
            "sparsity": round(1 - kept / run.parameters, 6),
            "search_step": ticket.step,
            "retrain": start,
            **results(run, name, small, kept),
            **planted_figures(run, ticket),
            **({} if kind == "budget" else in_int4(run, small)),
        }

    return _attempts(
        run, kind, {t.budget: partial(train, ticket=t) for t in tickets}
    )


def compare(run: Run, method: str) -> list[dict[str, Any]]:
    """Do with the budgets what another method does."""
    budgets = run.budgets_of(method)
    for size in run.sizes:
        if not run.budget_of(method, size):
            logger.warning(f"no {method} table is as small as {size.most:,}")
    if not budgets:
        return []
    if method not in SEARCHED:
        fit = {b: partial(_fit_to, run, method, b) for b in budgets}
        found = _attempts(run, method, fit)
    else:
        searches = {method: [*budgets]}
        if method == "gradual-magnitude":  # a schedule ends at one size
            searches = {f"{method}-search-{b}": [b] for b in budgets}
        found = [
            entry
            for stage, some in searches.items()
            for entry in _search_and_retrain(run, stage, method, some)
        ]
    return [{**entry, "max_bytes": budgets[entry["target"]]} for entry in found]


def _search_and_retrain(
    run: Run, stage: str, method: str, budgets: Sequence[int]
) -> list[dict[str, Any]]:
    """Search for tickets by another method, and train small models."""
    model, tickets, result = search(run, stage, method, budgets)
    for budget in {*budgets} - {ticket.budget for ticket in tickets}:
        if stage not in run.failures:
            logger.warning(f"no {method} table for {budget:,}: not reached")
        elif stage != method:
            run.failures[f"{method}-{budget}"] = run.failures[stage]
    return [
        {"method": method, "search_seconds": result["seconds"], **entry}
        for entry in retrain_all(run, method, model, tickets)
    ]


def _attempts(
    run: Run,
    kind: str,
    trainings: Mapping[int, Callable[[str], dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Results of stages, without those that failed or cannot be.

    Args:
        run: The run.
        kind: What their names begin with.
        trainings: What trains the model of each budget, by its name.
    """
    found = []
    for budget, train in trainings.items():
        name = f"{kind}-{budget}"
        try:
            part = partial(run.do, name, partial(train, name))
            found.append(run.attempt(name, part, BudgetTooSmallError))
        except BudgetTooSmallError as error:
            logger.warning(f"no {kind} table for {budget:,}: {error}")
    return [entry for entry in found if entry is not None]


def _fit_to(run: Run, method: str, budget: int, name: str) -> dict[str, Any]:
    """Train a full table that is made to fit a budget."""
    config = run.config
    if run.sizes and method == "mixed-dimension":  # projected to all columns
        config = replace(config, embedding_dim=run.told.columns())
    optimizer = partial(_optimizer, run, budget, "l2_by_width")
    model = run.build(config, method, budget, optimizer)
    table = sum(
        int(np.prod(v.shape)) for v in model.embedding.trainable_weights
    )
    if run.config.linear == "pep":  # then a budget counts them too
        table += run.dataset.feature_count
    compressor = isinstance(model.embedding, CompressedEmbedding)
    own = model.embedding.callbacks(run.rows) if compressor else []
    run.fit(
        *(name, model, run.schedule.retrain_epochs, *own),
        kept=table,
        patience=_patience(run),
    )
    if any(size.bytes is not None for size in run.sizes):
        clip(model.embedding)
    return {
        "method": method,
        "target": budget,
        "sparsity": round(1 - table / run.parameters, 6),
        **results(run, name, model, table),
        **in_int4(run, model),
    }


def _patience(run: Run) -> int:
    """Epochs without a better AUC after which a small table is trained."""
    # While the learning rate falls there is no telling which epoch is best.
    paper = run.config.search == "paper"
    return run.config.patience if paper else run.schedule.retrain_epochs


def _optimizer(run: Run, budget: int, power: str) -> keras.Optimizer:
    """Make the optimizer of a small table.

    Args:
        run: The run.
        budget: Parameters of the table.
        power: Name of that of their share with which a tuned L2 falls.
    """
    return run.config.retraining_optimizer(
        run.schedule.retrain_rate,
        run.steps(run.schedule.retrain_epochs),
        budget / run.parameters,
        preset(power),
    )
