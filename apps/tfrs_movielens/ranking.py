"""Ranking on MovieLens-1M: will this user like this movie."""

from typing import Any

import tf_keras

import keras_pep
import keras_pep.tfrs as pep
from apps.tfrs_movielens.training import Settings, fit

WIDTH = 32  # columns of the dense table
KEPT = 0.1  # share of its entries that the small tables may have


# Chosen on validation AUC, seed 0. A table of 32 columns learns users by heart
# in a few epochs, so that a narrower one is searched.
DENSE = Settings(WIDTH, 0.003, 8)
PRUNED = Settings(8, 0.01, 12, search_epochs=8)
NARROW = Settings(int(KEPT * WIDTH), 0.01, 20)


def dense(
    data: keras_pep.data.Dataset, seed: int, settings: Settings = DENSE
) -> pep.RankingModel:
    """A factorization machine with a full table, at its best epoch.

    Args:
        data: Of which it is trained.
        seed: Of initial values and batches.
        settings: How it is trained.
    """
    return _trained(data, "dense", settings, seed)


def pruned(
    data: keras_pep.data.Dataset, seed: int, settings: Settings = PRUNED
) -> pep.RankingModel:
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
    search: tf_keras.callbacks.Callback | None = None,
) -> pep.RankingModel:
    tf_keras.utils.set_random_seed(seed)
    model = pep.RankingModel(
        pep.models.FM(data.field_sizes, settings.width, table)
    )
    model.build()
    train = keras_pep.data.batches(data.train, settings.batch_size, seed)
    judge = pep.callbacks.ExactValidation(
        data.validation.ids, data.validation.labels
    )
    fit(model, train, settings, judge, search, "val_auc")
    return model
