import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ML_1M = Path(__file__).parents[2] / "shared" / "data" / "ml-1m"


@pytest.fixture(autouse=True)
def _reproducible():
    import keras  # not by the process that only hands tests out

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def ml_1m():
    if not ML_1M.is_dir():
        pytest.skip("no MovieLens-1M in ../shared/data/ml-1m")
    return ML_1M


@pytest.fixture
def small_movielens(tmp_path):
    """A folder in MovieLens' own format: 4,000 ratings, learnable, tiny."""
    random = np.random.default_rng(0)
    users, movies, ratings = 50, 40, 4000
    genres = ["Comedy", "Drama|War", "Animation|Children's"]
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "users.dat").write_text(
        "".join(
            f"{u}::{'FM'[u % 2]}::{(1, 18, 25)[u % 3]}::{u % 5}::{u % 20:05}\n"
            for u in range(1, users + 1)
        )
    )
    (folder / "movies.dat").write_bytes(
        "".join(
            f"{m}::Amélie: Part {m} ({1980 + m % 10})::{genres[m % 3]}\n"
            for m in range(1, movies + 1)
        ).encode("latin-1")
    )
    lines = []
    for n in range(ratings):
        user = random.integers(1, users + 1)
        movie = random.integers(1, movies + 1)
        likes = user % 2 == movie % 2
        rating = random.choice([4, 5, 3] if likes else [1, 2, 3])
        lines.append(f"{user}::{movie}::{rating}::{978300000 + 60 * n}\n")
    (folder / "ratings.dat").write_text("".join(lines))
    return folder
