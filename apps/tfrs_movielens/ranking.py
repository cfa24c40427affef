"""Ranking on MovieLens-1M: will this user like this movie."""

from dataclasses import dataclass

import tf_keras

import keras_pep
import keras_pep.tfrs as pep


@dataclass(frozen=True)
class Settings:
    """How models are trained.

    Attributes:
        width: Columns of the table.
        learning_rate: To begin with; it falls to zero within `epochs`.
        l2: Weight of the L2 regularization inside Adam.
        epochs: Of training, or of retraining.
        search_epochs: Of the search before that.
        batch_size: Rows in a batch.
        seed: Of the split, initial values and batches.
    """

    width: int = 32
    learning_rate: float = 0.003
    l2: float = 1e-5
    epochs: int = 12
    search_epochs: int = 8
    batch_size: int = 1024
    seed: int = 0


def trained(
    data: keras_pep.data.Dataset,
    settings: Settings,
    sparsity: float | None = None,
    verbose: int = 0,
) -> tuple[pep.RankingModel, dict[str, list[float]]]:
    """A factorization machine at its best epoch by validation AUC.

    Args:
        data: Of which it is trained.
        settings: How.
        sparsity: Share of the table to prune, searched for and retrained in
            one `fit`; None: nothing, and a table without thresholds.
        verbose: See `fit`.

    Returns:
        The model, and the history of its training.
    """
    tf_keras.utils.set_random_seed(settings.seed)
    kind = "dense" if sparsity is None else "pep"
    embedding = kind
    if sparsity is not None:
        embedding = pep.PEPEmbedding(
            *(data.feature_count, settings.width),
            granularity="global",
            embeddings_initializer="glorot_uniform",
            name="embedding",
        )
    model = pep.RankingModel(
        pep.models.FM(data.field_sizes, settings.width, embedding)
    )
    model.build()
    train = keras_pep.data.batches(
        data.train, settings.batch_size, settings.seed
    )
    rate = tf_keras.optimizers.schedules.PolynomialDecay(
        settings.learning_rate, settings.epochs * len(train), 0.0
    )
    model.compile(pep.optimizers.AdamL2(rate, l2=settings.l2))
    if sparsity is None:
        epochs = settings.epochs
        last = tf_keras.callbacks.EarlyStopping(
            "val_auc", mode="max", patience=epochs, restore_best_weights=True
        )
    else:
        epochs = settings.search_epochs + settings.epochs
        last = pep.PEPRetraining(
            sparsity=sparsity,
            search_epochs=settings.search_epochs,
            monitor="val_auc",
        )
    validation = pep.callbacks.ExactValidation(
        data.validation.ids, data.validation.labels
    )
    history = model.fit(
        train, epochs=epochs, callbacks=[validation, last], verbose=verbose
    )
    return model, history.history
