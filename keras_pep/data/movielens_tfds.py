"""MovieLens by TensorFlow Datasets."""

import os
import socket
from typing import Any

import numpy as np
import pandas as pd

from keras_pep.data.dataset import DataError
from keras_pep.data.movielens_files import Tables

_HOST = "files.grouplens.org"
_SECONDS = 5  # until the host is taken to be out of reach
_ROWS = 8192  # that are read at once
_CONFIGS = {"movielens-1m": "1m-ratings", "movielens-100k": "100k-ratings"}

# MovieLens-1M's files number them; TFDS has their names.
_OCCUPATIONS = (
    *("other/not specified", "academic/educator", "artist", "clerical/admin"),
    *("college/grad student", "customer service", "doctor/health care"),
    *("executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer"),
    *("programmer", "retired", "sales/marketing", "scientist"),
    *("self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
# And it calls two genres otherwise than the files.
_GENRES = {"Children": "Children's", "Unknown": "unknown"}


def read(name: str) -> Tables:
    """Reads what TFDS has prepared, and has it prepared if need be.

    Args:
        name: `"movielens-1m"` or `"movielens-100k"`.

    Raises:
        DataError: At once, if TFDS is not installed, or has not prepared the
            dataset and cannot download it.
    """
    config = f"movielens/{_CONFIGS[name]}"
    folder = (
        "or name a folder of GroupLens' files with --data-dir (in Python: "
        "data_dir=)."
    )
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"{name} without a folder comes by TensorFlow Datasets: install "
            f"keras-pep[tfds], {folder}"
        ) from error
    builder = tfds.builder(config, data_dir=os.environ.get("TFDS_DATA_DIR"))
    if not builder.is_prepared():
        try:
            socket.create_connection((_HOST, 443), _SECONDS).close()
        except OSError as error:
            raise DataError(
                f"{name}: TensorFlow Datasets has not prepared {config} in "
                f"{builder.data_dir}, and {_HOST} cannot be reached "
                f"({error}). Connect to the network, {folder}"
            ) from error
        builder.download_and_prepare()
    rows = _rows(builder)
    if name == "movielens-1m":
        rows["occupation"] = rows["occupation"].map(_OCCUPATIONS.index)
    users = ["user_id", "gender", "age", "occupation", "zip"]
    movies = ["movie_id", "year", "genres"]
    return Tables(
        rows[["user_id", "movie_id", "rating", "timestamp"]],
        rows[users].drop_duplicates("user_id").sort_values("user_id"),
        rows[movies].drop_duplicates("movie_id").sort_values("movie_id"),
        where=str(builder.data_dir),
    )


def _rows(builder: Any) -> pd.DataFrame:
    """Read every rating with its user and movie, as the files have them."""
    import tensorflow as tf

    labels = builder.info.features["movie_genres"].feature.names
    genres = np.array([_GENRES.get(genre, genre) for genre in labels])
    age = "raw_user_age"
    if age not in builder.info.features:
        age = "bucketized_user_age"
    parts = []
    names = ["user_id", "movie_id", "movie_title"]
    names += ["user_occupation_text", "user_zip_code"]
    for batch in builder.as_dataset(split="train").ragged_batch(_ROWS):
        text = {
            name: np.char.decode(batch[name].numpy().astype(bytes), "utf-8")
            for name in names
        }
        named = tf.ragged.map_flat_values(
            lambda ids: tf.gather(genres, ids), batch["movie_genres"]
        )
        joined = tf.strings.reduce_join(named, axis=1, separator="|")
        title = pd.Series(text["movie_title"], dtype=object)
        year = title.str.extract(r"\((\d{4})\)\s*$")[0]
        parts.append(
            pd.DataFrame(
                {
                    "user_id": text["user_id"].astype(np.int64),
                    "movie_id": text["movie_id"].astype(np.int64),
                    "rating": batch["user_rating"].numpy().astype(np.int64),
                    "timestamp": batch["timestamp"].numpy(),
                    "gender": np.where(batch["user_gender"], "M", "F"),
                    "age": batch[age].numpy().astype(np.int64),
                    "occupation": text["user_occupation_text"],
                    "zip": text["user_zip_code"],
                    "year": year.fillna("").to_numpy(),
                    "genres": joined.numpy().astype(str),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
