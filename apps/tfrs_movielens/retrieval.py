"""Two towers on MovieLens-1M: the full tables, pruned ones, narrow ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

import keras_pep.tfrs as pep
from apps.tfrs_movielens.ratings import Pairs, Ratings

AT = 100
WIDTH = 64  # columns of the dense tables


@dataclass(frozen=True)
class Settings:
    """How models are trained.

    Attributes:
        learning_rate: To begin with; it falls to zero within `epochs`.
        l2: Weight of the L2 regularization inside Adam.
        epochs: Of training, or of retraining.
        search_epochs: Of the search before that.
        batch_size: Pairs in a batch.
        start: What to retrain from, see `PEPRetraining`.
        seed: Of initial values and batches.
    """

    learning_rate: float = 0.003
    l2: float = 1e-5
    epochs: int = 12
    search_epochs: int = 8
    batch_size: int = 2048
    start: str = "rewind"
    seed: int = 0


def model_of(
    ratings: Ratings, width: int, kind: str = "pep"
) -> pep.RetrievalModel:
    """Two towers, each the name of something looked up in a table."""
    return pep.RetrievalModel(
        _tower(ratings.users, width, "user_embedding", kind),
        _tower(ratings.movies, width, "movie_embedding", kind),
        ratings.movies,
    )


def _tower(
    names: np.ndarray, width: int, table: str, kind: str
) -> tf_keras.Model:
    embedding: Any = (
        pep.PEPEmbedding(
            len(names) + 1, width, granularity="global", name=table
        )
        if kind == "pep"
        else tf_keras.layers.Embedding(len(names) + 1, width, name=table)
    )
    return tf_keras.Sequential(
        [
            tf_keras.layers.Input((), dtype=tf.string),
            tf_keras.layers.StringLookup(vocabulary=names, mask_token=None),
            embedding,
        ]
    )


def best_titles(
    model: pep.RetrievalModel, ratings: Ratings, user: str, count: int
) -> list[str]:
    """Titles of the movies that a user might like, but has not rated."""
    index = tfrs.layers.factorized_top_k.BruteForce(model.user_tower)
    movies = tf.data.Dataset.from_tensor_slices(ratings.movies).batch(4096)
    index.index_from_dataset(movies.map(lambda m: (m, model.item_tower(m))))
    (number,) = np.flatnonzero(ratings.users == user)
    rated = ratings.movies[ratings.seen()[number]]
    _, found = index.query_with_exclusions(
        tf.constant([user]), tf.constant([rated]), k=count
    )
    titles = dict(zip(ratings.movies, ratings.titles, strict=True))
    return [titles[name.decode()] for name in found[0].numpy()]


def batches(ratings: Ratings, settings: Settings) -> tf.data.Dataset:
    """Training pairs by name, shuffled, and how likely each movie is."""
    part = ratings.train
    counts = np.bincount(part.movies, minlength=ratings.movies.size)
    users, movies, chances = (
        tf.constant(x)
        for x in (
            ratings.users,
            ratings.movies,
            (np.maximum(counts, 1) / len(part)).astype(np.float32),
        )
    )
    pairs = np.stack([part.users, part.movies], axis=1)
    return (
        tf.data.Dataset.from_tensor_slices(pairs)
        .shuffle(len(part), seed=settings.seed)
        .batch(settings.batch_size, drop_remainder=True)
        .map(
            lambda pair: (
                tf.gather(users, pair[:, 0]),
                tf.gather(movies, pair[:, 1]),
                tf.gather(chances, pair[:, 1]),
            ),
            num_parallel_calls=1,
        )
        .prefetch(4)
    )


def recall(
    model: pep.RetrievalModel, ratings: Ratings, part: Pairs, at: int = AT
) -> float:
    """Share of pairs whose movie is among the user's best.

    What the user has rated in training is no candidate.
    """
    scores = model.user_tower.predict(ratings.users, 8192, verbose=0) @ (
        model.item_tower.predict(ratings.movies, 8192, verbose=0).T
    )
    scores[ratings.seen()] = -np.inf
    last = -np.partition(-scores, at - 1, axis=1)[:, at - 1]
    return float(np.mean(scores[part.users, part.movies] >= last[part.users]))


class Recall(tf_keras.callbacks.Callback):
    """Adds `val_recall` to the logs of every epoch."""

    def __init__(self, ratings: Ratings) -> None:
        super().__init__()
        self.ratings = ratings

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Computes it."""
        assert logs is not None
        logs["val_recall"] = recall(
            self.model, self.ratings, self.ratings.validation
        )


def _compile(model: Any, settings: Settings, steps: int) -> None:
    rate = tf_keras.optimizers.schedules.PolynomialDecay(
        settings.learning_rate, settings.epochs * steps, 0.0
    )
    model.compile(pep.optimizers.AdamL2(rate, l2=settings.l2))


def trained(
    ratings: Ratings, width: int, settings: Settings, verbose: int = 0
) -> tuple[pep.RetrievalModel, dict[str, list[float]]]:
    """Full tables of some width, at their best epoch."""
    tf_keras.utils.set_random_seed(settings.seed)
    data = batches(ratings, settings)
    model = model_of(ratings, width, "dense")
    _compile(model, settings, len(data))
    history = model.fit(
        data,
        epochs=settings.epochs,
        callbacks=[
            Recall(ratings),
            tf_keras.callbacks.EarlyStopping(
                "val_recall",
                mode="max",
                patience=settings.epochs,
                restore_best_weights=True,
            ),
        ],
        verbose=verbose,
    )
    return model, history.history


def pruned(
    ratings: Ratings,
    width: int,
    sparsity: float,
    settings: Settings,
    verbose: int = 0,
) -> tuple[pep.RetrievalModel, dict[str, list[float]]]:
    """Searched for and retrained in one `fit`, at its best epoch."""
    tf_keras.utils.set_random_seed(settings.seed)
    data = batches(ratings, settings)
    model = model_of(ratings, width)
    _compile(model, settings, len(data))
    history = model.fit(
        data,
        epochs=settings.search_epochs + settings.epochs,
        callbacks=[
            Recall(ratings),
            pep.PEPRetraining(
                sparsity=sparsity,
                search_epochs=settings.search_epochs,
                start=settings.start,
                monitor="val_recall",
                mode="max",
            ),
        ],
        verbose=verbose,
    )
    return model, history.history
