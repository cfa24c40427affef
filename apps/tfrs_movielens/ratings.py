"""Ratings of MovieLens-1M, as the retrieval tutorial takes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Pairs:
    """Ratings, whatever they were, as pairs of a user and a movie.

    Attributes:
        users: Number of the user in `Ratings.users`, int32 `(ratings,)`.
        movies: Number of the movie in `Ratings.movies`, likewise.
    """

    users: np.ndarray
    movies: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Ratings:
    """All ratings in three parts, split at random 80/10/10.

    Attributes:
        users: What users are called, strings.
        movies: What movies are called, strings.
        titles: Title of each movie.
        train: Part to train with.
        validation: Part to choose by.
        test: Part to judge by.
    """

    users: np.ndarray
    movies: np.ndarray
    titles: np.ndarray
    train: Pairs
    validation: Pairs
    test: Pairs

    def seen(self) -> np.ndarray:
        """Mark the training ratings of each user, boolean `(users, movies)`."""
        seen = np.zeros((self.users.size, self.movies.size), dtype=bool)
        seen[self.train.users, self.train.movies] = True
        return seen


def load(data_dir: Path, seed: int) -> Ratings:
    """Reads `ratings.dat` and `movies.dat` of MovieLens-1M.

    Raises:
        OSError: If they are not there.
    """
    ratings = _read(data_dir / "ratings.dat", ["user", "movie"])
    movies = _read(data_dir / "movies.dat", ["movie", "title"])
    user, users = pd.factorize(ratings["user"], sort=True)
    movie, names = pd.factorize(ratings["movie"], sort=True)
    titles = movies.set_index("movie")["title"].reindex(names)
    order = np.random.default_rng(seed).permutation(len(ratings))
    ends = [8 * len(order) // 10, 9 * len(order) // 10]
    parts = [
        Pairs(user[rows].astype(np.int32), movie[rows].astype(np.int32))
        for rows in np.split(order, ends)
    ]
    return Ratings(
        np.asarray(users, dtype=str),
        np.asarray(names, dtype=str),
        titles.to_numpy(dtype=str),
        *parts,
    )


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """The first columns of a file whose columns are divided by `::`."""
    return pd.read_csv(
        path,
        sep="::",
        engine="python",
        encoding="latin-1",
        header=None,
        usecols=range(len(columns)),
        names=columns,
    )
