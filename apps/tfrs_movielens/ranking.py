"""Ranking on MovieLens-1M: will this user like this movie."""

from dataclasses import dataclass
from typing import Any

import tf_keras

import keras_pep
import keras_pep.tfrs as pep

WIDTH = 32  # columns of the dense table
KEPT = 0.1  # share of its entries that the small tables may have


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        width: Columns of the table.
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


# Chosen on validation AUC, seed 0. A table of 32 columns learns users by heart
# in a few epochs, so that a narrower one is searched.
DENSE = Settings(WIDTH, 0.003, 8)
PRUNED = Settings(8, 0.01, 12, search_epochs=8)
NARROW = Settings(int(KEPT * WIDTH), 0.01, 20)

Trained = tuple[pep.RankingModel, dict[str, list[float]]]


def dense(
    data: keras_pep.data.Dataset, seed: int, settings: Settings = DENSE
) -> Trained:
    """A factorization machine with a full table, at its best epoch.

    Args:
        data: Of which it is trained.
        seed: Of initial values and batches.
        settings: How it is trained.

    Returns:
        The model, and the history of its training.
    """
    best = tf_keras.callbacks.EarlyStopping(
        "val_auc",
        mode="max",
        patience=settings.epochs,
        restore_best_weights=True,
    )
    return _trained(data, "dense", settings, seed, best)


def pruned(
    data: keras_pep.data.Dataset, seed: int, settings: Settings = PRUNED
) -> Trained:
    """One that was searched for and retrained in one `fit`; see `dense`.

    It keeps a tenth of the entries that the dense one has.
    """
    table = pep.PEPEmbedding(
        *(data.feature_count, settings.width),
        granularity="global",
        embeddings_initializer="glorot_uniform",
        name="embedding",
    )
    retraining = pep.PEPRetraining(
        budget=round(KEPT * WIDTH * data.feature_count),
        search_epochs=settings.search_epochs,
        monitor="val_auc",
    )
    return _trained(data, table, settings, seed, retraining)


def _trained(
    data: keras_pep.data.Dataset,
    table: Any,
    settings: Settings,
    seed: int,
    last: tf_keras.callbacks.Callback,
) -> Trained:
    tf_keras.utils.set_random_seed(seed)
    model = pep.RankingModel(
        pep.models.FM(data.field_sizes, settings.width, table)
    )
    model.build()
    train = keras_pep.data.batches(data.train, settings.batch_size, seed)
    rate = tf_keras.optimizers.schedules.PolynomialDecay(
        settings.learning_rate, settings.epochs * len(train), 0.0
    )
    model.compile(pep.optimizers.AdamL2(rate, l2=settings.l2))
    judge = pep.callbacks.ExactValidation(
        data.validation.ids, data.validation.labels
    )
    history = model.fit(
        train,
        epochs=settings.search_epochs + settings.epochs,
        callbacks=[judge, last],
        verbose=0,
    )
    return model, history.history
