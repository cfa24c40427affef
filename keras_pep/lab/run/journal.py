"""What a run has done, and how each of its trainings is written down."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras

from keras_pep import data
from keras_pep.callbacks import ExactValidation
from keras_pep.distribution.replicas import WorkersDisagreeError
from keras_pep.lab.run.checkpoint import Checkpoint, Part, Saved
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.directory import RunDirectory, RunError
from keras_pep.lab.run.interrupt import Interruptible, interrupted
from keras_pep.lab.run.progress import (
    DivergedError,
    EpochLog,
    KeptParameters,
    StopsAtNaN,
)
from keras_pep.lab.run.tensorboard import TensorBoardLog
from keras_pep.lab.run.workers import Workers

T = TypeVar("T")
logger = logging.getLogger(__name__)

_NEVER = 2**31  # an epoch that no training has
# Of the results of a stage: of files and times others know nothing.
_CHIEFS_OWN = {"bytes", "seconds", "seconds_to_best"}


def reason_of(error: Exception) -> str:
    """Say in a line why a part of a run has failed."""
    message = " ".join(str(error).split()) or "no message"
    if isinstance(error, DivergedError | RunError):
        return message
    return f"{type(error).__name__}: {message}"


@dataclass
class Journal:
    """Of one run: results of its stages, a row per epoch, a checkpoint.

    Attributes:
        config: Settings of the run.
        dataset: What it learns from.
        directory: Where files are written to.
        history: Rows of `history.csv`, one per epoch and stage.
        kept: Rows of `kept.csv`.
        results: Of the stages that are finished.
        saved: The training that was going on when the run was interrupted.
        workers: That do it together; the directory is as this one may use it.
        failures: Why such parts have failed, by the names of their stages.
    """

    config: Config
    dataset: data.Dataset
    directory: RunDirectory
    history: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    saved: Saved | None = None
    workers: Workers = field(default_factory=Workers)
    failures: dict[str, str] = field(default_factory=dict)

    def read(self) -> None:
        """Takes up what the directory has of a run that was interrupted.

        Raises:
            RunError: If a file is damaged.
        """
        self.results, self.history = self.directory.read_progress()
        self.saved = self.directory.read_checkpoint()
        if (kept := self.directory.read_kept()) is not None:
            self.kept = [
                {str(name): value for name, value in row.items()}
                for row in kept.to_dict("records")
            ]
        going_on = self.saved and [self.saved.stage, self.saved.epoch]
        self.workers.agree(
            "what the run directory holds",
            [self.results, self.history, self.kept, going_on],
        )

    def once(
        self, stage: str, result: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result of a stage, which is kept as soon as it is known."""
        if stage not in self.results:
            found = result()
            self.workers.agree(
                f"the results of {stage}",
                {name: found[name] for name in found.keys() - _CHIEFS_OWN},
            )
            self.results[stage] = found
            self.directory.write_progress(self.results, self.history)
            # The chief has written what others read next.
            self.workers.agree(f"that {stage} is finished")
        return dict(self.results[stage])

    def attempt(self, stage: str, result: Callable[[], T]) -> T | None:
        """Do a part without which the run goes on; None if it fails.

        With several workers it does not go on: the others may be in the middle
        of the part, and would wait for this one.

        Args:
            stage: Name of the stage that fails, if it does.
            result: The part.

        Raises:
            RunError: If a file cannot be written, or is damaged.
            WorkersDisagreeError: If workers come to different results.
        """
        try:
            return result()
        except (RunError, WorkersDisagreeError):
            raise
        except Exception as error:
            if self.workers.count > 1 or interrupted():
                raise
            self.failures[stage] = reason_of(error)
            # It begins anew when it is tried again.
            rows = [row for row in self.history if row["stage"] != stage]
            self.history[:] = rows
            logger.error(
                f"{stage} failed: {self.failures[stage]}", exc_info=error
            )
            return None

    def begin(self, stage: str, rows: data.Split) -> tuple[Any, dict[str, Any]]:
        """Batches, in the same order for every stage.

        Returns:
            Them, and arguments of `fit` by which it goes on where the stage
            was.
        """
        saved, size = self._saved(stage), self.config.batch_size
        epoch = 0 if saved is None else saved.epoch
        seen = epoch * -(-len(rows) // size)
        batches = data.batches(rows, size, self.config.seed, position=seen)
        if saved is not None and saved.ended:
            epoch = _NEVER
        return batches, {"initial_epoch": epoch, "shuffle": False}

    def watched(
        self,
        stage: str,
        parts: Sequence[Part] = (),
        best: keras.callbacks.EarlyStopping | None = None,
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that every training ends its list with.

        Args:
            stage: Its name.
            parts: Those before them that remember something.
            best: The one that remembers the best epoch, if there is one.
        """
        parameters = self.config.parameters(self.dataset)
        on_terminal = logger.isEnabledFor(logging.INFO) and sys.stdout.isatty()
        log = EpochLog(stage, self.history, parameters, bar=on_terminal)
        return [
            log,
            StopsAtNaN(stage),
            Interruptible(),
            *([] if best is None else [best]),
            Checkpoint(
                self._write, stage, [log, *parts], best, self._saved(stage)
            ),
            *([self._for_tensorboard(stage)] if self.workers.chief else []),
        ]

    def _for_tensorboard(self, stage: str) -> TensorBoardLog:
        return TensorBoardLog(
            self.directory.logs / stage,
            self.dataset,
            self.config.parameters(self.dataset),
        )

    def until_best(
        self, stage: str, parameters: int, patience: int
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that keep the epoch of the best validation AUC."""
        return [
            self.validation(),
            KeptParameters(parameters),
            *self.watched(
                stage,
                best=keras.callbacks.EarlyStopping(
                    monitor="val_auc",
                    mode="max",
                    patience=patience,
                    restore_best_weights=True,
                ),
            ),
        ]

    def validation(self) -> ExactValidation:
        """The callback that measures AUC and log-loss after every epoch."""
        rows = self.dataset.validation
        return ExactValidation(rows.ids, rows.labels)

    def epochs(self, stage: str) -> list[Mapping[str, Any]]:
        """The rows of a stage."""
        return [row for row in self.history if row["stage"] == stage]

    def seconds(self, stage: str) -> float:
        """Of the epochs of a stage, with their validation."""
        rows = self.epochs(stage)
        return round(float(sum(row["seconds"] for row in rows)), 2)

    def _write(self, saved: Saved) -> None:
        """Keeps a training, and shows what is known of it."""
        self.directory.write_checkpoint(saved)
        self.directory.write_history(self.history)
        if self.kept:
            self.directory.write_kept(self.kept)

    def _saved(self, stage: str) -> Saved | None:
        found = self.saved
        return found if found is not None and found.stage == stage else None
