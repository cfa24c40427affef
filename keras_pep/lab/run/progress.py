"""Lines, bars and rows of a training."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import click
import keras

from keras_pep.lab.presets import preset
from keras_pep.pruning.collector import TicketCollector

logger = logging.getLogger(__name__)

_TITLES = "    loss  val AUC          kept  pruned    took  max left"


class DivergedError(ValueError):
    """A training whose loss is no longer a number; says what to do."""


class EpochLog(keras.callbacks.Callback):
    """A line per epoch, a bar within it on a terminal, a row for the history.

    Lines are those of a table, with titles above the first of a stage. A
    training that has diverged ends with a `DivergedError`.

    Args:
        stage: Name of what is being trained.
        history: Where rows are appended to.
        parameters: How many embedding parameters there are if none is pruned.
        kept: How many there are, if they are not counted after each epoch.
        bar: Whether to draw a progress bar.
        level: Of the lines, as `logging` has it.
    """

    def __init__(
        self,
        stage: str,
        history: list[dict[str, Any]],
        parameters: int,
        kept: int | None = None,
        *,
        bar: bool = False,
        level: int = logging.INFO,
    ) -> None:
        super().__init__()
        self.parameters = parameters
        self.kept = kept
        self.stage = stage
        self.history = history
        self.bar = bar
        self.level = level
        self.step = 0
        self._titled = False

    def state(self) -> dict[str, Any]:
        """The step and all rows."""
        return {"step": self.step, "history": self.history}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.step = state["step"]
        self.history[:] = state["history"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock and the bar."""
        if not self._titled:
            logger.log(self.level, f"{self.stage:<22}{_TITLES}")
            self._titled = True
        self._began = time.perf_counter()
        self._epoch, self._epoch_start = epoch, self.step
        if self.bar:
            self._bar: Any = click.progressbar(
                length=self.params["steps"],
                label=f"{self.stage:<14} epoch {epoch + 1:>3}",
                update_min_steps=20,
                item_show_func=lambda loss: loss and f"loss {loss:.4f}",
            )
            self._bar.__enter__()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Count a step, and look at the loss."""
        loss = float((logs or {}).get("loss", 0.0))
        # With `steps_per_execution` Keras counts beyond the end of an epoch.
        step = min(batch + 1, self.params["steps"] or batch + 1)
        done = self._epoch_start + step - self.step
        self.step += done
        if self.bar:
            self._bar.update(done, loss)
        self._check("loss", loss, f", step {step}")

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Say how the epoch went."""
        logs = {} if logs is None else logs
        if self.kept is not None:
            logs["embedding_parameters"] = self.kept
        kept = int(logs["embedding_parameters"])
        seconds = time.perf_counter() - self._began
        row = {
            "stage": self.stage,
            "epoch": epoch + 1,
            "step": self.step,
            "seconds": round(seconds, 3),
            "loss": float(logs["loss"]),
            "val_auc": logs["val_auc"],
            "val_logloss": logs["val_logloss"],
            "embedding_parameters": kept,
        }
        self.history.append(row)
        left = (self.params["epochs"] - epoch - 1) * seconds
        logger.log(
            self.level,
            f"{'epoch':>18} {row['epoch']:>3}"
            f"{row['loss']:>8.4f}"
            f"{row['val_auc']:>9.4f}"
            f"{kept:>14,}"
            f"{1 - kept / self.parameters:>8.1%}"
            f"{clock_time(seconds):>8}"
            f"{clock_time(left):>10}",
        )
        # What the last step has made of the model shows in validation alone.
        self._check("validation loss", float(logs["val_logloss"]), "")

    def _check(self, name: str, value: float, where: str) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"{self.stage}: the {name} is {value} in epoch "
                f"{self._epoch + 1}{where}. Training diverged: lower "
                "--learning-rate (with --search budget also --search-rate or "
                "--retrain-rate)."
            )


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds, as a clock has them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


class KeptOverSteps(keras.callbacks.Callback):
    """Callback that notes how many entries a search keeps, as that changes.

    Of tables with more than four million entries the numbers within an epoch
    are estimates, with a standard error; where they were counted it is 0.

    Args:
        collector: That of the search.
        stage: Name of the search.
        rows: Where rows are appended to.
    """

    def __init__(
        self,
        collector: TicketCollector,
        stage: str,
        rows: list[dict[str, Any]],
    ) -> None:
        super().__init__()
        self.collector = collector
        self.stage = stage
        self.rows = rows

    def state(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.rows[:] = state["rows"]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Note what a step is taken with."""
        last = self.rows[-1]["embedding_parameters"] if self.rows else 0
        if abs(self.collector.kept - last) > preset("noted_change") * last:
            self._note()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note what is left in the end."""
        self._note()

    def _note(self) -> None:
        self.rows.append(
            {
                "stage": self.stage,
                "step": self.collector.step,
                "embedding_parameters": int(self.collector.kept),
                "standard_error": float(self.collector.kept_error),
            }
        )
