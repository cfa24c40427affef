"""How the models of both tutorials are trained."""

from dataclasses import dataclass
from typing import Any

import tf_keras

import keras_pep.tfrs as pep


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        width: Columns of the tables.
        learning_rate: To begin with; it falls to zero within `epochs`.
        epochs: Of training, or of retraining.
        search_epochs: Of the search before that.
        l2: Weight of the L2 regularization inside Adam.
        batch_size: Rows in a batch.
    """

    width: int
    learning_rate: float
    epochs: int
    search_epochs: int = 0
    l2: float = 1e-5
    batch_size: int = 1024


def fit(
    model: tf_keras.Model,
    data: Any,
    settings: Settings,
    judge: tf_keras.callbacks.Callback,
    search: tf_keras.callbacks.Callback | None,
    monitor: str,
) -> None:
    """Train a model to its best epoch.

    Args:
        model: The model, not compiled.
        data: Batches.
        settings: How it is trained.
        judge: Adds the figure to the logs that says which epoch is best.
        search: Searches and retrains, if anything does.
        monitor: Name of the figure.
    """
    rate = tf_keras.optimizers.schedules.PolynomialDecay(
        settings.learning_rate, settings.epochs * len(data), 0.0
    )
    model.compile(pep.optimizers.AdamL2(rate, l2=settings.l2))
    best = tf_keras.callbacks.EarlyStopping(
        monitor,
        mode="max",
        patience=settings.epochs,
        restore_best_weights=True,
    )
    searched = settings.search_epochs if search else 0
    model.fit(
        data,
        epochs=searched + settings.epochs,
        callbacks=[judge, search or best],
        verbose=0,
    )
