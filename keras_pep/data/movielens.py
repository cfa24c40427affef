"""MovieLens-1M from its extracted folder.

Harper & Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4),
2015, doi:10.1145/2827872. The preparation is that of the PEP authors: ratings
of 3 are dropped, above is positive, below negative.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_pep.data.dataset import DataError, Dataset, encode, random_split

FEATURES = ("paper", "full")
SOURCE = "https://grouplens.org/datasets/movielens/1m/"

_FILES = {
    "ratings.dat": (
        r"(?P<user_id>\d{1,9})::(?P<movie_id>\d{1,9})::(?P<rating>[1-5])"
        r"::(?P<timestamp>\d{1,10})",
        "user::movie::rating from 1 to 5::timestamp",
    ),
    "users.dat": (
        r"(?P<user_id>\d{1,9})::(?P<gender>[FM])::(?P<age>\d{1,3})"
        r"::(?P<occupation>\d{1,3})::(?P<zip>[^:]+)",
        "user::gender::age::occupation::zip code",
    ),
    "movies.dat": (
        r"(?P<movie_id>\d{1,9})::.*\((?P<year>\d{4})\)\s*::(?P<genres>[^:]+)",
        "movie::title (year)::genres",
    ),
}
_NUMBERS = ("user_id", "movie_id", "rating", "timestamp", "age", "occupation")


def load(
    data_dir: str | Path | None,
    features: str = "full",
    seed: int = 0,
    max_bad_rows: float = 0.001,
) -> Dataset:
    """Reads `ratings.dat`, `users.dat` and `movies.dat`.

    Args:
        data_dir: The folder that holds the three files.
        features: `"paper"`: the seven fields of the PEP authors (time bin,
            gender, age, occupation, zip code, release year and genres), or
            `"full"`: those and the ids of user and movie.
        seed: Of the random 80/10/10 split.
        max_bad_rows: Share of malformed lines in a file that is tolerated;
            they are left out and counted.

    Raises:
        DataError: If a file is missing, or has too many malformed lines.
    """
    if features not in FEATURES:
        raise DataError(
            f"MovieLens has the feature sets {', '.join(FEATURES)}, "
            f"not {features!r}."
        )
    folder = _folder(data_dir)
    users, bad_users = _read(folder / "users.dat", max_bad_rows)
    movies, bad_movies = _read(folder / "movies.dat", max_bad_rows)
    known = {
        "user_id": set(users["user_id"]),
        "movie_id": set(movies["movie_id"]),
    }
    ratings, bad_ratings = _read(folder / "ratings.dat", max_bad_rows, known)
    # So that the split does not depend on the order of the source.
    ratings = ratings.sort_values([*ratings.columns], ignore_index=True)

    # Users are known before they rate: all are part of the vocabularies. Time,
    # year and genres count as far as they occur, as with the authors.
    for column in ("user_id", "gender", "age", "occupation", "zip"):
        users[column] = users[column].astype("category")
    users.index = pd.Index(users["user_id"].astype(int))
    movies.index = pd.Index(movies["movie_id"])

    decided = ratings[ratings["rating"] != 3]
    if decided.empty:
        raise DataError(
            f"{folder / 'ratings.dat'}: found no rating other than 3, "
            "expected some: there is nothing to learn from."
        )
    user = users.loc[decided["user_id"]]
    movie = movies.loc[decided["movie_id"]]
    columns = {
        "time_bin": _time_bin(decided["timestamp"]),
        "gender": user["gender"],
        "age": user["age"],
        "occupation": user["occupation"],
        "zip": user["zip"],
        "year": movie["year"],
        "genres": movie["genres"],
    }
    if features == "full":
        columns = {
            "user_id": user["user_id"],
            "movie_id": decided["movie_id"],
            **columns,
        }
    rows, vocabularies = encode(columns, decided["rating"] > 3)
    train, validation, test = random_split(rows, seed)
    return Dataset(
        name="movielens-1m",
        features=features,
        train=train,
        validation=validation,
        test=test,
        vocabularies=vocabularies,
        malformed=bad_users + bad_movies + bad_ratings,
    )


def _folder(data_dir: str | Path | None) -> Path:
    get_it = (
        f"Get ml-1m.zip from {SOURCE}, extract it, and name the folder with "
        "--data-dir (in Python: data_dir=)."
    )
    if data_dir is None:
        raise DataError(f"MovieLens-1M needs its folder. {get_it}")
    folder = Path(data_dir)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder, expected one with {', '.join(_FILES)}. "
            f"{get_it}"
        )
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: found no {', '.join(missing)} in this folder. {get_it}"
        )
    return folder


def _read(
    path: Path,
    max_bad_rows: float,
    known: dict[str, set[int]] | None = None,
) -> tuple[pd.DataFrame, int]:
    """The well-formed lines of a file, and how many were not.

    Args:
        path: The file.
        max_bad_rows: Share of malformed lines that is tolerated.
        known: For a column, the values it may have; if None, the first column
            may have each value once.
    """
    pattern, expected = _FILES[path.name]
    lines = pd.Series(
        [line.decode("latin-1") for line in path.read_bytes().splitlines()],
        dtype=object,
    )
    frame: Any = lines.str.extract(f"^{pattern}$").dropna()
    frame = frame.astype({c: np.int64 for c in frame if c in _NUMBERS})
    if known is None:  # the file says what is known: each id once
        frame = frame[~frame[frame.columns[0]].duplicated()]
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
            f"{expected}, {rule}. {bad:,} of {len(lines):,} lines are "
            f"malformed; --max-bad-rows allows {max_bad_rows:.2%}."
        )
    return frame.reset_index(drop=True), bad


def _time_bin(timestamp: "pd.Series[int]") -> "pd.Series[int]":
    """Seconds since the first rating, binned as the authors bin Criteo.

    The integer part of the squared logarithm above 2, below it the number
    itself, moved down by 2 to keep the two apart.
    """
    seconds = (timestamp - timestamp.min()).to_numpy()
    logarithm = np.log(np.maximum(seconds, 1))
    return pd.Series(
        np.where(seconds > 2, np.floor(logarithm**2), seconds - 2).astype(int)
    )
