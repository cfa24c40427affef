"""MovieLens-1M and MovieLens-100K.

Harper & Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4),
2015, doi:10.1145/2827872. The preparation is that of the PEP authors: ratings
of 3 are dropped, above is positive, below negative.
"""

from pathlib import Path

import pandas as pd

from keras_pep.data import movielens_files, movielens_tfds
from keras_pep.data.dataset import (
    DataError,
    Dataset,
    encode,
    features_of,
    random_split,
)
from keras_pep.data.fields import log_bins

_NAMES = {"movielens": "movielens-1m", "movielens-100k": "movielens-100k"}


def load(
    name: str,
    data_dir: str | Path | None,
    features: str | None = None,
    seed: int = 0,
    max_bad_rows: float = 0.001,
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
    train, validation, test = random_split(rows, seed)
    return Dataset(
        name=name,
        features=features,
        train=train,
        validation=validation,
        test=test,
        vocabularies=vocabularies,
        malformed=tables.malformed,
    )
