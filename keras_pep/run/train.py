"""`keras-pep train`: dense baseline, search, and a small model per budget."""

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep import data
from keras_pep.callbacks import ExactValidation
from keras_pep.metrics import evaluate
from keras_pep.run.config import Config
from keras_pep.run.directory import RunDirectory, RunError
from keras_pep.run.progress import (
    EpochLog,
    KeptOverSteps,
    KeptParameters,
    Say,
)
from keras_pep.search import (
    BudgetNotReachedWarning,
    Ticket,
    check_budgets,
    retrain,
    search,
    soft_labels,
)

# Baselines that search for a ticket.
SEARCHED = frozenset({"magnitude", "paper"})


def train(
    config: Config,
    directory: RunDirectory,
    *,
    say: Say = print,
    bar: bool = False,
    force: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Does a whole run and writes its directory.

    Files are written as soon as they are known; nothing is, before the data
    are loaded and the budgets found to be possible.

    Args:
        config: What to do.
        directory: Where to leave the results.
        say: Called with each line of progress.
        bar: Whether to draw a progress bar within epochs.
        force: Whether the directory may have files already.
        command: The command line that asks for it, to be noted.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: If the data are missing or malformed.
        ValueError: If a budget is not possible.
        RunError: If the directory has files, is in use or cannot be written,
            or no budget was reached.
    """
    dataset = config.load_data(say)
    budgets = config.budgets(config.parameters(dataset))
    check_budgets(budgets, config.searched_parameters(dataset))
    directory.create(force=force)
    with directory.mine():
        directory.clear()  # so that no old file is left beside new ones
        directory.write_json(
            "config.json",
            {
                **config.to_dict(),
                "learning_rate": config.rate(),
                "search_dim": config.dim_of_search(),
                "granularity": config.shared_by(),
                "distillation": config.share_of_dense(),
                "command": command,
                "environment": _environment(),
                "data_fingerprint": dataset.fingerprint(),
            },
        )
        directory.write_vocabularies(dataset.vocabularies)
        directory.write_counts(dataset.counts())
        say(str(dataset))
        if dataset.malformed:
            say(f"left out: {dataset.malformed:,} malformed rows")
        return _Run(config, dataset, directory, say, bar).go(budgets)


@dataclass
class _Run:
    """The stages of a run, and what they share."""

    config: Config
    dataset: data.Dataset
    directory: RunDirectory
    say: Say
    bar: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.dataset.train
        self.schedule = self.config.schedule()

    def go(self, budgets: Sequence[int]) -> dict[str, Any]:
        config, dataset = self.config, self.dataset
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
        metrics["budgets_not_reached"] = [
            budget for budget in budgets if budget not in reached
        ]
        metrics["budgets"] = [
            self.retrain(model, ticket, f"budget-{ticket.budget}")
            for ticket in tickets
        ]
        metrics["baselines"] = [
            entry
            for method in config.compare
            for entry in self.compare(method, budgets)
        ]
        self.directory.write_json("metrics.json", metrics)
        return metrics

    def dense(self) -> dict[str, Any]:
        """Trains the model with the full table, to its best epoch.

        Which it is decides how long others train, and labels are mixed with
        what it has learned.
        """
        config = self.config
        model = config.build_model(self.dataset, "dense")
        parameters = config.parameters(self.dataset)
        began = time.perf_counter()
        model.fit(
            self.batches(),
            epochs=config.max_epochs,
            callbacks=self._until_best("dense", parameters, config.patience),
            shuffle=False,  # the batches are
            verbose=0,
        )
        if share := config.share_of_dense():
            labels = soft_labels(model, self.rows.ids, self.rows.labels, share)
            self.rows = replace(self.rows, labels=labels)
        result = self._result("dense", model, parameters, began)
        self.schedule = config.schedule(result["best_epoch"])
        return result

    def compare(
        self, method: str, budgets: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Does with the budgets what another method does."""
        if method in SEARCHED:
            return self.compare_search(method, budgets)
        entries = []
        for budget in budgets:
            try:
                model = self.config.build_model(
                    self.dataset,
                    method,
                    budget,
                    self._retraining_optimizer(budget),
                )
            except ValueError as error:
                self.say(f"no {method} table for {budget:,}: {error}")
                continue
            table = sum(
                int(np.prod(v.shape)) for v in model.embedding.trainable_weights
            )
            if self.config.linear == "pep":  # then a budget counts them too
                table += self.dataset.feature_count
            name = f"{method}-{budget}"
            began = time.perf_counter()
            model.fit(
                self.batches(),
                shuffle=False,
                verbose=0,
                **self._retraining(name, table),
            )
            full = self.config.parameters(self.dataset)
            entries.append(
                {
                    "method": method,
                    "target": budget,
                    "sparsity": round(1 - table / full, 6),
                    **self._result(name, model, table, began),
                }
            )
        return entries

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
        model = config.build_model(
            self.dataset, "pep", optimizer=config.adam(rate)
        )
        began = time.perf_counter()
        epochs = config.schedule().search_epochs
        if method != "paper":
            epochs = self.schedule.search_epochs
        tickets = self._tickets(model, rows, budgets, method, method, epochs)
        seconds = round(time.perf_counter() - began, 2)
        for budget in {*budgets} - {ticket.budget for ticket in tickets}:
            self.say(f"no {method} table for {budget:,}: not reached")
        return [
            {
                "method": method,
                "search_seconds": seconds,
                **self.retrain(model, ticket, f"{method}-{ticket.budget}"),
            }
            for ticket in tickets
        ]

    def search(
        self, budgets: Sequence[int]
    ) -> tuple[keras.Model, list[Ticket], dict[str, Any]]:
        """Searches, and saves the tickets."""
        model = self.config.build_model(
            self.dataset,
            "pep",
            optimizer=self.config.adam(self.schedule.search_rate),
        )
        began = time.perf_counter()
        tickets = self._tickets(
            model,
            self.rows,
            budgets,
            self.config.search,
            "search",
            self.schedule.search_epochs,
        )
        result = {
            "method": self.config.search,
            "granularity": self.config.shared_by(),
            "steps": self.history[-1]["step"],
            "seconds": round(time.perf_counter() - began, 2),
        }
        self.directory.write_history(self.history)
        for ticket in tickets:
            self.directory.save_ticket(ticket)
        if not tickets:
            raise RunError(
                f"No budget was reached: {self.history[-1]['step']:,} steps "
                f"left {self.history[-1]['embedding_parameters']:,} embedding "
                "parameters. Allow more --search-epochs, or use --search "
                "budget."
            )
        return model, tickets, result

    def _tickets(
        self,
        model: keras.Model,
        rows: data.Split,
        budgets: Sequence[int],
        method: str,
        stage: str,
        epochs: int,
    ) -> list[Ticket]:
        """Searches. What is not reached is for the caller to report."""
        log = self._log(stage)
        over_steps = KeptOverSteps(log, self.kept)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BudgetNotReachedWarning)
            tickets = search(
                model,
                data.batches(rows, self.config.batch_size, self.config.seed),
                budgets=budgets,
                method=method,
                epochs=epochs,
                callbacks=[self._validation(), log, over_steps],
            )
        self.directory.write_kept(self.kept)
        return tickets

    def retrain(
        self, model: keras.Model, ticket: Ticket, name: str
    ) -> dict[str, Any]:
        """Trains the small model of a ticket, to its best epoch."""
        parameters = self.config.parameters(self.dataset)
        keras.utils.set_random_seed(self.config.seed)
        began = time.perf_counter()
        small = retrain(
            model,
            ticket,
            self.batches(),
            start=self.config.retrain,
            optimizer=self._retraining_optimizer(ticket.budget),
            **self._retraining(name, ticket.embedding_parameters),
        )
        return {
            "target": ticket.budget,
            "sparsity": round(1 - ticket.embedding_parameters / parameters, 6),
            "search_step": ticket.step,
            "retrain": self.config.retrain,
            **self._result(name, small, ticket.embedding_parameters, began),
            **self._planted(ticket),
        }

    def _result(
        self, name: str, model: keras.Model, parameters: int, began: float
    ) -> dict[str, Any]:
        """Saves a trained model and evaluates it."""
        seconds = time.perf_counter() - began
        self.directory.write_history(self.history)
        epochs = [row for row in self.history if row["stage"] == name]
        best = max(range(len(epochs)), key=lambda n: epochs[n]["val_auc"])
        return {
            "embedding_parameters": parameters,
            "total_parameters": sum(
                int(np.prod(v.shape)) for v in model.trainable_variables
            ),
            "bytes": self.directory.save_model(name, model),
            "steps": self.history[-1]["step"],
            "seconds": round(seconds, 2),
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

    def batches(self) -> Any:
        """Training batches, in the same order for every stage."""
        return data.batches(self.rows, self.config.batch_size, self.config.seed)

    def _validation(self) -> ExactValidation:
        rows = self.dataset.validation
        return ExactValidation(rows.ids, rows.labels)

    def _log(self, stage: str) -> EpochLog:
        return EpochLog(stage, self.history, self.say, self.bar)

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
            "callbacks": self._until_best(stage, parameters, patience),
        }

    def _until_best(
        self, stage: str, parameters: int, patience: int
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that keep the epoch of the best validation AUC."""
        return [
            self._validation(),
            KeptParameters(parameters),
            self._log(stage),
            keras.callbacks.EarlyStopping(
                monitor="val_auc",
                mode="max",
                patience=patience,
                restore_best_weights=True,
            ),
        ]


def _environment() -> dict[str, str]:
    """The versions that a figure depends on."""
    packages = ("keras-pep", "keras", "tensorflow", "numpy", "pandas")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
