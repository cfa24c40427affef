"""A run as stages: each is done once, and is a file when it is done."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import keras

from keras_pep import data
from keras_pep.callbacks import ExactValidation
from keras_pep.distribution.replicas import (
    WorkersDisagreeError,
    prepare,
    share_of,
)
from keras_pep.lab.run.checkpoint import Checkpoint, Part, Saved
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.directory import RunDirectory, RunError, Stage
from keras_pep.lab.run.interrupt import Interruptible, interrupted
from keras_pep.lab.run.progress import DivergedError, EpochLog
from keras_pep.lab.run.size import Size
from keras_pep.lab.run.tensorboard import TensorBoardLog
from keras_pep.lab.run.workers import Workers
from keras_pep.lab.settings import Schedule
from keras_pep.pruning import check_budgets, number_of_bytes

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Of the results of a stage: of files and times others know nothing.
_CHIEFS_OWN = {"bytes", "seconds", "seconds_to_best"}


@dataclass
class Run:
    """A run: what its stages share, and those that are done.

    A stage that is done is the file `<stage>.stage.json`. One that was
    interrupted goes on from its last whole epoch, which `checkpoint.npz` has.

    Attributes:
        config: Settings of the run.
        dataset: What it learns from.
        directory: Where files are written to.
        workers: That do it together; the directory is as this one may use it.
        stages: Those that are done, in this order.
        saved: The training that was going on when the run was interrupted.
        failures: Why parts have failed without which the run goes on, by the
            names of their stages.
        moved: Settings that say where the data are now.
        parameters: Entries of the dense model's table.
        budgets: Those asked for, falling, where there is one search.
        sizes: Those of the small models, where several methods are tried.
        told: The settings before anything was tuned.
        rows: What is learned after the dense model, whose probabilities may be
            part of the labels.
        schedule: How search and retraining go, which depends on it too.

    Raises:
        ValueError: If a budget is not possible.
    """

    config: Config
    dataset: data.Dataset
    directory: RunDirectory
    workers: Workers
    stages: dict[str, Stage] = field(default_factory=dict)
    saved: Saved | None = None
    failures: dict[str, str] = field(default_factory=dict)
    moved: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config, dataset = self.config, self.dataset
        if config.optimizer == "auto":
            self.config = config = config.with_optimizer(dataset)
        self.parameters = config.parameters(dataset)
        self.budgets: list[int] = []
        if config.search != "auto":
            self.budgets = config.budgets(self.parameters)
            check_budgets(self.budgets, config.searched_parameters(dataset))
        else:
            for each in config.max_bytes:
                Size(bytes=number_of_bytes(each)).of(dataset).check()
        self.sizes: Sequence[Size] = ()
        self.told = config
        self.rows = dataset.train
        self.schedule = config.schedule()
        self.stage = Stage()  # the one that is being done

    def budgets_of(self, method: str) -> dict[int, int | None]:
        """Budgets of another method, falling, and the bytes each is for."""
        if not self.sizes:
            return dict.fromkeys(self.budgets)
        found = {self.budget_of(method, s): s.bytes for s in self.sizes}
        return {budget: size for budget, size in found.items() if budget}

    def budget_of(self, method: str, size: Size) -> int:
        """How many parameters a method may use; 0 if there is no room."""
        return size.budget_of(
            *(method, self.dataset.feature_count, self.config.columns()),
            self.told.columns(),
        )

    def steps(self, epochs: int) -> int:
        """How many training steps epochs have."""
        return -(-len(self.rows) // self.config.batch_size) * epochs

    def build(
        self,
        config: Config,
        embedding: str,
        budget: int | None = None,
        optimizer: Callable[[], keras.Optimizer] | None = None,
    ) -> Any:
        """Make a compiled model on the devices that train it.

        Args:
            config: Its settings.
            embedding: See `Config.build_model`, as is `budget`.
            budget: Parameters of a table that is made to fit them.
            optimizer: Makes what to train with; by default as the dense model.
        """
        with self.workers.scope():
            model = config.build_model(
                *(self.dataset, embedding, budget),
                optimizer=optimizer() if optimizer else None,
            )
        prepare(model)
        return model

    def tuned(self, columns: int, l2: float, rate: float, epochs: int) -> None:
        """Go on with what tuning has found out."""
        self.config = replace(
            self.config, embedding_dim=columns, l2=l2, learning_rate=rate
        )
        self.parameters = self.config.parameters(self.dataset)
        self.schedule = Schedule(epochs, epochs, rate, rate)

    def read(self) -> None:
        """Take up what the directory has of a run that was interrupted.

        Raises:
            RunError: If a file is damaged.
        """
        self.stages = self.directory.read_stages()
        self.saved = self.directory.read_checkpoint()
        going_on = self.saved and [self.saved.stage, self.saved.epoch]
        done = {name: vars(stage) for name, stage in self.stages.items()}
        self.workers.agree("what the run directory holds", [done, going_on])

    def do(
        self, name: str, stage: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do a stage, unless it is done.

        Args:
            name: Name of the stage.
            stage: Trains, and returns figures that JSON can hold.

        Returns:
            Its figures.
        """
        if name not in self.stages:
            self.stage = Stage(len(self.stages))
            result = self.stage.result = stage()
            self.workers.agree(
                f"the results of {name}",
                {key: result[key] for key in result.keys() - _CHIEFS_OWN},
            )
            self.directory.write_stage(name, self.stage)
            self.stages[name] = self.stage
            # The chief has written what others read next.
            self.workers.agree(f"that {name} is finished")
        return dict(self.stages[name].result)

    def attempt(
        self,
        name: str,
        part: Callable[[], T],
        *raised: type[Exception],
    ) -> T | None:
        """Do a part without which the run goes on; None if it fails.

        With several workers it does not go on: the others may be in the middle
        of the part, and would wait for this one.

        Args:
            name: Name of the stage that fails, if it does.
            part: The part.
            *raised: Errors that are no failures of it.

        Raises:
            RunError: If a file cannot be written, or is damaged.
            WorkersDisagreeError: If workers come to different results.
        """
        passed: tuple[type[Exception], ...] = (RunError, WorkersDisagreeError)
        try:
            return part()
        except passed + raised:
            raise
        except Exception as error:
            if self.workers.count > 1 or interrupted():
                raise
            reason = " ".join(str(error).split()) or "no message"
            if not isinstance(error, DivergedError):
                reason = f"{type(error).__name__}: {reason}"
            self.failures[name] = reason
            logger.error(f"{name} failed: {reason}", exc_info=error)
            return None

    def fit(
        self,
        name: str,
        model: keras.Model,
        epochs: int,
        *callbacks: keras.callbacks.Callback,
        kept: int,
        patience: int,
    ) -> None:
        """Train a model to its best epoch; see `training`."""
        batches, arguments = self.training(
            *(name, self.rows, epochs, *callbacks), kept=kept, patience=patience
        )
        model.fit(batches, verbose=0, **arguments)

    def training(
        self,
        name: str,
        rows: data.Split,
        epochs: int,
        *callbacks: keras.callbacks.Callback,
        kept: int | None = None,
        patience: int | None = None,
        parts: Sequence[Part] = (),
    ) -> tuple[Any, dict[str, Any]]:
        """Prepare the training of the stage that is being done.

        Args:
            name: Name of the stage.
            rows: What is learned.
            epochs: How long, at most.
            *callbacks: What follows the validation after each epoch.
            kept: Embedding parameters, if they are not counted.
            patience: Epochs without a better validation AUC after which it
                ends; the best epoch is kept then.
            parts: Callbacks that remember something from epoch to epoch.

        Returns:
            Batches, in the same order for every stage, and arguments of `fit`
            by which it goes on where the stage was.
        """
        found, size = self.saved, self.config.batch_size
        saved = found if found is not None and found.stage == name else None
        done = 0 if saved is None else saved.epoch
        seen = done * -(-len(rows) // size)
        batches = data.batches(
            *(rows, size, self.config.seed),
            position=seen,
            share=share_of(self.workers.strategy, size),
        )
        on_terminal = logger.isEnabledFor(logging.INFO) and sys.stdout.isatty()
        log = EpochLog(
            *(name, self.stage.history, self.parameters, kept),
            bar=on_terminal,
            # Of many trainings, a line of each is enough.
            level=logging.DEBUG
            if self.config.search == "auto"
            else logging.INFO,
        )
        best = None
        if patience is not None:
            best = keras.callbacks.EarlyStopping(
                monitor="val_auc",
                mode="max",
                patience=patience,
                restore_best_weights=True,
            )
        validation = self.dataset.validation
        folder = self.directory.logs / name
        return batches, {
            "epochs": epochs,
            "initial_epoch": epochs if saved and saved.ended else done,
            "shuffle": False,
            "callbacks": [
                ExactValidation(
                    validation.ids,
                    validation.labels,
                    weights=validation.weights,
                ),
                *callbacks,
                log,
                Interruptible(),
                *([best] if best else []),
                Checkpoint(self._write, name, [log, *parts], best, saved),
                *[TensorBoardLog(folder, self.dataset, self.parameters)]
                * self.workers.chief,
            ],
        }

    def _write(self, saved: Saved) -> None:
        """Keep a training, and show what is known of it."""
        self.directory.write_checkpoint(saved)
        stages = [*self.stages.values(), self.stage]
        self.directory.write_history([r for s in stages for r in s.history])
        if kept := [row for stage in stages for row in stage.kept]:
            self.directory.write_kept(kept)
