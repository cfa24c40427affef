"""`keras-pep train`: dense baseline, search, and a small model per budget."""

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep import data
from keras_pep.callbacks import ExactValidation
from keras_pep.metrics import evaluate
from keras_pep.run.config import Config
from keras_pep.run.directory import RunDirectory, RunError
from keras_pep.run.progress import EpochLog, KeptParameters, Say
from keras_pep.search import (
    BudgetNotReachedWarning,
    Ticket,
    check_budgets,
    retrain,
    search,
)


def train(
    config: Config,
    directory: RunDirectory,
    *,
    say: Say = print,
    bar: bool = False,
    force: bool = False,
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

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: If the data are missing or malformed.
        ValueError: If a budget is not possible.
        RunError: If the directory is in use, or no budget was reached.
    """
    dataset = config.load_data()
    parameters = config.searched_parameters(dataset)
    budgets = config.budgets(parameters)
    check_budgets(budgets, parameters)
    directory.create(force=force)
    directory.write_json(
        "config.json",
        {
            **config.to_dict(),
            "learning_rate": config.rate(),
            "environment": _environment(),
            "data_fingerprint": dataset.fingerprint(),
        },
    )
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
        """Trains the model with the full table, to its best epoch."""
        model = self.config.build_model(self.dataset, "dense")
        return self.fit_until_best(
            model, "dense", self.config.searched_parameters(self.dataset)
        )

    def compare(
        self, method: str, budgets: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Does with the budgets what a simpler method does."""
        if method == "magnitude":
            return self.magnitude(budgets)
        entries = []
        for budget in budgets:
            try:
                model = self.config.build_model(self.dataset, method, budget)
            except ValueError as error:
                self.say(f"no {method} table for {budget:,}: {error}")
                continue
            table = sum(
                int(np.prod(v.shape)) for v in model.embedding.trainable_weights
            )
            if self.config.linear == "pep":  # then a budget counts them too
                table += self.dataset.feature_count
            entry = self.fit_until_best(model, f"{method}-{budget}", table)
            full = self.config.searched_parameters(self.dataset)
            entries.append(
                {
                    "method": method,
                    "target": budget,
                    "sparsity": round(1 - table / full, 6),
                    **entry,
                }
            )
        return entries

    def magnitude(self, budgets: Sequence[int]) -> list[dict[str, Any]]:
        """Keeps the largest entries of the trained table, and rewinds."""
        model = self.config.build_model(self.dataset, "pep")
        tickets = search(
            model,
            self.batches(),
            budgets=budgets,
            method="magnitude",
            epochs=self.config.epochs_of_search(),
            callbacks=[self._validation(), self._log("magnitude")],
        )
        return [
            {
                "method": "magnitude",
                **self.retrain(model, ticket, f"magnitude-{ticket.budget}"),
            }
            for ticket in tickets
        ]

    def fit_until_best(
        self, model: keras.Model, name: str, parameters: int
    ) -> dict[str, Any]:
        """Trains a model as it is to its best epoch."""
        began = time.perf_counter()
        model.fit(
            self.batches(),
            epochs=self.config.max_epochs,
            callbacks=self._until_best(name, parameters),
            shuffle=False,  # the batches are
            verbose=0,
        )
        return self._result(name, model, parameters, began)

    def search(
        self, budgets: Sequence[int]
    ) -> tuple[keras.Model, list[Ticket], dict[str, Any]]:
        """Searches, and saves the tickets."""
        model = self.config.build_model(self.dataset, "pep")
        began = time.perf_counter()
        with warnings.catch_warnings():
            # Reported by the run, with what to do about it.
            warnings.simplefilter("ignore", BudgetNotReachedWarning)
            tickets = search(
                model,
                self.batches(),
                budgets=budgets,
                method=self.config.search,
                epochs=self.config.epochs_of_search(),
                callbacks=[self._validation(), self._log("search")],
            )
        result = {
            "method": self.config.search,
            "granularity": self.config.granularity,
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

    def retrain(
        self, model: keras.Model, ticket: Ticket, name: str
    ) -> dict[str, Any]:
        """Trains the small model of a ticket, to its best epoch."""
        keras.utils.set_random_seed(self.config.seed)
        began = time.perf_counter()
        small = retrain(
            model,
            ticket,
            self.batches(),
            start=self.config.retrain,
            epochs=self.config.max_epochs,
            callbacks=self._until_best(name, ticket.embedding_parameters),
        )
        return {
            "target": ticket.budget,
            "sparsity": round(ticket.sparsity, 6),
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
        return {
            "embedding_parameters": parameters,
            "total_parameters": sum(
                int(np.prod(v.shape)) for v in model.trainable_variables
            ),
            "bytes": self.directory.save_model(name, model),
            "steps": self.history[-1]["step"],
            "seconds": round(seconds, 2),
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
        return data.batches(
            self.dataset.train, self.config.batch_size, self.config.seed
        )

    def _validation(self) -> ExactValidation:
        rows = self.dataset.validation
        return ExactValidation(rows.ids, rows.labels)

    def _log(self, stage: str) -> EpochLog:
        return EpochLog(stage, self.history, self.say, self.bar)

    def _until_best(
        self, stage: str, parameters: int
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that train until validation AUC stops rising."""
        return [
            self._validation(),
            KeptParameters(parameters),
            self._log(stage),
            keras.callbacks.EarlyStopping(
                monitor="val_auc",
                mode="max",
                patience=self.config.patience,
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
