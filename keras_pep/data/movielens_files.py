"""MovieLens from the files of its archives."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from keras_pep.data.dataset import DataError

GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy"),
    *("Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror"),
    *("Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


@dataclass(frozen=True, eq=False)
class Tables:
    """Ratings, users and movies.

    Attributes:
        ratings: `user_id`, `movie_id`, `rating`, `timestamp`, integers.
        users: `user_id`, `gender` (F or M), `age`, `occupation`, `zip`.
        movies: `movie_id`, `year` of release, `genres` divided by `|`.
        where: Where the ratings are from, for errors.
        malformed: Lines that were left out.
    """

    ratings: pd.DataFrame
    users: pd.DataFrame
    movies: pd.DataFrame
    where: str
    malformed: int = 0


class _File(NamedTuple):
    """A file: the form of a line as a pattern, and in words."""

    name: str
    pattern: str
    expected: str


_USER, _MOVIE = r"(?P<user_id>\d{1,9})", r"(?P<movie_id>\d{1,9})"
_RATING, _TIME = r"(?P<rating>[1-5])", r"(?P<timestamp>\d{1,10})"
_GENDER, _AGE = "(?P<gender>[FM])", r"(?P<age>\d{1,3})"
# Ratings, users and movies of each archive.
_ARCHIVES = {
    "movielens-1m": (
        _File(
            "ratings.dat",
            f"{_USER}::{_MOVIE}::{_RATING}::{_TIME}",
            "user::movie::rating from 1 to 5::timestamp",
        ),
        _File(
            "users.dat",
            f"{_USER}::{_GENDER}::{_AGE}"
            r"::(?P<occupation>\d{1,3})::(?P<zip>[^:]+)",
            "user::gender::age::occupation::zip code",
        ),
        _File(
            "movies.dat",
            _MOVIE + r"::.*\((?P<year>\d{4})\)\s*::(?P<genres>[^:]+)",
            "movie::title (year)::genres",
        ),
    ),
    "movielens-100k": (
        _File(
            "u.data",
            f"{_USER}\t{_MOVIE}\t{_RATING}\t{_TIME}",
            "user, movie, rating from 1 to 5 and timestamp, divided by tabs",
        ),
        _File(
            "u.user",
            rf"{_USER}\|{_AGE}\|{_GENDER}"
            r"\|(?P<occupation>[^|]+)\|(?P<zip>[^|]+)",
            "user|age|gender|occupation|zip code",
        ),
        _File(
            "u.item",
            _MOVIE + r"\|[^|]*?(?:\((?P<year>\d{4})\))?\s*"
            r"\|[^|]*\|[^|]*\|[^|]*\|(?P<genres>[01](?:\|[01]){18})",
            "movie|title (year)|release|video release|URL|19 flags of genres",
        ),
    ),
}
_NUMBERS = ("user_id", "movie_id", "rating", "timestamp", "age")


def read(name: str, folder: Path, max_bad_rows: float) -> Tables:
    """Reads the three files of an archive.

    Args:
        name: `"movielens-1m"` or `"movielens-100k"`.
        folder: The folder that holds the files.
        max_bad_rows: Share of malformed lines in a file that is tolerated.

    Raises:
        DataError: If a file is missing, or has too many malformed lines.
    """
    files = _ARCHIVES[name]
    names = [file.name for file in files]
    get_it = (
        "Get the archive from https://grouplens.org/datasets/movielens/"
        f"{name.removeprefix('movielens-')}/, extract it, and name the folder "
        "with --data-dir (in Python: data_dir=)."
    )
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected one with "
            f"{', '.join(names)}. {get_it}"
        )
    missing = [n for n in names if not (folder / n).is_file()]
    if missing:
        raise DataError(
            f"{folder}: found no {', '.join(missing)} in this folder. {get_it}"
        )
    users, bad_users = _read(folder, files[1], max_bad_rows)
    movies, bad_movies = _read(folder, files[2], max_bad_rows)
    if name == "movielens-100k":
        movies["year"] = movies["year"].fillna("")
        movies["genres"] = [
            "|".join(itertools.compress(GENRES, map(int, flags.split("|"))))
            for flags in movies["genres"]
        ]
    else:
        users["occupation"] = users["occupation"].astype(int)
    known = {
        "user_id": set(users["user_id"]),
        "movie_id": set(movies["movie_id"]),
    }
    ratings, bad_ratings = _read(folder, files[0], max_bad_rows, known)
    where = str(folder / names[0])
    malformed = bad_users + bad_movies + bad_ratings
    return Tables(ratings, users, movies, where, malformed)


def _read(
    folder: Path,
    file: _File,
    max_bad_rows: float,
    known: dict[str, set[int]] | None = None,
) -> tuple[pd.DataFrame, int]:
    """Read the well-formed lines of a file, and count the others.

    Args:
        folder: Of the file.
        file: Its name and form.
        max_bad_rows: Share of malformed lines that is tolerated.
        known: For a column, the values it may have; if None, the id may be
            there once.
    """
    path = folder / file.name
    lines = pd.Series(
        [line.decode("latin-1") for line in path.read_bytes().splitlines()],
        dtype=object,
    )
    matches = lines.str.fullmatch(file.pattern).astype(bool)
    frame: Any = lines[matches].str.extract(f"^{file.pattern}$")
    frame = frame.astype({c: np.int64 for c in frame if c in _NUMBERS})
    if known is None:  # the file says what is known: each id once
        ids = frame["user_id" if "user_id" in frame else "movie_id"]
        frame = frame[~ids.duplicated()]
    else:
        for column, values in known.items():
            frame = frame[frame[column].isin(values)]
    malformed = ~lines.index.isin(frame.index)
    bad = int(malformed.sum())
    if lines.empty or bad > max_bad_rows * len(lines):
        first = int(malformed.argmax()) if bad else 0
        found = repr(lines[first][:80]) if bad else "an empty file"
        rule = "of known user and movie" if known else "with an id of its own"
        raise DataError(
            f"{path}, line {first + 1}: found {found}, expected "
            f"{file.expected}, {rule}. {bad:,} of {len(lines):,} lines are "
            f"malformed; --max-bad-rows allows {max_bad_rows:.2%}."
        )
    return frame.reset_index(drop=True), bad
