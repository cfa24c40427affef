"""`keras-pep train`: dense baseline, search, and a small model per budget."""

import importlib.metadata
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_pep import data
from keras_pep.callbacks import ExactValidation
from keras_pep.metrics import evaluate
from keras_pep.models import FieldModel
from keras_pep.run.checkpoint import Checkpoint, Part, Saved
from keras_pep.run.config import Config
from keras_pep.run.directory import RunDirectory, RunError
from keras_pep.run.interrupt import Interruptible
from keras_pep.run.progress import (
    EpochLog,
    KeptOverSteps,
    KeptParameters,
    Say,
    StopsAtNaN,
)
from keras_pep.run.tensorboard import TensorBoardLog
from keras_pep.search import (
    BudgetNotReachedWarning,
    Ticket,
    check_budgets,
    retrain,
    soft_labels,
)
from keras_pep.search.collector import TicketCollector
from keras_pep.search.search import collect, make_collector

# Baselines that search for a ticket.
SEARCHED = frozenset({"magnitude", "paper"})
_NEVER = 2**31  # an epoch that no training has


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
    environment = _environment()
    directory.create(force=force)
    with directory.mine():
        directory.clear()  # so that no old file is left beside new ones
        directory.write_counts(dataset.counts())
        directory.write_vocabularies(dataset.vocabularies)
        # The last of them: with it the run can be resumed.
        directory.write_json(
            "config.json",
            {
                **config.to_dict(),
                "learning_rate": config.rate(),
                "search_dim": config.dim_of_search(),
                "granularity": config.shared_by(),
                "distillation": config.share_of_dense(),
                "command": command,
                "environment": environment,
                "data_fingerprint": dataset.fingerprint(),
            },
        )
        directory.begun = True
        return _Run(config, dataset, directory, say, bar).go(budgets)


