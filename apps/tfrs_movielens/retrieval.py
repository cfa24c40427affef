"""Two towers on MovieLens-1M: the full tables, pruned ones, narrow ones."""

from dataclasses import replace
from typing import Any

import keras_pep.tfrs as pep  # first: it makes `tf.keras` the legacy one

# isort: split
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from apps.tfrs_movielens.ratings import Pairs, Ratings
from apps.tfrs_movielens.training import Settings, fit

AT = 100


# Chosen on validation recall, seed 0: see README.md.
# The loss is a sum over the batch, as TFRS has it, so that L2 is not little.
DENSE = Settings(64, 0.003, 10, search_epochs=6, l2=0.01)


def narrow(width: int) -> Settings:
    """How full tables of fewer columns are trained."""
    return replace(DENSE, width=width, l2=0.003)


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


def batches(ratings: Ratings, batch_size: int, seed: int) -> tf.data.Dataset:
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
        .shuffle(len(part), seed=seed)
        .batch(batch_size, drop_remainder=True)
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


def trained(
    ratings: Ratings, seed: int, settings: Settings = DENSE
) -> pep.RetrievalModel:
    """Full tables, at their best epoch by validation recall.

    Args:
        ratings: Of which they are trained.
        seed: Of initial values and batches.
        settings: How they are trained.
    """
    return _trained(ratings, "dense", seed, settings)


def pruned(
    ratings: Ratings,
    sparsity: float,
    seed: int,
    settings: Settings = DENSE,
) -> pep.RetrievalModel:
    """Tables that were searched for and retrained in one `fit`.

    Args:
        ratings: Of which they are trained.
        sparsity: Share of their entries to prune.
        seed: Of initial values and batches.
        settings: How they are trained.
    """
    retraining = pep.PEPRetraining(
        sparsity=sparsity,
        search_epochs=settings.search_epochs,
        monitor="val_recall",
        mode="max",
    )
    return _trained(ratings, "pep", seed, settings, retraining)


def _trained(
    ratings: Ratings,
    kind: str,
    seed: int,
    settings: Settings,
    search: tf_keras.callbacks.Callback | None = None,
) -> pep.RetrievalModel:
    tf_keras.utils.set_random_seed(seed)
    data = batches(ratings, settings.batch_size, seed)
    model = model_of(ratings, settings.width, kind)
    fit(model, data, settings, Recall(ratings), search, "val_recall")
    return model
