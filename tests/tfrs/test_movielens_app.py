"""`apps/tfrs_movielens` on data whose right answers are known."""

import numpy as np
import pytest
from click.testing import CliRunner

from apps.tfrs_movielens import ratings, retrieval
from apps.tfrs_movielens.__main__ import main


@pytest.fixture
def data(small_movielens):
    return ratings.load(small_movielens, seed=0)


def test_all_ratings_are_read_and_split(data, small_movielens):
    lines = (small_movielens / "ratings.dat").read_text().splitlines()
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [
        8 * len(lines) // 10,
        len(lines) // 10,
        len(lines) // 10,
    ]
    found = [
        (data.users[user], data.movies[movie])
        for part in parts
        for user, movie in zip(part.users, part.movies, strict=True)
    ]
    expected = [tuple(line.split("::")[:2]) for line in lines]
    assert sorted(found) == sorted(expected)
    first = np.flatnonzero(data.movies == "1")
    assert data.titles[first] == ["Amélie: Part 1 (1981)"]


def test_recall_and_the_best_titles_leave_out_what_is_known(data):
    """Against loops: every user's scores sorted, without the rated movies."""
    model = retrieval.model_of(data, 4)
    users = model.user_tower.predict(data.users, verbose=0)
    movies = model.item_tower.predict(data.movies, verbose=0)
    rated = {
        user: {
            movie
            for u, movie in zip(
                data.train.users, data.train.movies, strict=True
            )
            if u == user
        }
        for user in range(data.users.size)
    }

    def best(user, count):
        order = np.argsort(-(movies @ users[user]), kind="stable")
        return [m for m in order if m not in rated[user]][:count]

    hits = [
        movie in best(user, 3)
        for user, movie in zip(data.test.users, data.test.movies, strict=True)
        if len(rated[user]) <= data.movies.size - 3
    ]
    part = ratings.Pairs(
        *(
            np.array(
                [
                    pair[which]
                    for pair in zip(
                        data.test.users, data.test.movies, strict=True
                    )
                    if len(rated[pair[0]]) <= data.movies.size - 3
                ]
            )
            for which in (0, 1)
        )
    )
    assert 0 < np.mean(hits) < 1
    assert retrieval.recall(model, data, part, at=3) == np.mean(hits)
    user = int(np.argmin([len(rated[u]) for u in rated]))
    assert retrieval.best_titles(model, data, data.users[user], 2) == [
        data.titles[movie] for movie in best(user, 2)
    ]


def test_a_user_who_is_not_there(small_movielens):
    result = CliRunner().invoke(
        main,
        ["retrieval", "--data-dir", str(small_movielens), "--user", "nobody"],
    )
    assert result.exit_code == 2
    assert "there is no user 'nobody'" in result.output
