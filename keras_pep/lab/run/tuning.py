"""The dense model of a default run: width, L2, rate and length by validation.

Every training has a rate that falls to zero. One thing is changed at a time,
and what is better stays: shorter where the first training overfits, then L2,
the rate, and the width. What is behind at half its length is dropped.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_pep.distribution.replicas import prepare
from keras_pep.lab.presets import preset
from keras_pep.lab.run.config import Config
from keras_pep.lab.run.progress import clock_time
from keras_pep.lab.run.runner import Run
from keras_pep.metrics import auc_error

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How a table is trained.

    Attributes:
        columns: Of the table.
        l2: L2 regularization.
        rate: Learning rate to begin with; it falls to zero.
        epochs: How long.
    """

    columns: int
    l2: float
    rate: float
    epochs: int

    @property
    def patience(self) -> int:
        """Epochs without a better one after which it ends.

        While the rate falls, an AUC can fall and rise again.
        """
        return max(self.epochs // 2, 1)

    def narrowed(self, columns: int, kept: float = 1.0) -> "Training":
        """For a table of other columns, or of which a share is kept.

        The fewer entries a row has, the less L2 suits it.
        """
        by_width = (columns / self.columns) ** preset("l2_by_width")
        scale = by_width * kept ** preset("l2_by_share")
        return replace(self, columns=columns, l2=self.l2 * scale)


@dataclass
class Tuning:
    """Trainings of full tables so far, each a stage of the run.

    Attributes:
        run: The run.
        largest: How many columns a table may have.
        begin: Makes the model of a training; by default from initial values.
        tried: Figures of each, by how it was trained.
        best: The best of each width.
    """

    run: Run
    largest: int
    tried: dict[Training, dict[str, Any]] = field(default_factory=dict)
    best: dict[int, Training] = field(default_factory=dict)
    begin: Callable[[Training], keras.Model] | None = None

    def auc(self, training: Training) -> float:
        """Train, unless that was done: the best validation AUC.

        The best model of each width is `width-<columns>.keras`.
        """
        if training not in self.tried:
            name = self._name(training)
            part = partial(
                self.run.do, name, partial(self._train, name, training)
            )
            # Without a first one there is nothing to go on with.
            result = self.run.attempt(name, part) if self.tried else part()
            if result is None:
                result = {**asdict(training), "auc": 0.0, "best_epoch": 0}
            self.tried[training] = {"stage": name, **result}
            if result["best_epoch"] and self._is_best(
                training.columns, result["auc"]
            ):
                self.best[training.columns] = training
        return float(self.tried[training]["auc"])

    def behind(self, training: Training) -> float | None:
        """How far another L2 was behind the best training when it ended.

        Returns:
            AUC after the same epoch; None if it was not trained.
        """
        for tried, result in self.tried.items():
            same = replace(tried, l2=training.l2) == training
            if same and math.isclose(tried.l2, training.l2):
                if not result["best_epoch"]:
                    break
                best, other = (
                    self.run.stages[each["stage"]].history
                    for each in (self.tried[self.winner], result)
                )
                row = min(len(best), len(other)) - 1
                return float(best[row]["val_auc"] - other[row]["val_auc"])
        return None

    @property
    def winner(self) -> Training:
        """The best so far."""
        return max(self.best.values(), key=self.auc)

    def better(self, training: Training) -> bool:
        """Train, and tell whether it is the best so far."""
        self.auc(training)
        return self.winner == training

    def climb(self, step: Any) -> bool:
        """Take steps from the best training, as long as they improve it.

        A gain that is next to nothing is taken, but no further step.
        """
        moved, rows = False, self.run.dataset.validation
        while (training := step(self.winner)) is not None:
            before = self.auc(self.winner)
            if not self.better(training):
                break
            moved = True
            least = auc_error(rows.labels, before, rows.weights)
            if self.auc(training) - before < preset("worth_a_step") * least:
                break
        return moved

    def _name(self, training: Training) -> str:
        """Name its stage: as it is named if it is done, or by a new number.

        A training that had failed, and is tried again, can lead to others.
        """
        stages, wanted = self.run.stages, asdict(training).items()
        names = (n for n in stages if n.startswith("dense-"))
        for name in names:
            if wanted <= stages[name].result.items():
                return name
        number = len(self.tried) + 1
        while f"dense-{number}" in stages:
            number += 1
        return f"dense-{number}"

    def _is_best(self, columns: int, auc: float) -> bool:
        return columns not in self.best or auc > self.auc(self.best[columns])

    def _train(self, name: str, training: Training) -> dict[str, Any]:
        run = self.run
        rivals, best = [], self.winner if self.best else None
        # A table of other columns may be ahead, and end behind.
        if best and (best.columns, best.epochs) == (
            training.columns,
            training.epochs,
        ):
            history = run.stages[self.tried[best]["stage"]].history
            rivals.append([row["val_auc"] for row in history])
        begin = self.begin or (lambda each: build(run, each, "dense"))
        model = begin(training)
        dropping = DroppedIfBehind(rivals, run.stage.history)
        kept = run.dataset.feature_count * training.columns
        run.fit(
            *(name, model, training.epochs, dropping),
            kept=kept,
            patience=training.patience,
        )
        epochs = [row["val_auc"] for row in run.stage.history]
        if self._is_best(training.columns, max(epochs)):
            run.directory.save_model(f"width-{training.columns}", model)
        tell(name, training, run.stage.history)
        return {
            **asdict(training),
            "auc": max(epochs),
            "best_epoch": int(np.argmax(epochs)) + 1,
            "trained_epochs": len(epochs),
        }


_TITLES = "   columns       L2    rate  epochs  val AUC    took"


def tell(
    name: str,
    training: Training,
    history: Sequence[Mapping[str, Any]],
    kept: int | None = None,
    *,
    search: bool = False,
) -> None:
    """Log a line of a training that is done.

    Args:
        name: Of its stage.
        training: How it was trained.
        history: Rows of its epochs.
        kept: Entries of the table, if not all are kept.
        search: Whether it was a search, of which the last epoch counts.
    """
    if name == "dense-1":
        logger.info(f"{'':28}{_TITLES}")
    auc = max(row["val_auc"] for row in history[-1 if search else 0 :])
    took = clock_time(sum(row["seconds"] for row in history))
    logger.info(
        f"{name:<28}{training.columns:>10}{training.l2:>9.1e}"
        f"{training.rate:>8.2g}{len(history):>8}{auc:>9.4f}{took:>8}"
        + (f"  {kept:,} kept" if kept is not None else "")
    )


def tune(run: Run) -> Tuning:
    """Find out how a full table is best trained.

    Whatever the settings of the run fix is not tuned. The decisions depend on
    validation alone.
    """
    config, tuning = run.config, Tuning(run, run.config.columns())
    share = preset("effort_epochs")[config.effort]
    epochs = math.ceil(share * preset("retrain_epochs", kind(config)))
    first = Training(
        config.embedding_dim or min(preset("first_columns"), tuning.largest),
        l2=_l2(run) if config.l2 is None else config.l2,
        rate=config.learning_rate or _rate(config),
        epochs=min(epochs, config.max_epochs),
    )
    tuning.auc(first)
    overfits = _shorten(tuning)
    factor = preset("l2_factor")
    if config.l2 is None:
        _tune_l2(tuning, factor)
    if config.learning_rate is None and overfits:
        slower = replace(tuning.winner, rate=tuning.winner.rate / factor)
        if tuning.better(slower) and _grows_to_its_end(tuning, slower):
            longer = min(2 * slower.epochs, config.max_epochs)
            tuning.auc(replace(slower, epochs=longer))
    if config.embedding_dim is None:
        _tune_columns(tuning)
        if tuning.winner.columns != first.columns:
            _shorten(tuning)
    if config.l2 is None and config.effort == "thorough":
        _tune_l2(tuning, math.sqrt(factor))
    return tuning


def _tune_l2(tuning: Tuning, factor: float) -> None:
    """Multiply L2 by a factor, or divide it, as long as that is better.

    Then try the top of a parabola through the best and its neighbors.
    """
    for by in (factor, 1 / factor):
        if tuning.climb(lambda best, by=by: replace(best, l2=best.l2 * by)):
            break
    best = tuning.winner
    above, below = (
        tuning.behind(replace(best, l2=best.l2 * by))
        for by in (factor, 1 / factor)
    )
    if above is None or below is None or above + below <= 0:
        return
    place = max(-0.5, min((below - above) / (2 * (above + below)), 0.5))
    if abs(place) >= preset("l2_between"):
        tuning.auc(replace(best, l2=best.l2 * factor**place))


def _shorten(tuning: Tuning) -> bool:
    """Try fewer epochs, and tell whether the best training overfits."""
    best = tuning.winner
    over_best = preset("epochs_over_dense") * tuning.tried[best]["best_epoch"]
    shorter = replace(best, epochs=max(2, math.ceil(over_best)))
    if shorter.epochs < best.epochs:
        tuning.auc(shorter)
    return shorter.epochs < best.epochs


def _tune_columns(tuning: Tuning) -> None:
    """Double the columns, or halve them, as long as that is better."""

    def double(best: Training) -> Training | None:
        columns = 2 * best.columns
        return best.narrowed(columns) if columns <= tuning.largest else None

    def halve(best: Training) -> Training | None:
        columns = best.columns // 2
        return best.narrowed(columns) if columns else None

    if not tuning.climb(double):
        tuning.climb(halve)


def _grows_to_its_end(tuning: Tuning, training: Training) -> bool:
    return bool(tuning.tried[training]["best_epoch"] == training.epochs)


def _l2(run: Run) -> float:
    """An L2 to begin with: in proportion to how often a feature is seen.

    L2 acts on a row in every step, the loss only where a batch has it.
    """
    columns = run.dataset.train.ids.shape[1]
    return float(preset("l2_share") * columns / run.dataset.feature_count)


def _rate(config: Config) -> float:
    factor = preset("retrain_rate_factor", config.optimizer, kind(config))
    return float(config.rate() * factor)


def kind(config: Config) -> str:
    """The model, as presets have it."""
    return config.model + "+" * config.deep


def build(
    run: Run,
    training: Training,
    embedding: str,
    budget: int | None = None,
    *,
    falling: bool = True,
) -> keras.Model:
    """Make a model, compiled for a training.

    Args:
        run: The run.
        training: How it will be trained.
        embedding: See `Config.build_model`, as is `budget`.
        budget: Parameters of a table that is made to fit them.
        falling: Whether the rate falls, as it does not in a search.
    """
    config = replace(run.config, embedding_dim=training.columns, l2=training.l2)
    made = (
        partial(optimizer, run, training)
        if falling
        else partial(config.adam, training.rate)
    )
    model: keras.Model = run.build(config, embedding, budget, made)
    return model


def optimizer(run: Run, training: Training) -> keras.Optimizer:
    """Make the optimizer of a training: its rate falls to zero."""
    config, steps = run.config, run.steps(training.epochs)
    return replace(config, l2=training.l2).falling(training.rate, steps)


def compile_again(run: Run, model: keras.Model, training: Training) -> None:
    """Compile a model for another training, on all workers of the run."""
    with run.workers.scope():
        run.config.compile_model(model, optimizer(run, training))
    prepare(model)


class DroppedIfBehind(keras.callbacks.Callback):
    """Ends a training that is behind another one for two epochs.

    Only from its half on: what learns faster is not always what ends higher.
    From a quarter on if it is far behind, from an eighth on if three times as
    far.

    Args:
        rivals: Validation AUC after each epoch, of others of the same length.
        history: Rows of the epochs before this one.
        far: By how much that is.
    """

    def __init__(
        self,
        rivals: Sequence[Sequence[float]],
        history: Sequence[Mapping[str, Any]],
        far: float = math.inf,
    ) -> None:
        super().__init__()
        self.rivals = rivals
        self.history = history
        self.far = far

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Compare this epoch and the last one with theirs."""
        aucs = [row["val_auc"] for row in self.history][:epoch]
        aucs.append((logs or {})["val_auc"])
        done = (epoch + 1) / self.params["epochs"]
        if not epoch or done < 1 / 8:
            return
        early = self.far if done >= 1 / 4 else 3 * self.far
        least = 0.0 if done >= 1 / 2 else early
        if any(
            len(rival) > epoch
            and all(rival[n] - aucs[n] > least for n in (epoch - 1, epoch))
            for rival in self.rivals
        ):
            self.model.stop_training = True
