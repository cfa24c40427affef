"""What a run says while it trains, and remembers of each epoch."""

import time
from collections.abc import Callable
from typing import Any

import click
import keras

Say = Callable[[str], None]


class EpochLog(keras.callbacks.Callback):
    """A line per epoch, a bar within it on a terminal, a row for the history.

    Args:
        stage: Name of what is being trained.
        history: Where rows are appended to.
        say: Called with each line.
        bar: Whether to draw a progress bar.
    """

    def __init__(
        self, stage: str, history: list[dict[str, Any]], say: Say, bar: bool
    ) -> None:
        super().__init__()
        self.stage = stage
        self.history = history
        self.say = say
        self.bar = bar
        self.step = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock and the bar."""
        self._began = time.perf_counter()
        self._epoch_start = self.step
        if self.bar:
            self._bar: Any = click.progressbar(
                length=self.params["steps"],
                label=f"{self.stage:<14} epoch {epoch + 1:>2}",
                show_eta=False,
                update_min_steps=20,
            )
            self._bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step."""
        # With `steps_per_execution` Keras counts beyond the end of an epoch.
        step = self._epoch_start + min(batch + 1, self.params["steps"])
        done, self.step = step - self.step, step
        if self.bar:
            self._bar.update(done)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Says how the epoch went."""
        logs = logs or {}
        seconds = time.perf_counter() - self._began
        row = {
            "stage": self.stage,
            "epoch": epoch + 1,
            "step": self.step,
            "seconds": round(seconds, 3),
            "loss": float(logs["loss"]),
            "val_auc": logs["val_auc"],
            "val_logloss": logs["val_logloss"],
            "embedding_parameters": int(logs["embedding_parameters"]),
        }
        self.history.append(row)
        if self.bar:
            # Clear the line, show the cursor that click's bar has hidden.
            click.echo("\r\033[2K\033[?25h", nl=False)
        self.say(
            f"{self.stage:<14} epoch {row['epoch']:>2}   "
            f"loss {row['loss']:.4f}   "
            f"validation AUC {row['val_auc']:.4f}   "
            f"embedding parameters {row['embedding_parameters']:>9,}   "
            f"{seconds:4.1f} s"
        )


class KeptOverSteps(keras.callbacks.Callback):
    """Remembers how many entries a search keeps, whenever that has changed.

    Args:
        log: Which counts the steps, and comes before this among the callbacks.
        rows: Where rows are appended to.
    """

    def __init__(self, log: EpochLog, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.log = log
        self.rows = rows
        self._last = 0

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes what a step is taken with."""
        kept = int((logs or {})["embedding_parameters"])
        if abs(kept - self._last) > _CHANGE * self._last:
            self._note(kept)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes what is left in the end."""
        self._note(int((logs or {})["embedding_parameters"]))

    def _note(self, kept: int) -> None:
        self._last = kept
        self.rows.append(
            {
                "stage": self.log.stage,
                "step": self.log.step,
                "embedding_parameters": kept,
            }
        )


_CHANGE = 0.002  # that is noted: a thousand rows for nine tenths


class KeptParameters(keras.callbacks.Callback):
    """Adds a constant number of embedding parameters to the logs.

    Args:
        number: The number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Adds the number."""
        if logs is not None:
            logs["embedding_parameters"] = self.number
