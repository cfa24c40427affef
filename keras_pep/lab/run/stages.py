"""The stages of a run: dense baseline, search, retraining, other methods."""

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep import data
from keras_pep.distribution.replicas import prepare
from keras_pep.lab.baselines import BudgetTooSmallError
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.journal import Journal
from keras_pep.lab.run.progress import KeptOverSteps
from keras_pep.lab.run.tickets import KeptTickets
from keras_pep.metrics import evaluate
from keras_pep.pruning import (
    BudgetNotReachedWarning,
    Ticket,
    retrain,
    soft_labels,
)
from keras_pep.pruning.search import collect, make_collector

logger = logging.getLogger(__name__)

# Baselines that search for a ticket.
SEARCHED = frozenset({"magnitude", "paper"})


class Stages:
    """One after the other, or those that are left.

    Args:
        journal: Of the run; what it knows to be finished is not done again.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.config = journal.config
        self.dataset = journal.dataset
        self.directory = journal.directory
        # Changed by what the dense model turns out to be.
        self.rows = self.dataset.train
        self.schedule = self.config.schedule()

    def go(self) -> dict[str, Any]:
        """Does all of them.

        What fails after the dense model is noted, and the others are done all
        the same.

        Returns:
            The content of `metrics.json`.

        Raises:
            RunError: If a file cannot be written, or is damaged.
            DivergedError: If the training of the dense model does.
        """
        config, dataset = self.config, self.dataset
        budgets = config.budgets(config.parameters(dataset))
        logger.info(str(dataset))
        if dataset.malformed:
            logger.warning(f"left out: {dataset.malformed:,} malformed rows")
        metrics: dict[str, Any] = {
            "dataset": dataset.name,
            "features": dataset.features,
            "model": config.model,
            "embedding_dim": config.embedding_dim,
            "seed": config.seed,
            "rows": {name: len(rows) for name, rows in dataset.splits.items()},
            "malformed_rows": dataset.malformed,
            "fields": len(dataset.fields),
            "feature_count": dataset.feature_count,
            "dense": self.dense() if config.baseline else None,
        }
        metrics["schedule"] = asdict(self.schedule)
        model, tickets, metrics["search"] = self.search(budgets)
        reached = {ticket.budget for ticket in tickets}
        failures = self.journal.failures
        metrics["budgets_not_reached"] = [
            budget
            for budget in budgets
            if budget not in reached and "search" not in failures
        ]
        metrics["budgets"] = self.retrain(model, tickets, "budget")
        methods = tuple(dict.fromkeys(config.compare))
        metrics["baselines"] = [
            entry
            for method in methods
            for entry in self.compare(method, budgets)
        ]
        metrics["budgets_failed"] = self._failed("search", "budget", budgets)
        metrics["baselines_failed"] = {
            method: failed
            for method in methods
            if (failed := self._failed(method, method, budgets))
        }
        self.directory.finish(metrics)
        return metrics

    def _failed(
        self, search: str, kind: str, budgets: Sequence[int]
    ) -> dict[str, str]:
        """Why there is no model of a budget, by the budget."""
        failures = self.journal.failures
        found = {
            str(budget): failures.get(search, failures.get(f"{kind}-{budget}"))
            for budget in budgets
        }
        return {budget: why for budget, why in found.items() if why}

    def dense(self) -> dict[str, Any]:
        """Trains the model with the full table, to its best epoch.

        Which it is decides how long others train, and labels are mixed with
        what it has learned.
        """
        config = self.config

        def fit() -> dict[str, Any]:
            with self.journal.workers.scope():
                model = config.build_model(self.dataset, "dense")
            prepare(model)
            parameters = config.parameters(self.dataset)
            batches, begun = self.journal.begin("dense", self.rows)
            model.fit(
                batches,
                epochs=config.max_epochs,
                callbacks=self.journal.until_best(
                    "dense", parameters, config.patience
                ),
                verbose=0,
                **begun,
            )
            return self._result("dense", model, parameters)

        result = self.journal.once("dense", fit)
        if share := config.share_of_dense():
            model = self.directory.load_model("dense")
            labels = soft_labels(model, self.rows.ids, self.rows.labels, share)
            self.rows = replace(self.rows, labels=labels)
        self.schedule = config.schedule(result["best_epoch"])
        return result

    def search(
        self, budgets: Sequence[int]
    ) -> tuple[Any, list[Ticket], dict[str, Any]]:
        """Searches, and saves the tickets."""
        config, schedule = self.config, self.schedule
        model, tickets, result = self._searched(
            *(config, schedule.search_rate, self.rows, budgets),
            *(config.search, "search", schedule.search_epochs),
        )
        known = ("steps", "seconds", "embedding_parameters")
        return (
            model,
            tickets,
            {
                "method": config.search,
                "granularity": config.shared_by(),
                **{name: result.get(name) for name in known},
            },
        )

    def retrain(
        self, model: Any, tickets: Sequence[Ticket], kind: str
    ) -> list[dict[str, Any]]:
        """Trains the small models of tickets, to their best epochs."""
        return self._attempts(
            (
                f"{kind}-{ticket.budget}",
                partial(self._retrain, model, ticket, kind),
            )
            for ticket in tickets
        )

    def _attempts(
        self, trainings: Iterable[tuple[str, Callable[[], dict[str, Any]]]]
    ) -> list[dict[str, Any]]:
        """Results of stages, without those that failed or cannot be."""
        found = (
            self.journal.attempt(
                stage, partial(self._possible, stage, training)
            )
            for stage, training in trainings
        )
        return [entry for entry in found if entry is not None]

    def _possible(
        self, stage: str, training: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """The result of a stage; None, with a warning, if it cannot be."""
        try:
            return self.journal.once(stage, training)
        except BudgetTooSmallError as error:
            method, _, budget = stage.rpartition("-")
            logger.warning(f"no {method} table for {int(budget):,}: {error}")
            return None

    def _retrain(
        self, model: keras.Model, ticket: Ticket, kind: str
    ) -> dict[str, Any]:
        name = f"{kind}-{ticket.budget}"
        parameters = self.config.parameters(self.dataset)
        keras.utils.set_random_seed(self.config.seed)
        batches, begun = self.journal.begin(name, self.rows)
        small = retrain(
            model,
            ticket,
            batches,
            start=self.config.retrain,
            optimizer=self._retraining_optimizer(ticket.budget),
            **begun,
            **self._retraining(name, ticket.embedding_parameters),
        )
        return {
            "target": ticket.budget,
            "sparsity": round(1 - ticket.embedding_parameters / parameters, 6),
            "search_step": ticket.step,
            "retrain": self.config.retrain,
            **self._result(name, small, ticket.embedding_parameters),
            **self._planted(ticket),
        }

    def compare(
        self, method: str, budgets: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Does with the budgets what another method does."""
        if method in SEARCHED:
            return self.compare_search(method, budgets)
        return self._attempts(
            (f"{method}-{budget}", partial(self._fit_to, method, budget))
            for budget in budgets
        )

    def compare_search(
        self, method: str, budgets: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Finds the tickets by another search, and retrains them alike."""
        config, rows = self.config, self.rows
        # Magnitude does better at the dense model's rate than at a higher one.
        rate = config.search_rate or config.rate()
        if method == "paper":
            config = replace(
                config,
                search=method,
                search_dim=None,
                granularity=None,
                optimizer="adam",
            )
            rows, rate = self.dataset.train, config.rate()
        epochs = config.schedule().search_epochs
        if method != "paper":
            epochs = self.schedule.search_epochs
        model, tickets, result = self._searched(
            *(config, rate, rows, budgets),
            *(method, method, epochs),
        )
        if method not in self.journal.failures:
            for budget in {*budgets} - {ticket.budget for ticket in tickets}:
                logger.warning(f"no {method} table for {budget:,}: not reached")
        return [
            {"method": method, "search_seconds": result["seconds"], **entry}
            for entry in self.retrain(model, tickets, method)
        ]

    def _fit_to(self, method: str, budget: int) -> dict[str, Any]:
        """Trains a full table that is made to fit a budget."""
        with self.journal.workers.scope():
            model = self.config.build_model(
                *(self.dataset, method, budget),
                self._retraining_optimizer(budget),
            )
        prepare(model)
        table = sum(
            int(np.prod(v.shape)) for v in model.embedding.trainable_weights
        )
        if self.config.linear == "pep":  # then a budget counts them too
            table += self.dataset.feature_count
        name = f"{method}-{budget}"
        batches, begun = self.journal.begin(name, self.rows)
        model.fit(batches, verbose=0, **begun, **self._retraining(name, table))
        full = self.config.parameters(self.dataset)
        return {
            "method": method,
            "target": budget,
            "sparsity": round(1 - table / full, 6),
            **self._result(name, model, table),
        }

    def _searched(
        self,
        config: Config,
        rate: float,
        rows: data.Split,
        budgets: Sequence[int],
        method: str,
        stage: str,
        epochs: int,
    ) -> tuple[Any, list[Ticket], dict[str, Any]]:
        """A model that is searched, its tickets, and the result of the stage.

        None, and nothing, if it fails.
        """

        def search() -> tuple[Any, list[Ticket], dict[str, Any]]:
            with self.journal.workers.scope():
                model = config.build_model(
                    self.dataset, "pep", optimizer=config.adam(rate)
                )
            result, tickets = self._tickets(
                model, rows, budgets, method, stage, epochs
            )
            return model, tickets, result

        return self.journal.attempt(stage, search) or (None, [], {})

    def _tickets(
        self,
        model: keras.Model,
        rows: data.Split,
        budgets: Sequence[int],
        method: str,
        stage: str,
        epochs: int,
    ) -> tuple[dict[str, Any], list[Ticket]]:
        """Searches. What is not reached is for the caller to report.

        Returns:
            Steps, seconds, what is left and the budgets that were reached; and
            their tickets.
        """
        kind = "budget" if stage == "search" else stage
        directory = self.directory

        def collected() -> dict[str, Any]:
            collector = make_collector(method, budgets, epochs)
            kept = KeptTickets(collector, directory, kind)
            over_steps = KeptOverSteps(collector, stage, self.journal.kept)
            batches, begun = self.journal.begin(stage, rows)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BudgetNotReachedWarning)
                tickets = collect(
                    model,
                    collector,
                    batches,
                    epochs=epochs,
                    callbacks=[
                        self.journal.validation(),
                        over_steps,
                        *self.journal.watched(stage, [kept, over_steps]),
                    ],
                    **begun,
                )
            kept.save()
            return {
                "steps": collector.step,
                "seconds": self.journal.seconds(stage),
                "embedding_parameters": collector.kept,
                "budgets": [ticket.budget for ticket in tickets],
            }

        result = self.journal.once(stage, collected)
        return result, [
            directory.load_ticket(budget, kind) for budget in result["budgets"]
        ]

    def _result(
        self, name: str, model: keras.Model, parameters: int
    ) -> dict[str, Any]:
        """Saves a trained model and evaluates it."""
        epochs = self.journal.epochs(name)
        best = max(range(len(epochs)), key=lambda n: epochs[n]["val_auc"])
        return {
            "embedding_parameters": parameters,
            "total_parameters": sum(
                int(np.prod(v.shape)) for v in model.trainable_variables
            ),
            "bytes": self.directory.save_model(name, model),
            "steps": epochs[-1]["step"],
            "seconds": self.journal.seconds(name),
            "best_epoch": best + 1,
            # Of its epochs up to the best, with their validation.
            "seconds_to_best": round(
                sum(row["seconds"] for row in epochs[: best + 1]), 2
            ),
            **{
                split: evaluate(model, rows.ids, rows.labels)
                for split, rows in self.dataset.splits.items()
                if split != "train"
            },
        }

    def _planted(self, ticket: Ticket) -> dict[str, float]:
        """How well a ticket ranks features by the size they were made with."""
        planted = self.dataset.planted_sizes
        if planted is None:
            return {}
        table = ticket.tables["embedding"]
        learned = pd.Series(table.embedding_sizes())
        ranks = pd.Series(planted).rank()
        popularity = pd.Series(self.dataset.counts())
        return {
            "planted_rank_correlation": learned.rank().corr(ranks),
            "popularity_rank_correlation": popularity.rank().corr(ranks),
        }

    def _retraining_optimizer(self, budget: int) -> keras.Optimizer:
        steps = -(-len(self.rows) // self.config.batch_size)
        return self.config.retraining_optimizer(
            self.schedule.retrain_rate,
            steps * self.schedule.retrain_epochs,
            budget / self.config.parameters(self.dataset),
        )

    def _retraining(self, stage: str, parameters: int) -> dict[str, Any]:
        """Arguments of `fit` for a table that fits a budget."""
        config = self.config
        epochs = self.schedule.retrain_epochs
        # While the learning rate falls there is no telling which epoch is best.
        patience = config.patience if config.search == "paper" else epochs
        return {
            "epochs": epochs,
            "callbacks": self.journal.until_best(stage, parameters, patience),
        }
