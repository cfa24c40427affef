"""MovieLens-1M and MovieLens-100K.

Harper & Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4),
2015, doi:10.1145/2827872. The preparation is that of the PEP authors: ratings
of 3 are dropped, above is positive, below negative.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from keras_pep.data import movielens_files, movielens_tfds
from keras_pep.data.dataset import (
    DataError,
    Dataset,
    Split,
    Splits,
    encode,
    features_of,
    of_training,
    parted,
    random_split,
    time_split,
    unseen_ids,
)
from keras_pep.data.fields import log_bins
from keras_pep.data.stored import SPLITS

_NAMES = {"movielens": "movielens-1m", "movielens-100k": "movielens-100k"}


def load(
    name: str,
    data_dir: str | Path | None,
    features: str | None = None,
    seed: int = 0,
    max_bad_rows: float = 0.001,
    split: str = "random",
) -> Dataset:
    """Reads ratings, users and movies from their folder or by TFDS.

    Args:
        name: `"movielens"` (MovieLens-1M) or `"movielens-100k"`.
        data_dir: The folder as it comes out of GroupLens' archive; if None,
            TensorFlow Datasets has or gets the data. Rows, ids and splits are
            the same either way.
        features: `"paper"`: the seven fields of the PEP authors (time bin,
            gender, age, occupation, zip code, release year and genres), or
            `"full"`, the default: those and the ids of user and movie.
        seed: Of the random 80/10/10 split.
        max_bad_rows: Share of malformed lines in a file that is tolerated;
            they are left out and counted.
        split: `"random"`; or `"time"`: the first 80 % of ratings are for
            training, which alone decides what has an id, and the last 10 % for
            test; or `"user"`: likewise, but the last rating of each user is for
            test, the one before for validation, and of a user of fewer than
            three all are for training. Ratings of one moment are in the order
            of their movies.

    Raises:
        DataError: If a file is missing, or has too many malformed lines.
    """
    name = _NAMES[name]
    features = features_of(name, features, ("paper", "full"))
    if data_dir is None:
        tables = movielens_tfds.read(name)
    else:
        tables = movielens_files.read(name, Path(data_dir), max_bad_rows)
    # So that the split does not depend on the order of the source.
    ratings = tables.ratings.sort_values(
        [*tables.ratings.columns], ignore_index=True
    )
    users, movies = tables.users, tables.movies

    # Users are known before they rate: all are part of the vocabularies. Time,
    # year and genres count as far as they occur, as with the authors.
    for column in ("user_id", "gender", "age", "occupation", "zip"):
        users[column] = users[column].astype("category")
    users.index = pd.Index(users["user_id"].astype(int))
    movies.index = pd.Index(movies["movie_id"])

    decided = ratings[ratings["rating"] != 3]
    if decided.empty:
        raise DataError(
            f"{tables.where}: found no rating other than 3, expected some: "
            "there is nothing to learn from."
        )
    user = users.loc[decided["user_id"]]
    movie = movies.loc[decided["movie_id"]]
    # Seconds since the first rating, binned as the authors bin Criteo.
    seconds = decided["timestamp"] - decided["timestamp"].min()
    columns = {
        "user_id": user["user_id"],
        "movie_id": decided["movie_id"],
        "time_bin": pd.Series(log_bins(seconds.to_numpy())),
        **{name: user[name] for name in ("gender", "age", "occupation", "zip")},
        **{name: movie[name] for name in ("year", "genres")},
    }
    if features == "paper":
        del columns["user_id"], columns["movie_id"]
    rows, vocabularies = encode(columns, decided["rating"] > 3)
    if split == "time":
        splits = time_split(rows, decided["timestamp"].to_numpy())
    elif split == "user":
        splits = _last_of_users(rows, decided)
    else:
        splits = random_split(rows, seed)
    unseen = unseen_ids(splits[0], splits[2], tuple(vocabularies))
    unknown: dict[str, np.ndarray] = {}
    if split != "random":
        splits, vocabularies = of_training(splits, vocabularies)
        unknown = {
            name: np.mean(each.ids[:] == 0, axis=0)
            for name, each in zip(SPLITS, splits, strict=True)
        }
    train, validation, test = splits
    return Dataset(
        name=name,
        features=features,
        train=train,
        validation=validation,
        test=test,
        vocabularies=vocabularies,
        malformed=tables.malformed,
        unknown=unknown,
        unseen=unseen,
    )


def _last_of_users(rows: Split, ratings: pd.DataFrame) -> Splits:
    """Leave the last rating of each user out, and the one before."""
    ordered = ratings.sort_values(["timestamp", "movie_id"], kind="stable")
    users = ordered.groupby("user_id")
    left = users.cumcount(ascending=False).reindex(ratings.index)
    several = ratings.groupby("user_id")["user_id"].transform("size") > 2
    places = left.where(several, 2).to_numpy()
    return parted(rows, (places > 1, places == 1, places == 0))