def resume(
    directory: RunDirectory, *, say: Say = print, bar: bool = False
) -> dict[str, Any]:
    """Goes on with a run that was interrupted, from its last whole epoch.

    It ends as it would have without the interruption.

    Args:
        directory: Of the run.
        say: Called with each line of progress.
        bar: Whether to draw a progress bar within epochs.

    Returns:
        The content of `metrics.json`, at once if the run is finished.

    Raises:
        DataError: If the data are missing or malformed.
        RunError: If the directory is not that of a run, is damaged, in use
            or cannot be written, or the data are no longer those of the run.
    """
    with directory.mine():
        directory.sweep()
        settings = directory.read_json("config.json")
        if directory.finished:
            directory.tidy()
            say(f"{directory.path} is finished.")
            return directory.read_json("metrics.json")
        directory.begun = True
        try:
            config = Config.of_run(settings)
            known = settings["environment"], settings["data_fingerprint"]
        except KeyError as error:
            raise RunError(
                f"{directory.path / 'config.json'} is damaged: {error} is "
                "missing."
            ) from error
        environment, fingerprint = known
        dataset = config.load_data(say)
        if dataset.fingerprint() != fingerprint:
            raise RunError(
                f"The data are no longer those that {directory.path} has begun "
                "with: train anew."
            )
        if environment != _environment():
            say("Other versions than the run has begun with: results may vary.")
        run = _Run(config, dataset, directory, say, bar)
        run.results, run.history = directory.read_progress()
        run.saved = directory.read_checkpoint()
        if (kept := directory.read_kept()) is not None:
            run.kept = [
                {str(name): value for name, value in row.items()}
                for row in kept.to_dict("records")
            ]
        return run.go(config.budgets(config.parameters(dataset)))


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
    # Of stages that were finished before the run was interrupted, and what was
    # going on then.
    results: dict[str, Any] = field(default_factory=dict)
    saved: Saved | None = None

    def __post_init__(self) -> None:
        self.rows = self.dataset.train
        self.schedule = self.config.schedule()

    def go(self, budgets: Sequence[int]) -> dict[str, Any]:
        config, dataset = self.config, self.dataset
        self.say(str(dataset))
        if dataset.malformed:
            self.say(f"left out: {dataset.malformed:,} malformed rows")
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
            for method in dict.fromkeys(config.compare)
            for entry in self.compare(method, budgets)
        ]
        self.directory.finish(metrics)
        return metrics

    def _once(
        self, stage: str, result: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result of a stage, which is kept as soon as it is known."""
        if stage not in self.results:
            self.results[stage] = result()
            self.directory.write_progress(self.results, self.history)
        found: dict[str, Any] = self.results[stage]
        return found

    def dense(self) -> dict[str, Any]:
        """Trains the model with the full table, to its best epoch.

        Which it is decides how long others train, and labels are mixed with
        what it has learned.
        """
        config = self.config

        def fit() -> dict[str, Any]:
            model = config.build_model(self.dataset, "dense")
            parameters = config.parameters(self.dataset)
            batches, begun = self._data_of("dense")
            model.fit(
                batches,
                epochs=config.max_epochs,
                callbacks=self._until_best(
                    "dense", parameters, config.patience
                ),
                verbose=0,
                **begun,
            )
            return self._result("dense", model, parameters)

        result = self._once("dense", fit)
        if share := config.share_of_dense():
            model = self.directory.load_model("dense")
            labels = soft_labels(model, self.rows.ids, self.rows.labels, share)
            self.rows = replace(self.rows, labels=labels)
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
            fit = partial(self._fit_to, model, method, budget)
            entries.append(self._once(f"{method}-{budget}", fit))
        return entries

    def _fit_to(
        self, model: FieldModel, method: str, budget: int
    ) -> dict[str, Any]:
        """Trains a full table that was made to fit a budget."""
        table = sum(
            int(np.prod(v.shape)) for v in model.embedding.trainable_weights
        )
        if self.config.linear == "pep":  # then a budget counts them too
            table += self.dataset.feature_count
        name = f"{method}-{budget}"
        batches, begun = self._data_of(name)
        model.fit(batches, verbose=0, **begun, **self._retraining(name, table))
        full = self.config.parameters(self.dataset)
        return {
            "method": method,
            "target": budget,
            "sparsity": round(1 - table / full, 6),
            **self._result(name, model, table),
        }

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
        model = config.build_model(
            self.dataset, "pep", optimizer=config.adam(rate)
        )
        result, tickets = self._tickets(
            model, rows, budgets, method, method, epochs
        )
        for budget in {*budgets} - {ticket.budget for ticket in tickets}:
            self.say(f"no {method} table for {budget:,}: not reached")
        return [
            {
                "method": method,
                "search_seconds": result["seconds"],
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
        result, tickets = self._tickets(
            model,
            self.rows,
            budgets,
            self.config.search,
            "search",
            self.schedule.search_epochs,
        )
        if not tickets:
            raise RunError(
                f"No budget was reached: {result['steps']:,} steps left "
                f"{result['embedding_parameters']:,} embedding parameters. "
                "Allow more --search-epochs, or use --search budget."
            )
        return (
            model,
            tickets,
            {
                "method": self.config.search,
                "granularity": self.config.shared_by(),
                "steps": result["steps"],
                "seconds": result["seconds"],
            },
        )

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
            over_steps = KeptOverSteps(collector, stage, self.kept)
            batches, begun = self._data_of(stage, rows)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BudgetNotReachedWarning)
                tickets = collect(
                    model,
                    collector,
                    batches,
                    epochs=epochs,
                    callbacks=[
                        self._validation(),
                        over_steps,
                        *self._watched(stage, [kept, over_steps]),
                    ],
                    **begun,
                )
            kept.save()
            directory.write_history(self.history)
            directory.write_kept(self.kept)
            return {
                "steps": collector.step,
                "seconds": self._seconds(stage),
                "embedding_parameters": collector.kept,
                "budgets": [ticket.budget for ticket in tickets],
            }

        result = self._once(stage, collected)
        return result, [
            directory.load_ticket(budget, kind) for budget in result["budgets"]
        ]

    def retrain(
        self, model: keras.Model, ticket: Ticket, name: str
    ) -> dict[str, Any]:
        """Trains the small model of a ticket, to its best epoch."""
        return self._once(name, partial(self._retrain, model, ticket, name))

    def _retrain(
        self, model: keras.Model, ticket: Ticket, name: str
    ) -> dict[str, Any]:
        parameters = self.config.parameters(self.dataset)
        keras.utils.set_random_seed(self.config.seed)
        batches, begun = self._data_of(name)
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

    def _result(
        self, name: str, model: keras.Model, parameters: int
    ) -> dict[str, Any]:
        """Saves a trained model and evaluates it."""
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
            "seconds": self._seconds(name),
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

    def _seconds(self, stage: str) -> float:
        """Of the epochs of a stage, with their validation."""
        rows = [row for row in self.history if row["stage"] == stage]
        return round(float(sum(row["seconds"] for row in rows)), 2)

    def _data_of(
        self, stage: str, rows: data.Split | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Batches, in the same order for every stage.

        And arguments of `fit` by which it goes on where the stage was.
        """
        rows = self.rows if rows is None else rows
        saved, size = self._saved(stage), self.config.batch_size
        epoch = 0 if saved is None else saved.epoch
        seen = epoch * -(-len(rows) // size)
        batches = data.batches(rows, size, self.config.seed, position=seen)
        if saved is not None and saved.ended:
            epoch = _NEVER
        return batches, {"initial_epoch": epoch, "shuffle": False}

    def _saved(self, stage: str) -> Saved | None:
        found = self.saved
        return found if found is not None and found.stage == stage else None

    def _watched(
        self,
        stage: str,
        parts: Sequence[Part] = (),
        best: keras.callbacks.EarlyStopping | None = None,
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that every training ends its list with."""
        parameters = self.config.parameters(self.dataset)
        log = EpochLog(*(stage, self.history, self.say, self.bar), parameters)
        return [
            log,
            StopsAtNaN(stage),
            Interruptible(),
            *([] if best is None else [best]),
            Checkpoint(
                self.directory.write_checkpoint,
                stage,
                [log, *parts],
                best,
                self._saved(stage),
            ),
            TensorBoardLog(
                *(self.directory.logs / stage, self.dataset, parameters),
                self.say,
            ),
        ]

    def _validation(self) -> ExactValidation:
        rows = self.dataset.validation
        return ExactValidation(rows.ids, rows.labels)

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
            *self._watched(
                stage,
                best=keras.callbacks.EarlyStopping(
                    monitor="val_auc",
                    mode="max",
                    patience=patience,
                    restore_best_weights=True,
                ),
            ),
        ]


@dataclass
class KeptTickets:
    """A search, with its tickets in the run directory.

    Attributes:
        collector: The search.
        directory: Where tickets are.
        kind: What their names begin with.
    """

    collector: TicketCollector
    directory: RunDirectory
    kind: str
    _saved: int = 0

    def save(self) -> None:
        """Writes the tickets that have been taken since the last time."""
        tickets = self.collector.tickets
        for ticket in tickets[self._saved :]:
            self.directory.save_ticket(ticket, self.kind)
        self._saved = len(tickets)

    def state(self) -> dict[str, Any]:
        """That of the search, whose tickets are saved."""
        self.save()
        return self.collector.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`."""
        tickets = [
            self.directory.load_ticket(budget, self.kind)
            for budget in state["tickets"]
        ]
        self._saved = len(tickets)
        self.collector.restore(state, tickets)


def _environment() -> dict[str, str]:
    """The versions that a figure depends on."""
    packages = ("keras-pep", "keras", "tensorflow", "numpy", "pandas")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
